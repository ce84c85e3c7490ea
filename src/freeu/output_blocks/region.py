"""Where in the image FreeU acts: a mask, averaged over the area of each pixel of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from freeu.errors import FreeURuntimeError, FreeUValueError

_KEPT = 16
"""Map sizes and places that are remembered: a U-Net has four or five."""


class Region:
    """A mask for maps of every size.

    Args:
        mask: (H, W) or (N, H, W), the type MASK: 1 where FreeU acts in full, 0 where it does not; N is 1 or the number
            of images.

    Raises:
        FreeUValueError: another shape, an empty mask, or values outside 0..1.
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.dim() not in (2, 3) or mask.numel() == 0:
            raise FreeUValueError(f"region must be a mask (H, W) or (N, H, W), got shape {tuple(mask.shape)}")
        mask = mask.float()
        low, high = float(mask.min()), float(mask.max())
        if not 0.0 <= low <= high <= 1.0:
            raise FreeUValueError(f"region must hold values in 0 to 1, got {low:g} to {high:g}")
        self.mask = mask.reshape(-1, 1, *mask.shape[-2:])
        self._sized: dict[tuple[object, ...], Tensor] = {}

    def at(self, x: Tensor, parts: int) -> Tensor:
        """The mask for features, (B or 1, 1, H, W) in their dtype.

        Args:
            x: (B, C, H, W).
            parts: equal parts of the batch, each with all images (the halves of guidance).

        Raises:
            FreeURuntimeError: neither one mask nor one for each image.
        """
        key = (*x.shape[2:], x.dtype, x.device)
        sized = self._sized.get(key)
        if sized is None:
            size = (int(x.shape[2]), int(x.shape[3]))
            sized = F.adaptive_avg_pool2d(self.mask.to(x.device), size).to(x.dtype)
            if len(self._sized) >= _KEPT:
                self._sized.clear()
            self._sized[key] = sized
        images = x.shape[0] // parts
        if len(sized) == 1:
            return sized
        if len(sized) != images:
            raise FreeURuntimeError(
                f"region holds {len(sized)} masks for {images} images: give one mask, or one for each image"
            )
        return sized.repeat(parts, 1, 1, 1)


def within(x: Tensor, changed: Tensor, mask: Tensor, inplace: bool) -> Tensor:
    """m * changed + (1 - m) * x; with ``inplace`` that is ``x``, changed."""
    mask = mask.expand_as(x)
    return x.lerp_(changed, mask) if inplace else torch.lerp(x, changed, mask)
