"""Prompts of an experiment, with what they ask for where it is known."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from freeu.errors import FreeUValueError, shown
from freeu.evaluate.metrics.alignment import PromptSpec
from freeu.pipelines.io.prompt_lines import PromptLine, read_line
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
        negative: its own negative prompt; None takes that of the run.
    """

    text: str
    spec: PromptSpec | None = None
    layout: str | None = None
    negative: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a line of a prompt file."""
        found = {"prompt": self.text, "layout": self.layout, "asked": self.spec.to_dict() if self.spec else None}
        return found if self.negative is None else found | {"negative_prompt": self.negative}


def negatives_of(prompts: Sequence[Prompt], usual: str) -> tuple[str, ...]:
    """The negative prompt of each prompt, as a plan holds them: () where none has one of its own.

    Args:
        prompts: of a run.
        usual: the negative prompt of the run.
    """
    if all(prompt.negative is None for prompt in prompts):
        return ()
    return tuple(usual if prompt.negative is None else prompt.negative for prompt in prompts)


def read_prompts(source: str, limit: int | None = None, sample: int | None = None, seed: int = 0) -> tuple[Prompt, ...]:
    """Prompts from what ``prompt_rows`` reads.

    Lines of a ``.jsonl`` file may also have "asked", a "layout" and a "negative_prompt"; lines of A1111's script a
    ``--negative_prompt``. Other settings in them are those of one image, and left out with a warning.

    Args:
        source, limit, sample, seed: as in ``prompt_rows``.

    Raises:
        FreeUValueError: what ``prompt_rows`` refuses, a line that is no such object, or a repeated prompt; the message
            gives the line, or both of them.
    """
    rows = prompt_rows(source, limit, sample, seed)
    lines = [read_line(row, is_jsonl(source)) for row in rows]
    found = tuple(_prompt(row, line, is_jsonl(source)) for row, line in zip(rows, lines, strict=True))
    left = [f"--{name}" for name in dict.fromkeys(name for line in lines for name in line.settings)]
    if left:
        warnings.warn(f"{source}, not taken of its lines: {', '.join(left)}: all prompts have the same", stacklevel=2)
    seen: dict[str, Row] = {}
    for prompt, row in zip(found, rows, strict=True):
        first = seen.setdefault(prompt.text, row)
        if first is not row:
            raise FreeUValueError(
                f"{row.where} repeats the prompt {shown(prompt.text)} of {first.where}, so {source} holds it twice: "
                "use more seeds instead"
            )
    return found


def _prompt(row: Row, line: PromptLine, jsonl: bool) -> Prompt:
    if not jsonl:
        return Prompt(line.text, negative=line.negative)
    where = row.where
    _, data = prompt_of(row)
    unknown = data.keys() - {"prompt", "asked", "layout", "negative_prompt"}
    if unknown:
        raise FreeUValueError(
            f"{where} has an unknown field {min(unknown)!r}: known are prompt, negative_prompt, asked and layout"
        )
    layout = data.get("layout")
    if layout is not None and not (isinstance(layout, str) and layout.strip()):
        raise FreeUValueError(f"{where}: layout must be a name or absent, got {layout!r}")
    try:
        spec = None if data.get("asked") is None else PromptSpec.from_dict(data["asked"])
    except FreeUValueError as error:
        raise FreeUValueError(f"{where}: {error}") from None
    return Prompt(line.text, spec, layout.strip() if layout else None, line.negative)
