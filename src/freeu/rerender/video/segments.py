"""A video cut into segments, each from one key frame to the next, with one segment in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.motion.estimate import Tracker
from freeu.motion.measure import Flow, Frame, check_frame, check_frames, pair_strength

_SIDE = 64  # pixels of the shorter side at which contents are compared
_REACH = 9  # pixels across of the neighbourhood there in which a pixel may have gone
_LEVELS = 12  # of 255, by which a pixel may differ from all of these


@dataclass(frozen=True)
class KeyFrameChoice:
    """When a frame becomes a key frame.

    Args:
        interval: most frames from one key frame to the next, at least 1.
        content: sooner where the video moves much; needs the flow from every frame to its key frame.
        motion: with ``content``, how far the fastest twentieth may move from the key frame, as a fraction of the
            image's shorter side, above 0.
        uncovered: with ``content``, the share of the image that may become visible since then, above 0, at most 1.
        cut: the change of content from one frame to the next (``change``) above which a new scene begins, 0..1; 1 never
            cuts.

    Raises:
        FreeUValueError: a value out of range.
    """

    interval: int = 8
    content: bool = False
    motion: float = 0.15
    uncovered: float = 0.15
    cut: float = 0.4

    def __post_init__(self) -> None:
        if isinstance(self.interval, bool) or not isinstance(self.interval, int) or self.interval < 1:
            raise FreeUValueError(f"the interval of key frames is a whole number of at least 1, got {self.interval!r}")
        tops = {"motion": math.inf, "uncovered": 1.0, "cut": 1.0}
        for field in fields(self):
            if field.name not in tops:
                continue
            value, top = getattr(self, field.name), tops[field.name]
            if not 0.0 < value <= top or math.isinf(value):
                most = "" if math.isinf(top) else f", at most {top:g}"
                raise FreeUValueError(f"{field.name} of key frames is a number above 0{most}, got {value!r}")

    def early(self, flow: Flow) -> bool:
        """Whether a frame becomes a key frame because of the motion since the last one, by the flow to that one."""
        side = min(flow.traceable.shape)
        return bool(pair_strength(flow) > self.motion * side or (~flow.traceable).mean() > self.uncovered)


@dataclass(frozen=True)
class Segment:
    """Frames from one key frame to the next, both included; neighbouring segments of a scene share a key frame.

    Args:
        start: number of the first frame in the video, from 0.
        frames: one or more; one if the scene has only one.
        opens: whether a scene begins here, so that the first frame was not the last of the segment before.
    """

    start: int
    frames: tuple[Frame, ...]
    opens: bool


def segments(frames: Iterable[Any], choice: KeyFrameChoice = KeyFrameChoice()) -> Iterator[Segment]:
    """Cut a video at its key frames. The first and last frame of a scene are key frames.

    At most one segment and one more frame are in memory.

    Args:
        frames: uint8 (H, W, 3), of one size, at least one.
        choice: when a frame becomes a key frame.

    Raises:
        FreeUValueError: no frames, or not frames of one size; ``freeu[video]`` is not installed.
    """
    need("video", "cv2")
    held: list[Frame] = []
    start, opens, tracker = 0, True, None
    for number, given in enumerate(frames):
        frame = check_frame(given)
        if held and change(held[-1], frame) > choice.cut:
            if opens or len(held) > 1:  # otherwise the frame before has ended a segment
                yield Segment(start, tuple(held), opens)
            held, start, opens, tracker = [], number, True, None
        held.append(frame)
        if len(held) == 1:
            tracker = Tracker(frame) if choice.content else None
            continue
        # Tracked even if the interval is over: each flow starts from the one before.
        early = tracker is not None and choice.early(tracker.follow(frame))
        if early or len(held) > choice.interval:
            yield Segment(start, tuple(held), opens)
            held, start, opens = [frame], number, False
            tracker = Tracker(frame) if choice.content else None
    if not held:
        raise FreeUValueError("a video needs at least one frame, got none")
    if opens or len(held) > 1:
        yield Segment(start, tuple(held), opens)


def change(first: Any, second: Any) -> float:
    """The share of the image that is new from one frame to the next, 0..1.

    A pixel is old if its neighbourhood in the other frame, a fourteenth of the image to each side, has values on both
    sides of its own or within 12 levels, in each channel. So motion of objects or of the camera counts little; a new
    scene, a flash or a sudden change of all colours counts much. The larger of both directions.

    Args:
        first, second: frames, uint8 (H, W, 3), of one size.
    """
    pair = check_frames((first, second))
    small = [_small(frame) for frame in pair]
    return max(_new(*small), _new(*reversed(small)))


def _small(frame: Frame) -> Frame:
    import cv2

    scale = _SIDE / min(frame.shape[:2])
    if scale >= 1.0:
        return frame
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _new(old: Frame, frame: Frame) -> float:
    """Share of the pixels of ``frame`` outside the range of their neighbourhood in ``old``."""
    import cv2

    around = np.ones((_REACH, _REACH), np.uint8)
    least, most = cv2.erode(old, around).astype(np.int16), cv2.dilate(old, around).astype(np.int16)
    values = frame.astype(np.int16)
    return float(((values < least - _LEVELS) | (values > most + _LEVELS)).any(axis=2).mean())
