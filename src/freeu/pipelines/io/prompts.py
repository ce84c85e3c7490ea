"""Prompts: from a file, from the paper, and which of their words the embedded model cannot generate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from freeu.errors import FreeUValueError
from freeu.pipelines.io.prompt_lines import PromptLine, read_line
from freeu.pipelines.io.prompt_sources import Row, choose_rows, rows_of

# The examples of the official demo (ChenyangSi/FreeU, demo/app.py), and the prompts that the paper's figures name
# (Figs. 12, 15, 20, 26, 28 of arXiv:2309.11497).
PAPER_PROMPTS = (
    "A drone  view of celebration with Christma tree and fireworks, starry sky - background.",  # spelled so there
    "happy dog wearing a yellow turtleneck, studio, portrait, facing camera, studio, dark bg",
    "Campfire at night in a snowy forest with starry sky in the background.",
    "a fantasy landscape, trending on artstation",
    "Busy freeway at night.",
    "An astronaut is riding a horse in the space in a photorealistic style.",
    "Turtle swimming in ocean.",
    "A storm trooper vacuuming the beach.",
    "An astronaut feeding ducks on a sunny afternoon, reflection from the water.",
    "Fireworks.",
    "A fat rabbit wearing a purple robe walking through a fantasy landscape.",
    "A koala bear playing piano in the forest.",
    "An astronaut flying in space, 4k, high resolution.",
    "Flying through fantasy landscapes, 4k, high resolution.",
    "A small cabin on top of a snowy mountain in the style of Disney, artstation",
    "half human half cat, a human cat hybrid",
    "a drone flying over a snowy forest.",
    "a blue car is being filmed",
    "A cinematic view of the ocean, from a cave.",
    "A synthwave style sunset above the reflecting water of the sea, digital art",
    "a photo of action figure riding a motorcycle",
    "A toy on a beach",
    "A dog wearing sunglasses",
)

# Words of the embedded world's captions that name no object.
_FILLERS = frozenset({"a", "an", "the", "on", "in", "of", "and", "with", "to", "one", "style", "background"})


def collect_prompts(
    given: Iterable[str],
    source: str | None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """The texts of ``collect_lines``, for commands whose prompts have no settings of their own.

    Raises:
        FreeUValueError: a line with a negative prompt or settings, or what ``collect_lines`` refuses.
    """
    lines = collect_lines(given, source, limit, sample, seed)
    for line in lines:
        if line.negative is not None or line.settings:
            raise FreeUValueError(
                f"{line.where} says more than a prompt: only compare, generate, evaluate and tune take that"
            )
    return tuple(line.text for line in lines)


def collect_lines(
    given: Iterable[str],
    source: str | None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> list[PromptLine]:
    """Prompts of the command line, then those of ``source``.

    Args:
        given: prompts as arguments.
        source: None, or what ``prompt_rows`` reads.
        limit, sample, seed: which of those of ``source``; see ``choose_rows``.

    Raises:
        FreeUValueError: no prompt at all, an empty one, or what ``prompt_rows`` refuses.
    """
    prompts = [PromptLine(prompt.strip()) for prompt in given]
    if not all(prompt.text for prompt in prompts):
        raise FreeUValueError("a prompt is empty: write what the image should show")
    if source is not None:
        rows = prompt_rows(source, limit, sample, seed)
        prompts += [read_line(row, is_jsonl(source)) for row in rows]
    elif limit is not None or sample is not None:
        raise FreeUValueError("--limit and --sample choose among the prompts of a file: give --prompts too")
    if not prompts:
        raise FreeUValueError('no prompt: write one, such as "a 3d fox on a blue background", or give --prompts FILE')
    return prompts


def prompt_rows(source: str, limit: int | None = None, sample: int | None = None, seed: int = 0) -> list[Row]:
    """The prompts of a source, at least one, as it holds them.

    Args:
        source: "paper"; a text file ("-" for standard input) with one prompt a line, where empty lines and lines that
            begin with # are left out; a ``.jsonl`` file, whose lines ``prompt_of`` reads; captions of COCO
            (``.json``); or "hf:ID[:SPLIT[:COLUMN]]", a data set of the hub or a folder.
        limit, sample, seed: which of them; see ``choose_rows``.

    Raises:
        FreeUValueError: a source that cannot be read, or holds no prompt.
    """
    if source == "paper":
        every: Iterable[Row] = (Row(text, source, "prompt", place) for place, text in enumerate(PAPER_PROMPTS, 1))
    else:
        every = rows_of(source)
    rows = choose_rows(source, every, limit, sample, seed)
    if not rows:
        raise FreeUValueError(
            f"{source} holds no prompt: write one on each line (lines that begin with # are comments)"
        )
    return rows


def is_jsonl(source: str) -> bool:
    """Whether a source is a file of lines of JSON."""
    return source.endswith(".jsonl")


def unknown_words(prompt: str, world: Mapping[str, Any]) -> list[str]:
    """Words of a prompt that the embedded model never saw, in order.

    Args:
        world: the model's ``freeu-zoo.json``; it knows its ``nouns``, ``styles``, ``colours`` and ``words``.
    """
    phrases = [str(word).lower() for key in ("nouns", "styles", "colours", "words") for word in world.get(key, ())]
    known = {word for phrase in phrases for word in _words(phrase)} | _FILLERS
    found = [word for word in _words(prompt.lower()) if word not in known]
    return list(dict.fromkeys(found))


def notes_on_tokens(texts: Sequence[str], tokens: Mapping[str, str]) -> Iterator[str]:
    """What a user should know of the words of embeddings: one that nothing asks for, or that is read inside another.

    Args:
        texts: the prompts, the negative one among them.
        tokens: the words, each with the name of its embedding.
    """
    for token, name in tokens.items():
        letters = re.escape(token)
        if not any(re.search(letters, text, re.IGNORECASE) for text in texts):
            yield f"no prompt has the word {token!r} of the embedding {name}: it changes nothing"
        for text in texts:
            inside = re.search(rf"\w+{letters}\w*|\w*{letters}\w+", text, re.IGNORECASE)
            if inside is not None and token[0].isalnum() and token[-1].isalnum():
                yield f"the word {token!r} of the embedding {name} is read inside {inside[0]!r} too"


def without(text: str, words: Iterable[str]) -> str:
    """A prompt without some of its words, in whatever case."""
    for word in sorted(words, key=len, reverse=True):
        text = re.sub(re.escape(word), " ", text, flags=re.IGNORECASE)
    return text


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text)
