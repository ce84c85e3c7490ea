"""The mathematics of latent consistency distillation (Luo et al. 2023, arXiv:2310.04378), for v-prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from freeu_zoo.training.diffusion import STEPS

SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0
"""Constants of the boundary scalings; ``LCMScheduler`` of diffusers has the same, so a sampler agrees with training."""


def scalings(times: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out of timesteps (batch,), each (batch, 1, 1, 1): 1 and 0 at timestep 0 (paper, Sec. 4.1)."""
    scaled = times.float().view(-1, 1, 1, 1) * TIMESTEP_SCALING
    norm = scaled.square() + SIGMA_DATA**2
    return SIGMA_DATA**2 / norm, scaled / norm.sqrt()


def consistency(noisy: Tensor, v: Tensor, times: Tensor, kept: Tensor) -> Tensor:
    """The consistency function f(z, t) = c_skip z + c_out x_0: where the path through z at t begins (paper, Sec. 4.1).

    Args:
        noisy: latents z (batch, channels, height, width).
        v: what the network predicts for them.
        times: timesteps (batch,), 0..999.
        kept: the schedule's cumulative alphas (1000,).
    """
    skip, out = scalings(times)
    clean, _ = split(noisy, v, kept[times])
    return skip * noisy + out * clean


def split(noisy: Tensor, v: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The clean latent and the noise that a v-prediction stands for; ``kept`` is (batch,)."""
    signal, spread = kept.sqrt().view(-1, 1, 1, 1), (1 - kept).sqrt().view(-1, 1, 1, 1)
    return signal * noisy - spread * v, spread * noisy + signal * v


def ddim(noisy: Tensor, v: Tensor, times: Tensor, ends: Tensor, kept: Tensor) -> Tensor:
    """One step of the DDIM solver (arXiv:2010.02502, eta = 0) from ``times`` to ``ends``, both (batch,)."""
    clean, noise = split(noisy, v, kept[times])
    after = kept[ends].view(-1, 1, 1, 1)
    return after.sqrt() * clean + (1 - after).sqrt() * noise


def solver_times(steps: int) -> Tensor:
    """The timesteps of a solver of ``steps`` steps, ascending: k - 1, 2k - 1, ..., with k = 1000 // steps.

    They are those of ``LCMScheduler(original_inference_steps=steps)``, and of trailing DDIM where k divides 1000.
    """
    return torch.arange(1, steps + 1) * (STEPS // steps) - 1


def solver_ends(times: Tensor, steps: int) -> Tensor:
    """Where the solver's step from each of its timesteps leads: k timesteps on, at the end to timestep 0."""
    return (times - STEPS // steps).clamp(min=0)


def guidance_embedding(weight: Tensor, width: int) -> Tensor:
    """The embedding (batch, width) of guidance weights w (batch,), float32; w is the CFG scale - 1.

    It equals ``get_guidance_scale_embedding`` of diffusers' pipelines; ``width`` is even.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10_000.0)) / (half - 1))).to(weight.device)
    angles = (weight.float() * 1000.0)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def pseudo_huber(found: Tensor, wanted: Tensor, width: float) -> Tensor:
    """The mean pseudo-Huber distance sqrt(d^2 + c^2) - c; for c near 0 that is |d| (arXiv:2310.14189)."""
    return ((found - wanted).square() + width**2).sqrt().sub(width).mean()
