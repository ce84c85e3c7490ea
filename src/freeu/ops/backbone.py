"""Backbone re-weighting (FreeU Eq. 2-4): the constant and the structure-aware gain on a part of the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freeu.config import CHANNELS, VERSIONS, ChannelSpec
from freeu.errors import FreeUValueError, unknown_name
from freeu.ops._checks import (
    channel_chunks,
    check_factor,
    check_features,
    check_inplace,
    is_one,
    tracing,
    unrecorded,
    untraced,
    wide,
)
from freeu.ops._dimensions import as_plane
from freeu.ops._over_time import map_range

if TYPE_CHECKING:
    from jaxtyping import Float


def channel_slice(channels: ChannelSpec, count: int) -> slice:
    """The channels that a specification selects out of ``count``.

    Args:
        channels: "first" (0 .. C // 2 - 1), "second" (the last C // 2), "even" (0, 2, 4 ...: C // 2 of them), "all",
            "first-inclusive" (0 .. C // 2, one channel more, as the A1111 extension does), a fraction in (0, 1] of the
            channels counted from the first, or a pair (start, stop) of fractions.
        count: number of channels C.

    Raises:
        FreeUValueError: an unknown name, or a fraction or window outside 0..1.
    """
    half = count // 2
    if isinstance(channels, str):
        named = {
            "first": slice(0, half),
            "second": slice(count - half, count),
            "even": slice(0, 2 * half, 2),
            "all": slice(0, count),
            "first-inclusive": slice(0, min(half + 1, count)),
        }
        if channels not in named:
            raise unknown_name("channels", channels, CHANNELS)
        return named[channels]
    start, stop = channels if isinstance(channels, tuple) else (0.0, channels)
    if not 0.0 <= start < stop <= 1.0:
        raise FreeUValueError(f"channels must be fractions with 0 <= start < stop <= 1, got {channels!r}")
    # A hair is added before truncation, so that 0.3 of 10 channels is 3 and not 2.
    return slice(int(start * count + 1e-9), int(stop * count + 1e-9))


def scale_backbone(
    h: Float[Tensor, "b c h w"],
    b: float | Tensor,
    version: int = 2,
    *,
    channels: ChannelSpec = "first",
    share: str | int = "none",
    frames: int = 1,
    over_time: str = "frame",
    inplace: bool = False,
) -> Float[Tensor, "b c h w"]:
    """Amplify a part of the backbone's channels (FreeU, arXiv:2309.11497, Eq. 2-4).

    Version 1 multiplies by b. Version 2 multiplies by alpha = (b - 1) * (m - min m) / (max m - min m) + 1, where m is
    the mean over all channels and min and max run over the pixels of one sample (Eq. 3). Where m is constant the
    quotient is 0/0; the gain there is 1. Means are in float32 (float64 for float64 input).

    Args:
        h: backbone features (B, C, H, W) or (B, C, D, H, W), any float dtype.
        b: gain, a finite number or a 0-d tensor; 1 is the identity, 0 is legal.
        version: 1 (constant) or 2 (structure-aware).
        channels: which channels, see ``channel_slice``.
        share: version 2 only. "none": each sample has its own map; "guidance": rows i and i + B/2, the two halves of
            classifier-free guidance, share the map of their mean; a number n: each run of n samples shares one.
        frames: of each video, whose frames are samples in a row; 1 for still images.
        over_time: version 2 only, what of the map the frames of a video have in common: "frame" nothing, as published;
            "clip" minimum and maximum; "smooth" the same, but smoothed over time; "shared" the whole map.
        inplace: change ``h`` itself and return it. Needs grad mode off and an ``h`` that does not require grad.

    Returns:
        the scaled features, with the dtype of ``h``.

    Raises:
        FreeUValueError: a wrong rank, dtype, version or share; a factor that is not finite; inplace where autograd
            could look.

    >>> import torch
    >>> h = torch.ones(1, 4, 2, 2)
    >>> scale_backbone(h, 1.5, version=1)[0, :, 0, 0]  # the first half of the channels
    tensor([1.5000, 1.5000, 1.0000, 1.0000])
    >>> scale_backbone(h, 1.5, version=2)[0, :, 0, 0]  # no structure, no gain
    tensor([1., 1., 1., 1.])
    """
    check_features("h", h)
    if h.dim() != 4:
        return _on_plane(h, b, version, channels=channels, share=share, inplace=inplace)
    check_factor("b", b)
    if version not in VERSIONS:
        raise FreeUValueError(f"version must be 1 (constant) or 2 (structure-aware), got {version!r}")
    count = untraced(h.shape[1])
    chosen = channel_slice(channels, count)
    if inplace:
        check_inplace("h", h)
    if is_one(b):
        return h if inplace else h.clone()
    gain = b if version == 1 else structure_gain(h, b, share, frames=frames, over_time=over_time)
    tracked = torch.is_grad_enabled() and (h.requires_grad or isinstance(b, Tensor))
    if not inplace and (tracked or tracing()):
        # Written without assignment to a slice, so that gradients of h and b are those of the formula; and
        # torch.onnx.export loses such assignments.
        parts = [h[:, : chosen.start], (h[:, chosen] * gain).to(h.dtype), h[:, chosen.stop :]]
        if chosen.step in (None, 1):
            return torch.cat(parts, dim=1)
        places = range(count)[chosen]
        with unrecorded():
            inside = torch.tensor([place in places for place in range(count)], device=h.device)
        return torch.where(inside[:, None, None], (h * gain).to(h.dtype), h)
    out = h if inplace else h.clone()
    _multiply(out[:, chosen], gain)
    return out


def _on_plane(h: Tensor, b: float | Tensor, version: int, *, inplace: bool, **options: Any) -> Tensor:
    """The same for maps of three dimensions: the gain of a pixel does not depend on where it lies."""
    plane = as_plane(h)
    found = scale_backbone(plane, b, version, inplace=inplace, **options).view(h.shape)
    # Axes that do not merge in a view were copied.
    return found if not inplace else h if plane.data_ptr() == h.data_ptr() else h.copy_(found)


def structure_gain(
    h: Float[Tensor, "b c h w"],
    b: float | Tensor,
    share: str | int = "none",
    *,
    frames: int = 1,
    over_time: str = "frame",
) -> Float[Tensor, "b 1 h w"]:
    """The structure-aware factor map alpha of Eq. 3; for the arguments see ``scale_backbone``.

    Returns:
        (B, 1, H, W) in float32 (float64 for float64 input), between 1 and b; 1 where the map is constant.

    >>> import torch
    >>> structure_gain(torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]]), 1.4)
    tensor([[[[1.0000, 1.1000],
              [1.2000, 1.4000]]]])
    """
    mean = _shared(_channel_mean(h), share)
    if over_time == "frame":
        low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
    else:
        mean, low, high = map_range(mean, frames, over_time)
    span = high - low
    # A constant map has span 0: dividing by 1 instead leaves alpha = 1 everywhere.
    share_of_span = (mean - low) / torch.where(span == 0, torch.ones_like(span), span)
    if over_time == "smooth":  # the range is not quite the frame's own
        share_of_span = torch.where(span == 0, torch.zeros_like(share_of_span), share_of_span.clamp(0.0, 1.0))
    return share_of_span * (b - 1.0) + 1.0


def _channel_mean(h: Tensor) -> Tensor:
    """Mean over the channels in wide precision, (B, 1, H, W), without a wide copy of the features."""
    dtype = wide(h.dtype)
    count = untraced(h.shape[1])
    if h.dtype == dtype or count == 0:
        return h.to(dtype).mean(dim=1, keepdim=True)
    total = None
    for channels in channel_chunks(h, count, h.shape[0] * h.shape[2] * h.shape[3]):
        part = h[:, channels].to(dtype).sum(dim=1, keepdim=True)
        total = part if total is None else total + part
    assert total is not None, "features have channels here"
    return total / count


def _shared(mean: Tensor, share: str | int) -> Tensor:
    if share == "none":
        return mean
    batch = untraced(mean.shape[0])
    if share == "guidance":
        if batch % 2:
            raise FreeUValueError(f"share='guidance' needs both halves of guidance in the batch, got {batch} samples")
        return mean.view(2, batch // 2, *mean.shape[1:]).mean(dim=0).repeat(2, 1, 1, 1)
    if isinstance(share, bool) or not isinstance(share, int) or share < 1 or batch % share:
        raise FreeUValueError(f"share must be 'none', 'guidance' or a divisor of the batch size {batch}, got {share!r}")
    return mean.view(batch // share, share, *mean.shape[1:]).mean(dim=1).repeat_interleave(share, dim=0)


def _multiply(x: Tensor, gain: float | Tensor) -> None:
    """x *= gain in place; a wide map is applied in its own precision and rounded once."""
    if not isinstance(gain, Tensor) or gain.dtype == x.dtype:
        x.mul_(gain)
        return
    for channels in channel_chunks(x, untraced(x.shape[1]), x.shape[0] * x.shape[2] * x.shape[3]):
        part = x[:, channels]
        part.copy_(part * gain)
