"""Prompts of a run with what their lines say beside them: a negative prompt, and settings in A1111's words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from freeu.errors import FreeUValueError, shown, unknown_name
from freeu.pipelines.io.prompt_sources import Row, prompt_of

_SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "seed": str,
    "cfg_scale": float,
    "steps": int,
    "sampler_name": str,
    "width": int,
    "height": int,
}
"""Words of A1111's script "prompts from file" that a line may hold beside its prompts, and what their values are."""
_A1111_LINE = re.compile(r"--[a-z_]+(\s|=|$)")


@dataclass(frozen=True)
class PromptLine:
    """A prompt and what its line says beside it.

    Args:
        text: the prompt.
        where: what to call the line in messages; "" for a prompt of the command line.
        negative: its own negative prompt, or None.
        settings: by their names in A1111, such as "cfg_scale".
    """

    text: str
    where: str = ""
    negative: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_line(row: Row, jsonl: bool) -> PromptLine:
    """A line of a file of prompts: a prompt, an object of a ``.jsonl`` file, or words of A1111's script.

    Raises:
        FreeUValueError: a line that is none of these; the message says where.
    """
    if jsonl:
        text, data = prompt_of(row)
        negative = data.get("negative_prompt")
        if negative is not None and not isinstance(negative, str):
            raise FreeUValueError(f"{row.where}: negative_prompt must be a text, got {shown(negative)}")
        return PromptLine(text, row.where, negative)
    if _A1111_LINE.match(row.text) is None:
        return PromptLine(row.text, row.where)
    return _a1111(row)


def _a1111(row: Row) -> PromptLine:
    """``--prompt "a fox" --negative_prompt "blurry" --seed 1 --cfg_scale 7``."""
    try:
        words = shlex.split(row.text)
    except ValueError:
        raise FreeUValueError(f"{row.where} has a quotation mark that is not closed") from None
    found: dict[str, Any] = {}
    places = iter(words)
    for word in places:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in ("prompt", "negative_prompt", *_SETTINGS):
            known = [f"--{one}" for one in ("prompt", "negative_prompt", *_SETTINGS)]
            raise FreeUValueError(f"{row.where}: {unknown_name('word', word, known)}")
        value = value if equals else next(places, "")
        try:
            found[name] = _SETTINGS.get(name, str)(value)
        except ValueError:
            raise FreeUValueError(f"{row.where}: --{name} needs a number, got {value!r}") from None
    text = found.pop("prompt", "").strip()
    if not text:
        raise FreeUValueError(f"{row.where} has no --prompt: write what the image should show")
    return PromptLine(text, row.where, found.pop("negative_prompt", None), found)


def common_settings(lines: Iterable[PromptLine]) -> dict[str, Any]:
    """The settings of all lines, which must be the same: a run has one of each.

    Raises:
        FreeUValueError: two lines differ in one.
    """
    lines = list(lines)
    for name in _SETTINGS:
        for line in lines:
            if line.settings.get(name) != lines[0].settings.get(name):
                raise FreeUValueError(
                    f"{line.where or line.text} has another --{name} than {lines[0].where or lines[0].text}: a run "
                    "has one of each, so put such lines into files of their own"
                )
    return dict(lines[0].settings) if lines else {}
