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
GAP, PAIR_GAP, MARGIN = 4, 20, 24
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
    type_ = _Type(max(1.0, max(cell) / SMALL))
    group = arms * cell[0] + (arms - 1) * GAP
    width = max(2 * MARGIN + columns * group + (columns - 1) * PAIR_GAP, 480)

    inner = width - 2 * MARGIN
    head = _wrap(title, type_.label, inner)
    foot = _wrap(f"FreeU: {plan.config}" if plan.config else "without FreeU", type_.small, inner)
    bands = [_wrap(_drawable(prompt, i), type_.prompt, inner - 24) for i, prompt in enumerate(plan.prompts)]
    label = type_.line(type_.label)
    row_height = label + cell[1] + (label if arms > 1 else 0) + 10
    heights = [type_.line(type_.prompt) * len(band) + 18 + rows * row_height + 14 for band in bands]
    top = type_.line(type_.label) * len(head) + type_.line(type_.small) * len(foot)
    sheet = Image.new("RGB", (width, 2 * MARGIN + top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    names = {(p.index, p.seed, p.arm): p.file for p in plan.pictures()}

    def write(x: int, y: int, lines: list[str], size: int, ink: tuple[int, int, int]) -> int:
        for line in lines:
            draw.text((x, y), line, ink, font=_font(size))
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
                with Image.open(folder / names[index, seed, arm]) as picture:
                    sheet.paste(picture.convert("RGB").resize(cell, Image.Resampling.LANCZOS), (left, under))
                if arms > 1:
                    write(left, under + cell[1] + 4, [ARMS[arm]], type_.label, INK)
        y += rows * row_height + 14
    return sheet


class _Type:
    """Sizes of letters in pixels, which grow with the pictures so that a grid shown small can still be read."""

    def __init__(self, scale: float) -> None:
        self.small, self.label, self.prompt = round(13 * scale), round(15 * scale), round(18 * scale)

    def line(self, size: int) -> int:
        """Height of a line of letters of that size."""
        return round(1.45 * size) + 2


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
