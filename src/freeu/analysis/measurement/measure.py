"""Fourier measures of images, latents and features: numbers only, no plotting.

Frequencies are angular, 0 to pi, where pi is the Nyquist frequency along an axis; a radius beyond pi lies in the
corners of the spectrum. Features may have any leading dimensions: each (H, W) plane is transformed separately, and
means are over planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freeu.errors import FreeUValueError

if TYPE_CHECKING:
    from jaxtyping import Float

Floats = NDArray[np.float64]

FORMS = ("radial", "diagonal")
_FLOOR = 1e-6  # amplitudes below this fraction of a plane's largest are rounding errors of float32


@dataclass(frozen=True)
class Curve:
    """A measure over frequency.

    Args:
        frequency: 0..pi, ascending, beginning with 0.
        value: at each of them.
    """

    frequency: Floats
    value: Floats


def radius(height: int, width: int) -> Floats:
    """Angular frequency of every bin of ``torch.fft.rfft2``, shape (H, W // 2 + 1), 0..sqrt(2) pi."""
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.rfftfreq(width)[None]
    return np.asarray(2.0 * math.pi * np.hypot(rows, columns))


def fourier_split(
    x: Float[Tensor, "*planes h w"], threshold: float
) -> tuple[Float[Tensor, "*planes h w"], Float[Tensor, "*planes h w"]]:
    """The low and the high frequencies of every plane (Fig. 3 of the paper: inverse Fourier transforms of both).

    Args:
        x: real, shape (..., H, W); any float dtype, at least float32 is used inside.
        threshold: angular frequency, above 0; bins of smaller radius are low. Above sqrt(2) pi all of them are.

    Returns:
        low and high, like ``x``; they add up to ``x``.

    Raises:
        FreeUValueError: not real planes, or a threshold that is not positive.

    >>> import torch
    >>> x = torch.rand(1, 8, 8)
    >>> low, high = fourier_split(x, 1.0)
    >>> torch.allclose(low + high, x, atol=1e-5)
    True
    """
    values = _planes(x)
    if not (math.isfinite(threshold) and threshold > 0.0):
        raise FreeUValueError(f"threshold must be an angular frequency above 0 (pi is Nyquist), got {threshold}")
    height, width = values.shape[-2:]
    low_bins = torch.from_numpy(radius(height, width) < threshold).to(values.device)
    low = torch.fft.irfft2(torch.fft.rfft2(values) * low_bins, s=(height, width))
    return low.to(x.dtype), (values - low).to(x.dtype)


def channel_mean(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Mean over channels (Eq. 2 of the paper; Figs. 8 and 14): (B, C, H, W) to (B, H, W), in float32 at least.

    Raises:
        FreeUValueError: not four dimensions.

    >>> import torch
    >>> channel_mean(torch.ones(1, 4, 2, 2)).shape
    torch.Size([1, 2, 2])
    """
    if x.dim() != 4:
        raise FreeUValueError(f"features must have the shape (B, C, H, W), got {tuple(x.shape)}")
    return _planes(x).mean(dim=1)


class SpectrumSum:
    """Running sums of spectra: the memory of two planes, however many are added. All planes must have one size."""

    def __init__(self) -> None:
        self.planes = 0
        self._logs = 0
        self._log: Floats | None = None
        self._power: Floats | None = None
        self._size = (0, 0)

    def add(self, x: Tensor) -> SpectrumSum:
        """Add every plane of ``x``, shape (..., H, W), real.

        Raises:
            FreeUValueError: not real planes, values that are not finite, or another size than before.
        """
        values = _planes(x)
        height, width = values.shape[-2:]
        if self._power is not None and (height, width) != self._size:
            raise FreeUValueError(f"planes of {height}x{width} cannot be added to those of {_by(self._size)}")
        amplitude = torch.fft.rfft2(values.reshape(-1, height, width)).abs()
        if not bool(torch.isfinite(amplitude).all()):
            raise FreeUValueError("features hold values that are not finite: there is no spectrum")
        largest = amplitude.amax(dim=(1, 2), keepdim=True)
        # A plane of zeros has power 0 and no log amplitude.
        filled = amplitude[largest.flatten() > 0.0]
        logs = torch.maximum(filled, _FLOOR * filled.amax(dim=(1, 2), keepdim=True) if len(filled) else filled).log()
        power = amplitude.square().sum(dim=0).double().cpu().numpy() / (height * width) ** 2
        log = logs.sum(dim=0).double().cpu().numpy()
        self._log = log if self._log is None else self._log + log
        self._power = power if self._power is None else self._power + power
        self._size = (height, width)
        self.planes += len(amplitude)
        self._logs += len(filled)
        return self

    def relative_log_amplitude(self, form: str = "radial") -> Curve:
        """Mean log amplitude of the spectrum relative to that at frequency 0 (Figs. 4, 6, 7, 13; Park & Kim 2022).

        Args:
            form: "radial" averages over all directions, a ring for each multiple of the lowest frequency of the shorter
                side; "diagonal" takes the bins (k, k) as Park & Kim do, who leave the Nyquist frequency out.

        Raises:
            FreeUValueError: another form, nothing but zeros was added, or planes below 2x2.
        """
        log = self._mean_log()
        count = min(self._size) // 2
        if count < 1:
            raise FreeUValueError(f"a spectrum needs planes of at least 2x2, got {_by(self._size)}")
        if form == "radial":
            bins, mean = self._rings(log, count)
        elif form == "diagonal":
            height, width = self._size
            steps = np.arange(count)
            rows = np.round(steps * height / (2 * count)).astype(int)
            columns = np.round(steps * width / (2 * count)).astype(int)
            bins, mean = steps * math.pi / count, log[rows, columns]
        else:
            raise FreeUValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        return Curve(bins, mean - log[0, 0])

    def band_shares(self, edges: Sequence[float] = (math.pi / 4, math.pi / 2), mean: bool = True) -> Floats:
        """Shares of the power in the bands [0, e1), [e1, e2) ... [en, corner]; they sum to 1.

        Args:
            edges: angular frequencies, ascending, above 0.
            mean: whether the frequency 0 belongs to the first band or is left out altogether.

        Raises:
            FreeUValueError: edges that do not ascend; no power at all.
        """
        if not edges or any(a >= b for a, b in zip([0.0, *edges], edges, strict=False)):
            raise FreeUValueError(f"edges of bands must ascend from above 0, got {list(edges)}")
        power = self.power()
        if not mean:
            power[0, 0] = 0.0
        band = np.searchsorted(np.asarray(edges), radius(*self._size), side="right")
        shares = np.bincount(band.ravel(), weights=(power * _copies(self._size)).ravel(), minlength=len(edges) + 1)
        if shares.sum() <= 0.0:
            raise FreeUValueError("the planes have no power in these bands: they are constant or zero")
        return np.asarray(shares / shares.sum())

    def power(self) -> Floats:
        """Mean power in every bin of ``torch.fft.rfft2``; with each mirrored bin counted, it sums to the mean square.

        Raises:
            FreeUValueError: nothing was added.
        """
        if self._power is None:
            raise FreeUValueError("no plane was added: there is no spectrum")
        return self._power / self.planes

    def energy(self) -> float:
        """Mean square of all values (Parseval's theorem)."""
        return float((self.power() * _copies(self._size)).sum())

    def _mean_log(self) -> Floats:
        if self._log is None or not self._logs:
            raise FreeUValueError("no plane with a value other than 0 was added: zero has no logarithm")
        return self._log / self._logs

    def _rings(self, values: Floats, count: int) -> tuple[Floats, Floats]:
        """Mean radius and mean value of the rings 0..count; the corners beyond pi are left out."""
        distance, weights = radius(*self._size), _copies(self._size)
        ring = np.round(distance * count / math.pi).astype(int)
        inside = (ring <= count) & (distance <= math.pi * (1.0 + 1e-12))
        pick = ring[inside]
        each = np.bincount(pick, weights=weights[inside])
        bins = np.bincount(pick, weights=(weights * distance)[inside]) / each
        return bins, np.bincount(pick, weights=(weights * values)[inside]) / each


class TransferSum:
    """The gain of a filter at every frequency, from its inputs and outputs, by least squares over planes."""

    def __init__(self) -> None:
        self._cross: Tensor | None = None
        self._power: Tensor | None = None
        self._size = (0, 0)

    def add(self, before: Tensor, after: Tensor) -> TransferSum:
        """Add planes and the same planes after the filter, both (..., H, W).

        Raises:
            FreeUValueError: their shapes differ, from each other or from what was added before.
        """
        if before.shape != after.shape:
            raise FreeUValueError(f"before and after must have one shape, got {_by(before.shape)}, {_by(after.shape)}")
        size = (before.shape[-2], before.shape[-1])
        if self._power is not None and size != self._size:
            raise FreeUValueError(f"planes of {_by(size)} cannot be added to those of {_by(self._size)}")
        went, came = (torch.fft.rfft2(_planes(x).reshape(-1, *size).double().cpu()) for x in (before, after))
        cross, power = (came * went.conj()).sum(dim=0), went.abs().square().sum(dim=0)
        self._cross = cross if self._cross is None else self._cross + cross
        self._power = power if self._power is None else self._power + power
        self._size = size
        return self

    def gains(self) -> NDArray[np.complex128]:
        """The gain of each bin of ``torch.fft.fft2``, shape (H, W); NaN where the input has no power.

        Raises:
            FreeUValueError: nothing was added.
        """
        if self._cross is None or self._power is None:
            raise FreeUValueError("no plane was added: there is no gain")
        height, width = self._size
        half = torch.where(self._power > 0.0, self._cross / self._power, torch.nan).numpy()
        whole = np.empty((height, width), dtype=np.complex128)
        whole[:, : width // 2 + 1] = half
        rows, columns = np.meshgrid(np.arange(height), np.arange(width // 2 + 1, width), indexing="ij")
        whole[rows, columns] = half[-rows % height, -columns % width].conj()
        return whole


def power_law(curve: Curve, low: float = 0.0, high: float = math.pi) -> float:
    """The exponent of the power law amplitude ~ frequency^exponent that best fits a curve of log amplitudes.

    Args:
        curve: of ``SpectrumSum.relative_log_amplitude``; frequency 0 is ignored.
        low, high: the range of angular frequencies, both included.

    Raises:
        FreeUValueError: fewer than two frequencies lie in that range.

    >>> import torch
    >>> x = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> power_law(spectrum(x).curve, 0.5, 3.0) < 0.5
    True
    """
    inside = (curve.frequency > 0.0) & (curve.frequency >= low) & (curve.frequency <= high)
    if inside.sum() < 2:
        raise FreeUValueError(f"a slope needs two frequencies between {low:g} and {high:g}, got {int(inside.sum())}")
    slope, _ = np.polyfit(np.log(curve.frequency[inside]), curve.value[inside], 1)
    return float(slope)


def _planes(x: Tensor) -> Tensor:
    """Real planes in float32 at least."""
    if x.dim() < 2 or 0 in x.shape:
        raise FreeUValueError(f"expected planes of shape (..., H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise FreeUValueError(f"expected real floating-point values, got {x.dtype}")
    return x.detach() if x.dtype == torch.float64 else x.detach().float()


def _copies(size: tuple[int, int]) -> Floats:
    """How many bins of the full spectrum a bin of ``rfft2`` represents: 2, or 1 in a self-conjugate column."""
    height, width = size
    copies = np.full(width // 2 + 1, 2.0)
    copies[0] = 1.0
    if width % 2 == 0:
        copies[-1] = 1.0
    return np.broadcast_to(copies, (height, width // 2 + 1))


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Spectrum:
    """A spectrum as it is kept.

    Args:
        curve: relative log amplitude.
        energy: mean square of the values.
        shares: of the power in the low, middle and high band, frequency 0 left out; None without any such power.
    """

    curve: Curve
    energy: float
    shares: tuple[float, float, float] | None

    @property
    def high(self) -> float:
        """Mean of the curve over the upper half of the frequencies, at and beyond pi / 2."""
        return float(self.curve.value[self.curve.frequency >= math.pi / 2].mean())


def spectrum(x: Tensor | SpectrumSum, form: str = "radial") -> Spectrum:
    """Curve, energy and band shares of planes (..., H, W), or of a sum of them.

    Raises:
        FreeUValueError: as ``SpectrumSum.add`` and ``relative_log_amplitude``.

    >>> import torch
    >>> curve = spectrum(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))).curve
    >>> curve.frequency.shape == curve.value.shape
    True
    """
    found = x if isinstance(x, SpectrumSum) else SpectrumSum().add(x)
    power = found.power()
    constant = float(power.sum() - power[0, 0]) <= 1e-14 * float(power[0, 0])
    low, middle, high = (0.0, 0.0, 0.0) if constant else map(float, found.band_shares(mean=False))
    return Spectrum(found.relative_log_amplitude(form), found.energy(), None if constant else (low, middle, high))
