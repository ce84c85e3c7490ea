"""The diffusion: noise schedule, v-prediction targets, loss weights and the scheduler that samples accordingly."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

STEPS = 1000


def scheduler() -> DDIMScheduler:
    """DDIM with v-prediction.

    Stable Diffusion's schedule with more noise at its end (0.02 instead of 0.012): the last step keeps 1.6 % of the
    signal, not 6.8 %, which on plain backgrounds would still give the colour away, and unlike zero terminal SNR every
    scheduler can divide by it.
    """
    return DDIMScheduler(
        num_train_timesteps=STEPS,
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def noised(latent: Tensor, noise: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The noisy latent and its v target; ``kept`` is the cumulative alpha of each sample, (batch,)."""
    kept = kept.view(-1, *[1] * (latent.ndim - 1))
    signal, spread = kept.sqrt(), (1 - kept).sqrt()
    return signal * latent + spread * noise, signal * noise - spread * latent


def weights(kept: Tensor, most: float) -> Tensor:
    """Loss weights for v: in terms of the clean image min(SNR + 1, most).

    Min-SNR (arXiv:2303.09556) with one change: it never falls below 1, because the noisiest steps decide the colour.
    """
    snr_and_one = 1 / (1 - kept)
    return snr_and_one.clamp(max=most) / snr_and_one


def spread_timesteps(count: int, generator: torch.Generator, exponent: float = 1.0) -> Tensor:
    """Random timesteps, one from each of ``count`` equal parts of the schedule, in random order: less noisy losses.

    An ``exponent`` below 1 favours noisy steps, where an image's content is decided by its caption: the density is
    proportional to ``t ** (1 / exponent - 1)``.
    """
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    order = torch.randperm(count, generator=generator)
    return (places**exponent * STEPS).long().clamp(max=STEPS - 1)[order]
