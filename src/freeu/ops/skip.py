"""Skip re-weighting (FreeU Eq. 5-8) in closed form: exact for every map size, with no FFT and no complex numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from freeu.ops._checks import (
    channel_chunks,
    check_factor,
    check_features,
    check_inplace,
    is_one,
    wide,
)
from freeu.ops._lowband import Dense, Separable, check_band, low_band_operator


def filter_skip(
    skip: Tensor,
    scale: float | Tensor,
    threshold: int = 1,
    mask: str = "window",
    *,
    high_gain: float | Tensor = 1.0,
    inplace: bool = False,
) -> Tensor:
    """Scale the low frequencies of skip features (FreeU, arXiv:2309.11497, Eq. 5-8).

    Equal to ``freeu.ops.reference.filter_skip`` up to rounding, at a fraction of its cost: y = x + (s - 1) L x, where L
    projects onto the band (two skinny matrix products). Sums are in float32 (float64 for float64 input), also under
    autocast; half precision is rounded once, at the end.

    Args:
        skip: encoder features (B, C, H, W), any float dtype, any strides; a slice of a concatenated buffer is fine.
        scale: gain of the low band, a finite number or a 0-d tensor; 1 is the identity, 0 is legal.
        threshold: half-width of the band in frequency bins, at least 1.
        mask: "window" (the published code: bins -t..t-1, real part kept), "radial" (Eq. 8: r < t; one bin for t = 1),
            "symmetric" (bins -t..t), "gaussian" (weights exp(-r^2 / 2 t^2)).
        high_gain: gain of everything outside the band; 1 as published.
        inplace: change ``skip`` itself and return it. Needs grad mode off and a ``skip`` that does not require grad.

    Returns:
        the filtered features, with the dtype of ``skip``.

    Raises:
        FreeUValueError: a wrong rank or dtype; a factor that is not finite; threshold < 1; threshold > 1 and
            2 * threshold > min(H, W) (the band would wrap round); inplace where autograd could look.
    """
    check_features("skip", skip)
    check_factor("scale", scale)
    check_factor("high_gain", high_gain)
    height, width = skip.shape[2], skip.shape[3]
    check_band(height, width, threshold, mask)
    if inplace:
        check_inplace("skip", skip)
    if is_one(scale) and is_one(high_gain):
        return skip if inplace else skip.clone()
    band = low_band_operator(height, width, threshold, mask, wide(skip.dtype), skip.device)
    if torch.is_autocast_enabled(skip.device.type):
        with torch.autocast(skip.device.type, enabled=False):
            return _filter(skip, band, scale, high_gain, inplace)
    return _filter(skip, band, scale, high_gain, inplace)


def _filter(
    skip: Tensor, band: Dense | Separable, scale: float | Tensor, high_gain: float | Tensor, inplace: bool
) -> Tensor:
    change = scale - high_gain
    narrow = skip.dtype != wide(skip.dtype)
    if isinstance(band, Separable) or not _flattens(skip):
        out = skip if inplace else torch.empty_like(skip)
        tracked = not inplace and torch.is_grad_enabled() and (skip.requires_grad or isinstance(change, Tensor))
        if tracked or (not inplace and torch.compiler.is_compiling()):
            return _by_projection(skip, band, change, high_gain)
        for channels in channel_chunks(skip, skip.shape[1], skip.shape[0] * skip.shape[2] * skip.shape[3]):
            out[:, channels] = _by_projection(skip[:, channels], band, change, high_gain)
        return out

    u = band.u
    batch = skip.shape[0]
    last = _channels_last(skip)
    # (B, C, HW), or (B, HW, C) for channels-last features: a view either way.
    flat = skip.permute(0, 2, 3, 1).flatten(1, 2) if last else skip.flatten(2)

    def filtered(x: Tensor) -> Tensor:
        left, right = _factors(x, u, change, batch, last)
        return torch.baddbmm(x if is_one(high_gain) else x * high_gain, left, right)

    if not narrow:
        if inplace:
            left, right = _factors(flat, u, change, batch, last)
            if not is_one(high_gain):
                flat.mul_(high_gain)
            flat.baddbmm_(left, right)
            return skip
        out = filtered(flat)
    elif not inplace and (torch.is_grad_enabled() or torch.compiler.is_compiling()):
        out = filtered(flat.to(u.dtype)).to(skip.dtype)
    else:
        out = flat if inplace else torch.empty_like(flat)
        axis = 2 if last else 1
        for channels in channel_chunks(skip, skip.shape[1], batch * flat.shape[3 - axis]):
            length = channels.stop - channels.start
            part = flat.narrow(axis, channels.start, length)
            out.narrow(axis, channels.start, length).copy_(filtered(part.to(u.dtype)))
        if inplace:
            return skip
    if last:
        return out.view(batch, *skip.shape[2:], skip.shape[1]).permute(0, 3, 1, 2)
    return out.view(skip.shape)


def _factors(x: Tensor, u: Tensor, change: float | Tensor, batch: int, last: bool) -> tuple[Tensor, Tensor]:
    """The two factors whose product is change * L x: coefficients and basis, in the order of the layout."""
    if last:
        basis = u.expand(batch, -1, -1)
        return basis, torch.bmm(basis.mT, x) * change
    basis = u.expand(batch, -1, -1)
    return torch.bmm(x, basis) * change, basis.mT


def _by_projection(x: Tensor, band: Dense | Separable, change: float | Tensor, high_gain: float | Tensor) -> Tensor:
    dtype = wide(x.dtype)
    work = x.to(dtype)
    low = band.project(work) if isinstance(band, Separable) else (work.flatten(2) @ band.u @ band.u.mT).view(work.shape)
    return (high_gain * work + change * low).to(x.dtype)


def _channels_last(x: Tensor) -> bool:
    return bool(x.stride(1) == 1 and x.shape[1] > 1 and x.stride(3) != 1 and x.shape[2] * x.shape[3] > 1)


def _flattens(x: Tensor) -> bool:
    """True if rows and columns merge into one axis without a copy."""
    return bool(x.shape[2] == 1 or x.shape[3] == 1 or x.stride(2) == x.shape[3] * x.stride(3))
