"""Where objects lie in an image: boxes in pixels, sampled within what a caption may claim."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

SIZE = 128
"""Side of a scene in pixels."""

RELATIONS = ("left of", "right of", "above", "below", "on", "inside", "behind")
"""How the first of two objects lies to the second."""

POSITIONS = {
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "center": (0.5, 0.5),
    "top left": (0.0, 0.0),
    "top right": (1.0, 0.0),
    "bottom left": (0.0, 1.0),
    "bottom right": (1.0, 1.0),
}
"""Places by name, as fractions of the room that an object leaves."""

SIZES = {"small": (36, 50), "large": (84, 104)}
"""Long sides in pixels that deserve the word."""

Shape = tuple[int, int]
Box = tuple[int, int, int, int]
MARGIN = 3


@dataclass(frozen=True)
class Placing:
    """Boxes (left, top, width, height) in order of mention, and what a caption may say of them."""

    boxes: tuple[Box, ...]
    relation: str | None = None
    size: str | None = None
    position: str | None = None


def fit(shape: Shape, long_side: float) -> Shape:
    """Width and height in pixels of a sprite of that shape with that long side."""
    scale = long_side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def box_around(centre_x: float, centre_y: float, size: Shape) -> Box:
    """The box around a centre, moved into the image."""
    width, height = size
    left = min(max(round(centre_x - width / 2), 0), SIZE - width)
    top = min(max(round(centre_y - height / 2), 0), SIZE - height)
    return left, top, width, height


def single(draw: random.Random, shape: Shape, sides: tuple[int, int], jitter: int) -> Placing:
    """One object near the middle."""
    size = fit(shape, draw.randint(*sides))
    middle = SIZE / 2
    return Placing((box_around(middle + draw.randint(-jitter, jitter), middle + draw.randint(-jitter, jitter), size),))


def placed(draw: random.Random, shape: Shape) -> Placing:
    """One object at a named place, small or large."""
    word = draw.choice(list(SIZES))
    long_side = draw.randint(*SIZES[word])
    width, height = fit(shape, long_side)
    if word == "large":  # too large to be anywhere but in the middle
        return Placing((box_around(64 + draw.randint(-4, 4), 64 + draw.randint(-4, 4), (width, height)),), size=word)
    name = draw.choice(list(POSITIONS))
    x, y = POSITIONS[name]
    room_x, room_y = SIZE - width - 2 * MARGIN, SIZE - height - 2 * MARGIN
    left = MARGIN + x * room_x + draw.randint(-4, 4)
    top = MARGIN + y * room_y + draw.randint(-4, 4)
    return Placing((box_around(left + width / 2, top + height / 2, (width, height)),), size=word, position=name)


def pair(draw: random.Random, first: Shape, second: Shape) -> Placing:
    """Two objects, the first in some relation to the second."""
    relation = draw.choice(RELATIONS)
    if relation in ("left of", "right of", "above", "below"):
        return Placing(_beside(draw, first, second, relation), relation)
    middle = SIZE / 2
    if relation == "inside":
        outer = box_around(
            middle + draw.randint(-4, 4), middle + draw.randint(-4, 4), fit(second, draw.randint(104, 122))
        )
        size = fit(first, draw.randint(38, 48))
        x = outer[0] + outer[2] / 2 + draw.randint(-4, 4)
        y = outer[1] + outer[3] / 2 + draw.randint(-4, 4)
        return Placing((box_around(x, y, size), outer), relation)
    if relation == "on":
        a, b = fit(first, draw.randint(46, 56)), fit(second, draw.randint(62, 74))
        overlap = 0.12 * b[1]  # touching, so that sprites with rounded tops do not seem to float
        height = a[1] + b[1] - overlap
        top = (SIZE - height) / 2 + draw.randint(-3, 3)
        x = middle + draw.randint(-6, 6)
        upper = box_around(x + draw.randint(-6, 6), top + a[1] / 2, a)
        return Placing((upper, box_around(x, top + height - b[1] / 2, b)), relation)
    a, b = fit(first, draw.randint(72, 84)), fit(second, draw.randint(62, 74))
    side = draw.choice((-1, 1))
    shift = draw.randint(17, 22)
    farther = box_around(middle - side * shift, middle - draw.randint(12, 18), a)
    return Placing((farther, box_around(middle + side * shift, middle + draw.randint(14, 20), b)), relation)


def _beside(draw: random.Random, first: Shape, second: Shape, relation: str) -> tuple[Box, Box]:
    """Two boxes that do not touch, side by side or one above the other."""
    sizes = [fit(shape, draw.randint(48, 58)) for shape in (first, second)]
    near, far = 33 + draw.randint(-3, 3), SIZE - 33 + draw.randint(-3, 3)
    across = [SIZE / 2 + draw.randint(-8, 8) for _ in sizes]
    along = (near, far) if relation in ("left of", "above") else (far, near)
    if relation in ("left of", "right of"):
        return box_around(along[0], across[0], sizes[0]), box_around(along[1], across[1], sizes[1])
    return box_around(across[0], along[0], sizes[0]), box_around(across[1], along[1], sizes[1])


_ROWS = {2: ((33, 64), (95, 64)), 3: ((64, 34), (34, 94), (94, 94)), 4: ((34, 34), (94, 34), (34, 94), (94, 94))}


def spread(draw: random.Random, shapes: Sequence[Shape], in_row: bool) -> Placing:
    """Several objects that do not touch: in a row from left to right, or filling the image."""
    count = len(shapes)
    if in_row:
        centres = [(SIZE * (2 * i + 1) / (2 * count), 64 + draw.randint(-10, 10)) for i in range(count)]
        sizes = [fit(shape, draw.randint(36, 41)) for shape in shapes]
        return Placing(tuple(box_around(x, y, size) for (x, y), size in zip(centres, sizes, strict=True)))
    long_side = draw.randint(46, 54)
    boxes = [
        box_around(x + draw.randint(-3, 3), y + draw.randint(-3, 3), fit(shape, long_side))
        for (x, y), shape in zip(_ROWS[count], shapes, strict=True)
    ]
    return Placing(tuple(boxes))
