"""How numbers and nouns are put into a sentence."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """ "1 thread", "2 threads"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
