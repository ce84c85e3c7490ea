"""The rare word that stands for a subject: one that means nothing to the model yet (DreamBooth, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freeu.errors import FreeUValueError

COMMON = 40_000
"""Tokens of CLIP's vocabulary are numbered by how often they occur: of 49,408 words the last ones are rare."""
MOST_PIECES = 4
"""Tokens that a rare word may be spelled with; of three, as in the paper, each weighs less in the text encoder."""


def check_identifier(token: str, class_noun: str) -> None:
    """What can be wrong with the two words, whatever the model is.

    Raises:
        FreeUValueError: an empty one, a blank in the token, or both the same.
    """
    if not token or token.split() != [token]:
        raise FreeUValueError(f"--token must be one word without blanks, such as sks, got {token!r}")
    if not class_noun.strip():
        raise FreeUValueError("--class-noun must say what kind of thing the subject is, such as cat, got nothing")
    if token.lower() in class_noun.lower().split():
        raise FreeUValueError(f"--token {token!r} is the class noun too: take a rare word for it, such as sks")


def check_rare(token: str, tokenizers: Sequence[Any]) -> None:
    """Make sure that the model's tokenizers can spell the token, and that it is no word that they know well.

    A word that a tokenizer has a number of its own for, among the first ``COMMON``, means something already: training
    would have to overwrite that. Any other word is spelled with pieces, which together mean nothing.

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
                f"--token {token!r} is in the model's vocabulary already (number {numbers[0]}) and means something: "
                "take a rare word, such as sks"
            )
        if not 1 <= len(pieces) <= MOST_PIECES:
            raise FreeUValueError(
                f"--token {token!r} is spelled with {len(pieces)} tokens of the model's vocabulary, and 1 to "
                f"{MOST_PIECES} are welcome: take a shorter word, such as sks"
            )
