"""Clips and their captions."""

from __future__ import annotations

import random

import numpy as np
import pytest
from freeu_zoo import recipe
from freeu_zoo.errors import ZooError
from freeu_zoo.world import captions, clips, scenes

WORLD = recipe.shipped("mini-modelscope").world


def centres(clip: clips.Clip) -> np.ndarray:
    things = [scene.things[0] for scene in clip.frames]
    return np.array([(thing.left + thing.width / 2, thing.top + thing.height / 2) for thing in things])


def of_motion(motion: str, count: int = 12) -> list[clips.Clip]:
    maker = clips.ClipMaker(WORLD)
    many = (maker.clip(number) for number in range(1000))
    return [clip for clip in many if clip.motion == motion][:count]


@pytest.mark.parametrize(("motion", "direction"), clips.DIRECTIONS.items())
def test_what_goes_somewhere_goes_there_in_equal_strides(motion, direction) -> None:
    for clip in of_motion(motion):
        steps = np.diff(centres(clip), axis=0)
        stride = np.abs(steps).max()
        assert stride >= 2
        np.testing.assert_array_equal(steps, np.tile(np.array(direction) * stride, (7, 1)))


def test_what_grows_grows_around_its_middle_and_what_stays_stays() -> None:
    for clip in of_motion("growing") + of_motion("shrinking"):
        sides = [max(scene.things[0].width, scene.things[0].height) for scene in clip.frames]
        assert sides == sorted(sides, reverse=clip.motion == "shrinking")
        assert max(sides) >= 1.5 * min(sides)
        assert np.abs(np.diff(centres(clip), axis=0)).max() <= 6  # a growing box is pushed off the edge at most
    for clip in of_motion("still"):
        assert len(set(clip.frames)) == 1


def test_objects_stay_in_the_picture() -> None:
    maker = clips.ClipMaker(WORLD, seed=3)
    for number in range(300):
        for scene in maker.clip(number).frames:
            thing = scene.things[0]
            assert min(thing.left, thing.top) >= 0
            assert max(thing.left + thing.width, thing.top + thing.height) <= scenes.SIZE


def test_training_never_shows_what_is_held_out() -> None:
    shown, kept = (clips.ClipMaker(WORLD, seed=5, held_out=held) for held in (False, True))
    for number in range(100):
        clip = shown.clip(number)
        assert not clip.held_out()
        assert not clips.is_held_out(clip.scene.things[0].noun, clip.motion)
        assert kept.clip(number).held_out()
    assert shown.clip(7) == clips.ClipMaker(WORLD, seed=5, held_out=False).clip(7)


def test_captions_say_the_motion_and_know_every_word() -> None:
    known = captions.words(WORLD) | set(clips.words())
    draw = random.Random(0)
    for clip in (clips.ClipMaker(WORLD).clip(number) for number in range(60)):
        plain = clips.plain_caption(clip)
        assert clips.MOTIONS[clip.motion][0] in plain
        assert set(plain.split()) <= known
        assert clips.caption(clip, draw, drop=1.0) == ""
    said = [clips.caption(clip, draw) for clip in of_motion("up") for _ in range(20)]
    assert {phrase for phrase in clips.MOTIONS["up"] if any(phrase in text for text in said)} == set(
        clips.MOTIONS["up"]
    )
    assert any(not any(phrase in text for phrase in clips.MOTIONS["up"]) for text in said)


def test_a_clip_has_frames() -> None:
    with pytest.raises(ZooError, match="at least 2 frames, got 1"):
        clips.ClipMaker(WORLD, frames=1)
