"""Prompts of an experiment, with what they ask for where it is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.errors import FreeUValueError
from freeu.evaluate.metrics.alignment import PromptSpec
from freeu.json_files import parse_json
from freeu.pipelines.io.prompts import collect_prompts


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Args:
        text: the prompt itself.
        spec: what it asks for ("asked" in a prompt file); None if unknown.
        layout: the kind of scene, such as "single", by which alignment is broken down; None leaves the prompt out of
            that table.
    """

    text: str
    spec: PromptSpec | None = None
    layout: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a line of a prompt file."""
        return {"prompt": self.text, "layout": self.layout, "asked": self.spec.to_dict() if self.spec else None}


def read_prompts(source: str) -> tuple[Prompt, ...]:
    """Prompts from "paper", a text file (one a line), or a ``.jsonl`` file of {"prompt": "...", "asked": {...}}.

    Lines of a ``.jsonl`` file may also have a "layout".

    Raises:
        FreeUValueError: a file that cannot be read, a line that is no such object (with its number), or a repeated
            prompt.
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
    data = parse_json(line, where)
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str) or not data["prompt"].strip():
        raise FreeUValueError(f'{where} must be an object like {{"prompt": "...", "asked": {{...}}}}')
    unknown = data.keys() - {"prompt", "asked", "layout"}
    if unknown:
        raise FreeUValueError(f"{where} has an unknown field {min(unknown)!r}: known are prompt, asked and layout")
    layout = data.get("layout")
    if layout is not None and not (isinstance(layout, str) and layout.strip()):
        raise FreeUValueError(f"{where}: layout must be a name or absent, got {layout!r}")
    try:
        spec = None if data.get("asked") is None else PromptSpec.from_dict(data["asked"])
    except FreeUValueError as error:
        raise FreeUValueError(f"{where}: {error}") from None
    return Prompt(data["prompt"].strip(), spec, layout.strip() if layout else None)
