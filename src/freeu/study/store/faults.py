"""Faults of the database as one line: what it said, and what helps."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from freeu.errors import FreeURuntimeError

_FIXES = (
    (("readonly", "read-only", "permission denied"), "make it and its folder writable for the user who serves it"),
    (("full", "no space"), "free disk space"),
    (("locked", "busy"), "another program holds it: end that program, or try again"),
    (
        ("malformed", "not a database", "damaged", "no such table", "no such column", "does not exist"),
        "check the disk, or restore a backup",
    ),
    (("unable to open",), "check that its folder exists and can be read and written"),
    (("i/o error",), "free disk space, or check the disk or the network file system"),
)


class StoreError(FreeURuntimeError):
    """The study's database cannot be read or written. Nothing that was not acknowledged counts."""


class StoreBusyError(StoreError):
    """So many writes are waiting for the database that no more are taken for now."""


def reason_of(error: BaseException) -> str:
    """What a database said, in one line. Its first line names no values that were stored."""
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return words[0] if words else type(error).__name__


def fix_for(reason: str) -> str:
    """What helps against a fault of the database."""
    low = reason.lower()
    return next((fix for words, fix in _FIXES if any(word in low for word in words)), "check the database")


def fault(what: str, error: BaseException | str) -> StoreError:
    """The error for a fault of the database.

    Args:
        what: what did not work, such as "cannot open the study's database X".
        error: of the driver, or what is wrong.
    """
    reason = error if isinstance(error, str) else reason_of(error)
    return StoreError(f"{what}: {reason}: {fix_for(reason)}")


@contextlib.contextmanager
def translated(what: str = "cannot use the study's database") -> Iterator[None]:
    """Raise every error of the database or its driver as ``StoreError``."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise fault(what, error) from error
