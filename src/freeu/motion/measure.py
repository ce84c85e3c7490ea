"""What moves in a video: optical flow from frame to frame, and the direction and strength of the movement.

Flow is OpenCV's dense inverse search (DIS; Kroeger et al. 2016) on grey values, ``pip install 'freeu[video]'``. It
follows what has edges or texture; it loses what jumps further than about a tenth of the image from one frame to the
next, and reads what boils or flickers as movement.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.extras import need

Floats = NDArray[np.float64]
Frame = NDArray[np.uint8]

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Motions that go somewhere, along x to the right and along y downwards."""

MOTIONS = (*DIRECTIONS, "growing", "shrinking", "still")
"""What a prompt can ask of the subject of a video."""

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in luma (ITU-R BT.709)."""

STILL = 0.04
"""A subject that moves (or whose radius changes) by less than this part of the image's shorter side stands still."""

_MOVES = 0.25  # pixels per frame above which a pixel moves
_LEAST_SIDE = 12  # DIS refuses less
_FASTEST = 0.05  # share of pixels that "dynamic degree" of VBench looks at


@dataclass(frozen=True)
class Flow:
    """Where the pixels of one frame are in the next.

    Args:
        forward: displacement of each pixel of the first frame in pixels, x to the right and y downwards, (H, W, 2).
        traceable: pixels that the flow back from the second frame leads home to, (H, W): neither covered nor lost.
    """

    forward: NDArray[np.float32]
    traceable: NDArray[np.bool_]


@dataclass(frozen=True)
class Movement:
    """How the subject of a video moves from its first frame to its last, in parts of the image's shorter side.

    Args:
        right, down: displacement.
        growth: change of its radius (root mean square of the distance from its centre).
    """

    right: float
    down: float
    growth: float

    @property
    def kind(self) -> str:
        """The name in ``MOTIONS`` that comes nearest; growth counts half as much again, as it is of a radius."""
        going = math.hypot(self.right, self.down)
        if max(going, abs(self.growth)) < STILL:
            return "still"
        if 1.5 * abs(self.growth) > going:
            return "growing" if self.growth > 0.0 else "shrinking"
        if abs(self.right) > abs(self.down):
            return "right" if self.right > 0.0 else "left"
        return "down" if self.down > 0.0 else "up"

    def agreement(self, asked: str) -> float | None:
        """Cosine of the direction of movement with the one asked for, -1..1; 0 if it stands still.

        None if ``asked`` goes nowhere.
        """
        if asked not in DIRECTIONS:
            return None
        going = math.hypot(self.right, self.down)
        x, y = DIRECTIONS[asked]
        return 0.0 if going < STILL else (x * self.right + y * self.down) / going


def check_frame(frame: Any) -> Frame:
    """A frame as uint8 of shape (H, W, 3).

    Raises:
        FreeUValueError: another type or shape.
    """
    array = np.asarray(frame)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise FreeUValueError(f"a frame must be uint8 of shape (height, width, 3), got {array.dtype} {array.shape}")
    return array


def check_clip(frames: Iterable[Any], least: int = 2) -> list[Frame]:
    """Frames of one size.

    Raises:
        FreeUValueError: not frames, frames of different sizes, or fewer than ``least``.
    """
    found = [check_frame(frame) for frame in frames]
    sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in found})
    if len(sizes) > 1:
        raise FreeUValueError(f"the frames of a video must have one size, got {', '.join(sizes)}")
    if len(found) < least:
        raise FreeUValueError(f"this measure needs a video of at least {least} frames, got {len(found)}")
    return found


def luma(frame: Frame) -> Floats:
    """Luma of a frame by BT.709 in levels of 0..255, (H, W)."""
    return np.asarray(frame @ np.array(LUMA))


def optical_flow(first: Any, second: Any) -> Flow:
    """Dense flow from one frame to the next, forth and back.

    A pixel is traceable if |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5 for its flow f and the flow b back from where it went
    (Sundaram, Brox & Keutzer 2010), and it stays in the image.

    Args:
        first, second: frames, uint8 (H, W, 3), of one size, sides of at least 12 pixels.

    Raises:
        FreeUValueError: other frames; OpenCV is not installed.
    """
    need("video", "cv2")
    import cv2

    frames = check_clip((first, second))
    height, width = frames[0].shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise FreeUValueError(f"flow needs frames of at least {_LEAST_SIDE}x{_LEAST_SIDE}, got {width}x{height}")
    # Its result depends on the number of threads, across which it does not propagate.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        grey = [np.round(luma(frame)).astype(np.uint8) for frame in frames]
        forward = np.asarray(search.calc(grey[0], grey[1], None), dtype=np.float32)
        backward = np.asarray(search.calc(grey[1], grey[0], None), dtype=np.float32)
        home = _sampled(backward, forward)
    finally:
        cv2.setNumThreads(threads)
    rows, columns = np.mgrid[:height, :width]
    x, y = columns + forward[..., 0], rows + forward[..., 1]
    inside = (x >= 0.0) & (x <= width - 1) & (y >= 0.0) & (y <= height - 1)
    missed = np.square(forward + home).sum(axis=2)
    size = np.square(forward).sum(axis=2) + np.square(home).sum(axis=2)
    return Flow(forward, inside & (missed < 0.01 * size + 0.5))


