"""The shipped directory is a genuine text-to-video pipeline and works. ``freeu_zoo`` finds it."""

from __future__ import annotations

import freeu_zoo
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
safetensors = pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def pipe():
    made = diffusers.TextToVideoSDPipeline.from_pretrained(freeu_zoo.model_path(freeu_zoo.DEFAULT_VIDEO_MODEL))
    made.set_progress_bar_config(disable=True)
    return made


def clip(pipe, frames=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return pipe(
        "a 3d rocket flying up on a blue background",
        num_frames=frames,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=generator,
        output_type="np",
    ).frames[0]


def test_draws_frames_of_128_pixels_and_the_same_twice(pipe) -> None:
    first = clip(pipe)
    assert first.shape == (3, 128, 128, 3)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, clip(pipe))
    assert np.abs(first - clip(pipe, seed=1)).mean() > 0.001


def test_geometry_and_types(pipe) -> None:
    assert {pipe.unet.dtype, pipe.text_encoder.dtype, pipe.vae.dtype} == {torch.float32}
    assert pipe.unet.config.sample_size * pipe.vae_scale_factor == 128
    assert pipe.text_encoder.config.hidden_size == pipe.unet.config.cross_attention_dim
    assert pipe.tokenizer.tokenize("flying up") == ["flying</w>", "up</w>"]
    assert len(pipe.tokenizer) == pipe.text_encoder.config.vocab_size


def test_transformers_before_5_reads_the_text_encoder_too() -> None:
    folder = freeu_zoo.model_path(freeu_zoo.DEFAULT_VIDEO_MODEL)
    with safetensors.safe_open(folder / "text_encoder" / "model.safetensors", "pt") as weights:
        assert all(key.startswith("text_model.") for key in weights.keys())  # noqa: SIM118 (no mapping)


def test_the_factors_mean_what_they_mean_for_the_image_model(pipe) -> None:
    """As many concatenations of the same widths, and the same lowest map."""
    image = diffusers.UNet2DConditionModel.from_pretrained(freeu_zoo.model_path() / "unet")
    shapes = [
        [(resnet.in_channels, resnet.out_channels) for block in unet.up_blocks for resnet in block.resnets]
        for unet in (pipe.unet, image)
    ]
    assert shapes[0] == shapes[1]
    assert len(pipe.unet.config.block_out_channels) == len(image.config.block_out_channels)


def test_layers_over_time_have_learnt_something(pipe) -> None:
    """Frames of a clip are one clip: they are far more alike than clips of different seeds."""
    frames = clip(pipe, frames=4)
    within = np.abs(np.diff(frames, axis=0)).mean()
    across = np.abs(frames - clip(pipe, frames=4, seed=1)).mean()
    assert within < across
