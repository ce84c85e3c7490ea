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


def unknown_name(what: str, name: object, known: Iterable[str]) -> FreeUValueError:
    """The error for a name outside a closed list, with the nearest names first and then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return FreeUValueError(f"unknown {what} {name!r}: {hint}known: {', '.join(names)}")
