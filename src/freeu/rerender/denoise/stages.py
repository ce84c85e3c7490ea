"""The constraints on latents as functions of tensors: shape, pixel and colour (section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def warped(latents: Tensor, displacement: NDArray[np.float32]) -> Tensor:
    """Latents warped by a flow, with nearest-neighbour sampling.

    Interpolated latents decode to blur and wrong shapes; the official code uses the nearest neighbour too.

    Args:
        latents: (1, C, h, w).
        displacement: in latent pixels, x to the right and y downwards, (h, w, 2); the border is replicated.
    """
    import torch

    height, width = latents.shape[-2:]
    rows, columns = np.mgrid[:height, :width]
    x = np.clip(np.rint(columns + displacement[..., 0]), 0, width - 1).astype(np.int64)
    y = np.clip(np.rint(rows + displacement[..., 1]), 0, height - 1).astype(np.int64)
    places = torch.from_numpy(y * width + x).flatten().to(latents.device)
    return latents.flatten(2)[..., places].reshape(latents.shape)


def with_colours(latents: Tensor, like: Tensor, eps: float = 1e-5) -> Tensor:
    """AdaIN (Huang & Belongie 2017): mean and standard deviation of every channel become those of ``like``.

    Args:
        latents, like: (1, C, h, w), float32.
        eps: added to the variance in the denominator, so that a constant channel stays finite.
    """
    mean = latents.mean((2, 3), keepdim=True)
    scale = latents.var((2, 3), keepdim=True, unbiased=False).add(eps).sqrt()
    wanted = like.var((2, 3), keepdim=True, unbiased=False).sqrt()
    return (latents - mean) / scale * wanted + like.mean((2, 3), keepdim=True)


def toward(latents: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Latents moved towards a target by a weight of 0..1 that broadcasts; bit-identical where it is 0."""
    return latents + weight * (target - latents)


def softened(covered: NDArray[np.bool_], radius: int) -> Tensor:
    """The weight of a reference at each pixel: 0 where it is occluded, 1 from 2 radius + 1 pixels away.

    Flow is least reliable at the edges of occlusions, and a hard edge would be visible.

    Args:
        covered: occluded pixels, (H, W).
        radius: in pixels, at least 1.

    Returns:
        (1, 1, H, W), float32, 0..1.
    """
    import torch
    from torch.nn.functional import avg_pool2d, max_pool2d

    hard = torch.from_numpy(covered.astype(np.float32))[None, None]
    side = 2 * radius + 1
    grown = max_pool2d(hard, side, stride=1, padding=radius)
    return 1.0 - avg_pool2d(grown, side, stride=1, padding=radius, count_include_pad=False)
