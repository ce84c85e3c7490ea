"""Motion in a video: optical flow between neighbouring frames, and the direction and strength of the motion.

Flow is OpenCV's dense inverse search (DIS; Kroeger et al. 2016) on luma, ``pip install 'freeu[video]'``. It follows
edges and texture; it loses jumps of more than about a tenth of the image between frames, and takes flicker for motion.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.wording import counted

Floats = NDArray[np.float64]
Frame = NDArray[np.uint8]

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Motions with a direction: x to the right, y downwards."""

MOTIONS = (*DIRECTIONS, "growing", "shrinking", "still")
"""Motions of a video's subject that a prompt can ask for."""

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in luma (ITU-R BT.709)."""

STILL = 0.04
"""A subject is still if it moves (or its radius changes) by less than this fraction of the image's shorter side."""

_MOVES = 0.25  # pixels per frame above which a pixel moves
_LEAST_SIDE = 12  # the least that DIS accepts
_FASTEST = 0.05  # share of pixels that VBench's "dynamic degree" looks at


@dataclass(frozen=True)
class Flow:
    """Optical flow from one frame to another.

    Args:
        forward: displacement of each pixel of the first frame in pixels, x to the right and y downwards, (H, W, 2).
        traceable: pixels that pass the forward-backward check, (H, W): neither occluded nor lost.
    """

    forward: NDArray[np.float32]
    traceable: NDArray[np.bool_]


@dataclass(frozen=True)
class Movement:
    """How the subject of a video moves from its first frame to its last, in fractions of the image's shorter side.

    Args:
        right, down: displacement.
        growth: change of its radius (root mean square of the distance from its centre).
    """

    right: float
    down: float
    growth: float

    @property
    def kind(self) -> str:
        """The nearest of ``MOTIONS``; growth is weighted by 1.5, since it is the change of a radius."""
        going = math.hypot(self.right, self.down)
        if max(going, abs(self.growth)) < STILL:
            return "still"
        if 1.5 * abs(self.growth) > going:
            return "growing" if self.growth > 0.0 else "shrinking"
        if abs(self.right) > abs(self.down):
            return "right" if self.right > 0.0 else "left"
        return "down" if self.down > 0.0 else "up"

    def agreement(self, asked: str) -> float | None:
        """Cosine of the direction of the motion with that of ``asked``, -1..1; 0 if the subject is still.

        None if ``asked`` has no direction.
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


def check_frames(frames: Iterable[Any], least: int = 2) -> list[Frame]:
    """Frames of one size.

    Raises:
        FreeUValueError: not frames, frames of different sizes, or fewer than ``least``.
    """
    found = [check_frame(frame) for frame in frames]
    sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in found})
    if len(sizes) > 1:
        raise FreeUValueError(f"the frames of a video must have one size, got {', '.join(sizes)}")
    if len(found) < least:
        raise FreeUValueError(f"this measure needs a video of at least {counted(least, 'frame')}, got {len(found)}")
    return found


def luma(frame: Frame) -> Floats:
    """Luma of a frame by BT.709 in levels of 0..255, (H, W)."""
    return np.asarray(frame @ np.array(LUMA))


def optical_flow(first: Any, second: Any) -> Flow:
    """Dense flow from one frame to the next, with a forward-backward check.

    A pixel is traceable if |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5 for its flow f and the backward flow b at its end
    point (Sundaram, Brox & Keutzer 2010), and it stays in the image.

    Args:
        first, second: frames, uint8 (H, W, 3), of one size, sides of at least 12 pixels.

    Raises:
        FreeUValueError: other frames; OpenCV is not installed.

    >>> import numpy as np
    >>> frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    >>> optical_flow(frame, frame).forward.shape
    (32, 32, 2)
    """
    one, other = check_pair(first, second)
    height, width = one.shape[:2]
    with one_thread():
        forward = dense_flow(one, other)
        back = returns(forward, dense_flow(other, one))
    rows, columns = np.mgrid[:height, :width]
    x, y = columns + forward[..., 0], rows + forward[..., 1]
    inside = (x >= 0.0) & (x <= width - 1) & (y >= 0.0) & (y <= height - 1)
    return Flow(forward, inside & back)


def check_pair(first: Any, second: Any) -> tuple[Frame, Frame]:
    """Two frames between which flow can be estimated.

    Raises:
        FreeUValueError: not frames of one size, or too small ones; OpenCV is not installed.
    """
    need("video", "cv2")
    one, other = check_frames((first, second))
    height, width = one.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise FreeUValueError(f"flow needs frames of at least {_LEAST_SIDE}x{_LEAST_SIDE}, got {width}x{height}")
    return one, other


def dense_flow(first: Frame, second: Frame, start: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """DIS flow from one frame to another, (H, W, 2), from an initial estimate if there is one."""
    import cv2

    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [np.round(luma(frame)).astype(np.uint8) for frame in (first, second)]
    guess = None if start is None else start.astype(np.float32).copy()
    return np.asarray(search.calc(grey[0], grey[1], guess), dtype=np.float32)


def returns(forward: NDArray[np.float32], backward: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the backward flow returns what the forward flow displaced, by the rule of ``optical_flow``, (H, W)."""
    back = sampled(backward, forward)
    missed = np.square(forward + back).sum(axis=2)
    size = np.square(forward).sum(axis=2) + np.square(back).sum(axis=2)
    return np.asarray(missed < 0.01 * size + 0.5)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run OpenCV on one thread: results of DIS depend on their number."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def warp_back(second: Any, flow: Flow) -> NDArray[np.float32]:
    """The second frame warped to the first (backward warp, bilinear), float32 (H, W, 3).

    Args:
        second: a frame, uint8 (H, W, 3).
        flow: from the first frame to it.

    >>> import numpy as np
    >>> frame = np.zeros((16, 16, 3), np.uint8)
    >>> warp_back(frame, optical_flow(frame, frame)).shape
    (16, 16, 3)
    """
    frame = check_frame(second)
    if frame.shape[:2] != flow.forward.shape[:2]:
        raise FreeUValueError(f"flow of {flow.forward.shape[:2]} does not fit a frame of {frame.shape[:2]}")
    return sampled(frame.astype(np.float32), flow.forward)


