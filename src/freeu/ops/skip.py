"""Skip re-weighting (FreeU Eq. 5-8) in closed form: exact for every map size, with no FFT and no complex numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from freeu.ops._checks import (
    channel_chunks,
    check_factor,
    check_features,
    check_inplace,
    is_one,
    plain_size,
    recording,
    untraced,
    wide,
)
from freeu.ops._dimensions import as_plane, check_volume, volume_basis
from freeu.ops._lowband import Dense, Separable, check_band, low_band_operator
from freeu.ops._over_time import check_frames, project, time_band

if TYPE_CHECKING:
    from jaxtyping import Float


def filter_skip(
    skip: Float[Tensor, "b c h w"],
    scale: float | Tensor,
    threshold: int = 1,
    mask: str = "window",
    *,
    dc: str = "scale",
    high_gain: float | Tensor = 1.0,
    frames: int = 1,
    time_threshold: int = 0,
    inplace: bool = False,
) -> Float[Tensor, "b c h w"]:
    """Scale the low frequencies of skip features (FreeU, arXiv:2309.11497, Eq. 5-8).

    Equal to ``freeu.ops.reference.filter_skip`` up to rounding, at a fraction of its cost: y = x + (s - 1) L x, where L
    projects onto the band (two skinny matrix products). Sums are in float32 (float64 for float64 input), also under
    autocast; half precision is rounded once, at the end.

    Args:
        skip: encoder features (B, C, H, W), any float dtype, any strides; a slice of a concatenated buffer is fine.
            (B, C, D, H, W) gets the same filter in three dimensions, (B, C, 1, L) is that in one.
        scale: gain of the low band, a finite number or a 0-d tensor; 1 is the identity, 0 is legal.
        threshold: half-width of the band in frequency bins, at least 1.
        mask: "window" (the published code: bins -t..t-1, real part kept), "radial" (Eq. 8: r < t; one bin for t = 1),
            "symmetric" (bins -t..t), "gaussian" (weights exp(-r^2 / 2 t^2)).
        dc: what ``scale`` does to each channel's spatial mean, the bin (0, 0): "scale" it with the band (published),
            "keep" it out of the band, or "only": the band is the mean alone, whatever the mask. Over time it is the
            mean of each frame.
        high_gain: gain of everything outside the band; 1 as published. Where it equals ``scale``, as numbers, the whole
            skip is multiplied by it and nothing else is computed.
        frames: of each video, whose frames are samples in a row; 1 for still images.
        time_threshold: 0 filters every frame by itself, as published. From 1 on the transform is over (T, H, W): the
            band holds what is low in the image *and* slower than this many frequency bins over time, |k_t| < t; 1 is
            what all frames have in common. At most frames // 2 + 1.
        inplace: change ``skip`` itself and return it. Needs grad mode off and a ``skip`` that does not require grad.

    Returns:
        the filtered features, with the dtype of ``skip``.

    Raises:
        FreeUValueError: a wrong rank or dtype; a factor that is not finite; threshold < 1; threshold > 1 and
            2 * threshold > min(H, W) (the band would wrap round); inplace where autograd could look.

    >>> import torch
    >>> skip = torch.ones(1, 1, 4, 4)  # nothing but the lowest frequency
    >>> filter_skip(skip, 0.5).unique()
    tensor([0.5000])
    """
    check_features("skip", skip)
    check_factor("scale", scale)
    check_factor("high_gain", high_gain)
    if skip.dim() == 5:
        return _filter_volume(skip, scale, threshold, mask, dc, high_gain, inplace)
    height, width = plain_size(skip.shape[2]), plain_size(skip.shape[3])
    check_band(height, width, threshold, mask, dc)
    if inplace:
        check_inplace("skip", skip)
    check_frames(skip.shape[0], frames)
    if not isinstance(scale, Tensor) and not isinstance(high_gain, Tensor) and scale == high_gain:
        if scale == 1.0:
            return skip if inplace else skip.clone()
        return skip.mul_(scale) if inplace else skip * scale
    if time_threshold and frames > 1:
        return _filter_slow(skip, scale, threshold, mask, dc, high_gain, frames, time_threshold, inplace)
    band = low_band_operator(height, width, threshold, mask, dc, wide(skip.dtype), skip.device)
    return _filter_exactly(skip, band, scale, high_gain, inplace)


def _filter_volume(
    skip: Tensor,
    scale: float | Tensor,
    threshold: int,
    mask: str,
    dc: str,
    high_gain: float | Tensor,
    inplace: bool,
) -> Tensor:
    """The filter in three dimensions, on a view of the volume as a plane."""
    depth, height, width = plain_size(skip.shape[2]), plain_size(skip.shape[3]), plain_size(skip.shape[4])
    check_volume((depth, height, width), threshold, mask, dc)
    if inplace:
        check_inplace("skip", skip)
    band = Dense(volume_basis((depth, height, width), threshold, mask, dc, wide(skip.dtype), skip.device))
    plane = as_plane(skip)
    found = _filter_exactly(plane, band, scale, high_gain, inplace).view(skip.shape)
    # Axes that do not merge in a view were copied.
    return found if not inplace else skip if plane.data_ptr() == skip.data_ptr() else skip.copy_(found)


def _filter_exactly(
    skip: Tensor, band: Dense | Separable, scale: float | Tensor, high_gain: float | Tensor, inplace: bool
) -> Tensor:
    """``_filter`` without autocast, which would round its sums."""
    if torch.is_autocast_enabled(skip.device.type):
        with torch.autocast(skip.device.type, enabled=False):
            return _filter(skip, band, scale, high_gain, inplace)
    return _filter(skip, band, scale, high_gain, inplace)


def _filter_slow(
    skip: Tensor,
    scale: float | Tensor,
    threshold: int,
    mask: str,
    dc: str,
    high_gain: float | Tensor,
    frames: int,
    time_threshold: int,
    inplace: bool,
) -> Tensor:
    """high_gain * x + (scale - high_gain) * P L x: the band over time is even, so it commutes with the real part.

    A few channels at a time: the low part is a second tensor.
    """
    time_band(frames, time_threshold, skip)  # refuses a threshold before anything is changed
    out = skip if inplace else torch.empty_like(skip)
    tracked = (torch.is_grad_enabled() or recording()) and not inplace
    parts = []
    for channels in channel_chunks(skip, untraced(skip.shape[1]), skip.shape[0] * skip.shape[2] * skip.shape[3]):
        x = skip[:, channels].to(wide(skip.dtype)).contiguous()
        low = project(filter_skip(x, 2.0, threshold, mask, dc=dc) - x, frames, time_threshold)
        changed = (high_gain * x + (scale - high_gain) * low).to(skip.dtype)
        if tracked:
            parts.append(changed)
        else:
            out[:, channels] = changed
    return torch.cat(parts, dim=1) if tracked else out


def _filter(
    skip: Tensor, band: Dense | Separable, scale: float | Tensor, high_gain: float | Tensor, inplace: bool
) -> Tensor:
    change = scale - high_gain
    dtype = wide(skip.dtype)
    tracked = torch.is_grad_enabled() and not inplace
    if skip.dtype == dtype and _mergeable(skip):
        return _filter_wide(skip, band, change, high_gain, inplace)
    if tracked or recording():
        out = _filter_wide(skip.to(dtype).contiguous(), band, change, high_gain, False).to(skip.dtype)
        return skip.copy_(out) if inplace else out
    # Half precision and odd strides: a few channels at a time are widened and put in order, never the whole tensor.
    out = skip if inplace else torch.empty_like(skip)
    for channels in channel_chunks(skip, skip.shape[1], skip.shape[0] * skip.shape[2] * skip.shape[3]):
        part = torch.empty_like(skip[:, channels], dtype=dtype)
        part = (part if _mergeable(part) else part.contiguous()).copy_(skip[:, channels])
        with torch.no_grad():
            out[:, channels] = _filter_wide(part, band, change, high_gain, True)
    return out


def _filter_wide(
    x: Tensor, band: Dense | Separable, change: float | Tensor, high_gain: float | Tensor, inplace: bool
) -> Tensor:
    """high_gain * x + change * L x for float32 or float64 features whose axes merge."""
    view, left, right = _terms(x, band)
    if isinstance(change, Tensor) or isinstance(high_gain, Tensor) or torch.compiler.is_compiling():
        # One of the two factors is a few numbers a channel: the cheap place to multiply. A compiler builds baddbmm anew
        # for every alpha and beta.
        left, right = (
            (left * change, right) if untraced(left.numel()) < untraced(right.numel()) else (left, right * change)
        )
        change, view = 1.0, view if is_one(high_gain) else view.mul_(high_gain) if inplace else view * high_gain
        high_gain = 1.0
    if inplace:
        view.baddbmm_(left, right, beta=high_gain, alpha=change)
        return x
    out = torch.baddbmm(view, left, right, beta=high_gain, alpha=change)
    batch, count, height, width = x.shape
    if _channels_last(x):
        return out.view(batch, height, width, count).permute(0, 3, 1, 2)
    return out.view(x.shape)


def _terms(x: Tensor, band: Dense | Separable) -> tuple[Tensor, Tensor, Tensor]:
    """A three-dimensional view of x and two factors whose product, in that view, is L x.

    Every product has the skinny matrix on the side where libraries are fast at it.
    """
    batch, count, height = x.shape[:3]
    if isinstance(band, Dense):
        u = band.u.expand(batch, -1, -1)
        if _channels_last(x):
            pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, HW, C)
            return pixels, u.transpose(1, 2), torch.bmm(u, pixels)
        planes = x.flatten(2)  # (B, C, HW)
        return planes, torch.bmm(u, planes.transpose(1, 2)).transpose(1, 2), u

    rows, columns = band.rows.expand(batch, -1, -1), band.columns
    p, r = rows.shape[1], columns.shape[0]
    if _channels_last(x):
        lines = x.permute(0, 2, 3, 1).flatten(0, 1)  # (BH, W, C)
        spectra = torch.bmm(columns.expand(batch * height, -1, -1), lines)
        q = torch.bmm(rows, spectra.view(batch, height, r * count)).view(batch, p, r, count)
        low = torch.bmm(rows.transpose(1, 2), band.mix(q).view(batch, p, r * count))
        return lines, columns.transpose(0, 1).expand(batch * height, -1, -1), low.view(batch * height, r, count)
    lines = x.flatten(1, 2)  # (B, CH, W)
    columns = columns.expand(batch, -1, -1)
    spectra = torch.bmm(columns, lines.transpose(1, 2)).view(batch, r * count, height)
    q = torch.bmm(rows, spectra.transpose(1, 2)).view(batch, p, r, count)
    low = torch.bmm(band.mix(q).view(batch, p, r * count).transpose(1, 2), rows)
    return lines, low.view(batch, r, count * height).transpose(1, 2), columns


def _channels_last(x: Tensor) -> bool:
    if x.stride(1) != 1:
        return False
    _, count, height, width = map(untraced, x.shape)
    return bool(count > 1 and x.stride(3) != 1 and height * width > 1)


def _mergeable(x: Tensor) -> bool:
    """True for features, or slices of channels of them, that are contiguous or channels-last: axes merge in views."""
    _, count, height, width = map(untraced, x.shape)
    if _channels_last(x):
        return x.stride(3) >= count and x.stride(2) == width * x.stride(3) and x.stride(0) == height * x.stride(2)
    return x.stride(3) == 1 and x.stride(2) == width and x.stride(1) == height * width and x.stride(0) != 0
