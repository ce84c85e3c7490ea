"""Checks and small helpers that the operators share."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from freeu.errors import FreeUValueError, shown
from freeu.schedule import checked_number

# Half precision is widened to float32 a few channels at a time: this many elements (1 MiB) stay in the cache of a CPU,
# while a whole feature map would be a second tensor of its size.
_CHUNK_CPU = 1 << 18
_CHUNK_DEVICE = 1 << 20


def tracing() -> bool:
    """Whether torch.jit.trace, or torch.onnx.export by it, writes operations down: sizes are tensors then."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def recording() -> bool:
    """Whether operations are written down for later calls: by torch.compile, torch.export, torch.jit.trace or
    torch.onnx.export."""
    return torch.compiler.is_compiling() or tracing()


def exporting() -> bool:
    """Whether the graph that is recorded leaves this process's objects behind: all but that of torch.compile."""
    # A torch before 2.7 does not tell torch.export from torch.compile.
    return tracing() or getattr(torch.compiler, "is_exporting", bool)()


def check_features(name: str, x: Tensor) -> None:
    """Features are floating-point tensors (B, C, H, W) or (B, C, D, H, W) with at least one pixel."""
    if not isinstance(x, Tensor):
        raise FreeUValueError(f"{name} must be a tensor (B, C, H, W), got {type(x).__name__}")
    if x.dim() not in (4, 5):
        raise FreeUValueError(
            f"{name} must have 4 dimensions (B, C, H, W), got shape {tuple(x.shape)}; volumes have 5 (B, C, D, H, W)"
        )
    if not x.is_floating_point():
        raise FreeUValueError(f"{name} must be a floating-point tensor, got {x.dtype}")
    if any(untraced(size) == 0 for size in x.shape[2:]):
        raise FreeUValueError(f"{name} must have at least one pixel, got shape {tuple(x.shape)}")


def check_factor(name: str, value: float | Tensor) -> None:
    """Factors are finite numbers or tensors with one element and no dimension.

    A value is looked at only where that costs nothing: that of a tensor on the CPU, and none while a graph is recorded
    (a compiler makes a number that changes a symbol, and would build the graph anew for every value asked for).
    """
    if isinstance(value, Tensor):
        if value.dim() != 0:
            raise FreeUValueError(f"{name} as a tensor must be 0-dimensional, got shape {tuple(value.shape)}")
        if recording() or value.device.type != "cpu":
            return
        value = float(value.detach())
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FreeUValueError(f"{name} must be a number or a 0-dimensional tensor, got {shown(value)}")
    if torch.compiler.is_compiling() or (type(value) is float and math.isfinite(value)):
        return  # every site asks in every step: the common case costs little
    checked_number(name, value)


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


def untraced(size: int) -> int:
    """A size as a number. Under torch.jit.trace it is a tensor, and two of one value are different keys."""
    if type(size) is int or not tracing():
        return size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        return int(size)


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """For tables: under torch.jit.trace they are made once, as constants, and not again in every call of the graph."""
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


def plain_size(size: int) -> int:
    """A height or width as a plain number, which a table is made for; a recorded graph is then for this size alone.

    Under a compiler with dynamic shapes a size is a symbol. Bisection asks the compiler yes-or-no questions until one
    number is left: it settles on that, and compiles again for another.
    """
    size = untraced(size)
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
    """Slices over the channels of x that hold about a cache-full of elements each; one slice while a graph is recorded,
    where a compiler fuses the widening itself.

    Args:
        x: decides the device.
        channels: number of channels.
        elements: elements per channel over the whole batch.
    """
    if recording():
        yield slice(0, channels)
        return
    limit = _CHUNK_CPU if x.device.type == "cpu" else _CHUNK_DEVICE
    step = max(1, limit // max(1, elements))
    for start in range(0, channels, step):
        yield slice(start, min(start + step, channels))
