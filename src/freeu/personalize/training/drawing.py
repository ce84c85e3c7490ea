"""What a model draws while it is being taught: pictures of the class, and samples that show how far it is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeURuntimeError
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.models.sources.sources import fingerprint
from freeu.pipelines.pages.lettering import (
    FAINT,
    GAP,
    INK,
    MARGIN,
    PAPER,
    SMALL,
    Type,
    drawable,
    font,
    shown_size,
    wrap,
)
from freeu.pipelines.runs.draw import draw
from freeu.pipelines.runs.plan import ModelReference, Plan
from freeu.pipelines.runs.run import Progress, make_pictures
from freeu.wording import counted

if TYPE_CHECKING:
    from PIL.Image import Image

CLASS_SEED = 1_000_000
"""Of the first picture of the class, far from the seeds that people take for their own pictures."""


def reference_of(loaded: Loaded, variant: str | None, model_config: Path | None) -> ModelReference:
    """The model that is taught, so that it can be found again."""
    assert loaded.source.path is not None
    return ModelReference(
        kind=loaded.source.kind,
        reference=loaded.source.reference,
        name=loaded.source.label,
        class_name=type(loaded.pipe).__name__,
        fingerprint=fingerprint(loaded.source.path),
        variant=variant,
        model_config=str(model_config.resolve()) if model_config else None,
    )


def plain_plan(
    loaded: Loaded, model: ModelReference, prompts: Sequence[str], seeds: Sequence[int], size: int, **arithmetic: Any
) -> Plan:
    """A plan without FreeU, with the model's own steps and guidance.

    Args:
        size: side of the pictures in pixels.
        arithmetic: dtype, device and threads of the plan.
    """
    return Plan(
        command="generate",
        prompts=tuple(prompts),
        negative_prompt="",
        seeds=tuple(seeds),
        arms=("baseline",),
        config=None,
        model=model,
        task="text",
        steps=loaded.steps,
        guidance=loaded.guidance,
        scheduler=None,
        width=size,
        height=size,
        image_sha=None,
        mask_sha=None,
        image_strength=None,
        **arithmetic,
    )


def class_pictures(loaded: Loaded, plan: Plan, output: OutputFolder, progress: Progress) -> list[tuple[int, Image]]:
    """The pictures of the class, drawn by the model as it was; those that are there already are kept.

    Returns:
        each with the number of its prompt.

    Raises:
        FreeUValueError: the folder belongs to another plan or environment.
        FreeURuntimeError: the model's safety checker blacked one out, or the disk is full.
    """
    from PIL import Image

    manifest = make_pictures(loaded, plan, output, progress=progress)
    flagged = [record.file for record in manifest.pictures.values() if record.flagged]
    if flagged:
        raise FreeURuntimeError(
            f"the model's safety checker blacked out {counted(len(flagged), 'picture')} of the class ({flagged[0]}): "
            "take another --class-noun, or --no-prior"
        )
    found = []
    for picture in plan.pictures():
        with Image.open(output.path / picture.file) as image:
            found.append((picture.index, image.convert("RGB")))
    return found


def sample_sheet(loaded: Loaded, plan: Plan, title: str) -> bytes:
    """The prompts of a plan, drawn side by side under a title, as PNG."""
    with quiet():
        drawn = [(picture.prompt, draw(loaded.pipe, plan, picture)[0]) for picture in plan.pictures()]
    buffer = io.BytesIO()
    sheet(drawn, title).save(buffer, format="PNG")
    return buffer.getvalue()


def sheet(pictures: Sequence[tuple[str, Image]], title: str) -> Image:
    """Pictures of one size in rows of at most four, each with its caption above it."""
    from PIL import Image, ImageDraw

    columns = min(4, len(pictures))
    cell = shown_size(*pictures[0][1].size, len(pictures))
    type_ = Type(max(1.0, max(cell) / SMALL))
    captions = [wrap(drawable(text, number), type_.small, cell[0]) for number, (text, _) in enumerate(pictures)]
    above = type_.line(type_.small) * max(map(len, captions)) + 6
    rows = -(-len(pictures) // columns)
    head = type_.line(type_.label) + 8
    size = (
        2 * MARGIN + columns * (cell[0] + GAP) - GAP,
        2 * MARGIN + head + rows * (above + cell[1] + 12),
    )
    page = Image.new("RGB", size, PAPER)
    draw_ = ImageDraw.Draw(page)
    draw_.text((MARGIN, MARGIN), title, INK, font=font(type_.label))
    for number, (_, picture) in enumerate(pictures):
        row, column = divmod(number, columns)
        x, y = MARGIN + column * (cell[0] + GAP), MARGIN + head + row * (above + cell[1] + 12)
        for line, text in enumerate(captions[number]):
            draw_.text((x, y + line * type_.line(type_.small)), text, FAINT, font=font(type_.small))
        page.paste(picture.resize(cell, Image.Resampling.LANCZOS), (x, y + above))
    return page


def losses_text(losses: Mapping[str, float]) -> str:
    """Losses in a few words, such as "subject 0.12, prior 0.10"."""
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
