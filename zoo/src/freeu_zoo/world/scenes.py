"""Scenes: one to four sprites on a plain or graded background, described as data. Everything follows from a seed."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from freeu_zoo.errors import ZooError
from freeu_zoo.world import layouts, sprites
from freeu_zoo.world.layouts import RELATIONS, SIZE, Placing

__all__ = ["COLOURS", "RELATIONS", "SIZE", "Scene", "SceneMaker", "Thing", "World", "is_held_out"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "yellow": (250, 220, 60),
    "green": (60, 150, 70),
    "blue": (50, 105, 220),
    "red": (215, 35, 40),
    "white": (255, 255, 255),
    "purple": (125, 60, 175),
    "pink": (250, 165, 205),
    "orange": (250, 145, 30),
    "black": (20, 20, 24),
    "grey": (135, 135, 140),
}
"""Colours by name, 8-bit sRGB: of backgrounds, and of objects that do not have their own colours."""

# The first lesson (recipes/mini-sd-24.toml) is older than the rule of held-out combinations: it showed these nouns in
# these styles on these colours, so none of that can be called unseen.
_FIRST_NOUNS = frozenset(list(sprites.table().nouns)[:24])
_FIRST_STYLES = ("3d", "flat")
_FIRST_COLOURS = tuple(COLOURS)[:8]


VERSION = 2
"""Of the generator: another version makes other scenes from the same seed, and stored latents are encoded again."""


@dataclass(frozen=True)
class Thing:
    """An object in an image. ``colour`` is None where it has its own colours; the box is in pixels."""

    noun: str
    colour: str | None
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Scene:
    """What is in an image.

    Args:
        style: one of ``sprites.STYLES``, for all objects.
        background: one colour name, or two for a gradient from top to bottom.
        layout: "single", "placed", "count", "pair" or "trio".
        things: the objects in order of mention (for "pair" the subject of the relation is first).
        relation: for "pair", one of ``RELATIONS``.
        size: for "placed", "small" or "large", if the caption may say so.
        position: for "placed", one of ``layouts.POSITIONS``.
    """

    style: str
    background: tuple[str, ...]
    layout: str
    things: tuple[Thing, ...]
    relation: str | None = None
    size: str | None = None
    position: str | None = None

    @property
    def painting_order(self) -> tuple[Thing, ...]:
        """The objects from the farthest to the nearest."""
        return self.things[::-1] if self.relation in ("on", "inside") else self.things

    def combinations(self) -> list[tuple[str, ...]]:
        """What may be held out: noun, style and background; noun and its colour; noun, relation and noun."""
        found: list[tuple[str, ...]] = [
            ("scene", thing.noun, self.style, ground) for thing in self.things for ground in self.background
        ]
        found += [("colour", thing.noun, thing.colour) for thing in self.things if thing.colour is not None]
        if self.relation is not None:
            found.append(("relation", self.things[0].noun, self.relation, self.things[1].noun))
        return list(dict.fromkeys(found))

    def held_out(self) -> bool:
        """Whether training never shows some combination that is in this scene."""
        return any(map(is_held_out, self.combinations()))


@functools.lru_cache(maxsize=1 << 18)
def is_held_out(combination: tuple[str, ...]) -> bool:
    """Whether training never shows that combination (see ``Scene.combinations``): one in ten, chosen by a hash."""
    if combination[0] == "scene":
        _, noun, style, colour = combination
        if noun in _FIRST_NOUNS and style in _FIRST_STYLES and colour in _FIRST_COLOURS:
            return False
    return hashlib.sha256("/".join(combination).encode()).digest()[0] % 10 == 0


@dataclass(frozen=True)
class World:
    """Which scenes there are.

    Args:
        nouns: of ``sprites.table``.
        styles: of ``sprites.STYLES``.
        colours: of ``COLOURS``.
        layouts: weight of each layout.
        gradients: share of scenes on a gradient.
        recoloured: share of objects in a colour that is not their own.
        sides: smallest and largest long side of a single object in pixels, within 1..128.
        jitter: greatest distance in pixels of a single object's centre from the image's, along each axis.
    """

    nouns: tuple[str, ...]
    styles: tuple[str, ...] = sprites.STYLES
    colours: tuple[str, ...] = tuple(COLOURS)
    layouts: Mapping[str, float] = field(
        default_factory=lambda: {"single": 0.4, "placed": 0.1, "count": 0.15, "pair": 0.3, "trio": 0.05}
    )
    gradients: float = 0.1
    recoloured: float = 0.15
    sides: tuple[int, int] = (84, 112)
    jitter: int = 6


class SceneMaker:
    """Makes scenes of a world by number.

    Numbers walk through all noun x style combinations in turn, so consecutive numbers are balanced in them; the rest
    is sampled from the seed and the number.

    Args:
        world: which scenes.
        seed: another seed gives other scenes.
        held_out: None for any scenes; False for scenes without, True for scenes with a held-out combination.
    """

    def __init__(self, world: World, seed: int = 0, held_out: bool | None = None) -> None:
        self.world = world
        self.seed = seed
        self.held_out = held_out
        self._kinds = [(noun, style) for style in world.styles for noun in world.nouns]
        random.Random(f"{seed}/kinds").shuffle(self._kinds)

    def scene(self, number: int) -> Scene:
        """The scene of that number.

        Raises:
            ZooError: the world has no such scene.
        """
        noun, style = self._kinds[number % len(self._kinds)]
        draw = random.Random(f"{self.seed}/{number}")
        layout = draw.choices(list(self.world.layouts), list(self.world.layouts.values()))[0]
        for _ in range(5000):
            scene = self._draw(draw, noun, style, layout)
            fits = self.held_out is None or scene.held_out() == self.held_out
            if fits and all(_can_be_seen(scene.style, thing, scene.background) for thing in scene.things):
                return scene
            if draw.random() < 0.05:  # some layouts hold nothing out in a small world
                layout = draw.choices(list(self.world.layouts), list(self.world.layouts.values()))[0]
                noun = draw.choice(self.world.nouns)
        raise ZooError(
            "this world has no scene to show: in every one that was tried an object vanishes on its background"
            + (
                ""
                if self.held_out is None
                else f", or held-out combinations are {'lacking' if self.held_out else 'there'}"
            )
        )

    def _draw(self, draw: random.Random, noun: str, style: str, layout: str) -> Scene:
        world = self.world
        background = self._background(draw, style)
        nouns = self._nouns(draw, noun, layout)
        colours = self._object_colours(draw, nouns, style, background, same=layout == "count")
        shapes = [sprites.load(style, each).size for each in nouns]
        placing = _place(draw, layout, shapes, world)
        things = tuple(
            Thing(each, colour, *box) for each, colour, box in zip(nouns, colours, placing.boxes, strict=True)
        )
        return Scene(style, background, layout, things, placing.relation, placing.size, placing.position)

    def _background(self, draw: random.Random, style: str) -> tuple[str, ...]:
        if draw.random() >= self.world.gradients:
            return (draw.choice(self.world.colours),)
        # A line drawing has one ink, which would vanish at the black end of a gradient.
        ends = [colour for colour in self.world.colours if style != "line" or colour != "black"]
        return tuple(draw.sample(ends, 2))

    def _nouns(self, draw: random.Random, noun: str, layout: str) -> list[str]:
        if layout == "count":
            return [noun] * draw.randint(2, 4)
        more = {"pair": 1, "trio": 2}.get(layout, 0)
        nouns = [noun, *draw.sample([other for other in self.world.nouns if other != noun], more)]
        draw.shuffle(nouns)
        return nouns

    def _object_colours(
        self, draw: random.Random, nouns: Sequence[str], style: str, background: Sequence[str], same: bool
    ) -> list[str | None]:
        # A black line drawing is an ordinary one, and nothing shows on its own colour.
        barred = {*background, *(("black", "white") if style == "line" else ())}
        free = [colour for colour in self.world.colours if colour not in barred]
        chosen = [draw.choice(free) if draw.random() < self.world.recoloured else None for _ in nouns]
        return [chosen[0]] * len(nouns) if same else chosen


def held_out_scenes(world: World, count: int, seed: int) -> list[Scene]:
    """The first scenes of that seed with a combination that no training shows."""
    maker = SceneMaker(world, seed, held_out=True)
    return [maker.scene(number) for number in range(count)]


def _can_be_seen(style: str, thing: Thing, background: Sequence[str]) -> bool:
    """Whether the object stands out: a flat yellow star on yellow is nowhere to be seen."""
    return all(visible_share(style, thing.noun, thing.colour, ground) >= 0.15 for ground in background)


@functools.lru_cache(maxsize=1 << 16)
def visible_share(style: str, noun: str, colour: str | None, background: str) -> float:
    """Share of a sprite, 0..1, that differs from a plain background by more than 60 (sum over RGB, 8 bits)."""
    sprite = np.asarray(coloured(style, noun, colour, background == "black"), dtype=np.int32)
    weight = sprite[..., 3] / 255
    apart = np.abs(sprite[..., :3] - np.array(COLOURS[background])).sum(axis=-1) > 60
    return float((apart * weight).sum() / weight.sum())


def _place(draw: random.Random, layout: str, shapes: Sequence[tuple[int, int]], world: World) -> Placing:
    if layout == "single":
        return layouts.single(draw, shapes[0], world.sides, world.jitter)
    if layout == "placed":
        return layouts.placed(draw, shapes[0])
    if layout == "pair":
        return layouts.pair(draw, shapes[0], shapes[1])
    return layouts.spread(draw, shapes, in_row=layout == "trio")


def compose(scene: Scene) -> Image.Image:
    """The image of a scene: RGB, ``SIZE`` x ``SIZE`` pixels."""
    image = ground(scene.background).copy()
    for thing in scene.painting_order:
        sprite = coloured(scene.style, thing.noun, thing.colour, scene.background[0] == "black")
        sprite = sprite.resize((thing.width, thing.height), Image.Resampling.LANCZOS)
        image.paste(sprite, (thing.left, thing.top), sprite)
    return image


@functools.lru_cache(maxsize=256)
def ground(background: tuple[str, ...]) -> Image.Image:
    """A background: one colour, or a gradient from top to bottom."""
    if len(background) == 1:
        return Image.new("RGB", (SIZE, SIZE), COLOURS[background[0]])
    top, bottom = (np.array(COLOURS[name], dtype=np.float32) for name in background)
    weight = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    column = (top * (1 - weight) + bottom * weight).round().astype(np.uint8)
    return Image.fromarray(np.broadcast_to(column, (SIZE, SIZE, 3)).copy(), "RGB")


@functools.lru_cache(maxsize=4096)
def coloured(style: str, noun: str, colour: str | None, on_black: bool = False) -> Image.Image:
    """A sprite in its own colours, or in one colour with its light and shade kept.

    Line drawings are black, but white on a black background.
    """
    sprite = sprites.load(style, noun)
    if style == "line":
        ink = COLOURS[colour] if colour else (255, 255, 255) if on_black else COLOURS["black"]
        solid = Image.new("RGBA", sprite.size, (*ink, 255))
        solid.putalpha(sprite.getchannel("A"))
        return solid
    if colour is None:
        return sprite
    alpha = np.asarray(sprite.getchannel("A"), dtype=np.float32)
    grey = np.asarray(sprite.convert("L"), dtype=np.float32)
    middle = float((grey * alpha).sum() / alpha.sum())
    dark, light = SHADES.get(colour, (0.3, 0.55))
    base = np.array(COLOURS[colour], dtype=np.float32)
    # The sprite's mean grey becomes the colour itself, black its shade and white its highlight.
    table = [
        np.interp(
            np.arange(256),
            [0, min(max(middle, 1), 254), 255],
            [base[i] * dark, base[i], 255 * light + base[i] * (1 - light)],
        )
        for i in range(3)
    ]
    channels = [np.take(table[i], grey.astype(np.uint8)).round().astype(np.uint8) for i in range(3)]
    return Image.fromarray(np.dstack([*channels, alpha.astype(np.uint8)]), "RGBA")


SHADES = {"black": (0.0, 0.5), "white": (0.55, 1.0)}
"""Per colour, how bright its darkest shade is (a factor) and how far its highlight goes towards white."""
