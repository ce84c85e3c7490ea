"""A tiny Stable Diffusion of random weights, and videos whose motion is known."""

from __future__ import annotations

from typing import Any

import pytest


def tiny_pipe(**parts: Any) -> Any:
    """A StableDiffusionPipeline of random weights, latents half as large as images; ``parts`` replace components."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from tiny_pipelines import tiny_text_encoder, tiny_tokenizer, tiny_unet, tiny_vae

    torch.manual_seed(0)
    whole: dict[str, Any] = {
        "vae": tiny_vae(),
        "text_encoder": tiny_text_encoder(),
        "tokenizer": tiny_tokenizer(),
        "unet": tiny_unet(),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipe = StableDiffusionPipeline(**whole | parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def make_pipe() -> Any:
    """``tiny_pipe``."""
    return tiny_pipe


@pytest.fixture(scope="session")
def pipe() -> Any:
    """One that nobody changes for good."""
    return tiny_pipe()


@pytest.fixture(scope="session")
def film() -> Any:
    """Four frames of 32x32 that slide by 2 pixels."""
    pytest.importorskip("cv2")
    from made_clips import sliding

    return sliding(2, 0, 4, 32)


@pytest.fixture(scope="session")
def mini() -> Any:
    """The embedded Stable Diffusion."""
    pytest.importorskip("freeu_zoo")
    from freeu.pipelines.models.loading import load
    from freeu.pipelines.models.sources.sources import find_model

    return load(find_model(None)).pipe


@pytest.fixture(scope="session")
def scenes() -> Any:
    """Two frames of 128x128: a panda that slides by 5 pixels before a ground with some grain."""
    pytest.importorskip("freeu_zoo")
    cv2 = pytest.importorskip("cv2")
    import numpy as np
    from freeu_zoo.subjects import examples
    from freeu_zoo.world.scenes import compose

    picture = np.asarray(compose(examples("panda", "3d", 1, 0)[0])).astype(np.float32)
    wide = np.pad(picture, ((0, 0), (8, 8), (0, 0)), mode="reflect")
    grain = np.random.default_rng(0).normal(0.0, 10.0, (wide.shape[0] // 4, wide.shape[1] // 4)).astype(np.float32)
    wide += cv2.resize(grain, wide.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    return [wide[:, start : start + 128].clip(0, 255).astype(np.uint8) for start in (5, 10)]
