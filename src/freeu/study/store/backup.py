"""Backup of a study's SQLite database while it is in use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.study.store.archive import readable
from freeu.study.store.database import existing, parse_url
from freeu.study.store.faults import StoreError, reason_of

PAGES = 256


def back_up(url: str, output: Path) -> int:
    """Copy the database with SQLite's online backup API. The copy is consistent, also while raters vote.

    The database itself is not changed; it may be on a read-only disk.

    Args:
        url: of the database.
        output: the copy, a single file; it appears only when it is complete and verified.

    Returns:
        the number of events in the copy.

    Raises:
        FreeUValueError: a PostgreSQL database (use pg_dump), no such database, or ``output`` exists.
        FreeURuntimeError: the database cannot be read or the copy cannot be written.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise FreeUValueError(
            "only SQLite databases can be copied: for PostgreSQL use pg_dump --format=custom, also while it is in use"
        )
    source = existing(parsed)
    if output.exists():
        raise FreeUValueError(f"--output {output} exists: name another file")
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.touch(mode=0o600)
        events = _copy(source, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.rename(output)
    except (OSError, sqlite3.Error, StoreError) as error:
        raise FreeURuntimeError(f"cannot copy {source} to {output}: {reason_of(error)}") from None
    finally:
        for name in (part, Path(f"{part}-wal"), Path(f"{part}-shm"), Path(f"{part}-journal")):
            name.unlink(missing_ok=True)
    return events


def _copy(source: Path, part: Path) -> int:
    with (
        readable(source) as address,
        contextlib.closing(sqlite3.connect(address, timeout=15, uri=True)) as here,
        contextlib.closing(sqlite3.connect(part)) as there,
    ):
        here.backup(there, pages=PAGES, sleep=0.01)
        there.execute("PRAGMA journal_mode=DELETE")  # a single file without -wal and -shm
        found = there.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged ({found})")
        return int(there.execute("SELECT count(*) FROM freeu_events").fetchone()[0])
