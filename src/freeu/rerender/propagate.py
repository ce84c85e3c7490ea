"""The frames between two key frames, made of the two drawn ones along the flow of the film.

Rerender A Video (arXiv:2306.07954), section 4.2: each key frame is brought to the place of every frame of its segment, and
the two are blended. The paper brings them there by patch matching guided by flow (Ebsynth); here flow does it alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from freeu.evaluate.motion import Frame, check_clip
from freeu.pipelines.extras import need
from freeu.rerender.flow import FlowEstimator, Tracker

_SOFT = 1.0  # pixels over which one key frame gives way to the other


def propagate(frames: Sequence[Any], first: Any, last: Any, estimator: FlowEstimator | None = None) -> Iterator[Frame]:
    """Draw a segment from its two drawn key frames.

    Args:
        frames: of the film, uint8 (H, W, 3), from one key frame to the next, both among them.
        first, last: the key frames as drawn, of any one size of the same proportions; the same if there is one frame.
        estimator: how flow is found, as of ``Tracker``.

    Yields:
        as many frames, of the size of the drawn ones; the first and last are these to the bit.

    Raises:
        FreeUValueError: not frames, or of sizes that do not go together; ``freeu[video]`` is not installed.
    """
    need("video", "cv2")
    film = check_clip(frames, least=1)
    drawn = check_clip((first, last))
    _check_sizes(film[0], drawn[0])
    yield drawn[0]
    if len(film) == 1:
        return
    between = film[1:-1]
    ahead = Tracker(film[-1], estimator)
    to_last = [ahead.follow(frame) for frame in reversed(between)][::-1]
    behind = Tracker(film[0], estimator)
    for number, frame in enumerate(between, start=1):
        to_first, onward = behind.follow(frame), to_last[number - 1]
        yield between_keys(drawn, (to_first, onward), number / (len(film) - 1))
    yield drawn[1]
