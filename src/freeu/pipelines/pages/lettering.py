"""Sizes, colours and letters of images that show other images."""

from __future__ import annotations

import functools
import textwrap
from typing import Any

SMALL, LARGE = 256, 512  # sides in pixels between which an image is shown
MAX_PIXELS = 60_000_000  # a grid of many images shows them smaller rather than grow beyond this
GAP, PAIR_GAP, MARGIN = 4, 20, 24
INK, FAINT, PAPER, BAND = (28, 28, 30), (98, 98, 104), (255, 255, 255), (242, 242, 245)


class Type:
    """Sizes of letters in pixels, which grow with the images so that a grid shown small can still be read."""

    def __init__(self, scale: float) -> None:
        self.small, self.label, self.prompt = round(13 * scale), round(15 * scale), round(18 * scale)

    def line(self, size: int) -> int:
        """Height of a line of letters of that size."""
        return round(1.45 * size) + 2


def shown_size(width: int, height: int, count: int) -> tuple[int, int]:
    """Size in pixels at which each of ``count`` images is shown."""
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
def font(size: int) -> Any:
    """The font that Pillow brings along, so that every machine renders the same labels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


@functools.cache
def _has_glyph(letter: str) -> bool:
    if letter.isspace():
        return True
    letters = font(24)
    return bytes(letters.getmask(letter)) != bytes(letters.getmask("\uffff"))


def drawable(prompt: str, index: int) -> str:
    """The prompt, or its number if the font lacks its letters."""
    if all(map(_has_glyph, prompt)):
        return prompt
    return f"prompt {index} (see the manifest: this font lacks its letters)"


def wrap(text: str, size: int, width: int) -> list[str]:
    """Lines of at most ``width`` pixels; a very long prompt ends in dots after three lines."""
    letters = max(12, int(width / (font(size).getlength("The quick brown fox jumps over a lazy dog") / 41)))
    return textwrap.wrap(text, letters, max_lines=3, placeholder=" ...") or [""]
