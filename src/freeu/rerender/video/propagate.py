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
from freeu.rerender.video.blend import blend, fill

_ALIKE = 12.0  # levels of warping error of the source video at which the confidence in a key frame is 1 / e
_LOST = 0.02  # factor of the confidence where a pixel is not traceable
_HOLE = 0.05  # confidence below which a pixel is a hole
_WINDOW = 5  # pixels across of the window of the error


def propagate(frames: Sequence[Any], first: Any, last: Any, estimator: FlowEstimator | None = None) -> Iterator[Frame]:
    """Make the frames of a segment from its two generated key frames.

    A frame takes from each key frame what is visible there, more from the nearer one in time. What neither shows is
    filled from near pixels of the same colour in the source; if there are none, it takes the key frame whose warped
    source frame is closer.

    Args:
        frames: of the source video, uint8 (H, W, 3), from one key frame to the next, both included, at least one.
        first, last: the generated key frames, of the same size; for a single frame they are the same.
        estimator: of the flow, as for ``Tracker``.

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
    return _propagate(frames, start, end, estimator)


def _propagate(frames: list[Frame], start: Frame, end: Frame, estimator: FlowEstimator | None) -> Iterator[Frame]:
    ahead, behind = Tracker(frames[-1], estimator), Tracker(frames[0], estimator)
    onward = [ahead.follow(frame) for frame in reversed(frames[1:-1])]
    yield start
    for number, frame in enumerate(frames[1:-1], start=1):
        back = behind.follow(frame)
        forth = onward.pop()
        before, after = warped_key(start, back), warped_key(end, forth)
        weights = confidence(frame, frames[0], back), confidence(frame, frames[-1], forth)
        blended = blend(before, after, *weights, number / (len(frames) - 1))
        yield fill(blended, np.maximum(*weights) < _HOLE, frame)
    if len(frames) > 1:
        yield end


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
