"""One picture of all pictures, labelled: a band for each prompt, under it every seed without and with FreeU."""

from __future__ import annotations

import functools
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.pipelines.manifest import Manifest
from freeu.pipelines.plan import ARMS

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL, LARGE = 256, 512  # sides in pixels between which a picture is shown
MAX_PIXELS = 60_000_000  # a grid of many pictures shows them smaller rather than grow beyond this
GAP, PAIR_GAP, MARGIN, LABEL = 4, 20, 24, 26
INK, FAINT, PAPER, BAND = (28, 28, 30), (98, 98, 104), (255, 255, 255), (242, 242, 245)
MAX_COLUMNS = 4


def make_grid(folder: Path, manifest: Manifest, title: str) -> Image:
    """Draw the labelled grid of a run.

    Args:
        folder: where the pictures are.
        manifest: of a complete run.
        title: one line for the head: model, steps, FreeU's settings.

    Returns:
        An RGB image. Small pictures are enlarged (so that 128 pixels can be seen), big ones reduced, all by Lanczos.
    """
    from PIL import Image, ImageDraw

    plan = manifest.plan
    arms = len(plan.arms)
    columns = min(MAX_COLUMNS, len(plan.seeds)) if arms > 1 else min(2 * MAX_COLUMNS, len(plan.seeds))
    rows = -(-len(plan.seeds) // columns)
    cell = _cell(plan.width, plan.height, len(plan.prompts) * rows * columns * arms)
    group = arms * cell[0] + (arms - 1) * GAP
    width = max(2 * MARGIN + columns * group + (columns - 1) * PAIR_GAP, 480)

    inner = width - 2 * MARGIN
    head = _wrap(title, 15, inner)
    foot = _wrap(f"FreeU: {plan.config}" if plan.config else "without FreeU", 13, inner)
    bands = [_wrap(_drawable(prompt, index), 18, inner - 24) for index, prompt in enumerate(plan.prompts)]
    row_height = LABEL + cell[1] + (LABEL if arms > 1 else 0) + 10
    height = MARGIN + 22 * len(head) + 18 * len(foot) + 14
    height += sum(24 * len(band) + 18 + rows * row_height + 14 for band in bands) + MARGIN - 14

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    for line in head:
        draw.text((MARGIN, y), line, INK, font=_font(15))
        y += 22
    for line in foot:
        draw.text((MARGIN, y), line, FAINT, font=_font(13))
        y += 18
    y += 14
    for index, band in enumerate(bands):
        draw.rounded_rectangle((MARGIN, y, width - MARGIN, y + 24 * len(band) + 8), 6, BAND)
        for line in band:
            draw.text((MARGIN + 12, y + 4), line, INK, font=_font(18))
            y += 24
        y += 18
        for place, seed in enumerate(plan.seeds):
            row, column = divmod(place, columns)
            x = MARGIN + column * (group + PAIR_GAP)
            top = y + row * row_height
            draw.text((x, top), f"seed {seed}", FAINT, font=_font(15))
            for number, arm in enumerate(plan.arms):
                left = x + number * (cell[0] + GAP)
                name = next(p.file for p in plan.pictures() if (p.index, p.seed, p.arm) == (index, seed, arm))
                with Image.open(folder / name) as picture:
                    sheet.paste(picture.convert("RGB").resize(cell, Image.Resampling.LANCZOS), (left, top + LABEL))
                if arms > 1:
                    draw.text((left, top + LABEL + cell[1] + 4), ARMS[arm], INK, font=_font(15))
        y += rows * row_height + 14
    return sheet


def _cell(width: int, height: int, count: int) -> tuple[int, int]:
    """Size in pixels at which each of ``count`` pictures is shown."""
    side = max(width, height)
    shown = float(side)
    if side < SMALL:
        shown = side * -(-SMALL // side)
    elif side > LARGE:
        shown = LARGE
    scale = shown / side
    area = count * width * height * scale * scale
    if area > MAX_PIXELS:
        scale *= (MAX_PIXELS / area) ** 0.5
    return max(16, round(width * scale)), max(16, round(height * scale))


@functools.cache
def _font(size: int) -> Any:
    """The font that Pillow brings along, so that every machine draws the same labels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


@functools.cache
def _has_glyph(letter: str) -> bool:
    if letter.isspace():
        return True
    font = _font(24)
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


def _drawable(prompt: str, index: int) -> str:
    """The prompt, or where to read it if the font lacks its letters."""
    if all(map(_has_glyph, prompt)):
        return prompt
    return f"prompt {index} (see the manifest: this font lacks its letters)"


def _wrap(text: str, size: int, width: int) -> list[str]:
    """Lines of at most ``width`` pixels; a very long prompt ends in dots after three lines."""
    letters = max(12, int(width / (_font(size).getlength("The quick brown fox jumps over a lazy dog") / 41)))
    return textwrap.wrap(text, letters, max_lines=3, placeholder=" ...") or [""]
