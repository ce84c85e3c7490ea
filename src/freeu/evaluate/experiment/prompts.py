"""Prompts of an experiment, with what they ask for where that is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.alignment import Asked
from freeu.pipelines.io.prompts import collect_prompts


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Args:
        text: the prompt itself.
        asked: what it asks for; None where nobody wrote that down.
        layout: the kind of scene, such as "single", by which alignment is broken down; None leaves it out of that.
    """

    text: str
    asked: Asked | None = None
    layout: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a line of a prompt file."""
        return {"prompt": self.text, "layout": self.layout, "asked": self.asked.to_dict() if self.asked else None}


def read_prompts(source: str) -> tuple[Prompt, ...]:
    """Prompts from "paper", a text file (one a line), or a ``.jsonl`` file of {"prompt": "...", "asked": {...}}.

    Lines of a ``.jsonl`` file may say their "layout" too.

    Raises:
        FreeUValueError: a file that cannot be read, a line that is no such object (with its number), or a prompt twice.
    """
    if not source.endswith(".jsonl"):
        found = tuple(Prompt(text) for text in collect_prompts((), source))
    else:
        lines = collect_prompts((), source)
        found = tuple(_prompt(source, number, line) for number, line in enumerate(lines, start=1))
    seen: set[str] = set()
    for prompt in found:
        if prompt.text in seen:
            raise FreeUValueError(f"{source} holds the prompt {prompt.text!r} twice: use more seeds instead")
        seen.add(prompt.text)
    return found


def _prompt(source: str, number: int, line: str) -> Prompt:
    where = f"{Path(source).name}, prompt {number}"
    try:
        data = json.loads(line)
    except ValueError as error:
        raise FreeUValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str) or not data["prompt"].strip():
        raise FreeUValueError(f'{where} must be an object like {{"prompt": "...", "asked": {{...}}}}')
    unknown = data.keys() - {"prompt", "asked", "layout"}
    if unknown:
        raise FreeUValueError(f"{where} has an unknown field {min(unknown)!r}: known are prompt, asked and layout")
    layout = data.get("layout")
    if layout is not None and not (isinstance(layout, str) and layout.strip()):
        raise FreeUValueError(f"{where}: layout must be a name or left out, got {layout!r}")
    try:
        asked = None if data.get("asked") is None else Asked.from_dict(data["asked"])
    except FreeUValueError as error:
        raise FreeUValueError(f"{where}: {error}") from None
    return Prompt(data["prompt"].strip(), asked, layout.strip() if layout else None)
