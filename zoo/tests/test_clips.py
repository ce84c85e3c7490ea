"""Clips, their captions and prompts, and the machinery that trains and exports a video model, made tiny."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
from freeu_zoo import captions, clips, prompts, recipe, scenes
from freeu_zoo.errors import ZooError
from PIL import Image, ImageSequence

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


def test_prompts_for_clips_and_the_clips_themselves(tmp_path) -> None:
    arguments = [str(tmp_path / "p.jsonl"), "--clips", "--count", "14", "--scenes", str(tmp_path / "real")]
    assert prompts.main(arguments) == 0
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    made = prompts.clips_of(recipe.shipped("mini-modelscope"), 14)
    assert [row["asked"]["motion"] for row in rows] == list(clips.MOTIONS) * 2
    for number, (row, clip) in enumerate(zip(rows, made, strict=True)):
        assert clip.held_out()
        assert any(phrase in row["prompt"] for phrase in clips.MOTIONS[clip.motion])
        with Image.open(tmp_path / "real" / f"{number:04}.png") as picture:
            assert picture.info["duration"] == 125
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
        np.testing.assert_array_equal(frames, [np.asarray(frame) for frame in clips.pictures(clip)])


@pytest.mark.parametrize("arguments", [["--clips", "--recipe", "mini-sd"], ["--recipe", "mini-modelscope"]])
def test_clips_go_with_a_video_recipe(tmp_path, capsys, arguments) -> None:
    assert prompts.main([str(tmp_path / "p.jsonl"), *arguments]) == 2
    assert "--clips goes with a recipe of kind video" in capsys.readouterr().err


def test_a_clip_has_frames() -> None:
    with pytest.raises(ZooError, match="at least 2 frames, got 1"):
        clips.ClipMaker(WORLD, frames=1)


class TestTraining:
    """What needs torch and diffusers."""

    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")

    @pytest.fixture
    def tiny(self) -> recipe.Recipe:
        return recipe.smoke(recipe.shipped("mini-modelscope"))

    @pytest.fixture
    def whole(self) -> recipe.Recipe:
        """The shipped widths, so that the shipped image model fits, at a small batch."""
        shipped = recipe.shipped("mini-modelscope")
        return dataclasses.replace(
            shipped,
            unet=dataclasses.replace(shipped.unet, batch=2),
            video=dataclasses.replace(shipped.video, frames=4, short=3, short_samples=4),
        )

    @pytest.fixture
    def parent(self, model_folder):
        from freeu_zoo.video import Parent

        return Parent(model_folder)

    def test_at_first_a_clip_is_so_many_pictures_of_the_image_model(self, whole, parent) -> None:
        from diffusers import UNet2DConditionModel
        from freeu_zoo import video

        torch = self.torch
        network = video.build(whole)
        network.load_state_dict(parent.weights(), strict=False)
        config = dict(UNet2DConditionModel.load_config(parent.folder / "unet"))
        config["attention_head_dim"] = tuple(width // whole.video.head_width for width in whole.unet.widths)
        image = UNet2DConditionModel.from_config(config)
        image.load_state_dict(UNet2DConditionModel.from_pretrained(parent.folder / "unet").state_dict())
        network.eval(), image.eval()
        latent, words = torch.randn(1, 4, 3, 32, 32), torch.randn(1, 5, 128)
        with torch.no_grad():
            got = network(latent, torch.tensor([400]), words).sample
            want = [image(latent[:, :, frame], torch.tensor([400]), words).sample for frame in range(3)]
        torch.testing.assert_close(got, torch.stack(want, dim=2), rtol=1e-3, atol=1e-4)

    def test_known_words_keep_their_meaning(self, whole, parent) -> None:
        from freeu_zoo import video
        from transformers import CLIPTextModel, CLIPTokenizer

        torch = self.torch
        tokenizer, encoder = video.build_text(whole)
        encoder.load_state_dict(parent.encoder(tokenizer, encoder.state_dict()))
        before = CLIPTextModel.from_pretrained(parent.folder / "text_encoder").eval()
        words = CLIPTokenizer.from_pretrained(parent.folder / "tokenizer")
        asked = ["a 3d fox on a blue background", "xylophone!"]
        one = words(asked, padding="max_length", return_tensors="pt").input_ids
        two = tokenizer(asked, padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            torch.testing.assert_close(
                encoder.eval()(two).last_hidden_state, before(one).last_hidden_state, rtol=0, atol=0
            )
        assert tokenizer.tokenize("flying up") == ["flying</w>", "up</w>"]

    def test_resumed_run_equals_an_unbroken_one(self, whole, parent, tmp_path) -> None:
        from freeu_zoo import video

        def trainer(home):
            made = video.Trainer(whole, video.load_coder(parent.coder), home, lambda line: None)
            if not made.resume():
                made.start_from(parent)
            return made

        unbroken = trainer(tmp_path / "a")
        losses = [unbroken.train_step() for _ in range(3)]
        rates = [group["lr"] for group in unbroken.optimizer.param_groups]
        assert rates[1] == pytest.approx(whole.video.spatial_rate * rates[0])
        first = trainer(tmp_path / "b")
        again = [first.train_step() for _ in range(2)]
        first.save()
        second = trainer(tmp_path / "b")
        again.append(second.train_step())
        assert again == losses
        assert np.isfinite(losses).all()
        for name, value in unbroken.ema.items():
            self.torch.testing.assert_close(second.ema[name], value, rtol=0, atol=0)

    def test_a_second_lesson_begins_with_all_of_the_first(self, whole, tmp_path) -> None:
        from diffusers import UNet3DConditionModel
        from freeu_zoo import model_path, video
        from transformers import CLIPTextModel

        first = video.Parent(model_path("mini-modelscope"))
        made = video.Trainer(whole, video.load_coder(first.coder), tmp_path, lambda line: None)
        made.start_from(first)
        for name, before in (
            ("unet", UNet3DConditionModel.from_pretrained(first.folder / "unet", dtype=self.torch.float32)),
            ("text", CLIPTextModel.from_pretrained(first.folder / "text_encoder")),
        ):
            now = made.parts[name].state_dict()
            for key, value in before.state_dict().items():
                self.torch.testing.assert_close(now[key], value, rtol=0, atol=0)

    def test_a_model_of_other_widths_is_refused(self, tiny, parent, tmp_path) -> None:
        from freeu_zoo import video

        made = video.Trainer(tiny, video.load_coder(parent.coder), tmp_path, lambda line: None)
        with pytest.raises(ZooError, match="no image or video model of the widths"):
            made.start_from(parent)
        with pytest.raises(ZooError, match="no image or video model in"):
            video.Parent(tmp_path)
