"""Results, report and exports of a running study, computed once for each state of the votes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from freeu.study.plan.plan import Item
from freeu.study.store.store import Store
from freeu.study.store.votes import Vote

NAMES = tuple(f"{table}.{form}" for table in ("votes", "results") for form in ("csv", "json", "parquet"))
"""What can be exported; results.json is the whole of ``results()``, the other two are its table of shares."""


class Outcome:
    """What a store's votes say. Safe to be asked by several threads; one of them computes.

    Args:
        store: of the study.
        media: the file of an item, for the images of the report; None leaves them out.
    """

    def __init__(self, store: Store, media: Callable[[Item], Path] | None = None) -> None:
        self._store, self._media = store, media
        self._lock = threading.Lock()
        self._pictures: dict[int, dict[str, str]] | None = None
        self._last: tuple[Sequence[Vote], dict[str, Any]] | None = None

    def results(self) -> dict[str, Any]:
        """``results.results`` of the votes so far."""
        from freeu.study.results.results import results

        votes = self._store.counted_votes()
        with self._lock:
            if self._last is None or self._last[0] != votes:
                self._last = votes, results(self._store.plan, votes)
            return self._last[1]

    def report(self) -> str:
        """The report as one HTML page."""
        from freeu.study.results.report import make_report, pictures

        found = self.results()
        with self._lock:
            if self._media is not None and self._pictures is None:
                self._pictures = pictures(self._store.plan, self._media)
        return make_report(found, self._pictures)

    def export(self, name: str) -> bytes | None:
        """A file of ``NAMES``; None for another name."""
        from freeu.pipelines.runs.manifest import as_json
        from freeu.study.results.exporting import RESULT_COLUMNS, VOTE_COLUMNS, result_rows, table, vote_rows

        if name not in NAMES:
            return None
        which, _, form = name.partition(".")
        if which == "votes":
            return table(vote_rows(self._store.plan, self._store.counted_votes()), VOTE_COLUMNS, form)
        if form == "json":
            return as_json(self.results()).encode()
        return table(result_rows(self.results()), RESULT_COLUMNS, form)
