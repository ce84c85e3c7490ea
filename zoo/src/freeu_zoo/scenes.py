"""Scenes: one large sprite on a plain background, with captions that describe it. Everything follows from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from . import sprites

SIZE = 128
"""Side of a scene in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "yellow": (250, 220, 60),
    "green": (60, 150, 70),
    "blue": (50, 105, 220),
    "red": (215, 35, 40),
    "white": (255, 255, 255),
    "purple": (125, 60, 175),
    "pink": (250, 165, 205),
    "orange": (250, 145, 30),
}
"""Background colours by name, 8-bit sRGB."""


@dataclass(frozen=True)
class Scene:
    """What is in a picture: the long side of the object and its top left corner are in pixels."""

    noun: str
    style: str
    colour: str
    long_side: int
    left: int
    top: int


class SceneMaker:
    """Makes scenes of the given nouns by number.

    Numbers walk through all noun x style x colour combinations in turn, so any run of ``self.combinations``
    consecutive numbers is balanced; size and position are drawn from the seed and the number.

    Args:
        nouns: which nouns; each must be in the sprite table.
        folder: where ``sprites.unpack`` put the pictures.
        seed: another seed gives other sizes and positions.
        sides: smallest and largest long side of the object in pixels, within 1..128.
        jitter: greatest distance in pixels of the object's centre from the picture's, along each axis.

    Raises:
        ZooError: a sprite is missing.
    """

    def __init__(
        self,
        nouns: Sequence[str],
        folder: Path,
        seed: int = 0,
        sides: tuple[int, int] = (84, 112),
        jitter: int = 6,
    ) -> None:
        self.nouns = tuple(nouns)
        self.seed = seed
        self.sides = sides
        self.jitter = jitter
        self._kinds = [(n, s, c) for c in COLOURS for s in sprites.STYLES for n in self.nouns]
        self._sprites = {(s, n): sprites.load(folder, s, n) for s in sprites.STYLES for n in self.nouns}

    @property
    def combinations(self) -> int:
        """Number of noun x style x colour combinations."""
        return len(self._kinds)

    def scene(self, number: int) -> Scene:
        """The scene of that number."""
        noun, style, colour = self._kinds[number % len(self._kinds)]
        draw = random.Random(f"{self.seed}/{number}")
        long_side = draw.randint(*self.sides)
        width, height = self._sprites[style, noun].size
        scale = long_side / max(width, height)
        room_x, room_y = SIZE - width * scale, SIZE - height * scale
        left = room_x / 2 + draw.randint(-self.jitter, self.jitter)
        top = room_y / 2 + draw.randint(-self.jitter, self.jitter)
        return Scene(noun, style, colour, long_side, round(min(max(left, 0), room_x)), round(min(max(top, 0), room_y)))

    def picture(self, scene: Scene) -> Image.Image:
        """Compose ``scene``: an RGB picture of ``SIZE`` x ``SIZE`` pixels."""
        sprite = self._sprites[scene.style, scene.noun]
        return paste(sprite, COLOURS[scene.colour], scene.long_side, scene.left, scene.top)


def paste(sprite: Image.Image, colour: tuple[int, int, int], long_side: int, left: int, top: int) -> Image.Image:
    """Scale an RGBA sprite to ``long_side`` pixels and lay it on a plain background."""
    scale = long_side / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    picture = Image.new("RGBA", (SIZE, SIZE), (*colour, 255))
    picture.alpha_composite(sprite.resize(size, Image.Resampling.LANCZOS), (left, top))
    return picture.convert("RGB")


TEMPLATES: tuple[tuple[int, str], ...] = (
    (10, "a {style} {noun} on a {colour} background"),
    (3, "{style} {noun}, {colour} background"),
    (3, "a {noun} on a {colour} background in {style} style"),
    (2, "a {colour} background with a {style} {noun}"),
    (2, "a {noun}, {style}, on {colour}"),
    (2, "a picture of a {style} {noun} on a {colour} background"),
    (1, "a {filler} {style} {noun} on a {colour} background"),
    (1, "a {style} {noun} on a {colour} background, {filler}, {filler}"),
    (1, "a {style} {noun}"),
    (1, "a {noun} on a {colour} background"),
    (1, "a {noun}"),
    (1, "{noun}"),
)
"""Weights and caption templates. The short ones leave style or colour open, as a hasty user does."""

FILLERS = ("cute", "beautiful", "high quality", "detailed", "emoji", "icon", "photo", "nice", "best", "simple", "one")
"""Words that mean nothing here: the model learns to ignore what it does not know."""


def caption(scene: Scene, draw: random.Random, drop: float = 0.0) -> str:
    """One of the captions that fit ``scene``; empty with probability ``drop`` (for classifier-free guidance)."""
    if draw.random() < drop:
        return ""
    template = draw.choices([t for _, t in TEMPLATES], [w for w, _ in TEMPLATES])[0]
    while "{filler}" in template:
        template = template.replace("{filler}", _filler(draw), 1)
    text = template.format(style=scene.style, noun=scene.noun, colour=scene.colour)
    # "an owl": people write good English, so the captions do too.
    return " ".join("an" if a == "a" and b[:1] in "aeiou" else a for a, b in _pairs(text.split()))


def plain_caption(noun: str, style: str, colour: str) -> str:
    """The first template, for fixed prompts."""
    article = "an" if style[:1] in "aeiou" else "a"
    ground = "an" if colour[:1] in "aeiou" else "a"
    return f"{article} {style} {noun} on {ground} {colour} background"


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(words, [*words[1:], ""], strict=True))


def _filler(draw: random.Random) -> str:
    if draw.random() < 0.6:
        return draw.choice(FILLERS)
    return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(draw.randint(2, 8)))
