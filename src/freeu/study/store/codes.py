"""Personal codes of raters: 100 random bits in unambiguous letters. Only their hash is stored."""

from __future__ import annotations

import hashlib
import secrets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O and U."""
LENGTH, GROUP = 20, 4
_ALIKE = str.maketrans("OIL", "011", " -\t\r\n")


def new_code() -> str:
    """A new code such as ``7K3M-Q0XW-9ZTA-BC4D-EFGH``."""
    letters = [secrets.choice(ALPHABET) for _ in range(LENGTH)]
    return "-".join("".join(letters[at : at + GROUP]) for at in range(0, LENGTH, GROUP))


def normalized(text: str) -> str | None:
    """A typed code in its canonical form; None if it cannot be a code."""
    letters = text[:200].upper().translate(_ALIKE)
    if len(letters) != LENGTH or not set(letters) <= set(ALPHABET):
        return None
    return "-".join(letters[at : at + GROUP] for at in range(0, LENGTH, GROUP))


def hashed(code: str) -> str:
    """SHA-256 of a code. A slow hash is unnecessary for 100 random bits."""
    return hashlib.sha256(code.encode()).hexdigest()


def new_id() -> str:
    """A new random id for a rater."""
    return secrets.token_hex(8)
