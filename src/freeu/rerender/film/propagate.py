"""The frames between two key frames, made of the two generated ones along the flow of the video.

Rerender A Video (arXiv:2306.07954), section 4.2: each key frame is brought to the place of every frame of its segment,
and the two are blended. The paper brings them there by patch matching guided by flow (Ebsynth); here flow alone does.
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
from freeu.rerender.film.blend import blend, fill

_ALIKE = 12.0  # levels of error of the video itself at which a key frame is believed 1 / e
_LOST = 0.02  # of belief that is left where a pixel is not traceable
_HOLE = 0.05  # belief below which a pixel is a hole
_WINDOW = 5  # pixels across in which the error is taken


def propagate(frames: Sequence[Any], first: Any, last: Any, estimator: FlowEstimator | None = None) -> Iterator[Frame]:
    """Generate a segment from its two generated key frames.

    A frame takes from each key frame what can be seen there, more from the nearer in time. What neither shows
    is filled from near pixels that have its colour in the video; if there are none it takes the key frame that, in the
    video, comes closer to it.

    Args:
        frames: of the video, uint8 (H, W, 3), from one key frame to the next, both among them, at least one.
        first, last: the key frames as generated, of the same size; of a single frame they are the same.
        estimator: how flow is found, as of ``Tracker``.

    Yields:
        as many frames; the first and last are the generated ones to the bit.

    Raises:
        FreeUValueError: not frames of one size; two drawings of a single frame; ``freeu[video]`` is not installed.
    """
    need("video", "cv2")
    film = check_frames(frames, least=1)
    *_, start, end = check_frames((film[0], first, last))
    if len(film) == 1 and not np.array_equal(start, end):
        raise FreeUValueError("a segment of one frame has one key frame, got two different drawings of it")
    return _propagate(film, start, end, estimator)


def _propagate(film: list[Frame], start: Frame, end: Frame, estimator: FlowEstimator | None) -> Iterator[Frame]:
    ahead, behind = Tracker(film[-1], estimator), Tracker(film[0], estimator)
    onward = [ahead.follow(frame) for frame in reversed(film[1:-1])]
    yield start
    for number, frame in enumerate(film[1:-1], start=1):
        back = behind.follow(frame)
        forth = onward.pop()
        before, after = brought(start, back), brought(end, forth)
        seen = believed(frame, film[0], back), believed(frame, film[-1], forth)
        drawn = blend(before, after, *seen, number / (len(film) - 1))
        yield fill(drawn, np.maximum(*seen) < _HOLE, frame)
    if len(film) > 1:
        yield end


def brought(key: Frame, flow: Flow) -> NDArray[np.float32]:
    """A key frame brought to a frame's place, bicubic, 0..255."""
    import cv2

    rows, columns = np.mgrid[: key.shape[0], : key.shape[1]].astype(np.float32)
    x, y = columns + flow.forward[..., 0], rows + flow.forward[..., 1]
    values = cv2.remap(key.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(values, 0.0, 255.0), np.float32)


def believed(frame: Frame, key: Frame, flow: Flow) -> NDArray[np.float32]:
    """How far a key frame is believed at each pixel of a frame: by the flow and by how alike the video is, 0..1."""
    import cv2

    error = cv2.blur(np.abs(brought(key, flow) - frame).mean(axis=2), (_WINDOW, _WINDOW))
    alike = np.exp(-np.square(error / _ALIKE))
    return np.asarray(alike * np.where(flow.traceable, 1.0, _LOST), np.float32)
