"""Subject and ground, consistency of features, the motion that is asked for, and distances between sets of videos."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tolerances import DISTANCE

from freeu import evaluate
from freeu.errors import FreeUValueError
from freeu.evaluate import (
    MOTIONS,
    Judges,
    Movement,
    PromptSpec,
    frame_consistency,
    frechet_video_distance,
    kernel_distance,
    kernel_video_distance,
    measure_video,
    score_video_alignment,
    split_subject,
    subject_movement,
    video_features,
)
from freeu.evaluate.experiment.video_scoring import BLOCK, _blocks


def disc(x, y, radius, ground=(200, 180, 40), colour=(30, 60, 200), size=64):
    rows, columns = np.mgrid[:size, :size]
    frame = np.full((size, size, 3), ground, dtype=np.uint8)
    frame[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = colour
    return frame


def test_a_subject_is_cut_out_and_its_ground_filled():
    cut, empty = split_subject(disc(20, 40, 9))
    assert (empty == (200, 180, 40)).all()
    assert cut.shape[0] == cut.shape[1] < 40
    inside = (cut == (30, 60, 200)).all(axis=2)
    assert inside.sum() == pytest.approx(np.pi * 81, rel=0.1)
    assert (cut[~inside] == 128).all()
    # Where it stands does not matter, nor what is behind it.
    elsewhere, _ = split_subject(disc(44, 30, 9, ground=(240, 240, 240)))
    assert np.array_equal(elsewhere, cut)


def test_a_gradient_is_a_ground_and_clutter_is_none():
    gradient = np.repeat(np.linspace(0, 255, 64)[:, None, None], 64, axis=1).repeat(3, axis=2).astype(np.uint8)
    frame = np.where((disc(32, 32, 10) == (30, 60, 200)).all(axis=2, keepdims=True), np.uint8([255, 0, 0]), gradient)
    _, empty = split_subject(frame)
    assert np.abs(empty.astype(int) - gradient).max() <= 2
    assert split_subject(gradient) is None  # nobody there
    clutter = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert split_subject(clutter) is None


def test_no_public_name_is_hidden_by_a_file_of_that_name():
    files = {path.stem for path in Path(evaluate.__file__).parent.glob("*.py")}
    assert not files & set(evaluate.__all__)


def test_consistency_by_hand():
    assert frame_consistency(np.ones((4, 3))) == pytest.approx(1.0)
    # To the first: 0, 1; to the one before: 0, 0.
    assert frame_consistency([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]) == pytest.approx((0 + 1 + 0 + 0) / 4)
    with pytest.raises(FreeUValueError, match="at least 2"):
        frame_consistency(np.ones((1, 3)))
    with pytest.raises(FreeUValueError, match="no direction"):
        frame_consistency(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("movement", "kind"),
    [
        (Movement(0.0, 0.0, 0.0), "still"),
        (Movement(0.3, 0.1, 0.0), "right"),
        (Movement(-0.3, 0.1, 0.0), "left"),
        (Movement(0.1, 0.3, 0.02), "down"),
        (Movement(0.1, -0.3, 0.0), "up"),
        (Movement(0.01, 0.02, 0.2), "growing"),
        (Movement(0.01, 0.02, -0.2), "shrinking"),
    ],
)
def test_kinds_of_movement(movement, kind):
    assert movement.kind == kind
    assert kind in MOTIONS


def test_agreement_of_directions():
    assert Movement(0.3, 0.0, 0.0).agreement("right") == pytest.approx(1.0)
    assert Movement(0.3, 0.3, 0.0).agreement("up") == pytest.approx(-np.sqrt(0.5))
    assert Movement(0.01, 0.0, 0.0).agreement("right") == 0.0
    assert Movement(0.3, 0.0, 0.0).agreement("growing") is None


def test_the_motion_of_real_clips_is_read_from_their_frames():
    """At least nine in ten; see docs/evaluate.md for what more of them gave."""
    pytest.importorskip("freeu_zoo")
    from freeu_zoo.recipe import shipped
    from freeu_zoo.world.clips import ClipMaker, images

    maker = ClipMaker(shipped("mini-modelscope").world, seed=4)
    clips = [maker.clip(number) for number in range(28)]
    assert {clip.motion for clip in clips} == set(MOTIONS)
    right = [subject_movement(list(map(np.asarray, images(clip)))).kind == clip.motion for clip in clips]
    assert np.mean(right) >= 0.9


def test_what_is_consistent_in_a_real_clip():
    """Shrinking lowers the consistency of whole frames only; another subject, or ground, that of its own."""
    pytest.importorskip("freeu_zoo")
    from freeu_zoo.recipe import shipped
    from freeu_zoo.world.clips import ClipMaker
    from freeu_zoo.world.scenes import compose

    from freeu.evaluate import CLIP, judge_path

    judges = Judges(clip=CLIP(judge_path()))
    maker = ClipMaker(shipped("mini-modelscope").world, seed=9000)
    clip = next(found for number in range(99) if (found := maker.clip(number)).motion == "shrinking")
    other = maker.clip(501).scene
    (thing,) = clip.frames[0].things

    def changed(**fields):
        late = [dataclasses.replace(scene, **fields) for scene in clip.frames[4:]]
        return measure_video([np.asarray(compose(scene)) for scene in (*clip.frames[:4], *late)], judges).values

    plain = changed()
    assert plain["subject_consistency"] > plain["frame_consistency"] + 0.02
    assert plain["background_consistency"] > 0.99
    renamed = dataclasses.replace(thing, noun=other.things[0].noun, colour="red")
    swapped = changed(things=(renamed,))
    assert swapped["subject_consistency"] < plain["subject_consistency"] - 0.05
    assert swapped["background_consistency"] > 0.99
    moved = changed(background=("white",) if clip.frames[0].background != ("white",) else ("grey",))
    assert moved["background_consistency"] < plain["background_consistency"] - 0.02


def test_features_of_a_clip_see_direction_and_unrest():
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(8, 5)).cumsum(axis=0)
    mean, drift, unrest = video_features(frames).reshape(3, 5)
    backwards = video_features(frames[::-1]).reshape(3, 5)
    np.testing.assert_allclose(backwards, [mean, -drift, unrest], atol=1e-12)
    np.testing.assert_allclose(mean, frames.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(unrest, np.abs(np.diff(frames, axis=0)).mean(axis=0), atol=1e-12)
    assert not np.any(video_features(np.ones((3, 5)))[5:])
    with pytest.raises(FreeUValueError, match="at least 2"):
        video_features(frames[:1])


def test_distances_between_sets_of_clips():
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=(30, 8, 4)).cumsum(axis=1) for _ in range(2))
    assert frechet_video_distance(one, one) == pytest.approx(0.0, abs=1e-6)
    assert kernel_video_distance(one, two) == pytest.approx(
        kernel_distance([video_features(clip) for clip in one], [video_features(clip) for clip in two]), rel=DISTANCE
    )
    # Frames in another order: the same images, another video.
    mixed = np.array([clip[rng.permutation(8)] for clip in two])
    for distance in (frechet_video_distance, kernel_video_distance):
        assert distance(one, mixed) > 2.0 * max(distance(one, two), 0.0)
    with pytest.raises(FreeUValueError, match="same features"):
        frechet_video_distance(one, [*two[:5], two[5][:, :3]])


def test_a_clip_is_scored_in_blocks_as_at_once():
    frames = [disc(10 + step, 30, 8) for step in range(BLOCK + 9)]
    assert [len(block) for block in _blocks(frames)] == [BLOCK, 9]
    assert [len(block) for block in _blocks(frames[: BLOCK + 1])] == [BLOCK + 1]
    seen = measure_video(iter(frames))
    assert seen.movement.right == pytest.approx(subject_movement(frames).right)
    assert seen.movement.kind == "right"
    assert seen.values["frame_consistency"] is None
    assert (seen.features, seen.readings) == (None, None)
    with pytest.raises(FreeUValueError, match="at least 2 frames, got 1"):
        measure_video(frames[:1])


@dataclasses.dataclass
class Told:
    """A reading of a frame."""

    nouns: tuple[str, ...] = ("fox",)
    count: int = 1
    style: str = "3d"
    background: tuple[str, ...] = ("blue",)
    colours: tuple[str | None, ...] = (None,)
    relation: str | None = None


def test_alignment_of_a_clip():
    class Reader:
        nouns, styles, colours = ("fox", "cat"), ("3d",), ("blue",)

        def read(self, pictures):
            assert all(isinstance(picture, Image.Image) for picture in pictures)
            return [Told(), Told(), Told(("cat",)), Told()][: len(pictures)]

    spec = PromptSpec(nouns=("fox",), count=1, style="3d", background=("blue",), motion="right")
    seen = measure_video([disc(10 + 6 * step, 30, 8) for step in range(4)], Judges(reader=Reader()))
    found = score_video_alignment(spec, seen)
    assert (found["noun_strict"], found["style"], found["all_asked"]) == (0.75, 1.0, 0.75)
    assert (found["motion"], found["clip_right"], found["relation"]) == (1.0, 0.0, None)
    assert found["motion_agreement"] == pytest.approx(1.0, abs=0.01)
    assert score_video_alignment(PromptSpec(motion="up"), seen)["motion"] == 0.0
    assert score_video_alignment(PromptSpec(style="3d"), seen)["clip_right"] == 1.0
    assert PromptSpec.from_dict(spec.to_dict()) == spec
    assert "motion" not in PromptSpec(style="3d").to_dict()
    with pytest.raises(FreeUValueError, match="unknown motion 'rihgt': did you mean right"):
        PromptSpec(motion="rihgt")
