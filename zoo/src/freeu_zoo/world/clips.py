"""Clips: one object on a plain or graded background that moves, grows or shrinks, described as data.

Every frame of a clip is a ``Scene``, so whatever composes, reads or judges images serves frames as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from dataclasses import dataclass

from PIL import Image

from freeu_zoo.errors import ZooError
from freeu_zoo.world import captions, layouts, sprites
from freeu_zoo.world.layouts import MARGIN, SIZE, Box
from freeu_zoo.world.scenes import Scene, SceneMaker, World, compose

MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "going left", "moving to the left", "sliding left"),
    "right": ("moving right", "going right", "moving to the right", "sliding right"),
    "up": ("moving up", "flying up", "rising", "going up"),
    "down": ("moving down", "falling down", "falling", "going down"),
    "growing": ("growing", "getting bigger", "growing bigger"),
    "shrinking": ("shrinking", "getting smaller", "shrinking away"),
    "still": ("standing still", "not moving", "staying still"),
}
"""Ways to say what an object does, the plainest first."""

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Of the motions that go somewhere: along x to the right and along y downwards."""

SIDES = (50, 72)
"""Long side in pixels of an object that goes somewhere: it must have room to go."""

STRIDES = (5, 8)
"""How far an object goes from frame to frame, in whole pixels: parts of a pixel would make it tremble."""

GROWTH = ((34, 46), (88, 106))
"""Smallest and largest long side in pixels of an object that grows or shrinks."""


@dataclass(frozen=True)
class Clip:
    """What is in a clip: a scene for each frame, equal but for the box of its object, and one of ``MOTIONS``."""

    frames: tuple[Scene, ...]
    motion: str

    @property
    def scene(self) -> Scene:
        """The first frame."""
        return self.frames[0]

    def held_out(self) -> bool:
        """Whether training never shows some combination that is in this clip."""
        return self.scene.held_out() or is_held_out(self.scene.things[0].noun, self.motion)


def is_held_out(noun: str, motion: str) -> bool:
    """Whether training never shows this noun in this motion: one in ten, chosen by a hash."""
    return hashlib.sha256(f"motion/{noun}/{motion}".encode()).digest()[0] % 10 == 0


def words() -> list[str]:
    """Every word that says what an object does."""
    return sorted({word for phrases in MOTIONS.values() for phrase in phrases for word in phrase.split()})


def caption(clip: Clip, draw: random.Random, drop: float = 0.0) -> str:
    """One of the captions that fit a clip; one in twelve says nothing about motion, as a hasty user does."""
    doing = "" if draw.random() < 1 / 12 else draw.choice(MOTIONS[clip.motion])
    return captions.caption(clip.scene, draw, drop, doing)


def plain_caption(clip: Clip) -> str:
    """The caption for fixed prompts: everything is said, in the plainest words."""
    return captions.plain_caption(clip.scene, MOTIONS[clip.motion][0])


class ClipMaker:
    """Makes clips of a world by number: the scenes of a ``SceneMaker`` with one object each, and motions in turn.

    Args:
        world: which scenes; its layouts, sides and jitter take no part.
        frames: of a clip, at least 2.
        seed: another seed gives other clips.
        held_out: None for any clips; False for clips without, True for clips with a held-out combination.
    """

    def __init__(self, world: World, frames: int = 8, seed: int = 0, held_out: bool | None = None) -> None:
        if frames < 2:
            raise ZooError(f"a clip has at least 2 frames, got {frames}")
        alone = dataclasses.replace(world, layouts={"single": 1.0})
        # A clip may be held out for its motion alone, so only training filters its scenes.
        self._scenes = SceneMaker(alone, seed, held_out=False if held_out is False else None)
        self.frames, self.seed, self.held_out = frames, seed, held_out

    def clip(self, number: int) -> Clip:
        """The clip of that number."""
        draw = random.Random(f"{self.seed}/clip/{number}")
        for attempt in range(500):
            scene = self._scenes.scene(number + attempt * 1_000_003)
            motion = draw.choice(list(MOTIONS))
            clip = self._moved(scene, motion, draw)
            if self.held_out is None or clip.held_out() == self.held_out:
                return clip
        raise ZooError(f"this world has no clip that is {'' if self.held_out else 'not '}held out")

    def _moved(self, scene: Scene, motion: str, draw: random.Random) -> Clip:
        thing = scene.things[0]
        boxes = trajectory(sprites.load(scene.style, thing.noun).size, motion, self.frames, draw)
        frames = []
        for left, top, width, height in boxes:
            moved = dataclasses.replace(thing, left=left, top=top, width=width, height=height)
            frames.append(dataclasses.replace(scene, things=(moved,)))
        return Clip(tuple(frames), motion)


def trajectory(shape: tuple[int, int], motion: str, frames: int, draw: random.Random) -> list[Box]:
    """The boxes of a sprite of that shape in each frame of a motion, all of them within the image."""
    if motion in DIRECTIONS:
        return _going(layouts.fit(shape, draw.randint(*SIDES)), DIRECTIONS[motion], frames, draw)
    x, y = (SIZE / 2 + draw.randint(-8, 8) for _ in "xy")
    if motion == "still":
        return [layouts.box_around(x, y, layouts.fit(shape, draw.randint(60, 104)))] * frames
    small, large = (draw.randint(*sides) for sides in GROWTH)
    first, last = (small, large) if motion == "growing" else (large, small)
    sides = [first + (last - first) * step / (frames - 1) for step in range(frames)]
    return [layouts.box_around(x, y, layouts.fit(shape, side)) for side in sides]


def _going(size: tuple[int, int], direction: tuple[int, int], frames: int, draw: random.Random) -> list[Box]:
    """A way with equal strides, with as much room before as after it, give or take."""
    axis = 0 if direction[0] else 1
    room = SIZE - size[axis] - 2 * MARGIN
    stride = min(draw.randint(*STRIDES), room // (frames - 1))
    spare = room - stride * (frames - 1)
    start = MARGIN + draw.randint(0, spare)
    across = (SIZE - size[1 - axis]) // 2 + draw.randint(-10, 10)
    across = min(max(across, MARGIN), SIZE - size[1 - axis] - MARGIN)
    places = [start + stride * step for step in range(frames)]
    if sum(direction) < 0:
        places.reverse()
    return [(along, across, *size) if axis == 0 else (across, along, *size) for along in places]


def images(clip: Clip) -> list[Image.Image]:
    """The frames of a clip: RGB, ``SIZE`` x ``SIZE`` pixels."""
    return [compose(scene) for scene in clip.frames]
