"""Videos whose motion is known exactly: they are rendered from layers that move by known affine maps.

Textured videos are procedural, with the statistics of photographs; emoji videos are those of ``freeu_zoo``.
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
    """An image that moves.

    Args:
        image: RGBA, float32 0..255 (alpha 0..1), (h, w, 4), not premultiplied.
        transforms: for each frame, the map from pixels of the image to pixels of the frame, (3, 3).
    """

    image: Array
    transforms: list[NDArray[np.float64]]


@dataclass(frozen=True)
class KnownVideo:
    """Frames rendered from layers, the backmost first, and where each pixel of one frame is in another.

    Args:
        name: for tables.
        frames: uint8 (H, W, 3).
        owners: for each frame, the number of the layer that each pixel shows, (H, W).
        layers: the moving images.
    """

    name: str
    frames: list[NDArray[np.uint8]]
    owners: list[NDArray[np.int64]]
    layers: list[Layer]

    def truth(self, target: int, reference: int) -> tuple[Array, NDArray[np.bool_]]:
        """Displacement from ``target`` to ``reference``, (H, W, 2), and whether the pixel is visible there."""
        height, width = self.owners[target].shape
        rows, columns = np.mgrid[:height, :width]
        points = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
        flow = np.zeros((height, width, 2), np.float32)
        visible = np.zeros((height, width), bool)
        for number, layer in enumerate(self.layers):
            there = points @ (layer.transforms[reference] @ np.linalg.inv(layer.transforms[target])).T
            own = self.owners[target] == number
            flow[own] = (there - points)[own][:, :2]
            nearest = np.rint(there[..., :2]).astype(int)
            inside = ((nearest >= 0) & (nearest < (width, height))).all(axis=-1)
            x, y = np.clip(nearest, 0, (width - 1, height - 1)).transpose(2, 0, 1)
            visible |= own & inside & (self.owners[reference][y, x] == number)
        return flow, visible


def rendered(name: str, layers: list[Layer], size: int = SIZE) -> KnownVideo:
    """The video of some layers."""
    pairs = [_render(layers, number, size) for number in range(len(layers[0].transforms))]
    return KnownVideo(name, [colour for colour, _ in pairs], [owner for _, owner in pairs], layers)


def _render(layers: list[Layer], number: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    colour = np.zeros((size, size, 3), np.float32)
    owner = np.zeros((size, size), np.int64)
    for order, layer in enumerate(layers):
        shown = layer.image.copy()
        shown[..., :3] *= shown[..., 3:]
        transform = layer.transforms[number]
        # Shrinking with bilinear sampling would alias, and the texture would flicker.
        blur = max(0.0, 0.5 * (1.0 / math.sqrt(abs(np.linalg.det(transform[:2, :2]))) - 1.0))
        if blur > 0.05:
            shown = cv2.GaussianBlur(shown, (0, 0), blur)
        shown = cv2.warpAffine(shown, transform[:2], (size, size), flags=cv2.INTER_LINEAR)
        colour = shown[..., :3] + (1.0 - shown[..., 3:]) * colour
        owner[shown[..., 3] > 0.5] = order
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8), owner


def texture(seed: int, side: int = 256) -> Array:
    """An image with the 1/f spectrum of photographs and some hard-edged patches of other texture; RGBA."""
    draw = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = 1.0

    def noise() -> NDArray[np.float64]:
        spectrum = np.fft.fft2(draw.standard_normal((side, side, 3)), axes=(0, 1)) / frequency[..., None] ** 1.2
        field = np.fft.ifft2(spectrum, axes=(0, 1)).real
        return (field - field.mean((0, 1))) / field.std((0, 1))

    image = 128.0 + 38.0 * noise()
    for _ in range(12):
        corners = draw.integers(0, side, 2) + draw.integers(-40, 40, (5, 2))
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 1)
        patch = draw.uniform(50, 205, 3) + 22.0 * noise()
        image[mask > 0] = patch[mask > 0]
    rgb = np.clip(cv2.GaussianBlur(image, (0, 0), 0.7), 0, 255)
    return np.dstack([rgb, np.ones((side, side))]).astype(np.float32)


def turned(angle: float, scale: float, shift: tuple[float, float], image: int, size: int) -> NDArray[np.float64]:
    """The map that rotates and scales a square image about its centre, at ``shift`` from the frame's centre."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    middle, home = np.eye(3), np.eye(3)
    home[:2, 2] = -(image - 1) / 2.0
    middle[:2, 2] = (size - 1) / 2.0 + np.array(shift)
    return middle @ turn @ home


