"""Errors and warnings of freeu: each message gives the invariant, the values and the likely fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_LETTERS = 2_000
"""Of a message. It repeats values of files, which may be of any length."""


class FreeUError(Exception):
    """Root of everything freeu raises on purpose."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 300]} ... {text[-200:]}"


class FreeUValueError(FreeUError, ValueError):
    """A value that was handed in cannot be used: a factor, a name, a shape, a file."""


class FreeURuntimeError(FreeUError, RuntimeError):
    """The state of a model or of a handle does not allow what was asked for."""


class NoSitesError(FreeUValueError):
    """The model has no place where a decoder joins its backbone with a skip connection."""


class NoEffectWarning(UserWarning):
    """A configuration that is not the identity would change nothing."""


def shown(value: object, longest: int = 80) -> str:
    """A value that was refused, as it stands in a message: its ``repr`` on one line, cut where it is long.

    >>> shown("a" * 100, 10)
    "'aaaaaa..."
    """
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, lists nested as deeply
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def one_line(error: BaseException, longest: int = 200) -> str:
    """The class and the message of another library's error, in one line of a message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:longest]


def unknown_name(what: str, name: object, known: Iterable[str]) -> FreeUValueError:
    """The error for a name outside a closed list, with the nearest names first and then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name[:100], names, n=3, cutoff=0.5) if isinstance(name, str) else []
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return FreeUValueError(f"unknown {what} {shown(name, 200)}: {hint}known: {', '.join(names)}")
