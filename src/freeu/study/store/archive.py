"""Reading an SQLite database without changing it, or anything beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from freeu.study.store.faults import fault

_TRIES = 5
_WAL_AT, _WAL = 18, b"\x02\x02"
"""Where the header says that a database has a write-ahead log, and how (https://sqlite.org/fileformat.html)."""


@contextlib.contextmanager
def readable(file: Path) -> Iterator[str]:
    """The URI under which SQLite reads a database.

    A database with a write-ahead log that nobody has open cannot be read in place: SQLite would create files beside
    it, or fail where the folder is read-only. It is copied with its log to a temporary folder, which only its owner can
    read. Beside a database that is open, or whose server was killed, lies an index (-shm): SQLite reads it in place.

    Args:
        file: the database; also a backup, and one on a read-only disk.

    Raises:
        StoreError: it cannot be read, or changes all the time.
    """
    try:
        # Asked first: to open and close a file ends the locks that SQLite has on it in this process.
        if Path(f"{file}-shm").exists() or not _has_log(file):
            yield f"{file.absolute().as_uri()}?mode=ro"
            return
        folder = Path(tempfile.mkdtemp(prefix="freeu-study-"))
    except OSError as error:
        raise fault(f"cannot read the study's database {file}", str(error.strerror or error)) from None
    try:
        yield f"{_copied(file, folder).as_uri()}?mode=rw"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_log(file: Path) -> bool:
    with file.open("rb") as opened:
        opened.seek(_WAL_AT)
        return opened.read(len(_WAL)) == _WAL


def _copied(file: Path, folder: Path) -> Path:
    """A copy of a database and its log, taken while neither changed."""
    log, copy = Path(f"{file}-wal"), folder / "study.sqlite"
    try:
        for _ in range(_TRIES):
            before = _state(file), _state(log)
            shutil.copyfile(file, copy)
            if before[1] is not None:
                shutil.copyfile(log, f"{copy}-wal")
            if (_state(file), _state(log)) == before:
                return copy
            Path(f"{copy}-wal").unlink(missing_ok=True)
    except OSError as error:
        raise fault(f"cannot read the study's database {file}", str(error.strerror or error)) from None
    raise fault(f"cannot read the study's database {file}", "it is busy: it changes all the time")


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
