"""Prompts of an experiment, with what they ask for where it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from freeu.errors import FreeUValueError, shown
from freeu.evaluate.metrics.alignment import PromptSpec
from freeu.pipelines.io.prompt_sources import Row, prompt_of
from freeu.pipelines.io.prompts import is_jsonl, prompt_rows


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


def read_prompts(source: str, limit: int | None = None, sample: int | None = None, seed: int = 0) -> tuple[Prompt, ...]:
    """Prompts from what ``prompt_rows`` reads; lines of a ``.jsonl`` file may also have "asked" and a "layout".

    Args:
        source, limit, sample, seed: as in ``prompt_rows``.

    Raises:
        FreeUValueError: what ``prompt_rows`` refuses, a line that is no such object, or a repeated prompt; the message
            gives the line, or both of them.
    """
    rows = prompt_rows(source, limit, sample, seed)
    found = tuple(_prompt(row) if is_jsonl(source) else Prompt(row.text) for row in rows)
    seen: dict[str, Row] = {}
    for prompt, row in zip(found, rows, strict=True):
        first = seen.setdefault(prompt.text, row)
        if first is not row:
            raise FreeUValueError(
                f"{row.where} repeats the prompt {shown(prompt.text)} of {first.where}, so {source} holds it twice: "
                "use more seeds instead"
            )
    return found


def _prompt(row: Row) -> Prompt:
    where = row.where
    text, data = prompt_of(row)
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
    return Prompt(text, spec, layout.strip() if layout else None)
