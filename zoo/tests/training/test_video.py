"""The machinery that trains a video model, made tiny."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 (these imports need what is skipped for)
pytest.importorskip("diffusers")

from diffusers import UNet2DConditionModel, UNet3DConditionModel
from freeu_zoo import model_path, recipe
from freeu_zoo.errors import ZooError
from freeu_zoo.training import video
from transformers import CLIPTextModel, CLIPTokenizer


@pytest.fixture
def tiny() -> recipe.Recipe:
    return recipe.smoke(recipe.shipped("mini-modelscope"))


@pytest.fixture
def whole() -> recipe.Recipe:
    """The shipped widths, so that the shipped image model fits, at a small batch."""
    shipped = recipe.shipped("mini-modelscope")
    return dataclasses.replace(
        shipped,
        unet=dataclasses.replace(shipped.unet, batch=2),
        video=dataclasses.replace(shipped.video, frames=4, short=3, short_samples=4),
    )


@pytest.fixture
def parent(model_folder):
    return video.Parent(model_folder)


def test_at_first_a_clip_is_so_many_pictures_of_the_image_model(whole, parent) -> None:
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


def test_known_words_keep_their_meaning(whole, parent) -> None:
    tokenizer, encoder = video.build_text(whole)
    encoder.load_state_dict(parent.encoder(tokenizer, encoder.state_dict()))
    before = CLIPTextModel.from_pretrained(parent.folder / "text_encoder").eval()
    words = CLIPTokenizer.from_pretrained(parent.folder / "tokenizer")
    asked = ["a 3d fox on a blue background", "xylophone!"]
    one = words(asked, padding="max_length", return_tensors="pt").input_ids
    two = tokenizer(asked, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(two).last_hidden_state, before(one).last_hidden_state, rtol=0, atol=0)
    assert tokenizer.tokenize("flying up") == ["flying</w>", "up</w>"]


def test_resumed_run_equals_an_unbroken_one(whole, parent, tmp_path) -> None:
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
        torch.testing.assert_close(second.ema[name], value, rtol=0, atol=0)


def test_a_second_lesson_begins_with_all_of_the_first(whole, tmp_path) -> None:
    pytest.importorskip("freeu_zoo_video")
    first = video.Parent(model_path("mini-modelscope"))
    made = video.Trainer(whole, video.load_coder(first.coder), tmp_path, lambda line: None)
    made.start_from(first)
    for name, before in (
        ("unet", UNet3DConditionModel.from_pretrained(first.folder / "unet", dtype=torch.float32)),
        ("text", CLIPTextModel.from_pretrained(first.folder / "text_encoder")),
    ):
        now = made.parts[name].state_dict()
        for key, value in before.state_dict().items():
            torch.testing.assert_close(now[key], value, rtol=0, atol=0)


def test_a_model_of_other_widths_is_refused(tiny, parent, tmp_path) -> None:
    made = video.Trainer(tiny, video.load_coder(parent.coder), tmp_path, lambda line: None)
    with pytest.raises(ZooError, match="no image or video model of the widths"):
        made.start_from(parent)
    with pytest.raises(ZooError, match="no image or video model in"):
        video.Parent(tmp_path)
