"""All images in one, labelled: a band for each prompt, under it every seed without and with FreeU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from freeu.pipelines.pages.lettering import (
    BAND,
    FAINT,
    GAP,
    INK,
    MARGIN,
    PAIR_GAP,
    PAPER,
    SMALL,
    Type,
    drawable,
    font,
    shown_size,
    wrap,
)
from freeu.pipelines.runs.manifest import Manifest
from freeu.pipelines.runs.plan import ARMS

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_COLUMNS = 4


def make_grid(folder: Path, manifest: Manifest, title: str) -> Image:
    """Make the labelled grid of a run.

    Args:
        folder: where the images are.
        manifest: of a complete run.
        title: one line for the head: model, steps, FreeU's settings.

    Returns:
        An RGB image. Small images are enlarged (so that 128 pixels can be seen), big ones reduced, all by Lanczos.
    """
    from PIL import Image, ImageDraw

    plan = manifest.plan
    arms = len(plan.arms)
    columns = min(MAX_COLUMNS, len(plan.seeds)) if arms > 1 else min(2 * MAX_COLUMNS, len(plan.seeds))
    rows = -(-len(plan.seeds) // columns)
    cell = shown_size(plan.width, plan.height, len(plan.prompts) * rows * columns * arms)
    type_ = Type(max(1.0, max(cell) / SMALL))
    group = arms * cell[0] + (arms - 1) * GAP
    width = max(2 * MARGIN + columns * group + (columns - 1) * PAIR_GAP, 480)

    inner = width - 2 * MARGIN
    head = wrap(title, type_.label, inner)
    foot = wrap(f"FreeU: {plan.config}" if plan.config else "without FreeU", type_.small, inner)
    bands = [wrap(drawable(prompt, i), type_.prompt, inner - 24) for i, prompt in enumerate(plan.prompts)]
    label = type_.line(type_.label)
    row_height = label + cell[1] + (label if arms > 1 else 0) + 10
    heights = [type_.line(type_.prompt) * len(band) + 18 + rows * row_height + 14 for band in bands]
    top = type_.line(type_.label) * len(head) + type_.line(type_.small) * len(foot)
    sheet = Image.new("RGB", (width, 2 * MARGIN + top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    names = {(p.index, p.seed, p.arm): p.file for p in plan.images()}

    def write(x: int, y: int, lines: list[str], size: int, ink: tuple[int, int, int]) -> int:
        for line in lines:
            draw.text((x, y), line, ink, font=font(size))
            y += type_.line(size)
        return y

    y = write(MARGIN, write(MARGIN, MARGIN, head, type_.label, INK), foot, type_.small, FAINT) + 14
    for index, band in enumerate(bands):
        tall = type_.line(type_.prompt) * len(band)
        draw.rounded_rectangle((MARGIN, y, width - MARGIN, y + tall + 8), 6, BAND)
        y = write(MARGIN + 12, y + 7, band, type_.prompt, INK) + 11
        for place, seed in enumerate(plan.seeds):
            row, column = divmod(place, columns)
            x = MARGIN + column * (group + PAIR_GAP)
            under = write(x, y + row * row_height, [f"seed {seed}"], type_.label, FAINT)
            for number, arm in enumerate(plan.arms):
                left = x + number * (cell[0] + GAP)
                with Image.open(folder / names[index, seed, arm]) as image:
                    sheet.paste(image.convert("RGB").resize(cell, Image.Resampling.LANCZOS), (left, under))
                if arms > 1:
                    write(left, under + cell[1] + 4, [ARMS[arm]], type_.label, INK)
        y += rows * row_height + 14
    return sheet
