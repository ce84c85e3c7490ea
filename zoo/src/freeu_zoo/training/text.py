"""The text side: a genuine ``CLIPTokenizer`` with a small vocabulary, and a small ``CLIPTextModel``."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable

from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from freeu_zoo.recipe import TextRecipe
from freeu_zoo.world import captions

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")


def byte_alphabet() -> list[str]:
    """The 256 printable characters that stand for bytes, in CLIP's order: any text can be spelt with them."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + i) for i in range(len(others))]


def learn_merges(
    words: Iterable[str], most: int = 2000, known: Iterable[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first (ties: alphabetical), until every word is one token.

    ``known`` merges are done before, and are not among those returned.
    """
    spelt = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    for pair in known:
        spelt = {word: _merge(parts, pair) for word, parts in spelt.items()}
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts in spelt.values():
            for pair in itertools.pairwise(parts):
                pairs[pair] += 1
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = {word: _merge(parts, best) for word, parts in spelt.items()}
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def corpus() -> list[str]:
    """Every word of the captions, for all nouns in the sprite table (so that a wider world keeps the vocabulary)."""
    return sorted({word for text in captions.words() for word in _WORD.findall(text)})


@functools.cache
def _own_merges() -> tuple[tuple[str, str], ...]:
    """The merges of the corpus: a second of work, and the same for every tokenizer."""
    return tuple(learn_merges(corpus()))


def build_tokenizer(length: int, more: Iterable[str] = ()) -> CLIPTokenizer:
    """A lower-casing CLIP tokenizer whose inputs are ``length`` tokens long.

    ``more`` words become one token each; their merges come last, so all other words are spelt as without them.
    """
    merges = list(_own_merges())
    merges += learn_merges(more, known=merges)
    letters = byte_alphabet()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def build_encoder(recipe: TextRecipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A new text encoder for that tokenizer."""
    end = tokenizer.convert_tokens_to_ids(END)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=4 * recipe.width,
            projection_dim=recipe.width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=recipe.length,
            bos_token_id=tokenizer.convert_tokens_to_ids(START),
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def tokens(tokenizer: CLIPTokenizer, texts: list[str], longest: bool = False) -> Tensor:
    """Token numbers of captions, (batch, length) int64; with ``longest`` no longer than the longest of them."""
    padding = "longest" if longest else "max_length"
    made: Tensor = tokenizer(
        texts, padding=padding, max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return made
