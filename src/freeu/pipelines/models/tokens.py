"""What of a prompt the text encoders of a pipeline do not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

PARTS = {"": "text encoder", "_2": "second text encoder", "_3": "third text encoder"}
_MOST = 100_000
"""Tokenizers without a limit say a number above this."""


def notes_on_length(pipe: Any, prompts: Sequence[str]) -> Iterator[str]:
    """A line for each prompt that an encoder cuts, with the words that are lost. diffusers only warns of it.

    Args:
        pipe: a pipeline of diffusers.
        prompts: the negative one among them; "" is left out.
    """
    for prompt in dict.fromkeys(filter(None, prompts)):
        cuts: dict[tuple[str, int], list[str]] = {}
        for end, name in PARTS.items():
            tokenizer, encoder = getattr(pipe, f"tokenizer{end}", None), getattr(pipe, f"text_encoder{end}", None)
            if tokenizer is None or encoder is None:
                continue
            cut = _cut(tokenizer, _limit(tokenizer, encoder), _expanded(pipe, prompt, tokenizer))
            if cut:
                cuts.setdefault(cut, []).append(name)
        for (lost, kept), names in cuts.items():
            reads, does = ("reads", "it does") if len(names) == 1 else ("read", "they do")
            yield (
                f"the {' and the '.join(names)} {reads} {kept} tokens of a prompt: of {_short(prompt)!r} {does} not "
                f"read {_short(lost)!r}"
            )


def is_cut(pipe: Any, prompt: str) -> bool:
    """Whether an encoder of a pipeline does not read all of a prompt."""
    return bool(prompt) and next(notes_on_length(pipe, [prompt]), None) is not None


def _expanded(pipe: Any, prompt: str, tokenizer: Any) -> str:
    """With the words of all vectors of embeddings, as the pipeline does it."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return str(convert(prompt, tokenizer)) if convert is not None else prompt


def _limit(tokenizer: Any, encoder: Any) -> int | None:
    places = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
    limits = [limit for limit in (tokenizer.model_max_length, places) if isinstance(limit, int) and limit < _MOST]
    return min(limits) if limits else None


def _cut(tokenizer: Any, limit: int | None, prompt: str) -> tuple[str, int] | None:
    """The end of a prompt beyond so many tokens, and how many of its own are read."""
    if limit is None:
        return None
    special = tokenizer.num_special_tokens_to_add()
    fast = bool(getattr(tokenizer, "is_fast", False))
    found = tokenizer(prompt, add_special_tokens=False, verbose=False, return_offsets_mapping=fast)
    ids, kept = found.input_ids, limit - special
    if len(ids) <= kept:
        return None
    lost = prompt[found.offset_mapping[kept][0] :] if fast else tokenizer.decode(ids[kept:])
    return str(lost).strip(), kept


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
