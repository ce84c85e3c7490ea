"""Both operators at one decoder concatenation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from freeu.config import ChannelSpec
from freeu.errors import FreeUValueError
from freeu.ops._checks import untraced
from freeu.ops.backbone import scale_backbone
from freeu.ops.skip import filter_skip

if TYPE_CHECKING:
    from jaxtyping import Float


def freeu(
    h: Float[Tensor, "b c h w"],
    skip: Float[Tensor, "b d h w"],
    b: float | Tensor,
    s: float | Tensor,
    version: int = 2,
    *,
    threshold: int = 1,
    mask: str = "window",
    channels: ChannelSpec = "first",
    share: str | int = "none",
    dc: str = "scale",
    high_gain: float | Tensor = 1.0,
    frames: int = 1,
    over_time: str = "frame",
    time_threshold: int = 0,
    inplace: bool = False,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b d h w"]]:
    """FreeU at one concatenation: amplify the backbone, turn down the skip's low frequencies.

    Args:
        h: backbone features (B, C, H, W).
        skip: skip features (B, C', H, W).
        b, version, channels, share, over_time: see ``scale_backbone``.
        s, threshold, mask, dc, high_gain, time_threshold: see ``filter_skip`` (``s`` is its ``scale``).
        frames: of each video; 1 for still images.
        inplace: change both tensors and return them.

    Returns:
        (backbone, skip), ready to be concatenated along the channels.

    Raises:
        FreeUValueError: what the two operators raise; maps of different size.

    >>> import torch
    >>> h, skip = freeu(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4), 1.2, 0.5, version=1)
    >>> h[0, :, 0, 0], skip[0, :, 0, 0]
    (tensor([1.2000, 1.0000]), tensor([0.5000, 0.5000]))
    """
    sizes = [[untraced(x.shape[axis]) for axis in (0, 2, 3)] for x in (h, skip) if x.dim() == 4]
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        raise FreeUValueError(
            f"h and skip must agree in batch and map size, got {tuple(h.shape)} and {tuple(skip.shape)}"
        )
    return (
        scale_backbone(
            h, b, version, channels=channels, share=share, frames=frames, over_time=over_time, inplace=inplace
        ),
        filter_skip(
            skip,
            s,
            threshold,
            mask,
            dc=dc,
            high_gain=high_gain,
            frames=frames,
            time_threshold=time_threshold,
            inplace=inplace,
        ),
    )
