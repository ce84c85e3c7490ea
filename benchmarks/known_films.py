"""Films whose motion is known exactly, since they are drawn from layers that move by known affine maps.

Textured films are procedural and of the size of small photographs; emoji films are clips of ``freeu_zoo``.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from freeu_zoo.world import clips, sprites
from freeu_zoo.world.scenes import World
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
SIZE = 128


@dataclass(frozen=True)
class Layer:
    """A picture that moves.

    Args:
        picture: RGBA, float32 0..255 (alpha 0..1), (h, w, 4), not premultiplied.
        places: for each frame, the map from pixels of the picture to pixels of the frame, (3, 3).
    """

    picture: Array
    places: list[NDArray[np.float64]]


@dataclass(frozen=True)
class Film:
    """Frames drawn from layers, the backmost first, and where each pixel of one frame is in another.

    Args:
        name: for tables.
        frames: uint8 (H, W, 3).
        owners: for each frame, the number of the layer that each pixel shows, (H, W).
        layers: what moves.
    """

    name: str
    frames: list[NDArray[np.uint8]]
    owners: list[NDArray[np.int64]]
    layers: list[Layer]

    def truth(self, target: int, reference: int) -> tuple[Array, NDArray[np.bool_]]:
        """Displacement from ``target`` to ``reference``, (H, W, 2), and whether the pixel can be seen there."""
        height, width = self.owners[target].shape
        rows, columns = np.mgrid[:height, :width]
        points = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
        flow = np.zeros((height, width, 2), np.float32)
        seen = np.zeros((height, width), bool)
        for number, layer in enumerate(self.layers):
            there = points @ (layer.places[reference] @ np.linalg.inv(layer.places[target])).T
            own = self.owners[target] == number
            flow[own] = (there - points)[own][:, :2]
            nearest = np.rint(there[..., :2]).astype(int)
            inside = ((nearest >= 0) & (nearest < (width, height))).all(axis=-1)
            x, y = np.clip(nearest, 0, (width - 1, height - 1)).transpose(2, 0, 1)
            seen |= own & inside & (self.owners[reference][y, x] == number)
        return flow, seen


def drawn(name: str, layers: list[Layer], size: int = SIZE) -> Film:
    """The film that layers make."""
    pairs = [_draw(layers, number, size) for number in range(len(layers[0].places))]
    return Film(name, [colour for colour, _ in pairs], [owner for _, owner in pairs], layers)


def _draw(layers: list[Layer], number: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    colour = np.zeros((size, size, 3), np.float32)
    owner = np.zeros((size, size), np.int64)
    for order, layer in enumerate(layers):
        shown = layer.picture.copy()
        shown[..., :3] *= shown[..., 3:]
        place = layer.places[number]
        # Shrinking by bilinear sampling would alias and make the texture tremble.
        blur = max(0.0, 0.5 * (1.0 / math.sqrt(abs(np.linalg.det(place[:2, :2]))) - 1.0))
        if blur > 0.05:
            shown = cv2.GaussianBlur(shown, (0, 0), blur)
        shown = cv2.warpAffine(shown, place[:2], (size, size), flags=cv2.INTER_LINEAR)
        colour = shown[..., :3] + (1.0 - shown[..., 3:]) * colour
        owner[shown[..., 3] > 0.5] = order
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8), owner


def texture(seed: int, side: int = 256) -> Array:
    """A picture with the 1/f spectrum of photographs, with some hard-edged patches of other texture; RGBA."""
    draw = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = 1.0

    def noise() -> NDArray[np.float64]:
        spectrum = np.fft.fft2(draw.standard_normal((side, side, 3)), axes=(0, 1)) / frequency[..., None] ** 1.2
        field = np.fft.ifft2(spectrum, axes=(0, 1)).real
        return (field - field.mean((0, 1))) / field.std((0, 1))

    picture = 128.0 + 38.0 * noise()
    for _ in range(12):
        corners = draw.integers(0, side, 2) + draw.integers(-40, 40, (5, 2))
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 1)
        patch = draw.uniform(50, 205, 3) + 22.0 * noise()
        picture[mask > 0] = patch[mask > 0]
    rgb = np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7), 0, 255)
    return np.dstack([rgb, np.ones((side, side))]).astype(np.float32)


def turned(angle: float, scale: float, shift: tuple[float, float], picture: int, size: int) -> NDArray[np.float64]:
    """The map that turns and scales a square picture about its middle, put at ``shift`` from the frame's middle."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    middle, home = np.eye(3), np.eye(3)
    home[:2, 2] = -(picture - 1) / 2.0
    middle[:2, 2] = (size - 1) / 2.0 + np.array(shift)
    return middle @ turn @ home


