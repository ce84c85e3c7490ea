"""What a run has made since its manifest was written: a line for each record, so that each costs the same."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.pipelines.io.output import MANIFEST, OutputFolder

JOURNAL = "manifest.journal"
"""Beside ``manifest.json`` while a run is under way, and after one that was killed."""


Note = Callable[[Mapping[str, Any]], None]
"""Appends a record, as JSON can say it; raises ``FreeURuntimeError`` where the disk is full."""


@contextlib.contextmanager
def journaled(output: OutputFolder, manifest: Callable[[], str]) -> Iterator[Note]:
    """Write a manifest before and after a ``with`` block, which notes in between what it makes.

    The manifest holds every record of its run: written after each of n images it would cost n² in all.

    Args:
        output: the folder.
        manifest: the text of ``manifest.json`` at that moment, with every record there is.
    """

    def write() -> None:
        output.write(MANIFEST, manifest())
        with contextlib.suppress(OSError):
            (output.path / JOURNAL).unlink(missing_ok=True)

    def note(record: Mapping[str, Any]) -> None:
        output.append(JOURNAL, json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    write()
    try:
        yield note
    except BaseException:
        with contextlib.suppress(FreeURuntimeError):  # the journal has it all, should the disk be full
            write()
        raise
    write()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The records in a folder's journal, in order; a line that was cut off at the end by a crash is left out.

    Raises:
        FreeUValueError: it cannot be read, or another line is damaged.
    """
    path = folder / JOURNAL
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FreeUValueError(f"cannot read {path}: {error.strerror}") from None
    found = []
    for line in text.splitlines(keepends=True):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            if not line.endswith("\n"):
                break
            raise FreeUValueError(f"{path} is damaged: delete it, and what it recorded is generated again")
        found.append(record)
    return found
