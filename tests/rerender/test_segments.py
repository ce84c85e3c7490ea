"""Videos cut at their key frames: where, by what, and without holding more than a segment."""

import numpy as np
import pytest

from freeu.errors import FreeUValueError
from freeu.motion.measure import Flow
from freeu.rerender.video.segments import KeyFrameChoice, change, segments

pytest.importorskip("cv2")


def scene(seed, size=48):
    """A coarse random image: as different from another seed as scenes of a video are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return coarse.repeat(size // 6, axis=0).repeat(size // 6, axis=1)


def film(*lengths):
    return [scene(number) for number, length in enumerate(lengths) for _ in range(length)]


def moving(count, stride=3, size=48):
    """A bright square that goes to the right over a dark ground."""
    frames = []
    for step in range(count):
        frame = np.full((size, size, 3), 30, np.uint8)
        frame[16:32, 2 + stride * step : 18 + stride * step] = (220, 180, 40)
        frames.append(frame)
    return frames


def shape(found):
    return [(segment.start, len(segment.frames), segment.opens) for segment in found]


def test_key_frames_at_an_interval():
    assert shape(segments(film(9), KeyFrameChoice(interval=4))) == [(0, 5, True), (4, 5, False)]
    assert shape(segments(film(8), KeyFrameChoice(interval=4))) == [(0, 5, True), (4, 4, False)]
    assert shape(segments(film(6), KeyFrameChoice(interval=4))) == [(0, 5, True), (4, 2, False)]
    assert shape(segments(film(3), KeyFrameChoice(interval=1))) == [(0, 2, True), (1, 2, False)]
    assert shape(segments(film(1))) == [(0, 1, True)]


def test_a_cut_begins_a_scene():
    found = list(segments(film(5, 1, 3), KeyFrameChoice(interval=4)))
    assert shape(found) == [(0, 5, True), (5, 1, True), (6, 3, True)]
    assert shape(segments(film(3, 3), KeyFrameChoice(interval=4))) == [(0, 3, True), (3, 3, True)]
    assert shape(segments(film(3, 3), KeyFrameChoice(interval=4, cut=1.0))) == [(0, 5, True), (4, 2, False)]


@pytest.mark.parametrize("interval", [1, 2, 5, 8])
@pytest.mark.parametrize("lengths", [(1,), (2,), (9,), (4, 7), (1, 1, 1), (6, 1, 5, 2)])
def test_every_frame_is_in_its_place(interval, lengths):
    frames = film(*lengths)
    end = 0
    for segment in segments(frames, KeyFrameChoice(interval=interval)):
        assert segment.start == (end if segment.opens else end - 1)
        assert len(segment.frames) <= interval + 1
        for number, frame in enumerate(segment.frames, start=segment.start):
            np.testing.assert_array_equal(frame, frames[number])
        end = segment.start + len(segment.frames)
    assert end == len(frames)


def test_one_segment_is_read_at_a_time():
    read = 0

    def source():
        nonlocal read
        for frame in film(40):
            read += 1
            yield frame

    for segment in segments(source(), KeyFrameChoice(interval=5)):
        assert read <= segment.start + len(segment.frames) + 1


def test_content_brings_a_key_frame_forward():
    still, fast = KeyFrameChoice(interval=8), KeyFrameChoice(interval=8, content=True)
    frames = moving(9)
    assert shape(segments(frames, still)) == [(0, 9, True)]
    starts = [segment.start for segment in segments(frames, fast)]
    # 3 pixels a frame of 48: more than 0.15 of the side, 7.2 pixels, at each third frame.
    assert starts == [0, 3, 6]
    assert shape(segments(frames[:1] * 9, fast)) == [(0, 9, True)]


def test_early_by_what_came_into_sight():
    choice = KeyFrameChoice(content=True, uncovered=0.15)
    at_rest = np.zeros((20, 20, 2), np.float32)
    hidden = np.ones((20, 20), bool)
    hidden[:3] = False
    assert not choice.early(Flow(at_rest, hidden))  # 0.15, and no more
    hidden[3, 0] = False
    assert choice.early(Flow(at_rest, hidden))


def test_change_is_of_content_not_of_place():
    frames = moving(3)
    assert change(frames[0], frames[0]) == 0.0
    assert change(frames[0], frames[1]) < 0.05
    assert change(scene(1), scene(2)) > 0.4
    assert change(scene(1), scene(2)) == change(scene(2), scene(1))
    rolled = np.roll(scene(3, 96), 4, axis=1)
    assert change(scene(3, 96)[:, 6:], rolled[:, 6:]) < 0.05
    assert change(frames[0], np.full_like(frames[0], 250)) == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interval": 0}, "whole number of at least 1, got 0"),
        ({"interval": 2.5}, r"whole number of at least 1, got 2\.5"),
        ({"interval": True}, "whole number of at least 1, got True"),
        ({"motion": 0.0}, r"motion of key frames is a number above 0, got 0\.0"),
        ({"motion": float("inf")}, "motion of key frames is a number above 0, got inf"),
        ({"uncovered": 1.5}, r"uncovered of key frames is a number above 0, at most 1, got 1\.5"),
        ({"cut": float("nan")}, "cut of key frames is a number above 0, at most 1, got nan"),
    ],
)
def test_choices_out_of_range(given, message):
    with pytest.raises(FreeUValueError, match=message):
        KeyFrameChoice(**given)


def test_what_is_no_film():
    with pytest.raises(FreeUValueError, match="at least one frame, got none"):
        list(segments([]))
    with pytest.raises(FreeUValueError, match="one size"):
        list(segments([scene(0), scene(0, 60)]))
    with pytest.raises(FreeUValueError, match="uint8"):
        list(segments([np.zeros((8, 8))]))
