"""Prompts in A1111's syntax: ``(word:1.3)``, ``[word]``, ``BREAK``, and prompts longer than the text encoder reads.

The syntax is read here; embeddings of weighted fragments and of long texts are those of the library ``compel``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from freeu.errors import FreeUValueError, shown
from freeu.extras import load_package, need_package

A1111 = "a1111"
WEIGHTINGS = (A1111,)
UP = 1.1
"""What a pair of parentheses multiplies by, and a pair of brackets divides by."""
Fragment = tuple[str, float]
"""Some text and its weight."""

_TOKENS = re.compile(
    r"\\[()\[\]\\]"  # an escaped sign
    r"|\(|\[|\]"
    r"|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)"  # the weight that ends a parenthesis
    r"|\)|[^\\()\[\]:]+|:|\\"
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_EXPLICIT = re.compile(r"\([^()]*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)")
_OTHERS = (
    (re.compile(r"(?<!\\)\[[^\[\]]*:[^\[\]]*\]"), "prompt editing, {}, is not done here"),
    (re.compile(r"(?<!\\)\[[^\[\]]*\|[^\[\]]*\]"), "alternating words, {}, are not done here"),
    (re.compile(r"<lora:[^<>]*>"), "{} is no file: give --lora FILE:WEIGHT"),
    (re.compile(r"\bAND\b"), "composition with {} is not done here"),
)


def parse(text: str) -> list[list[Fragment]]:
    """The chunks that BREAK makes of a prompt, each as fragments with their weights.

    >>> parse("a (red:1.5) fox BREAK [old] house")
    [[('a ', 1.0), ('red', 1.5), (' fox', 1.0)], [('old', 0.9090909090909091), (' house', 1.0)]]
    """
    return [_fragments(part) for part in _BREAK.split(text)]


def _fragments(text: str) -> list[Fragment]:
    found: list[list[Any]] = []
    rounds: list[int] = []
    squares: list[int] = []

    def multiply(start: int, by: float) -> None:
        for fragment in found[start:]:
            fragment[1] *= by

    for match in _TOKENS.finditer(text):
        token = match[0]
        if token == "(":
            rounds.append(len(found))
        elif token == "[":
            squares.append(len(found))
        elif token.startswith(":") and token.endswith(")") and rounds:
            multiply(rounds.pop(), float(token[1:-1]))
        elif token == ")" and rounds:
            multiply(rounds.pop(), UP)
        elif token == "]" and squares:
            multiply(squares.pop(), 1 / UP)
        else:
            found.append([token[1:] if len(token) == 2 and token[0] == "\\" else token, 1.0])
    # What was never closed counts as closed at the end, as in A1111.
    for start in rounds:
        multiply(start, UP)
    for start in squares:
        multiply(start, 1 / UP)
    merged: list[list[Any]] = []
    for fragment in found:
        if not fragment[0].strip():
            fragment[1] = 1.0  # blanks are no tokens, and have nothing to weight
        if merged and merged[-1][1] == fragment[1]:
            merged[-1][0] += fragment[0]
        else:
            merged.append(fragment)
    return [(text, weight) for text, weight in merged] or [("", 1.0)]


def plain_text(text: str) -> str:
    """A prompt without the signs of the syntax."""
    return " ".join("".join(text for text, _ in chunk) for chunk in parse(text))


def has_syntax(text: str) -> bool:
    """Whether anything in a prompt is more than words: a weight other than 1, an escape, or BREAK."""
    return parse(text) != [[(text, 1.0)]]


def is_weighted(text: str) -> bool:
    """Whether a prompt surely means weights or BREAK; parentheses alone may be words."""
    return _EXPLICIT.search(text) is not None or _BREAK.search(text) is not None


def check_weighting(weighting: str | None, prompts: Sequence[str]) -> None:
    """Everything that can be wrong without a model.

    Raises:
        FreeUValueError: ``compel`` is missing, a weight below 0 or above 10, or what A1111 does beyond weights.
    """
    if weighting is None:
        return
    need_package("compel", "compel")
    for prompt in prompts:
        for pattern, text in _OTHERS:
            found = pattern.search(prompt)
            if found is not None:
                raise FreeUValueError(f"{text.format(shown(found[0], 60))}: take it out of the prompt")
        for chunk in parse(prompt):
            for fragment, weight in chunk:
                if not 0 <= weight <= 10:
                    raise FreeUValueError(f"weights lie in 0 to 10, got {weight:g} for {shown(fragment.strip(), 60)}")


def check_encoders(pipe: Any, offload: str | None) -> None:
    """Whether the text encoders of a pipeline are those whose embeddings can be weighted.

    Raises:
        FreeUValueError: others than CLIP, a pipeline that takes no embeddings, or weights that are not in memory.
    """
    import inspect

    encoders = [getattr(pipe, f"text_encoder{end}", None) for end in ("", "_2", "_3")]
    names = [type(encoder).__name__ for encoder in encoders if encoder is not None]
    fine = names and set(names) <= {"CLIPTextModel", "CLIPTextModelWithProjection"} and encoders[0] is not None
    if not fine or "prompt_embeds" not in inspect.signature(pipe.__call__).parameters:
        raise FreeUValueError(
            f"--weighting is for Stable Diffusion 1.x, 2.x and XL and what is made of them; {type(pipe).__name__} "
            f"reads prompts with {', '.join(names) or 'no text encoder'}: leave it out"
        )
    if offload == "sequential":
        raise FreeUValueError("--weighting needs text encoders in memory: give --offload model, or leave it out")


def can_weight(pipe: Any) -> bool:
    """Whether ``check_encoders`` passes for a pipeline."""
    try:
        check_encoders(pipe, None)
    except FreeUValueError:
        return False
    return True


def embeddings(pipe: Any, prompts: Sequence[str], negatives: Sequence[str]) -> dict[str, Any]:
    """What a pipeline is given instead of prompts; empty where all are plain words that the encoders read whole.

    Args:
        pipe: for which ``check_encoders`` passes.
        prompts, negatives: of the images of one call, as many of each.

    Returns:
        its arguments: embeddings of shape (images, tokens, channels), and for SDXL pooled ones.
    """
    import torch

    from freeu.pipelines.models.tokens import is_cut

    texts = [*prompts, *negatives]
    if not any(has_syntax(text) or is_cut(pipe, text) for text in texts):
        return {}
    with torch.no_grad():
        providers = _providers(pipe)
        found = [torch.cat([_encoded(providers, chunk) for chunk in parse(text)], dim=1) for text in texts]
        empty = torch.cat([one.empty_z for one in providers], dim=-1).to(found[0])
        longest = max(one.shape[1] for one in found)
        padded = [torch.cat([one, *[empty] * ((longest - one.shape[1]) // empty.shape[1])], dim=1) for one in found]
        count = len(prompts)
        result = {"prompt_embeds": torch.cat(padded[:count]), "negative_prompt_embeds": torch.cat(padded[count:])}
        if len(providers) == 2:
            pooled = [_pooled(pipe, text) for text in texts]
            result["pooled_prompt_embeds"] = torch.cat(pooled[:count])
            result["negative_pooled_prompt_embeds"] = torch.cat(pooled[count:])
        if getattr(pipe.config, "force_zeros_for_empty_prompt", False):
            for place, negative in enumerate(negatives):  # as the pipeline itself does where there is none
                if not negative:
                    for name in ("negative_prompt_embeds", "negative_pooled_prompt_embeds"):
                        result[name][place] = 0.0
    return result


def _providers(pipe: Any) -> list[Any]:
    compel = load_package("compel", "compel")
    two = getattr(pipe, "text_encoder_2", None) is not None
    layer = (
        compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        if two
        else compel.ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
    )
    found = []
    for end in ("", "_2") if two else ("",):
        tokenizer, encoder = getattr(pipe, f"tokenizer{end}"), getattr(pipe, f"text_encoder{end}")
        found.append(
            compel.EmbeddingsProvider(
                tokenizer,
                encoder,
                compel.DiffusersTextualInversionManager(pipe) if _has_vectors(tokenizer) else None,
                dtype_for_device_getter=lambda device, dtype=encoder.dtype: dtype,
                truncate=False,
                returned_embeddings_type=layer,
                device=pipe._execution_device,
                split_long_text_mode=compel.SplitLongTextMode.PHRASES,
                model_max_length=min(tokenizer.model_max_length, encoder.config.max_position_embeddings),
            )
        )
    return found


def _has_vectors(tokenizer: Any) -> bool:
    """Whether an embedding of several vectors is among the words: it stands for as many tokens, "word", "word_1" ..."""
    added = tokenizer.added_tokens_encoder
    return any(f"{token}_1" in added for token in added)


def _encoded(providers: Sequence[Any], chunk: Sequence[Fragment]) -> Any:
    """Embeddings of shape (1, tokens, channels): the encoders' side by side."""
    import torch

    texts, weights = [text for text, _ in chunk], [weight for _, weight in chunk]
    found = []
    for one in providers:
        try:
            weighted = one.get_embeddings_for_weighted_prompt_fragments([texts], [weights], device=one.device)
        except RuntimeError as error:
            if "token sequence" not in str(error):
                raise
            # compel looks for the tokens of each fragment in those of the whole.
            reason = shown("".join(texts), 80)
            raise FreeUValueError(
                f"compel does not find weighted words again in {reason}: weight whole words"
            ) from None
        found.append(weighted.to(one.device))
    return torch.cat(found, dim=-1)


def _pooled(pipe: Any, text: str) -> Any:
    """What SDXL's second encoder says of a prompt as a whole: of its first chunk, and without weights."""
    limit = min(pipe.tokenizer_2.model_max_length, pipe.text_encoder_2.config.max_position_embeddings)
    read = pipe.tokenizer_2(
        plain_text(text), padding="max_length", max_length=limit, truncation=True, return_tensors="pt"
    )
    return pipe.text_encoder_2(read.input_ids.to(pipe._execution_device)).text_embeds
