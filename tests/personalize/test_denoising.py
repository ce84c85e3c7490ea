"""The loss: targets of each kind of prediction by their definition, min-SNR weights, what SDXL is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from tiny_pipelines import save_pipeline, tiny_unet

from freeu.errors import FreeUValueError
from freeu.personalize.training.denoising import Denoiser
from freeu.personalize.training.training import generator_of


def pipeline(folder: Path, prediction: str = "epsilon") -> Any:
    pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type=prediction)
    return pipe


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_error_by_definition(sd_dir: Path, prediction: str) -> None:
    pipe = pipeline(sd_dir, prediction)
    denoiser = Denoiser(pipe)
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embeddings = denoiser.encode_prompts(["a cat", "a dog"]).rows([0, 1, 1, 0])
        found = denoiser.loss(latents, embeddings, generator_of(0, "noise", 3))
    chance = generator_of(0, "noise", 3)
    times = denoiser.timesteps(4, chance)
    noise = torch.randn(latents.shape, generator=chance)
    kept = torch.cumprod(1 - torch.linspace(0.0001**0.5, 0.02**0.5, 1000) ** 2, 0)
    signal, spread = kept[times].sqrt().view(-1, 1, 1, 1), (1 - kept[times]).sqrt().view(-1, 1, 1, 1)
    target = {"epsilon": noise, "v_prediction": signal * noise - spread * latents, "sample": latents}[prediction]
    with torch.no_grad():
        words = pipe.encode_prompt(["a cat", "a dog", "a dog", "a cat"], "cpu", 1, False)[0]
        answer = pipe.unet(signal * latents + spread * noise, times, words).sample
    torch.testing.assert_close(found, (answer - target).square().mean(dim=(1, 2, 3)), rtol=1e-4, atol=1e-5)


def test_min_snr_weighs_the_clean_picture_alike(sd_dir: Path) -> None:
    """Whatever is predicted, the weighted error is min(SNR, gamma) times that of the clean image (section 3.4)."""
    times = torch.tensor([5, 200, 600, 990])
    kept = pipeline(sd_dir).scheduler.alphas_cumprod[times]
    snr = kept / (1 - kept)
    miss = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones(4)}  # error per error of the clean image
    for prediction, factor in miss.items():
        weights = Denoiser(pipeline(sd_dir, prediction), snr_gamma=5.0)._weights(times)
        torch.testing.assert_close(weights * factor, snr.clamp(max=5.0))


def test_timesteps_cover_the_schedule(sd_dir: Path) -> None:
    denoiser = Denoiser(pipeline(sd_dir))
    for batch in (1, 4, 10):
        times = denoiser.timesteps(batch, generator_of(0, batch))
        assert sorted((times * batch // 1000).tolist()) == list(range(batch))


def test_text_gradients_only_where_they_are_wanted(sd_dir: Path) -> None:
    denoiser = Denoiser(pipeline(sd_dir))
    assert denoiser.encode_prompts(["a cat"]).embeds.requires_grad
    assert not denoiser.encode_prompts(["a cat"]).detached().embeds.requires_grad


def test_bfloat16_is_near(sd_dir: Path) -> None:
    pipe = pipeline(sd_dir)
    latents = torch.randn(2, 4, 8, 8)
    errors = []
    for dtype in ("float32", "bfloat16"):
        denoiser = Denoiser(pipe, dtype=dtype)
        with torch.no_grad(), denoiser.autocast():
            errors.append(denoiser.loss(latents, denoiser.encode_prompts(["a cat"] * 2), generator_of(0)))
    torch.testing.assert_close(errors[1], errors[0], rtol=0.05, atol=0.0)
    assert not torch.equal(errors[1], errors[0])


def test_other_pipelines_are_refused(sd_dir: Path, tmp_path: Path) -> None:
    pipe = pipeline(sd_dir)
    parts = {**pipe.components, "unet": tiny_unet(in_channels=9)}
    with pytest.raises(FreeUValueError, match="StableDiffusionInpaintPipeline cannot be trained"):
        Denoiser(StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False))
    pipe.unet = tiny_unet(in_channels=9)
    with pytest.raises(FreeUValueError, match="takes 9 channels and the VAE has 4"):
        Denoiser(pipe)


def test_sdxl_is_told_sizes_and_pooled_words(tmp_path: Path) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from tiny_pipelines import tiny_text_encoder, tiny_tokenizer

    torch.manual_seed(0)
    unet = tiny_unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 16,
    )
    folder = save_pipeline(
        tmp_path / "xl",
        "StableDiffusionXLPipeline",
        unet=unet,
        text_encoder_2=tiny_text_encoder("CLIPTextModelWithProjection", projection_dim=16),
        tokenizer_2=tiny_tokenizer(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    )
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    denoiser = Denoiser(pipe)
    with torch.no_grad():
        embeddings = denoiser.encode_prompts(["a cat", "a dog"])
        assert embeddings.pooled is not None
        noisy, times = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
        found = denoiser.predict(noisy, times, embeddings)
        height = 8 * pipe.vae_scale_factor
        ids = pipe._get_add_time_ids((height, height), (0, 0), (height, height), torch.float32, 16).repeat(2, 1)
        known = {"text_embeds": embeddings.pooled, "time_ids": ids}
        wanted = pipe.unet(noisy, times, embeddings.embeds, added_cond_kwargs=known).sample
    torch.testing.assert_close(found, wanted)
    assert denoiser.loss(torch.randn(2, 4, 8, 8), embeddings, generator_of(0)).shape == (2,)
