"""Residue and edge agreement on films made by hand, in which a ghost is pasted or none is."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from freeu.errors import FreeUValueError
from freeu.evaluate import edge_agreement, residue

FRAMES, SIZE, SIDE = 6, 64, 20
GROUND, COLOUR = (40, 60, 160), (240, 200, 60)


def made(noise=0.0):
    """A square that moves to the right by 4 pixels a frame, and where it is."""
    frames = np.tile(np.array(GROUND, np.float64), (FRAMES, SIZE, SIZE, 1))
    objects = np.zeros((FRAMES, SIZE, SIZE), bool)
    for number in range(FRAMES):
        objects[number, 20 : 20 + SIDE, 2 + 4 * number : 2 + 4 * number + SIDE] = True
    frames[objects] = COLOUR
    frames += np.random.default_rng(0).normal(0.0, noise, frames.shape) if noise else 0.0
    return frames.clip(0, 255).astype(np.uint8), objects


def ghosted(frames, share=1.0):
    """With a strip of the object, 20 x 2 pixels, that stays where it is from the third frame on."""
    found = frames.copy()
    strip = found[3:, 20 : 20 + SIDE, 2:4]
    strip[:] = (1.0 - share) * np.array(GROUND) + share * np.array(COLOUR)
    return found


def expected(pixels, objects, contrast=1.0):
    """The residue of so many pixels of the object's colour, in all frames together, by its definition."""
    import cv2

    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # the band: a 32nd of 64 pixels on each side
    beyond = sum((cv2.dilate(mask.astype(np.uint8), around) == 0).sum() for mask in objects)
    apart = contrast * (np.array(COLOUR, np.float64) - GROUND)
    return np.sqrt(pixels / beyond * np.square(apart).mean())


def test_a_film_without_a_ghost_has_no_residue():
    frames, objects = made()
    assert residue(frames, objects) == 0.0
    assert residue(made(noise=3.0)[0], objects) == pytest.approx(3.0, abs=0.2), "but noise counts"


def test_a_ghost_is_residue():
    frames, objects = made()
    strip = FRAMES / 2 * SIDE * 2
    assert residue(ghosted(frames), objects) == pytest.approx(expected(strip, objects))
    assert residue(ghosted(frames, 0.5), objects) == pytest.approx(expected(strip, objects, 0.5), rel=0.02)
    assert residue(ghosted(made(noise=3.0)[0]), objects) > 3.0 * residue(made(noise=3.0)[0], objects)


def test_an_object_that_is_larger_than_its_outline_counts_beyond_the_band():
    frames, objects = made()
    for number in range(FRAMES):
        frames[number, 12:20, 8 + 4 * number : 16 + 4 * number] = COLOUR
    counted = residue(frames, objects, band=4)
    assert 0.0 < counted < residue(frames, objects, band=1)
    assert residue(frames, objects, band=9) == 0.0


def test_residue_where_there_is_nothing_to_measure():
    frames, objects = made()
    assert residue(np.full_like(frames, 7), objects) == 0.0
    assert residue(frames, np.ones_like(objects)) is None


@pytest.mark.parametrize("objects", [np.zeros((FRAMES, SIZE, SIZE)), np.zeros((2, SIZE, SIZE), bool)])
def test_masks_that_do_not_fit(objects):
    with pytest.raises(FreeUValueError, match="masks of 6 frames"):
        residue(made()[0], objects)


def test_edges_agree_until_something_stays_behind():
    frames, _ = made()
    assert np.array_equal(edge_agreement(frames, frames), np.ones(FRAMES))
    found = edge_agreement(ghosted(frames), frames)
    assert np.array_equal(found[:3], np.ones(3))
    assert (found[3:] < 0.95).all()


def test_edges_beside_those_of_the_source():
    frames, _ = made()
    assert (edge_agreement(np.roll(frames, 2, axis=1), frames) == 1.0).all()
    assert (edge_agreement(np.roll(frames, 6, axis=1), frames) < 0.8).all()
    assert (edge_agreement(np.zeros_like(frames), frames) == 0.0).all()
    assert (edge_agreement(np.zeros_like(frames), np.ones_like(frames)) == 1.0).all()


def test_films_of_two_lengths():
    frames, _ = made()
    with pytest.raises(FreeUValueError, match="6 frames of 64x64 and 5 frames of 64x64"):
        edge_agreement(frames, frames[1:])
