"""A short video of one object that moves, to try ``freeu rerender`` on without a camera.

    python -m freeu_zoo.films film.png --noun fox --style flat --motion right --frames 24

It is an animated PNG (or .webp, .gif), without loss, and the caption that fits it is printed.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

from freeu_zoo.errors import ZooError
from freeu_zoo.files import write_atomically
from freeu_zoo.world import captions, clips, layouts, sprites
from freeu_zoo.world.clips import Clip
from freeu_zoo.world.layouts import MARGIN, SIZE, Box
from freeu_zoo.world.scenes import COLOURS, Scene, Thing, visible_share

FORMATS = {".png": "PNG", ".webp": "WEBP", ".gif": "GIF"}
LEAST_VISIBLE = 0.15
"""Share of an object that must stand out from its background, as in ``scenes``."""

SIDES = (80, 92)
"""Long side in pixels of an object: nearly as large as the image model generates a single one."""

GROWTH = (72, 112)
"""The same of one that grows, from its first frame to its last, or shrinks."""


def film(noun: str, style: str, background: str, motion: str, frames: int = 24, seed: int = 0) -> Clip:
    """One object on a plain background.

    Args:
        noun: of ``sprites.table``.
        style: of ``sprites.STYLES``.
        background: of ``scenes.COLOURS``.
        motion: of ``clips.MOTIONS``.
        frames: at least 2.
        seed: another seed gives another way.

    Raises:
        ZooError: one of these is unknown, or the object vanishes on that background.
    """
    known = {
        "noun": (noun, sprites.table().nouns),
        "style": (style, sprites.STYLES),
        "background": (background, COLOURS),
        "motion": (motion, clips.MOTIONS),
    }
    for what, (name, names) in known.items():
        if name not in names:
            raise ZooError(f"--{what} {name!r} is unknown: {', '.join(names)}")
    if frames < 2:
        raise ZooError(f"--frames must be at least 2, got {frames}")
    if visible_share(style, noun, None, background) < LEAST_VISIBLE:
        raise ZooError(f"a {style} {noun} cannot be seen on {background}: take another --background")
    draw = random.Random(f"{seed}/film/{noun}/{motion}")
    boxes = _way(sprites.load(style, noun).size, motion, frames, draw)
    first = Scene(style, (background,), "single", (Thing(noun, None, *boxes[0]),))
    scenes = [replace(first, things=(Thing(noun, None, *box),)) for box in boxes]
    return Clip(tuple(scenes), motion)


def _way(shape: tuple[int, int], motion: str, frames: int, draw: random.Random) -> list[Box]:
    """The boxes of a sprite of that shape in each frame: from rim to rim, at whole pixels."""
    if motion in clips.DIRECTIONS:
        size = layouts.fit(shape, draw.randint(*SIDES))
        lefts, tops = ([(SIZE - side) // 2] * frames for side in size)
        horizontal, back = motion in ("left", "right"), motion in ("left", "up")
        room = SIZE - size[0 if horizontal else 1] - 2 * MARGIN
        places = [MARGIN + round(room * number / (frames - 1)) for number in range(frames)]
        places = places[::-1] if back else places
        lefts, tops = (places, tops) if horizontal else (lefts, places)
        return [(left, top, *size) for left, top in zip(lefts, tops, strict=True)]
    first, last = {"growing": GROWTH, "shrinking": GROWTH[::-1]}.get(motion, (draw.randint(*SIDES),) * 2)
    sides = [first + (last - first) * number / (frames - 1) for number in range(frames)]
    return [layouts.box_around(SIZE / 2, SIZE / 2, layouts.fit(shape, side)) for side in sides]


def write(images: list[Image.Image], path: Path, fps: int) -> None:
    """Write frames as an animation without loss (GIF: with 256 colours); the suffix says which kind.

    Raises:
        ZooError: another suffix.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise ZooError(f"{path} must end in {', '.join(FORMATS)}")
    options = {"WEBP": {"lossless": True, "quality": 80}}.get(form, {})

    def save(part: Path) -> None:
        images[0].save(
            part, form, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, **options
        )

    write_atomically(path, save)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (2 after a one-line error)."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.films", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("output", type=Path, help="a .png, .webp or .gif")
    parser.add_argument("--noun", default="fox")
    parser.add_argument("--style", default="flat", help=", ".join(sprites.STYLES))
    parser.add_argument("--background", default="blue", help=", ".join(COLOURS))
    parser.add_argument("--motion", default="right", help=", ".join(clips.MOTIONS))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--fps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if not 1 <= options.fps <= 100:
            raise ZooError(f"--fps must lie in 1 to 100, got {options.fps}")
        made = film(options.noun, options.style, options.background, options.motion, options.frames, seed=options.seed)
        write(clips.images(made), options.output, options.fps)
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {captions.plain_caption(made.scene)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
