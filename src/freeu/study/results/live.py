"""Results, report and exports of a running study, cached until the votes change."""

from __future__ import annotations

import importlib.util
import io
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from freeu.study.plan.plan import Item
from freeu.study.store.store import Store
from freeu.study.store.votes import Vote

FILES = tuple(f"{table}.{form}" for table in ("votes", "results") for form in ("csv", "json", "parquet"))
"""The files that can be exported (Parquet takes pyarrow). results.json is the whole of ``results()``; the other two are
its table of shares."""
ARCHIVED = tuple(name for name in FILES if not name.endswith(".parquet"))
"""Files without further dependencies, which are offered together."""


def offered() -> tuple[str, ...]:
    """Those of ``FILES`` that can be made here."""
    return FILES if importlib.util.find_spec("pyarrow") else ARCHIVED


class LiveResults:
    """Results of the votes in a store. Thread-safe; only one thread computes.

    Args:
        store: of the study.
        media: returns the file of an item, for the images of the report; None omits them.
    """

    def __init__(self, store: Store, media: Callable[[Item], Path] | None = None) -> None:
        self._store, self._media = store, media
        self._lock = threading.Lock()
        self._thumbnails: dict[int, dict[str, str]] | None = None
        self._last: tuple[Sequence[Vote], dict[str, Any]] | None = None

    def results(self) -> dict[str, Any]:
        """``results.results`` of the votes so far."""
        return self._results(self._store.counted_votes())

    def _results(self, votes: list[Vote]) -> dict[str, Any]:
        from freeu.study.results.results import results

        with self._lock:
            if self._last is None or self._last[0] != votes:
                self._last = votes, results(self._store.plan, votes)
            return self._last[1]

    def report(self) -> str:
        """The report as one HTML page."""
        from freeu.study.results.report import make_report, thumbnails

        found = self.results()
        with self._lock:
            if self._media is not None and self._thumbnails is None:
                self._thumbnails = thumbnails(self._store.plan, self._media)
        return make_report(found, self._thumbnails)

    def export(self, name: str) -> bytes | None:
        """The content of a file that is offered; None for another name."""
        return self.exports(name)[name] if name in offered() else None

    def exports(self, *names: str) -> dict[str, bytes]:
        """The content of files of ``FILES``, all of the votes of one moment."""
        from freeu.pipelines.runs.manifest import as_json
        from freeu.study.results.exporting import RESULT_COLUMNS, VOTE_COLUMNS, result_rows, table, vote_rows

        votes = self._store.counted_votes()

        def content(name: str) -> bytes:
            which, _, form = name.partition(".")
            if which == "votes":
                return table(vote_rows(self._store.plan, votes), VOTE_COLUMNS, form)
            if form == "json":
                return as_json(self._results(votes)).encode()
            return table(result_rows(self._results(votes)), RESULT_COLUMNS, form)

        return {name: content(name) for name in names}

    def archive(self) -> bytes:
        """A ZIP of ``ARCHIVED``, all of the votes of one moment."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in self.exports(*ARCHIVED).items():
                packed.writestr(name, data)
        return buffer.getvalue()
