"""The shipped directory is a genuine Stable Diffusion and works; warnings are errors here."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
safetensors = pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def pipe(model_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = diffusers.StableDiffusionPipeline.from_pretrained(model_folder)
    made.set_progress_bar_config(disable=True)
    return made


def picture(pipe, prompt="a 3d fox on a blue background", seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    options = {"num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np"} | options
    return pipe(prompt, generator=generator, **options).images[0]


def test_draws_128_pixels_and_the_same_twice(pipe) -> None:
    first = picture(pipe)
    assert first.shape == (128, 128, 3)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, picture(pipe))
    assert np.abs(first - picture(pipe, seed=1)).mean() > 0.001


def test_one_type_throughout(pipe) -> None:
    assert {pipe.unet.dtype, pipe.text_encoder.dtype, pipe.vae.dtype} == {torch.float32}


def test_transformers_before_5_reads_the_text_encoder_too(model_folder) -> None:
    with safetensors.safe_open(model_folder / "text_encoder" / "model.safetensors", "pt") as weights:
        assert all(key.startswith("text_model.") for key in weights.keys())  # noqa: SIM118 (no mapping)


def test_geometry(pipe) -> None:
    assert pipe.vae_scale_factor == 4
    assert pipe.unet.config.sample_size * pipe.vae_scale_factor == 128
    assert pipe.text_encoder.config.hidden_size == pipe.unet.config.cross_attention_dim
    assert pipe.text_encoder.config.max_position_embeddings == pipe.tokenizer.model_max_length


def test_nine_decoder_concats_of_widths_one_two_four(pipe) -> None:
    """What gives FreeU's factors their meaning: backbones of 4, 2 and 1 times the smallest width."""
    seen = []

    def look(module, arguments):
        seen.append(arguments[0].shape[1])

    layers = [resnet for block in pipe.unet.up_blocks for resnet in block.resnets]
    assert len(layers) == 9
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        picture(pipe, num_inference_steps=1)
    finally:
        for hook in hooks:
            hook.remove()
    narrow = pipe.unet.config.block_out_channels[0]
    skips = [4, 4, 2, 2, 2, 1, 1, 1, 1]
    backbones = [width // narrow - skip for width, skip in zip(seen, skips, strict=True)]
    assert backbones == [4, 4, 4, 4, 2, 2, 2, 1, 1]


@pytest.mark.parametrize(
    "text", ["", "A 3D Fox!", "zxq @#~ \\ `\t\n 12345", "naïve 字 🦊", "a " * 200, "<|endoftext|>"]
)
def test_tokenizer_takes_any_text(pipe, text) -> None:
    ids = pipe.tokenizer(text, padding="max_length", truncation=True, max_length=32, return_tensors="pt").input_ids
    assert ids.shape == (1, 32)
    assert ids[0, 0] == pipe.tokenizer.bos_token_id
    assert int(ids.max()) < pipe.text_encoder.config.vocab_size


def test_known_words_are_one_token_and_case_does_not_matter(pipe) -> None:
    tokens = pipe.tokenizer.tokenize("A Fox on a BLUE background")
    assert tokens == ["a</w>", "fox</w>", "on</w>", "a</w>", "blue</w>", "background</w>"]


def test_slow_tokenizer_files_agree(model_folder, pipe) -> None:
    import json

    vocabulary = json.loads((model_folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    assert vocabulary == pipe.tokenizer.get_vocab()
    merges = (model_folder / "tokenizer" / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert len(vocabulary) == 512 + len(merges) + 2


def test_the_autoencoder_gives_a_plain_picture_back(pipe) -> None:
    with torch.no_grad():
        picture = torch.zeros(1, 3, 128, 128)
        picture[:, 0] = 0.5
        latent = pipe.vae.encode(picture).latents
        assert latent.shape == (1, 4, 32, 32)
        error = (pipe.vae.decode(latent).sample - picture).square().mean()
    assert 10 * torch.log10(4 / error) > 25


@pytest.mark.parametrize("kind", ["AutoPipelineForImage2Image", "AutoPipelineForInpainting"])
def test_other_pipelines_load_from_it(model_folder, kind) -> None:
    other = getattr(diffusers, kind).from_pretrained(model_folder)
    other.set_progress_bar_config(disable=True)
    start = torch.zeros(1, 3, 128, 128) + 0.5
    more = {"mask_image": torch.ones(1, 1, 128, 128)} if kind.endswith("Inpainting") else {}
    more |= {"height": 128, "width": 128} if more else {}
    images = other("a flat cat", image=start, strength=1.0, num_inference_steps=2, output_type="np", **more).images
    assert images.shape == (1, 128, 128, 3)
    assert np.isfinite(images).all()
