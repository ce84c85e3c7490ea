"""Make the frames between two key frames from the two generated ones, along the flow of the source video.

Rerender A Video (arXiv:2306.07954), section 4.2: each key frame is warped to every frame of its segment, and the two
are blended. The paper warps by patch matching guided by flow (Ebsynth); here it is flow alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.motion.estimate import FlowEstimator, Tracker
from freeu.motion.measure import Flow, Frame, check_frames
from freeu.motion.repair import Bools
from freeu.rerender.outline.drawn import drawn_object, with_object
from freeu.rerender.outline.moving import moving
from freeu.rerender.video.blend import blend, fill

_ALIKE = 12.0  # levels of warping error of the source video at which the confidence in a key frame is 1 / e
_LOST = 0.02  # factor of the confidence where a pixel is not traceable
_HOLE = 0.05  # confidence below which a pixel is a hole
_WINDOW = 5  # pixels across of the window of the error


def propagate(
    frames: Sequence[Any], first: Any, last: Any, estimator: FlowEstimator | None = None, outline: bool = False
) -> Iterator[Frame]:
    """Make the frames of a segment from its two generated key frames.

    A frame takes from each key frame what is visible there, more from the nearer one in time. What neither shows is
    filled from near pixels of the same colour in the source; if there are none, it takes the key frame whose warped
    source frame is closer.

    Args:
        frames: of the source video, uint8 (H, W, 3), from one key frame to the next, both included, at least one.
        first, last: the generated key frames, of the same size; for a single frame they are the same.
        estimator: of the flow, as for ``Tracker``.
        outline: whether what the key frames show beyond the outline of what moves goes along with it; otherwise it
            stays where it is, as the background does.

    Yields:
        as many frames; the first and last are bit-identical to the generated key frames.

    Raises:
        FreeUValueError: not frames of one size; two different key frames of a single frame; ``freeu[video]`` is not
            installed.
    """
    need("video", "cv2")
    frames = check_frames(frames, least=1)
    *_, start, end = check_frames((frames[0], first, last))
    if len(frames) == 1 and not np.array_equal(start, end):
        raise FreeUValueError("a segment of one frame has one key frame, got two different ones")
    return _propagate(frames, start, end, estimator, outline)


def _propagate(
    frames: list[Frame], start: Frame, end: Frame, estimator: FlowEstimator | None, outline: bool
) -> Iterator[Frame]:
    ahead, behind = Tracker(frames[-1], estimator), Tracker(frames[0], estimator)
    yield start
    if len(frames) < 2:
        return
    forths = [ahead.follow(frame) for frame in reversed(frames[1:-1])][::-1]
    backs = [behind.follow(frame) for frame in frames[1:-1]]
    shown: list[Bools] = []
    if outline:
        ends = (start, ahead.follow(frames[0])), (end, behind.follow(frames[-1]))
        shown = [drawn_object(key, moving(flow)) for key, flow in ends]
    for number, (frame, *flows) in enumerate(zip(frames[1:-1], backs, forths, strict=True), start=1):
        weights = [confidence(frame, key, flow) for key, flow in zip((frames[0], frames[-1]), flows, strict=True)]
        if outline:
            moves = moving(flows[0]) | moving(flows[1])
            for side, drawn in enumerate(shown):
                flows[side], weights[side] = _with_object(flows[side], weights[side], moves, drawn)
        before, after = warped_key(start, flows[0]), warped_key(end, flows[1])
        blended = blend(before, after, weights[0], weights[1], number / (len(frames) - 1))
        lost = np.maximum(*weights) < _HOLE
        if outline:  # a pixel of the edge differs a little in the source, but is there
            lost &= ~(flows[0].traceable | flows[1].traceable)
        yield fill(blended, lost, frame)
    yield end


def _with_object(flow: Flow, sure: NDArray[np.float32], moves: Bools, drawn: Bools) -> tuple[Flow, NDArray[np.float32]]:
    """The flow to a generated key frame by ``with_object``, and the confidence in it."""
    adjusted, carried = with_object(flow, moves, drawn)
    hidden = flow.traceable & ~adjusted.traceable
    return adjusted, np.where(carried, 1.0, np.where(hidden, _LOST * sure, sure)).astype(np.float32)


def warped_key(key: Frame, flow: Flow) -> NDArray[np.float32]:
    """A key frame warped by a flow, bicubic, 0..255."""
    import cv2

    rows, columns = np.mgrid[: key.shape[0], : key.shape[1]].astype(np.float32)
    x, y = columns + flow.forward[..., 0], rows + flow.forward[..., 1]
    values = cv2.remap(key.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(values, 0.0, 255.0), np.float32)


def confidence(frame: Frame, key: Frame, flow: Flow) -> NDArray[np.float32]:
    """Confidence in a key frame at each pixel of a frame, by traceability and warping error of the source, 0..1."""
    import cv2

    error = cv2.blur(np.abs(warped_key(key, flow) - frame).mean(axis=2), (_WINDOW, _WINDOW))
    alike = np.exp(-np.square(error / _ALIKE))
    return np.asarray(alike * np.where(flow.traceable, 1.0, _LOST), np.float32)