def textured_films(count: int = 17, seed: int = 0) -> list[Film]:
    """A pan, a turn, a zoom, and a ball that passes before a panning ground; ``count`` frames each."""
    ground = texture(seed)
    side = ground.shape[0]
    rows, columns = np.mgrid[:48, :48] - 23.5
    ball = texture(seed + 1)[:48, :48].copy()
    ball[..., 3] = np.clip(23.0 - np.hypot(rows, columns), 0.0, 1.0)
    middle = (count - 1) / 2.0

    def film(name: str, angle: float, rate: float, shift: tuple[float, float]) -> Film:
        steps = [step - middle for step in range(count)]
        places = [turned(angle * step, rate**step, (shift[0] * step, shift[1] * step), side, SIZE) for step in steps]
        return drawn(name, [Layer(ground, places)])

    over = film("occluder", 0.0, 1.0, (-0.8, 0.3))
    passing = [turned(0.02 * step, 1.0, (4.5 * (step - middle), 6.0), 48, SIZE) for step in range(count)]
    return [
        film("translation", 0.0, 1.0, (2.3, -1.1)),
        film("rotation", math.radians(1.5), 1.0, (0.0, 0.0)),
        film("zoom", 0.0, 1.02, (0.0, 0.0)),
        drawn("occluder", [*over.layers, Layer(ball, passing)]),
    ]


def emoji_films(number: int = 8, count: int = 9, seed: int = 0) -> list[Film]:
    """Clips of the zoo whose object moves, grows or shrinks: flat areas, hard edges, 5 to 8 pixels a frame."""
    world = World(tuple(sprites.table().nouns), styles=("3d", "flat"))
    maker = clips.ClipMaker(world, frames=count, seed=seed)
    moving = (clip for clip in map(maker.clip, itertools.count()) if clip.motion != "still")
    return [emoji_film(clip) for clip in itertools.islice(moving, number)]


def emoji_film(clip: clips.Clip) -> Film:
    """A clip of the zoo: drawn by the zoo, its motion known from the boxes of its object."""
    thing = clip.scene.things[0]
    sprite = sprites.load(clip.scene.style, thing.noun)
    places, owners = [], []
    for scene in clip.frames:
        box = scene.things[0]
        x, y = box.width / sprite.width, box.height / sprite.height
        # Pixel centres lie at halves.
        left, top = box.left + 0.5 * x - 0.5, box.top + 0.5 * y - 0.5
        places.append(np.array([[x, 0.0, left], [0.0, y, top], [0.0, 0.0, 1.0]]))
        owner = np.zeros((clips.SIZE, clips.SIZE), np.int64)
        alpha = np.asarray(sprite.resize((box.width, box.height), Image.Resampling.LANCZOS).getchannel("A"))
        owner[box.top : box.top + box.height, box.left : box.left + box.width] = alpha > 127
        owners.append(owner)
    ground = Layer(np.ones((clips.SIZE, clips.SIZE, 4), np.float32), [np.eye(3)] * len(places))
    frames = [np.asarray(picture) for picture in clips.images(clip)]
    name = f"{clip.scene.style} {thing.noun} {clip.motion}"
    return Film(name, frames, owners, [ground, Layer(np.asarray(sprite, np.float32), places)])
