"""Gradients of a judge's score with respect to the factors of single sites, against differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import freeu
from freeu.errors import FreeUValueError
from freeu.tuning.gradients import site_gradients

PROMPT = "a 3d fox on a blue background"
SETTINGS: dict[str, Any] = {"steps": 4, "guidance": 3.0, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def pipe() -> Any:
    freeu_zoo = pytest.importorskip("freeu_zoo")
    from diffusers import StableDiffusionPipeline

    found = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path("mini-sd"))
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="module")
def clip() -> Any:
    pytest.importorskip("freeu_zoo")
    from freeu.evaluate import CLIP, judge_path

    return CLIP(judge_path())


def score(pipe: Any, clip: Any, sites: dict[str, tuple[float, float]]) -> float:
    """The CLIP score of the image that the third step's prediction points to, with FreeU in that step alone."""
    scheduler, seen = pipe.scheduler, []

    def look(_unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        seen.append((args[0], args[1] if len(args) > 1 else kwargs["timestep"], kwargs, args))

    hook = pipe.unet.register_forward_hook(look, with_kwargs=True)
    pipe(
        PROMPT,
        num_inference_steps=4,
        guidance_scale=3.0,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    )
    hook.remove()
    sample, timestep, kwargs, args = seen[2]
    with torch.no_grad(), freeu.enabled(pipe.unet, freeu.FreeUConfig(sites=sites, version=2)):
        u, c = pipe.unet(*args, **kwargs)[0].chunk(2)
    v = u + 3.0 * (c - u)
    alpha = scheduler.alphas_cumprod[int(timestep)]
    latents = alpha.sqrt() * sample[:1] - (1 - alpha).sqrt() * v
    with torch.no_grad():
        image = (pipe.vae.decode(latents / pipe.vae.config.scaling_factor)[0] / 2 + 0.5).clamp(0, 1)
        features = clip.pixel_features(image)
    return 100.0 * float((features.double() * torch.from_numpy(clip.text_features([PROMPT]))).sum())


def test_a_gradient_is_what_small_changes_do(pipe: Any, clip: Any) -> None:
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    found = site_gradients(pipe, clip, [PROMPT], at=(0.5,), **SETTINGS)
    assert len(found) == 9
    assert [one.strength for one in found] == sorted((one.strength for one in found), reverse=True)
    step = 0.02
    for one in (found[0], found[1]):
        for factor, gradient in (("b", one.b), ("s", one.s)):
            up, down = (
                score(pipe, clip, {one.path: (1.0 + by, 1.0) if factor == "b" else (1.0, 1.0 + by)})
                for by in (step, -step)
            )
            assert gradient == pytest.approx((up - down) / (2 * step), rel=0.05, abs=0.02)
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in pipe.unet.state_dict().items())


def test_features_of_pixels_are_those_of_images(clip: Any) -> None:
    from PIL import Image

    pixels = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.avg_pool2d(pixels, 5, 1, 2)  # smooth, as images are
    images = [Image.fromarray((one.permute(1, 2, 0) * 255).round().byte().numpy()) for one in pixels]
    features = clip.pixel_features(pixels).detach().numpy()
    assert (features * clip.image_features(images)).sum(1).min() > 0.99


def test_bad_input(pipe: Any, clip: Any) -> None:
    with pytest.raises(FreeUValueError, match="need prompts"):
        site_gradients(pipe, clip, [], **SETTINGS)
    with pytest.raises(FreeUValueError, match="use a CFG scale above 1"):
        site_gradients(pipe, clip, [PROMPT], **{**SETTINGS, "guidance": 1.0})
