"""Checks and small helpers that the operators share."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from freeu.errors import FreeUValueError

# Half precision is widened to float32 a few channels at a time: this many elements (1 MiB) stay in the cache of a CPU,
# while a whole feature map would be a second tensor of its size.
_CHUNK_CPU = 1 << 18
_CHUNK_DEVICE = 1 << 20


def check_features(name: str, x: Tensor) -> None:
    """Features are floating-point tensors (B, C, H, W) with at least one pixel."""
    if not isinstance(x, Tensor):
        raise FreeUValueError(f"{name} must be a tensor (B, C, H, W), got {type(x).__name__}")
    if x.dim() != 4:
        raise FreeUValueError(f"{name} must have 4 dimensions (B, C, H, W), got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise FreeUValueError(f"{name} must be a floating-point tensor, got {x.dtype}")
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise FreeUValueError(f"{name} must have at least one pixel, got shape {tuple(x.shape)}")


def check_factor(name: str, value: float | Tensor) -> None:
    """Factors are finite numbers or tensors with one element and no dimension.

    A tensor's value is looked at only where that costs nothing: on the CPU and outside compilation.
    """
    if isinstance(value, Tensor):
        if value.dim() != 0:
            raise FreeUValueError(f"{name} as a tensor must be 0-dimensional, got shape {tuple(value.shape)}")
        if torch.compiler.is_compiling() or value.device.type != "cpu":
            return
        value = float(value.detach())
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FreeUValueError(f"{name} must be a number or a 0-dimensional tensor, got {value!r}")
    if not math.isfinite(value):
        raise FreeUValueError(f"{name} must be finite, got {value}")


def check_inplace(name: str, x: Tensor) -> None:
    """Changing a tensor in place is right only where autograd cannot look (reentrant checkpointing runs its first
    forward without grad mode on tensors that require grad, and again later: in place it would act twice)."""
    if torch.is_grad_enabled() or x.requires_grad:
        raise FreeUValueError(
            f"inplace=True needs torch.no_grad() and a {name} that does not require grad "
            f"(grad mode {torch.is_grad_enabled()}, requires_grad {x.requires_grad}): use inplace=False"
        )


def is_one(value: float | Tensor) -> bool:
    """True for the number 1; a tensor's value is not read, since it may change later."""
    return not isinstance(value, Tensor) and value == 1.0


def plain_size(size: int) -> int:
    """A height or width as a plain number.

    Under a compiler with dynamic shapes a size is a symbol, while the low band is a table for one size. Bisection asks
    the compiler yes-or-no questions until one number is left: it settles on that, and compiles again for another.
    """
    if not torch.compiler.is_compiling():
        return size
    low, high = 1, 1 << 20
    while low < high:
        middle = (low + high) // 2
        if size <= middle:
            high = middle
        else:
            low = middle + 1
    return low


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def channel_chunks(x: Tensor, channels: int, elements: int) -> Iterator[slice]:
    """Slices over the channels of x that hold about a cache-full of elements each; one slice while compiling, where
    the compiler fuses the widening itself.

    Args:
        x: decides the device.
        channels: number of channels.
        elements: elements per channel over the whole batch.
    """
    limit = _CHUNK_CPU if x.device.type == "cpu" else _CHUNK_DEVICE
    step = channels if torch.compiler.is_compiling() else max(1, limit // max(1, elements))
    for start in range(0, channels, step):
        yield slice(start, min(start + step, channels))
