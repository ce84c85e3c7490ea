"""The frames between two generated key frames: the ends, what one key shows, what none shows, colours, contrast."""

import numpy as np
import pytest

from freeu.errors import FreeUValueError
from freeu.motion.measure import Flow
from freeu.rerender.video.blend import blend, fill
from freeu.rerender.video.propagate import propagate

pytest.importorskip("cv2")

SIZE = 64
SEEN = np.ones((SIZE, SIZE), np.float32)


def square(left, colour=(230, 200, 30), ground=(40, 90, 160)):
    frame = np.empty((SIZE, SIZE, 3), np.uint8)
    frame[:] = ground
    frame[20:44, left : left + 20] = colour
    return frame


FILM = [square(8 + 4 * step) for step in range(5)]


def still(target, reference):
    return Flow(np.zeros((*target.shape[:2], 2), np.float32), np.ones(target.shape[:2], bool))


def lost(target, reference):
    return Flow(np.zeros((*target.shape[:2], 2), np.float32), np.zeros(target.shape[:2], bool))


def noise(seed, level=20.0):
    return np.clip(128 + level * np.random.default_rng(seed).standard_normal((SIZE, SIZE, 3)), 0, 255).astype(
        np.float32
    )


def test_the_ends_are_the_drawn_ones():
    first, last = noise(0).astype(np.uint8), noise(1).astype(np.uint8)
    drawn = list(propagate(FILM, first, last))
    assert len(drawn) == len(FILM)
    np.testing.assert_array_equal(drawn[0], first)
    np.testing.assert_array_equal(drawn[-1], last)
    assert all(frame.dtype == np.uint8 and frame.shape == first.shape for frame in drawn)
    again = list(propagate(FILM, first, last))
    np.testing.assert_array_equal(drawn, again)


def test_short_segments():
    np.testing.assert_array_equal(list(propagate(FILM[:1], FILM[1], FILM[1])), FILM[1:2])
    np.testing.assert_array_equal(list(propagate(FILM[:2], FILM[2], FILM[3])), FILM[2:4])


def test_originals_come_back():
    for got, want in zip(propagate(FILM, FILM[0], FILM[-1]), FILM, strict=True):
        assert np.abs(got.astype(int) - want).max() <= 2


def test_other_colours_go_where_the_film_goes():
    colour, ground = (20, 240, 120), (200, 60, 60)
    first, last = square(8, colour, ground), square(24, colour, ground)
    for step, got in enumerate(propagate(FILM, first, last)):
        want = square(8 + 4 * step, colour, ground)
        assert np.abs(got.astype(int) - want).mean() < 0.5


def test_colours_go_over_in_time():
    first, last = np.full((SIZE, SIZE, 3), 100, np.uint8), np.full((SIZE, SIZE, 3), 140, np.uint8)
    film = [FILM[0]] * 5
    means = [frame.mean() for frame in propagate(film, first, last, still)]
    np.testing.assert_allclose(means, [100, 110, 120, 130, 140], atol=0.5)


def test_no_seam_where_only_one_key_frame_shows():
    before, after = np.full((SIZE, SIZE, 3), 100.0, np.float32), np.full((SIZE, SIZE, 3), 140.0, np.float32)
    hidden = SEEN.copy()
    hidden[20:44, 20:44] = 0.0
    mixed = blend(before, after, SEEN, hidden, 0.5)
    np.testing.assert_allclose(mixed, 120.0, atol=1.0)
    # The one that is hidden there shows something else: none of it comes through.
    after[24:40, 24:40] = 0.0
    np.testing.assert_allclose(blend(before, after, SEEN, hidden, 0.5)[26:38, 26:38], 120.0, atol=1.0)


def test_contrast_is_kept():
    before, after = noise(0), noise(1)
    plain = (before + after) / 2.0
    mixed = blend(before, after, SEEN, SEEN, 0.5)
    assert plain.std() < 0.75 * before.std()
    assert mixed.std() == pytest.approx(before.std(), rel=0.1)
    # Equal images have nothing to give back.
    np.testing.assert_allclose(blend(before, before, SEEN, SEEN, 0.5), before, atol=0.51)


def test_what_is_lost_is_never_black():
    first, last = np.full((SIZE, SIZE, 3), 100, np.uint8), np.full((SIZE, SIZE, 3), 140, np.uint8)
    for got in propagate([FILM[0]] * 3, first, last, lost):
        assert got.min() >= 100
        assert got.max() <= 140


def test_a_hole_is_filled_from_its_own_colour():
    drawn = square(20, colour=(10, 250, 10), ground=(250, 10, 250))
    holes = np.zeros((SIZE, SIZE), bool)
    holes[30:34, 14:26] = True
    damaged = drawn.copy()
    damaged[holes] = 0
    kept = damaged.copy()
    np.testing.assert_array_equal(fill(damaged, holes, square(20)), drawn)
    np.testing.assert_array_equal(damaged, kept)
    np.testing.assert_array_equal(fill(drawn, np.ones_like(holes), square(20)), drawn)  # nothing to take from
    assert fill(drawn, np.zeros_like(holes), square(20)) is drawn


@pytest.mark.parametrize(
    ("film", "first", "last", "message"),
    [
        ([], FILM[0], FILM[1], "at least 1 frame, got 0"),
        (FILM, FILM[0][:32], FILM[1], "one size, got 64x32, 64x64"),
        (FILM[:1], FILM[0], FILM[1], "one key frame, got two different ones"),
        (FILM, FILM[0] / 255.0, FILM[1], "uint8"),
    ],
)
def test_segments_that_do_not_do(film, first, last, message):
    with pytest.raises(FreeUValueError, match=message):
        propagate(film, first, last)
