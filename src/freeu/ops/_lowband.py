"""The projection onto a low-frequency band as real matrices: no FFT and no complex numbers.

The published mask multiplies a set of frequency bins by s and keeps the real part of the inverse transform. The real
part acts on a real signal like the mask's Hermitian half, M_e(k) = (M(k) + M(-k)) / 2, so the filter is

    y = x + (s - 1) * L x,    L = sum over pairs {k, -k} of M_e(k) * (projection onto cos and sin of k),

which skinny matrix products compute. On small maps L = U U^T with U of shape (H*W, rank), rank 7 for the published
threshold 1; on larger ones, and for bands of high rank, rows and columns are transformed one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from freeu.config import DC, MASKS
from freeu.errors import FreeUValueError, shown, unknown_name
from freeu.ops._checks import unrecorded

# Up to about this many pixels the dense form is faster, above it the separable one: the two cross between 14x14 and
# 16x16 (measured: benchmarks/bench_skip.py --forms).
DENSE_PIXELS = 200
# Up to this many coefficients a channel they are weighed by one matrix.
MIXING_SIZE = 64
_CACHE_SIZE = 128
_cache: dict[tuple[object, ...], Dense | Separable] = {}


@dataclass(frozen=True, eq=False, repr=False)
class Dense:
    """L = u^T u, with ``u`` of shape (rank, H*W)."""

    u: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Separable:
    """L x = rows^T (a * q + b * swap(q)) columns with q = rows x columns^T.

    ``rows`` (p, H) and ``columns`` (r, W) hold orthonormal cosines and sines of each axis. ``a`` and ``b`` (p, r, 1)
    weigh their products; ``b`` couples cos-cos with sin-sin and sin-cos with cos-sin where the band is not its own
    mirror image along one axis, and is None elsewhere. ``swap_rows`` (p,) and ``swap_columns`` (r,) exchange cosine and
    sine of one frequency. p and r are padded with zeros to multiples of 4, which matrix products are fast at.
    """

    rows: Tensor
    columns: Tensor
    a: Tensor
    b: Tensor | None
    swap_rows: Tensor
    swap_columns: Tensor
    mixing: Tensor | None  # (p * r, p * r): the same weighing as one matrix, for narrow bands, where it is quicker

    def mix(self, q: Tensor) -> Tensor:
        """Weigh the coefficients: (B, p, r, C) to (B, p, r, C)."""
        if self.mixing is not None:
            return torch.bmm(self.mixing.expand(q.shape[0], -1, -1), q.flatten(1, 2)).view(q.shape)
        mixed = q * self.a
        return mixed if self.b is None else mixed + q[:, self.swap_rows][:, :, self.swap_columns] * self.b


def check_band(height: int, width: int, threshold: int, mask: str, dc: str = "scale") -> None:
    """A threshold is a whole number of at least 1; above 1 the band must fit the map."""
    if mask not in MASKS:
        raise unknown_name("mask", mask, MASKS)
    if dc not in DC:
        raise unknown_name("dc", dc, DC)
    if isinstance(threshold, bool) or not isinstance(threshold, int):
        raise FreeUValueError(f"threshold must be a whole number of frequency bins, got {shown(threshold)}")
    if threshold < 1:
        raise FreeUValueError(f"threshold must be at least 1 frequency bin, got {threshold}")
    # An axis of one pixel has one frequency, which every band holds: a map (1, L) is one of a single dimension.
    shortest = max(height, width) if min(height, width) == 1 else min(height, width)
    if threshold > 1 and 2 * threshold > shortest:
        raise FreeUValueError(
            f"threshold {threshold} covers {2 * threshold} frequency bins a side and would wrap round the "
            f"{height}x{width} map: use a threshold of at most {max(1, shortest // 2)}"
        )


def low_band_operator(
    height: int, width: int, threshold: int, mask: str, dc: str, dtype: torch.dtype, device: torch.device
) -> Dense | Separable:
    """The operator L of a band, from a bounded cache per (size, band, dtype, device).

    ``dc`` says of each channel's mean, the bin (0, 0), whether it belongs to the band ("scale"), does not ("keep"), or
    is all of it ("only").

    Nothing is cached while a compiler or a fake-tensor mode traces: what they make must not outlive them.
    """
    if torch.compiler.is_compiling():
        return _build(height, width, threshold, mask, dc, dtype, device)
    key = (height, width, threshold, mask, dc, dtype, device)
    found = _cache.get(key)
    if found is None:
        # Tensors made in inference mode could never be saved for a backward pass later.
        with unrecorded(), torch.inference_mode(False), torch.no_grad():
            found = _build(height, width, threshold, mask, dc, dtype, device)
        if type(found.u if isinstance(found, Dense) else found.a) is torch.Tensor:
            while len(_cache) >= _CACHE_SIZE:
                _cache.pop(next(iter(_cache)))
            _cache[key] = found
    return found


def _membership(height: int, width: int, threshold: int, mask: str) -> Callable[[int, int], float]:
    """M(ky, kx) for signed frequencies, each reduced to its representative in [-n/2, n/2)."""
    t = threshold

    def signed(k: int, n: int) -> int:
        return (k + n // 2) % n - n // 2

    def inside(k: int, n: int) -> bool:
        # The window [-t, t) as a set modulo n: on a map of 1 or 2 pixels several of its bins coincide.
        return (k + t) % n < 2 * t

    def member(ky: int, kx: int) -> float:
        if mask == "window":
            return float(inside(ky, height) and inside(kx, width))
        y, x = signed(ky, height), signed(kx, width)
        if mask == "radial":
            return float(y * y + x * x < t * t)
        if mask == "symmetric":
            return float(abs(y) <= t and abs(x) <= t)
        return math.exp(-(y * y + x * x) / (2.0 * t * t))

    return member


def _build(
    height: int, width: int, threshold: int, mask: str, dc: str, dtype: torch.dtype, device: torch.device
) -> Dense | Separable:
    member = _membership(height, width, threshold, mask)
    reach = max(height, width) if mask == "gaussian" else threshold

    def half(ky: int, kx: int) -> float:
        if dc == "keep" and ky % height == 0 and kx % width == 0:
            return 0.0
        return 0.5 * (member(ky, kx) + member(-ky, -kx))

    def cast(x: Tensor) -> Tensor:
        return x.to(dtype).to(device)  # in this order: some devices have no float64

    if dc == "only":  # the mean belongs to every mask, with weight 1
        return Dense(cast(_dense(height, width, [(0, 0, 1.0, True)])))
    if mask != "gaussian" and height * width <= DENSE_PIXELS:
        return Dense(cast(_dense(height, width, _pairs(height, width, reach, half))))
    rows, row_names = _axis(height, reach)
    columns, column_names = _axis(width, reach)
    weights = _weights(row_names, column_names, half)
    if not any(any(pair) for line in weights for pair in line):
        return Dense(cast(_dense(height, width, [])))

    def table(which: int) -> Tensor:
        lines = [[pair[which] for pair in line] for line in weights]
        return cast(torch.tensor(lines, dtype=torch.float64, device="cpu")[:, :, None])

    def swap(names: list[tuple[int, str]]) -> Tensor:
        other = {"cos": "sin", "sin": "cos", "pad": "pad"}
        place = {name: i for i, name in enumerate(names)}
        return torch.tensor([place.get((k, other[f]), i) for i, (k, f) in enumerate(names)], device=device)

    coupled = any(pair[1] != 0.0 for line in weights for pair in line)
    band = Separable(
        cast(rows), cast(columns), table(0), table(1) if coupled else None, swap(row_names), swap(column_names), None
    )
    size = len(row_names) * len(column_names)
    if size > MIXING_SIZE:
        return band
    unit = torch.eye(size, dtype=dtype, device=device).view(1, len(row_names), len(column_names), size)
    mixing = band.mix(unit).view(size, size)
    # Not by dataclasses.replace, which compilers of older torch do not trace.
    return Separable(band.rows, band.columns, band.a, band.b, band.swap_rows, band.swap_columns, mixing)


def _pairs(
    height: int, width: int, reach: int, half: Callable[[int, int], float]
) -> list[tuple[int, int, float, bool]]:
    """One bin (ky, kx) of each mirrored pair with its weight, and whether it is its own mirror image."""
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            here, mirror = (y % height, x % width), (-y % height, -x % width)
            weight = half(y, x)
            if weight > 0.0 and mirror not in found:
                found[here] = (weight, here == mirror)
    return [(ky, kx, weight, own) for (ky, kx), (weight, own) in found.items()]


def _dense(height: int, width: int, pairs: list[tuple[int, int, float, bool]]) -> Tensor:
    y = torch.arange(height, dtype=torch.float64, device="cpu")[:, None]
    x = torch.arange(width, dtype=torch.float64, device="cpu")[None, :]
    images = []
    for ky, kx, weight, own in pairs:
        # Whole turns are taken off before the cosine, so that float64 keeps its accuracy on long axes.
        angle = 2.0 * math.pi * ((ky * y) % height / height + (kx * x) % width / width)
        scale = math.sqrt(weight * (1 if own else 2) / (height * width))
        images.append(scale * torch.cos(angle))
        if not own:
            images.append(scale * torch.sin(angle))
    if not images:  # a band of nothing but the mean that was taken out of it
        images.append(torch.zeros(height, width, dtype=torch.float64, device="cpu"))
    return torch.stack([image.flatten() for image in images])


def _axis(n: int, reach: int) -> tuple[Tensor, list[tuple[int, str]]]:
    """Orthonormal cosines and sines of one axis as rows (p, n) with their names, padded to a multiple of 4."""
    t = torch.arange(n, dtype=torch.float64, device="cpu")
    lines, names = [], []
    for k in range(min(reach, n // 2) + 1):
        own = (2 * k) % n == 0
        angle = 2.0 * math.pi * ((k * t) % n) / n
        scale = math.sqrt((1 if own else 2) / n)
        lines.append(scale * torch.cos(angle))
        names.append((k, "cos"))
        if not own:
            lines.append(scale * torch.sin(angle))
            names.append((k, "sin"))
    while len(lines) % 4:
        names.append((len(lines), "pad"))
        lines.append(torch.zeros_like(t))
    return torch.stack(lines), names


def _weights(
    rows: list[tuple[int, str]], columns: list[tuple[int, str]], half: Callable[[int, int], float]
) -> list[list[tuple[float, float]]]:
    """Weights (own, swapped) of the products of row and column functions.

    cos(p+q) = cc - ss and sin(p+q) = sc + cs carry M_e(k, l); cos(p-q) = cc + ss and sin(p-q) = sc - cs carry
    M_e(k, -l). In the basis of products this is their mean on the diagonal, and half their difference between a
    product and its swapped one, with opposite signs for (cc, ss) and (sc, cs).
    """
    table = []
    for k, f in rows:
        line = []
        for m, g in columns:
            if "pad" in (f, g):
                line.append((0.0, 0.0))
                continue
            plus, minus = half(k, m), half(k, -m)
            line.append((0.5 * (plus + minus), 0.5 * (minus - plus) * (1.0 if f == g else -1.0)))
        table.append(line)
    return table
