"""The factors of one site and the schedule of a generation: what a configuration is made of. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from freeu.errors import FreeUValueError, unknown_name

UNITS = ("fraction", "timestep", "sigma")


def checked_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise FreeUValueError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise FreeUValueError(f"{name} must be finite, got {number}")
    if not low <= number <= high:
        raise FreeUValueError(f"{name} must lie in {low:g} to {high:g}, got {number:g}")
    return number


def checked_choice(name: str, value: object, known: Iterable[Any]) -> Any:
    choices = tuple(known)
    if value not in choices:
        raise unknown_name(name, value, [str(choice) for choice in choices])
    return value


@dataclass(frozen=True)
class Stage:
    """The factors of one decoder concatenation: backbone gain ``b`` and gain ``s`` of the skip's low frequencies.

    >>> Stage(b=1.3, s=0.9).identity
    False
    """

    b: float = 1.0
    s: float = 1.0

    @property
    def identity(self) -> bool:
        return self.b == 1.0 and self.s == 1.0

    def toward_identity(self, weight: float) -> Stage:
        """Interpolate: weight 1 is this stage, 0 the identity (exactly, so that no work is done there).

        >>> Stage(b=1.5, s=0.5).toward_identity(0.5)
        Stage(b=1.25, s=0.75)
        """
        if weight == 1.0:
            return self
        return Stage(1.0 + weight * (self.b - 1.0), 1.0 + weight * (self.s - 1.0))


@dataclass(frozen=True)
class Schedule:
    """When FreeU acts during denoising.

    Args:
        start, end: the interval in which it acts. ``unit="fraction"``: fraction of the denoising steps done, in 0..1,
            ``start < end``. ``unit="timestep"`` or ``"sigma"``: the model's timestep or noise level, which fall during
            denoising, so ``start > end``.
        ramp: width of the smooth (cubic) transition inside each end of the interval, in the same unit; 0 switches
            hard. An end that lies at the very beginning or end of denoising has no transition.
        unit: "fraction", "timestep" or "sigma".

    >>> Schedule(start=0.2, end=0.8).whole
    False
    """

    start: float = 0.0
    end: float = 1.0
    ramp: float = 0.0
    unit: str = "fraction"

    def __post_init__(self) -> None:
        checked_choice("schedule unit", self.unit, UNITS)
        high = 1.0 if self.unit == "fraction" else math.inf
        for name in ("start", "end", "ramp"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name), 0.0, high))
        if self.unit == "fraction" and self.start >= self.end:
            raise FreeUValueError(f"start must be smaller than end, got start={self.start:g} end={self.end:g}")
        if self.unit != "fraction" and self.start <= self.end:
            raise FreeUValueError(
                f"{self.unit} falls during denoising, so start must be larger than end, "
                f"got start={self.start:g} end={self.end:g}"
            )
        if self.ramp > abs(self.end - self.start):
            raise FreeUValueError(
                f"ramp={self.ramp:g} is wider than the interval from {self.start:g} to {self.end:g}: make it smaller"
            )

    @property
    def whole(self) -> bool:
        """True if the schedule covers every step."""
        return self.unit == "fraction" and self.start == 0.0 and self.end == 1.0

    @property
    def rises(self) -> bool:
        """True if there is a transition at ``start`` (not where ``start`` is the beginning of denoising)."""
        return not (self.unit == "fraction" and self.start == 0.0)

    @property
    def falls(self) -> bool:
        """True if there is a transition at ``end`` (not where ``end`` is the end of denoising)."""
        return self.end != (1.0 if self.unit == "fraction" else 0.0)

    def weight(self, position: float) -> float:
        """Weight of FreeU in 0..1 at a position given in the schedule's unit; ``end`` itself is outside.

        >>> [Schedule(end=0.5, ramp=0.2).weight(position) for position in (0.0, 0.4, 0.5)]
        [1.0, 0.4999999999999998, 0.0]
        """
        if self.whole:
            return 1.0
        sign = 1.0 if self.unit == "fraction" else -1.0
        since = sign * (position - self.start)
        left = sign * (self.end - position)
        if (self.rises and since < 0.0) or (self.falls and left <= 0.0):
            return 0.0
        weight = 1.0
        if self.ramp > 0.0:
            if self.rises:
                weight *= _smoothstep(since / self.ramp)
            if self.falls:
                weight *= _smoothstep(left / self.ramp)
        return weight


def _smoothstep(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)