def warp_back(second: Any, flow: Flow) -> NDArray[np.float32]:
    """The second frame brought to where the first has its pixels (backward warp, bilinear), float32 (H, W, 3).

    Args:
        second: a frame, uint8 (H, W, 3).
        flow: from the first frame to it.
    """
    frame = check_frame(second)
    if frame.shape[:2] != flow.forward.shape[:2]:
        raise FreeUValueError(f"flow of {flow.forward.shape[:2]} does not fit a frame of {frame.shape[:2]}")
    return _sampled(frame.astype(np.float32), flow.forward)


def _sampled(values: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def flows(frames: Iterable[Any]) -> Iterator[Flow]:
    """``optical_flow`` of each pair of neighbours."""
    found = check_clip(frames)
    for first, second in itertools.pairwise(found):
        yield optical_flow(first, second)


def pair_strength(flow: Flow) -> float:
    """Mean length of the flow over the fastest twentieth of the traceable pixels, in pixels; 0 if none is traceable."""
    lengths = np.sort(np.linalg.norm(flow.forward[flow.traceable], axis=1))
    return float(lengths[-max(1, round(_FASTEST * lengths.size)) :].mean()) if lengths.size else 0.0


def motion_strength(frames: Iterable[Any]) -> float:
    """How fast the fastest parts of a video are: VBench's dynamic degree (Huang et al. 2024, arXiv:2311.17982).

    Mean over neighbouring frames of the mean length of the flow over its fastest twentieth, among traceable pixels.
    VBench takes RAFT's flow and counts videos above a threshold; this is the number before the threshold, on DIS flow.

    Args:
        frames: uint8 (T, H, W, 3), at least two.

    Returns:
        pixels per frame, at least 0; 0 for a video that stands still.
    """
    return float(np.mean([pair_strength(flow) for flow in flows(frames)]))


def pair_movement(flow: Flow) -> Floats:
    """(right, down, growth) of ``Movement`` between two frames, in pixels; zeros if nothing moves.

    Among the traceable pixels that move by a quarter of a pixel or more, v(p) = t + g (p - c) is fitted, c their
    centre; what does not fit is weighted down (Cauchy weights, five rounds).
    """
    height, width = flow.traceable.shape
    moving = flow.traceable & (np.linalg.norm(flow.forward, axis=2) > _MOVES)
    if moving.sum() < max(8, 0.001 * height * width):
        return np.zeros(3)
    y, x = (axis.astype(np.float64) for axis in np.nonzero(moving))
    u, v = flow.forward[moving].astype(np.float64).T
    weight = np.ones(len(x))
    for _ in range(5):
        total = weight.sum()
        right, down = (weight @ u) / total, (weight @ v) / total
        across, along = x - (weight @ x) / total, y - (weight @ y) / total
        radius = np.square(across) + np.square(along)
        rate = (weight @ (across * u + along * v)) / max(weight @ radius, 1e-9)
        miss = np.hypot(u - right - rate * across, v - down - rate * along)
        spread = math.sqrt(float(weight @ radius) / total)
        weight = 1.0 / (1.0 + np.square(miss / (2.0 * (np.median(miss) + 0.1))))
    return np.array([right, down, rate * spread])


def total_movement(steps: Iterable[Floats], shape: tuple[int, ...]) -> Movement:
    """Steps of ``pair_movement`` added up, over the shorter side of frames of ``shape`` (H, W, ...)."""
    whole = np.sum(list(steps), axis=0) / min(shape[:2])
    return Movement(*map(float, whole))


def subject_movement(frames: Iterable[Any]) -> Movement:
    """How what moves in a video moves, from the frames alone.

    One movement is told: of several subjects, or of a subject before a moving camera, it is a mixture.

    Args:
        frames: uint8 (T, H, W, 3), at least two.
    """
    found = check_clip(frames)
    return total_movement(map(pair_movement, flows(found)), found[0].shape)
