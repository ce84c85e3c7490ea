"""What is drawn beyond an outline: found, removed, and taken along, on films whose object is known."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from freeu.evaluate import residue
from freeu.motion.estimate import along, steady_flow
from freeu.motion.measure import Flow
from freeu.rerender.denoise.generator import KeyFrameGenerator
from freeu.rerender.denoise.settings import KeyFrameSettings
from freeu.rerender.outline.drawn import drawn_object, trimmed, with_object
from freeu.rerender.outline.moving import moving
from freeu.rerender.video.propagate import propagate

SIZE, SIDE, TOP, STRIDE = 96, 32, 32, 5
GROUND, COLOUR = (40, 90, 160), (230, 200, 30)


def grain(seed=0, level=12.0):
    import cv2

    noise = np.random.default_rng(seed).normal(0.0, level, (SIZE // 3, 2 * SIZE // 3)).astype(np.float32)
    return cv2.resize(noise, (2 * SIZE, SIZE), interpolation=cv2.INTER_CUBIC)[..., None]


def made(count=7, ground_step=0, textured=True, extra=0):
    """A square that moves to the right before a ground that moves too, and where it is.

    ``extra``: pixels by which something grows out of its top, which is no part of where it is.
    """
    texture = grain() if textured else np.zeros((SIZE, 2 * SIZE, 1), np.float32)
    frames, objects = [], []
    for number in range(count):
        left, shift = 10 + STRIDE * number, 30 + ground_step * number
        frame = np.array(GROUND, np.float32) + texture[:, shift : shift + SIZE]
        frame[TOP : TOP + SIDE, left : left + SIDE] = np.array(COLOUR) + grain(1)[:SIDE, :SIDE]
        frame[TOP - extra : TOP, left + 8 : left + 24] = COLOUR
        mask = np.zeros((SIZE, SIZE), bool)
        mask[TOP : TOP + SIDE, left : left + SIDE] = True
        frames.append(frame.clip(0, 255).astype(np.uint8))
        objects.append(mask)
    return frames, np.array(objects)


def overlap(found, wanted):
    return (found & wanted).sum() / (found | wanted).sum()


# -- what moves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ground_step", "textured"), [(0, False), (0, True), (2, True)])
def test_an_object_is_found_by_its_motion(ground_step, textured):
    """Before a flat ground, a textured one, and one that the camera passes."""
    frames, objects = made(ground_step=ground_step, textured=textured)
    assert overlap(moving(along(frames)), objects[0]) > 0.8
    assert overlap(moving(along(frames[::-1])), objects[-1]) > 0.8


def test_where_nothing_moves_nothing_is_found():
    frames, _ = made()
    assert not moving(steady_flow(frames[0], frames[0])).any()
    lost = Flow(np.zeros((SIZE, SIZE, 2), np.float32), np.zeros((SIZE, SIZE), bool))
    assert not moving(lost).any(), "no background is found"


def test_the_resting_middle_of_what_grows_belongs_to_it_and_a_hole_does_not():
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    away = np.hypot(x, y)
    disc, seen = away < 30, np.ones((SIZE, SIZE), bool)
    growing = np.where(disc[..., None], 0.2 * np.stack([x, y], axis=-1), 0.0).astype(np.float32)
    assert np.array_equal(moving(Flow(growing, seen)), disc)
    ring = disc & (away > 12)
    sliding = np.where(ring[..., None], np.array([6.0, 0.0]), 0.0).astype(np.float32)
    found = moving(Flow(sliding, seen))
    assert overlap(found, ring) > 0.98
    assert not found[SIZE // 2 - 8 : SIZE // 2 + 8, SIZE // 2 - 8 : SIZE // 2 + 8].any()


# -- what is drawn -------------------------------------------------------------------------------------------------


def test_what_is_drawn_beyond_the_outline_is_found_and_removed():
    frames, objects = made(extra=10)
    image, outline = frames[0], objects[0]
    beyond = np.zeros_like(outline)
    beyond[TOP - 10 : TOP, 18:34] = True
    drawn = drawn_object(image, outline)
    assert (drawn[outline | beyond]).all()
    assert drawn.sum() < 1.3 * (outline | beyond).sum()
    clean, changed = trimmed(image, outline)
    assert changed[beyond][32:].mean() > 0.5, "all but the soft edge"
    assert np.abs(clean[TOP - 10 : TOP - 2, 18:34] - GROUND).max() < 30.0
    assert np.array_equal(clean[outline], image[outline])
    assert np.array_equal(clean[~changed], image[~changed])
    assert (drawn_object(image, outline) == drawn).all(), "the same every time"


def test_a_frame_that_keeps_within_the_outline_is_not_changed():
    frames, objects = made()
    clean, changed = trimmed(frames[0], objects[0])
    assert changed.mean() < 0.002
    assert np.array_equal(clean[~changed], frames[0][~changed])


@pytest.mark.parametrize("fills", [False, True])
def test_without_an_outline_nothing_is_done(fills):
    frames, _ = made()
    area = np.full((SIZE, SIZE), fills)
    assert np.array_equal(drawn_object(frames[0], area), area)
    clean, changed = trimmed(frames[0], area)
    assert np.array_equal(clean, frames[0])
    assert not changed.any()


def test_what_exceeds_the_outline_goes_with_the_object():
    _, objects = made(extra=10)
    there = objects[0].copy()
    there[TOP - 10 : TOP, 18:34] = True  # in the key frame
    field = np.where(objects[4][..., None], np.array([-4.0 * STRIDE, 0.0]), 0.0).astype(np.float32)
    flow, carried = with_object(Flow(field, np.ones((SIZE, SIZE), bool)), objects[4], there)
    here = np.roll(there, 4 * STRIDE, axis=1) & ~objects[4]
    assert np.array_equal(carried, here)
    assert (flow.forward[here] == (-4.0 * STRIDE, 0.0)).all()
    assert flow.traceable[here].all()
    behind = there & ~objects[4] & ~here
    assert not flow.traceable[behind].any(), "the key frame does not show the ground there"
    rest = ~behind & ~here
    assert flow.traceable[rest].all()
    assert np.array_equal(flow.forward[rest], field[rest])


@pytest.mark.parametrize("textured", [False, True])
def test_no_frame_between_has_a_ghost(textured):
    """The key frames show more than the outline of the source; the true film does so in every frame."""
    source, objects = made(textured=textured)
    wanted, _ = made(textured=textured, extra=10)
    errors, left = {}, {}
    for outline in (False, True):
        found = list(propagate(source, wanted[0], wanted[-1], outline=outline))
        assert np.array_equal(found[0], wanted[0])
        assert np.array_equal(found[-1], wanted[-1])
        errors[outline] = np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(found, wanted, strict=True)])
        taller = objects.copy()
        taller[:, TOP - 10 : TOP] = objects[:, TOP : TOP + 10]
        left[outline] = residue(found, taller, band=2)
    assert errors[True] < 0.5 * errors[False]
    assert left[True] < residue(wanted, taller, band=2) + 1.0 < left[False]


# -- while a key frame is generated --------------------------------------------------------------------------------


def settings(*stages):
    return KeyFrameSettings("a fox", steps=6, strength=0.7, guidance=2.0, stages=stages)


def test_the_outline_acts_on_the_first_key_frame_too_and_only_where_something_moves(pipe, film):
    moves = np.zeros(film[0].shape[:2], bool)

    def first(stages, area):
        return KeyFrameGenerator(pipe, settings(*stages)).generate(film[0], moves=area)

    plain = first((), None)
    assert np.array_equal(first(("outline",), None), plain)
    assert np.array_equal(first(("outline",), moves), plain)
    moves[16:30, 16:30] = True
    assert np.array_equal(first((), moves), plain), "the stage is disabled"
    assert not np.array_equal(first(("outline",), moves), plain)


def test_an_interrupted_run_knows_what_was_drawn(pipe, film, tmp_path):
    moves = np.zeros(film[0].shape[:2], bool)
    moves[16:30, 16:30] = True
    whole = KeyFrameGenerator(pipe, settings("outline", "pixel"))
    whole.generate(film[0], moves=moves)
    whole.save(tmp_path / "state.safetensors")
    resumed = KeyFrameGenerator(pipe, settings("outline", "pixel"))
    resumed.load(tmp_path / "state.safetensors")
    assert np.array_equal(resumed.memory.first.drawn, whole.memory.first.drawn)
    assert np.array_equal(resumed.generate(film[1], moves=moves), whole.generate(film[1], moves=moves))


def test_a_mask_of_another_size_is_refused(pipe, film):
    with pytest.raises(ValueError, match=r"\(8, 8\), does not fit a frame of \(32, 32\)"):
        KeyFrameGenerator(pipe, settings("outline")).generate(film[0], moves=np.ones((8, 8), bool))
