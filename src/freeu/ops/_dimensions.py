"""Maps of three dimensions, (B, C, D, H, W): views of them as planes, and the low-frequency band of a volume."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from freeu.config import DC, MASKS
from freeu.errors import FreeUValueError, unknown_name
from freeu.ops._checks import unrecorded

_CACHE_SIZE = 32
_cache: dict[tuple[object, ...], Tensor] = {}


def as_plane(x: Tensor) -> Tensor:
    """A view (B, C, D * H, W) of (B, C, D, H, W); planes as they are.

    Where axes cannot be merged in a view, the result is a copy.
    """
    return x.flatten(2, 3) if x.dim() == 5 else x


def check_volume(sizes: tuple[int, ...], threshold: int, mask: str, dc: str) -> None:
    """A band of a volume: it fits, and is narrow, which the Gaussian one is not."""
    if mask not in MASKS:
        raise unknown_name("mask", mask, MASKS)
    if dc not in DC:
        raise unknown_name("dc", dc, DC)
    if mask == "gaussian":
        raise FreeUValueError("mask gaussian has no narrow band in three dimensions: use window, radial or symmetric")
    if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold < 1:
        raise FreeUValueError(f"threshold must be a whole number of frequency bins, at least 1, got {threshold!r}")
    if threshold > 1 and 2 * threshold > min(sizes):
        raise FreeUValueError(
            f"threshold {threshold} covers {2 * threshold} frequency bins a side and would wrap round the "
            f"{'x'.join(map(str, sizes))} volume: use a threshold of at most {max(1, min(sizes) // 2)}"
        )


def volume_basis(
    sizes: tuple[int, ...], threshold: int, mask: str, dc: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """``u`` of shape (rank, D * H * W) with L = u^T u for the band of a volume, see ``_lowband``; rank 15 for the
    published threshold 1. From a bounded cache, except while a compiler traces."""
    if torch.compiler.is_compiling():
        return _basis(sizes, threshold, mask, dc).to(dtype).to(device)
    key = (sizes, threshold, mask, dc, dtype, device)
    found = _cache.get(key)
    if found is None:
        with unrecorded(), torch.inference_mode(False), torch.no_grad():
            found = _basis(sizes, threshold, mask, dc).to(dtype).to(device)
        if type(found) is torch.Tensor:
            while len(_cache) >= _CACHE_SIZE:
                _cache.pop(next(iter(_cache)))
            _cache[key] = found
    return found


def _basis(sizes: tuple[int, ...], threshold: int, mask: str, dc: str) -> Tensor:
    t = threshold

    def member(k: tuple[int, ...]) -> float:
        if mask == "window":  # [-t, t) as a set modulo n, as for planes
            return float(all((one + t) % n < 2 * t for one, n in zip(k, sizes, strict=True)))
        signed = [(one + n // 2) % n - n // 2 for one, n in zip(k, sizes, strict=True)]
        if mask == "radial":
            return float(sum(one * one for one in signed) < t * t)
        return float(all(abs(one) <= t for one in signed))

    axes = [torch.arange(n, dtype=torch.float64, device="cpu") for n in sizes]
    grids = torch.meshgrid(*axes, indexing="ij")
    seen: set[tuple[int, ...]] = set()
    lines = []
    for k in itertools.product(range(-t, t + 1), repeat=len(sizes)):
        here, mirror = (tuple(sign * one % n for one, n in zip(k, sizes, strict=True)) for sign in (1, -1))
        mean = not any(here)
        weight = 0.5 * (member(k) + member(tuple(-one for one in k)))
        if dc != "scale":
            weight = float(mean) if dc == "only" else weight * (not mean)
        if weight == 0.0 or here in seen or mirror in seen:
            continue
        seen.add(here)
        # Whole turns are taken off before the cosine, so that float64 keeps its accuracy on long axes.
        turns = torch.zeros(sizes, dtype=torch.float64, device="cpu")
        for one, n, grid in zip(here, sizes, grids, strict=True):
            turns = turns + (one * grid) % n / n
        scale = math.sqrt(weight * (1 if here == mirror else 2) / math.prod(sizes))
        lines.append(scale * torch.cos(2.0 * math.pi * turns))
        if here != mirror:
            lines.append(scale * torch.sin(2.0 * math.pi * turns))
    if not lines:  # a band of nothing but the mean that was taken out of it
        lines.append(torch.zeros(sizes, dtype=torch.float64, device="cpu"))
    return torch.stack([line.flatten() for line in lines])
