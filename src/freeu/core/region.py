"""Where in the image FreeU acts: a mask, brought to the size of every feature map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from freeu.core.calls import permanent, writable
from freeu.core.guidance import kind_of
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.extras import need
from freeu.ops._checks import recording, tracing, unrecorded, untraced

_WHITE = {"1": 1.0, "L": 255.0, "I;16": 65535.0, "I;16L": 65535.0, "I;16B": 65535.0, "I;16N": 65535.0, "F": 1.0}
"""Modes of Pillow that a mask may have, and the number that white is in each."""


class Region:
    """A mask for all images of a batch, or one for each.

    A site's features become ``m * freeu(x) + (1 - m) * x``, ``m`` the mask at the size of the feature map: each of its
    pixels is the mean of the mask over the area that the pixel covers. Where ``m`` is 1 or 0 that is exact to the bit.

    Args:
        mask: see ``freeu.apply``.
        device: of the model.

    Raises:
        FreeUValueError: no mask, another shape, or numbers that are not within 0..1.
    """

    def __init__(self, mask: Any, device: torch.device) -> None:
        masks = _numbers(mask)
        if masks.dim() not in (2, 3):
            raise FreeUValueError(
                "region must be one mask of height x width, or one for each image of the batch (N x height x width), "
                f"got shape {tuple(masks.shape)}"
            )
        if masks.numel() == 0:
            raise FreeUValueError(f"region must have at least one pixel, got shape {tuple(masks.shape)}")
        masks = masks.detach().reshape(-1, *masks.shape[-2:]).to("cpu", torch.float32)
        low, high = float(masks.min()), float(masks.max())
        if not bool(masks.isfinite().all()):
            raise FreeUValueError("region has values that are not finite (NaN or infinity): use numbers from 0 to 1")
        if low < 0.0 or high > 1.0:
            fix = "divide it by 255" if low >= 0.0 and high <= 255.0 else "bring it there"
            raise FreeUValueError(f"region must lie between 0 and 1, got values from {low:g} to {high:g}: {fix}")
        self.nowhere = high == 0.0
        self.masks = permanent(masks.clone).to(device)
        self._fitted: dict[Any, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fitted": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(writable(state))

    def __repr__(self) -> str:
        count, height, width = self.masks.shape
        return f"{f'{count} x ' if count > 1 else ''}{height} x {width}"

    @property
    def several(self) -> bool:
        """Whether there is a mask for each image, and not one for all."""
        return self.masks.shape[0] > 1

    def blend(self, x: Tensor, changed: Tensor, frames: int, inplace: bool) -> Tensor:
        """Features as far from ``x`` to ``changed`` as the mask says.

        Args:
            x, changed: features (B, C, H, W) or (B, C, D, H, W) before and after FreeU.
            frames: of each video, which lie in the batch in a row.
            inplace: whether ``x`` becomes the result.

        Raises:
            FreeUValueError: the mask has another shape than the feature map, or masks are not one for each image.
        """
        weights = self._at(x, frames)
        return x.lerp_(changed, weights) if inplace else torch.lerp(x, changed, weights)

    def _at(self, x: Tensor, frames: int) -> Tensor:
        """The mask that broadcasts to features."""
        height, width = (untraced(size) for size in x.shape[-2:])
        self._check_shape(height, width)
        if recording() and not tracing():
            # A compiler's code reads the mask anew in every call, so that another one needs no other code.
            masks = _resized(self.masks.to(x.device), height, width).to(x.dtype)
        else:
            masks = self._known(x, height, width)
        if self.several:
            rows, count = untraced(x.shape[0]), len(self.masks) * frames
            if rows % count:
                raise FreeUValueError(
                    f"region has {len(self.masks)} masks, and the batch {rows // frames} images (guidance counted): "
                    "give one mask for all, or as many as one call generates"
                )
            # The parts of guidance follow each other, each with all images; the frames of a video are neighbours.
            masks = masks.repeat_interleave(frames, dim=0).repeat(rows // count, 1, 1)
        return masks.view(masks.shape[0], *(1,) * (x.dim() - 3), height, width)

    def _known(self, x: Tensor, height: int, width: int) -> Tensor:
        """The masks at a size, made once for it."""
        key = (height, width, x.device, x.dtype)
        found = self._fitted.get(key)
        if found is None:
            with unrecorded(), torch.no_grad():
                # In float64, so that the mean of an area of ones is 1.
                wide = permanent(lambda: _resized(self.masks.to("cpu", torch.float64), height, width))
                found = permanent(lambda: wide.to(x.device, x.dtype))
            self._fitted[key] = found
        return found

    def _check_shape(self, height: int, width: int) -> None:
        """Raise if a mask of this shape belongs to no image whose feature map has this size.

        U-Nets round sides as they halve them, by less than a pixel of the feature map.
        """
        own = tuple(self.masks.shape[-2:])
        short, long = (0, 1) if own[0] <= own[1] else (1, 0)
        size = (height, width)
        if abs(size[long] * own[short] / own[long] - size[short]) >= 1.0:
            raise FreeUValueError(
                f"region is {own[0]} x {own[1]} (height x width), which is not the shape of a feature map of "
                f"{height} x {width}: crop or resize it to the shape of the image"
            )


def check_region(pipe: Any) -> None:
    """Refuse a region where the U-Net sees parts of the image, which the mask of the whole does not fit."""
    if kind_of(pipe) == "views":
        raise FreeURuntimeError(
            f"{type(pipe).__name__} shows the U-Net parts of the image one by one, so a region of the whole image "
            "cannot be found in them: leave region out"
        )


def _numbers(mask: Any) -> Tensor:
    """A tensor, an array or an image of Pillow as a tensor."""
    found = mask if isinstance(mask, Tensor) else _of_array(mask)
    if found.is_complex():
        raise FreeUValueError(f"region must hold real numbers, got {found.dtype}")
    return found


def _of_array(mask: Any) -> Tensor:
    need("diffusers", "numpy")
    import numpy as np

    if hasattr(mask, "getbands"):  # of Pillow, which is not imported for it
        if mask.mode not in _WHITE:
            raise FreeUValueError(
                f"region must be a grey image without transparency, got one of mode {mask.mode}: give "
                "image.convert('L'), white where FreeU should act"
            )
        return torch.from_numpy(np.array(mask, dtype=np.float64) / _WHITE[mask.mode])
    if isinstance(mask, np.ndarray) and mask.dtype.kind in "buif":
        return torch.from_numpy(mask.astype(np.float64))
    what = f"an array of {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
    raise FreeUValueError(f"region must be a tensor, an array or an image of Pillow, got {what}")


def _resized(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks (N, H, W) at another size: the mean over the area of each pixel."""
    return _shares(masks.shape[1], height, masks) @ masks @ _shares(masks.shape[2], width, masks).T


def _shares(size: int, into: int, like: Tensor) -> Tensor:
    """How much of each of ``into`` equal parts of a line every one of its ``size`` pixels covers, (into, size)."""
    edges = torch.arange(into + 1, device=like.device, dtype=like.dtype) * (size / into)
    pixels = torch.arange(size, device=like.device, dtype=like.dtype)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return covered.clamp(min=0) * (into / size)