def sampled(values: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values (H, W, ...) read at the end points of a flow, bilinear; beyond the border its nearest value."""
    import cv2

    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def flows(frames: Iterable[Any]) -> Iterator[Flow]:
    """``optical_flow`` of each pair of neighbours."""
    found = check_frames(frames)
    for first, second in itertools.pairwise(found):
        yield optical_flow(first, second)


def pair_strength(flow: Flow) -> float:
    """Mean length of the flow over the fastest twentieth of the traceable pixels, in pixels; 0 if none is traceable."""
    lengths = np.sort(np.linalg.norm(flow.forward[flow.traceable], axis=1))
    return float(lengths[-max(1, round(_FASTEST * lengths.size)) :].mean()) if lengths.size else 0.0


def motion_strength(frames: Iterable[Any]) -> float:
    """Speed of the fastest parts of a video: VBench's dynamic degree (Huang et al. 2024, arXiv:2311.17982).

    Mean over neighbouring frames of the mean length of the flow over its fastest twentieth, among traceable pixels.
    VBench uses RAFT and counts videos above a threshold; this is the number before the threshold, with DIS flow.

    Args:
        frames: uint8 (T, H, W, 3), at least two.

    Returns:
        pixels per frame, at least 0; 0 for a static video.

    >>> import numpy as np
    >>> motion_strength(np.zeros((3, 16, 16, 3), np.uint8))
    0.0
    """
    return float(np.mean([pair_strength(flow) for flow in flows(frames)]))


def pair_movement(flow: Flow) -> Floats:
    """(right, down, growth) of ``Movement`` between two frames, in pixels; zeros if nothing moves.

    Among the traceable pixels that move by a quarter of a pixel or more, v(p) = t + g (p - c) is fitted, c their
    centre; outliers are weighted down (Cauchy weights, five iterations).
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
    """The sum of steps of ``pair_movement``, over the shorter side of frames of ``shape`` (H, W, ...)."""
    whole = np.sum(list(steps), axis=0) / min(shape[:2])
    return Movement(*map(float, whole))


def subject_movement(frames: Iterable[Any]) -> Movement:
    """How the subject of a video moves, from the frames alone.

    There is one result: with several subjects, or with a moving camera, it is a mixture of their motions.

    Args:
        frames: uint8 (T, H, W, 3), at least two.

    >>> import numpy as np
    >>> subject_movement(np.zeros((3, 16, 16, 3), np.uint8)).kind
    'still'
    """
    found = check_frames(frames)
    return total_movement(map(pair_movement, flows(found)), found[0].shape)
