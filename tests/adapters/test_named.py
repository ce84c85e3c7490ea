"""What named families do beyond the contract of test_contract.py: models around a U-Net, and layers of other shapes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from foreign_unets import FOREIGN, Foreign, empty_modules, noise
from tiny_pipelines import tiny_text_encoder
from torch import nn
from unet_classes import CLASSES
from unet_contract import CHECKS, FACTORS

import freeu
from freeu.errors import FreeURuntimeError, NoSitesError


def built(row: Foreign) -> nn.Module:
    try:
        return row.build()
    except ImportError as error:
        pytest.skip(f"{row.module} is not installed: {error}")


def class_of(module: str, name: str) -> Any:
    try:
        with empty_modules():
            return getattr(importlib.import_module(module), name)
    except ImportError as error:
        pytest.skip(f"{module} is not installed: {error}")


AROUND = {
    "denoising-diffusion-pytorch Unet": (
        "denoising_diffusion_pytorch.denoising_diffusion_pytorch",
        "GaussianDiffusion",
        {"image_size": 16, "timesteps": 4},
    ),
    "video-diffusion-pytorch Unet3D": (
        "video_diffusion_pytorch.video_diffusion_pytorch",
        "GaussianDiffusion",
        {"image_size": 16, "num_frames": 4, "timesteps": 4},
    ),
    "k-diffusion ImageDenoiserModelV1": ("k_diffusion.layers", "Denoiser", {"sigma_data": 0.5}),
}


@pytest.mark.parametrize("family", AROUND)
def test_a_model_around_a_unet_is_looked_through(family: str) -> None:
    unet = built(FOREIGN[family])
    module, name, options = AROUND[family]
    whole = class_of(module, name)(unet, **options)
    with freeu.enabled(whole, **FACTORS) as handle:
        assert handle.model is unet
    assert freeu.active(whole) == ()


def test_stable_cascade_is_scheduled_through_its_pipeline() -> None:
    from diffusers import DDPMWuerstchenScheduler, StableCascadePriorPipeline

    row = CLASSES["diffusers StableCascadeUNet"]
    options = {**row.options, "clip_text_in_channels": 16, "clip_image_in_channels": 16}
    prior: Any = built(Foreign(row.family, row.module, row.name, options, row.args, row.sites))
    text_encoder = tiny_text_encoder("CLIPTextModelWithProjection")
    pipe = StableCascadePriorPipeline(
        tokenizer=None, text_encoder=text_encoder, prior=prior, scheduler=DDPMWuerstchenScheduler()
    )
    pipe.set_progress_bar_config(disable=True)
    texts = {
        f"{kind}prompt_embeds{pooled}": noise(1, 1, 16) for kind in ("", "negative_") for pooled in ("", "_pooled")
    }

    def run() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        out = pipe(**texts, height=512, width=512, num_inference_steps=4, generator=generator, output_type="pt")
        found: torch.Tensor = out.image_embeddings
        return found

    before = run()
    assert freeu.recommend(pipe) == freeu.preset("sd14-v1")
    with freeu.enabled(pipe, end=0.5) as handle:
        changed = run()
        assert set(handle.verify().values()) == {2}
    assert not torch.equal(changed, before)
    assert torch.equal(run(), before)
    with pytest.raises(FreeURuntimeError, match="apply FreeU to the pipeline"):
        freeu.apply(prior, end=0.5)


def test_residual_blocks_that_resample() -> None:
    row = FOREIGN["guided-diffusion UNetModel (ADM)"]
    changed = Foreign(row.family, row.module, row.name, {**row.options, "resblock_updown": True}, row.args, row.sites)
    model = built(changed)
    for name in ("sites", "auto equals named", "v2"):
        assert CHECKS[name](changed, model)
    # A block ends where the resolution changes, as in diffusers.
    assert [site.block for site in freeu.inspect(model)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_profile_diffusers_means_the_same_blocks() -> None:
    """The first two levels, unless diffusers' class of that level has no FreeU."""
    touched = {
        name: [site.path for site in freeu.inspect(built(FOREIGN[name])).touched("diffusers")]
        for name in ("CompVis UNetModel", "guided-diffusion UNetModel (ADM)")
    }
    assert touched["CompVis UNetModel"] == [f"output_blocks.{number}" for number in range(6)]
    assert touched["guided-diffusion UNetModel (ADM)"] == [f"output_blocks.{number}" for number in range(3)]


def test_layers_that_do_not_fit_their_family() -> None:
    model: Any = built(FOREIGN["CompVis UNetModel"])
    model.output_blocks[1] = model.middle_block
    with pytest.raises(NoSitesError, match=r"output_blocks.1 takes 128 channels of which 128 come up the decoder"):
        freeu.apply(model, **FACTORS)


def test_an_encoder_alone_is_refused() -> None:
    row = FOREIGN["guided-diffusion UNetModel (ADM)"]
    options = {**row.options, "pool": "adaptive"}
    model = class_of(row.module, "EncoderUNetModel")(**options)
    with pytest.raises(
        NoSitesError, match=r"KarrasUnet3D, Unet, .*UNetModel of CompVis, sgm, guided-diffusion, ComfyUI\. "
    ):
        freeu.apply(model, **FACTORS)
    with pytest.raises(NoSitesError, match="concatenates nothing along channels"):
        freeu.apply(model, **FACTORS, example_args=row.args())


def test_frames_of_a_video_unet_of_comfyui() -> None:
    """They are samples in a row, and one argument says how many."""
    row = FOREIGN["ComfyUI UNetModel"]
    options = {
        **row.options,
        "use_temporal_resblock": True,
        "merge_strategy": "learned_with_images",
        "video_kernel_size": [3, 1, 1],
    }
    changed = Foreign(row.family, row.module, row.name, options, row.args, row.sites, make=row.make, ready=row.ready)
    model = built(changed)
    x, time = noise(4, 4, 16, 16), torch.full((4,), 500)
    context = noise(4, 7, 12)

    def run() -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model(
                x, time, context=context, num_video_frames=2, image_only_indicator=torch.zeros(2, 2)
            )
            return found

    with freeu.enabled(model, **FACTORS):
        each = run()
    with freeu.enabled(model, **FACTORS, over_time="clip"):
        assert not torch.equal(run(), each)
    assert freeu.inspect(model).sites[0].block_type == "UpBlockSpatioTemporal"
