"""Personal codes of raters: 100 random bits in letters that can be read aloud. Only their hash is stored."""

from __future__ import annotations

import hashlib
import secrets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O and U."""
LENGTH, GROUP = 20, 4
_ALIKE = str.maketrans("OIL", "011", " -\t\r\n")


def new_code() -> str:
    """A fresh code such as ``7K3M-Q0XW-9ZTA-BC4D-EFGH``."""
    letters = [secrets.choice(ALPHABET) for _ in range(LENGTH)]
    return "-".join("".join(letters[at : at + GROUP]) for at in range(0, LENGTH, GROUP))


def normalized(text: str) -> str | None:
    """A code as typed by a person, in its one written form; None if it cannot be one."""
    letters = text[:200].upper().translate(_ALIKE)
    if len(letters) != LENGTH or not set(letters) <= set(ALPHABET):
        return None
    return "-".join(letters[at : at + GROUP] for at in range(0, LENGTH, GROUP))


def hashed(code: str) -> str:
    """SHA-256 of a code: with 100 random bits a slow hash would add nothing."""
    return hashlib.sha256(code.encode()).hexdigest()


def new_id() -> str:
    """A fresh opaque id of a rater."""
    return secrets.token_hex(8)