def textured_videos(count: int = 17, seed: int = 0) -> list[KnownVideo]:
    """A pan, a rotation, a zoom, and a ball in front of a panning background; ``count`` frames each."""
    background = texture(seed)
    side = background.shape[0]
    rows, columns = np.mgrid[:48, :48] - 23.5
    ball = texture(seed + 1)[:48, :48].copy()
    ball[..., 3] = np.clip(23.0 - np.hypot(rows, columns), 0.0, 1.0)
    middle = (count - 1) / 2.0

    def video(name: str, angle: float, rate: float, shift: tuple[float, float]) -> KnownVideo:
        steps = [step - middle for step in range(count)]
        transforms = [
            turned(angle * step, rate**step, (shift[0] * step, shift[1] * step), side, SIZE) for step in steps
        ]
        return rendered(name, [Layer(background, transforms)])

    over = video("occluder", 0.0, 1.0, (-0.8, 0.3))
    passing = [turned(0.02 * step, 1.0, (4.5 * (step - middle), 6.0), 48, SIZE) for step in range(count)]
    return [
        video("translation", 0.0, 1.0, (2.3, -1.1)),
        video("rotation", math.radians(1.5), 1.0, (0.0, 0.0)),
        video("zoom", 0.0, 1.02, (0.0, 0.0)),
        rendered("occluder", [*over.layers, Layer(ball, passing)]),
    ]


def emoji_videos(number: int = 8, count: int = 9, seed: int = 0) -> list[KnownVideo]:
    """Videos of the zoo whose object moves, grows or shrinks: flat areas, hard edges, 5 to 8 pixels per frame."""
    world = World(tuple(sprites.table().nouns), styles=("3d", "flat"))
    maker = clips.ClipMaker(world, frames=count, seed=seed)
    moving = (clip for clip in map(maker.clip, itertools.count()) if clip.motion != "still")
    return [emoji_video(clip) for clip in itertools.islice(moving, number)]


def emoji_video(clip: clips.Clip) -> KnownVideo:
    """A video of the zoo; its motion is known from the boxes of its object."""
    thing = clip.scene.things[0]
    sprite = sprites.load(clip.scene.style, thing.noun)
    transforms, owners = [], []
    for scene in clip.frames:
        box = scene.things[0]
        x, y = box.width / sprite.width, box.height / sprite.height
        # Pixel centres lie at halves.
        left, top = box.left + 0.5 * x - 0.5, box.top + 0.5 * y - 0.5
        transforms.append(np.array([[x, 0.0, left], [0.0, y, top], [0.0, 0.0, 1.0]]))
        owner = np.zeros((clips.SIZE, clips.SIZE), np.int64)
        alpha = np.asarray(sprite.resize((box.width, box.height), Image.Resampling.LANCZOS).getchannel("A"))
        owner[box.top : box.top + box.height, box.left : box.left + box.width] = alpha > 127
        owners.append(owner)
    background = Layer(np.ones((clips.SIZE, clips.SIZE, 4), np.float32), [np.eye(3)] * len(transforms))
    frames = [np.asarray(image) for image in clips.images(clip)]
    name = f"{clip.scene.style} {thing.noun} {clip.motion}"
    return KnownVideo(name, frames, owners, [background, Layer(np.asarray(sprite, np.float32), transforms)])
