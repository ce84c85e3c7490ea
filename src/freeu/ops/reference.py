"""FreeU with Fourier transforms, as published: the oracle that the fast operators are tested against.

Written for clarity: every line allocates, complex numbers are used, and inputs are never modified. The default
``mask="window"`` is the published code, the others are the regions that ``freeu.ops`` offers by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from freeu.config import DC, MASKS, ChannelSpec
from freeu.errors import unknown_name
from freeu.ops.backbone import channel_slice

if TYPE_CHECKING:
    from jaxtyping import Float


def low_band(height: int, width: int, threshold: int = 1, mask: str = "window", dc: str = "scale") -> Tensor:
    """Membership of each frequency bin in the low band, zero frequency at ``[height // 2, width // 2]``.

    Args:
        height, width: of the map.
        threshold: half-width of the band in bins.
        mask: shape of the region.
        dc: "scale" the zero frequency with the region (published), "keep" it out of it, or "only": nothing else.

    Returns:
        float64 tensor (height, width) in 0..1; only "gaussian" has values in between.
    """
    if dc not in DC:
        raise unknown_name("dc", dc, DC)
    row, column = height // 2, width // 2
    if dc != "scale":
        mean = torch.zeros(height, width, dtype=torch.float64)
        mean[row, column] = 1.0
        return mean if dc == "only" else low_band(height, width, threshold, mask) * (1.0 - mean)
    ky = (torch.arange(height, dtype=torch.float64) - row)[:, None]
    kx = (torch.arange(width, dtype=torch.float64) - column)[None, :]
    if mask == "window":
        region = torch.zeros(height, width, dtype=torch.float64)
        region[max(row - threshold, 0) : row + threshold, max(column - threshold, 0) : column + threshold] = 1.0
        return region
    if mask == "radial":  # FreeU Eq. 8: r < r_thresh
        return ((ky**2 + kx**2) < threshold**2).double()
    if mask == "symmetric":  # the smallest square around the window that is its own mirror image
        return ((ky.abs() <= threshold) & (kx.abs() <= threshold)).double()
    if mask == "gaussian":
        return torch.exp(-(ky**2 + kx**2) / (2.0 * threshold**2))
    raise unknown_name("mask", mask, MASKS)


def _low_band_of(sizes: tuple[int, ...], threshold: int, mask: str, dc: str) -> Tensor:
    """``low_band`` in any number of dimensions."""
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in sizes]
    grids = torch.meshgrid(*axes, indexing="ij")
    square = torch.stack(grids).square().sum(0)
    region = {
        "window": torch.stack([(-threshold <= grid) & (grid < threshold) for grid in grids]).all(0).double(),
        "radial": (square < threshold**2).double(),
        "symmetric": torch.stack([grid.abs() <= threshold for grid in grids]).all(0).double(),
        "gaussian": torch.exp(-square / (2.0 * threshold**2)),
    }[mask]
    mean = (square == 0).double()
    return region if dc == "scale" else mean if dc == "only" else region * (1.0 - mean)


def filter_skip(
    skip: Float[Tensor, "b c h w"],
    scale: float,
    threshold: int = 1,
    mask: str = "window",
    high_gain: float = 1.0,
    dc: str = "scale",
) -> Float[Tensor, "b c h w"]:
    """Scale the low frequencies of skip features by FFT, multiplication and inverse FFT (FreeU Eq. 5-8).

    Args:
        skip: (B, C, H, W) or (B, C, D, H, W), any float dtype; half precision is computed in float32.
        scale: gain inside the low band.
        threshold: half-width of the band in bins.
        mask, dc: see ``low_band``.
        high_gain: gain outside the band.

    Returns:
        a new tensor like ``skip``: the real part of the inverse transform, as the published code takes it.

    >>> import torch
    >>> filter_skip(torch.ones(1, 1, 4, 4), 0.5).unique()
    tensor([0.5000])
    """
    work = skip if skip.dtype == torch.float64 else skip.float()
    axes = tuple(range(2, skip.dim()))
    if skip.dim() == 4:
        region = low_band(skip.shape[-2], skip.shape[-1], threshold, mask, dc).to(work)
    else:
        region = _low_band_of(tuple(skip.shape[2:]), threshold, mask, dc).to(work)
    gain = high_gain + (scale - high_gain) * region
    spectrum = torch.fft.fftshift(torch.fft.fftn(work, dim=axes), dim=axes)
    filtered = torch.fft.ifftn(torch.fft.ifftshift(spectrum * gain, dim=axes), dim=axes)
    real: Tensor = filtered.real
    return real.to(skip.dtype)


def filter_clip(
    skip: Tensor,
    scale: float,
    threshold: int = 1,
    mask: str = "window",
    time_threshold: int = 1,
    high_gain: float = 1.0,
    dc: str = "scale",
) -> Tensor:
    """The filter over time as well: a transform over (T, H, W) of one video, whose frames are the batch.

    Args:
        skip: (T, C, H, W).
        scale, threshold, mask, high_gain, dc: as in ``filter_skip``.
        time_threshold: the band holds the frequencies |k_t| < time_threshold over time.
    """
    work = skip if skip.dtype == torch.float64 else skip.float()
    frames = skip.shape[0]
    slow = (torch.fft.fftfreq(frames, d=1 / frames).abs() < time_threshold - 0.5).to(work)
    region = torch.fft.ifftshift(low_band(skip.shape[-2], skip.shape[-1], threshold, mask, dc)).to(work)
    gain = high_gain + (scale - high_gain) * slow[:, None, None, None] * region
    filtered: Tensor = torch.fft.ifftn(torch.fft.fftn(work, dim=(0, 2, 3)) * gain, dim=(0, 2, 3)).real
    return filtered.to(skip.dtype)


def scale_backbone(h: Tensor, b: float, version: int = 2, channels: ChannelSpec = "first") -> Tensor:
    """Amplify a part of the backbone's channels (FreeU Eq. 2-4): the first half, as published, or another.

    Version 1 multiplies by b. Version 2 multiplies by the structure map; where the channel mean is constant the
    published quotient is 0/0, so the result is NaN there: that is the published behaviour, kept in the oracle.

    Args:
        h: (B, C, H, W).
        b: backbone gain.
        version: 1 or 2.
        channels: which channels, by the names of ``freeu.ops.scale_backbone``.

    >>> import torch
    >>> scale_backbone(torch.ones(1, 4, 2, 2), 1.5, version=1)[0, :, 0, 0]
    tensor([1.5000, 1.5000, 1.0000, 1.0000])
    """
    if version == 1:
        gain: Tensor | float = b
    else:
        mean = h.mean(dim=1, keepdim=True)
        axes = tuple(range(2, h.dim()))
        low = mean.amin(dim=axes, keepdim=True)
        high = mean.amax(dim=axes, keepdim=True)
        gain = (b - 1.0) * ((mean - low) / (high - low)) + 1.0
    chosen = torch.zeros(h.shape[1], dtype=torch.bool, device=h.device)
    chosen[channel_slice(channels, h.shape[1])] = True
    return torch.where(chosen.view(-1, *[1] * (h.dim() - 2)), h * gain, h)


def freeu(h: Tensor, skip: Tensor, b: float, s: float, version: int = 2) -> tuple[Tensor, Tensor]:
    """Both parts at one decoder concatenation, as published: (amplified backbone, filtered skip)."""
    return scale_backbone(h, b, version), filter_skip(skip, s)
