"""The rare token for a subject: a word that has no meaning for the model yet (DreamBooth, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freeu.errors import FreeUValueError

COMMON = 40_000
"""CLIP's vocabulary is sorted by frequency: of 49,408 entries the last ones are rare."""
MOST_PIECES = 4
"""Most pieces that a rare word may be split into (the paper uses up to three)."""


def check_identifier(token: str, class_noun: str) -> None:
    """Check the two words, independently of the model.

    Raises:
        FreeUValueError: an empty one, a space in the token, or both are the same.
    """
    if not token or token.split() != [token]:
        raise FreeUValueError(f"--token must be one word without spaces, such as sks, got {token!r}")
    if not class_noun.strip():
        raise FreeUValueError("--class-noun must say what kind of thing the subject is, such as cat, got nothing")
    if token.lower() in class_noun.lower().split():
        raise FreeUValueError(f"--token {token!r} is the class noun too: use a rare word, such as sks")


def check_rare(token: str, tokenizers: Sequence[Any]) -> None:
    """Check that the token is a rare word for the model's tokenizers.

    A word that is a single entry of the vocabulary, among the first ``COMMON``, has a meaning that training would have
    to overwrite. Any other word is split into pieces, which together have none.

    Args:
        token: one word.
        tokenizers: of the pipeline's text encoders.

    Raises:
        FreeUValueError: a word of the vocabulary, one of an embedding, or one of more than ``MOST_PIECES`` pieces.
    """
    for tokenizer in tokenizers:
        pieces = tokenizer.tokenize(token)
        numbers = tokenizer.convert_tokens_to_ids(pieces)
        known = len(pieces) == 1 and (numbers[0] < COMMON or pieces[0] in tokenizer.get_added_vocab())
        if known:
            raise FreeUValueError(
                f"--token {token!r} is in the model's vocabulary already (number {numbers[0]}) and has a meaning: "
                "use a rare word, such as sks"
            )
        if not 1 <= len(pieces) <= MOST_PIECES:
            raise FreeUValueError(
                f"--token {token!r} is split into {len(pieces)} tokens of the model's vocabulary, and 1 to "
                f"{MOST_PIECES} are allowed: use a shorter word, such as sks"
            )
