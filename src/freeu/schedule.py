"""The factors of one site and the schedule of a generation: what a configuration is made of, and how its fields are
checked. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, cast

from freeu.errors import FreeUValueError, shown, unknown_name

UNITS = ("fraction", "timestep", "sigma")
FACTOR_RANGE = (0.0, 10.0)
NO_WINDOW = (0.0, 1.0)


def checked_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number of a range.

    Raises:
        FreeUValueError: no number, not finite (nor any that a float can hold), or outside.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise FreeUValueError(f"{name} must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # a whole number or fraction of hundreds of digits
        number = math.inf if cast("int", value) > 0 else -math.inf
    if not math.isfinite(number):
        raise FreeUValueError(f"{name} must be finite, got {number}")
    if not low <= number <= high:
        raise FreeUValueError(f"{name} must lie in {low:g} to {high:g}, got {number:g}")
    return number


def checked_choice(name: str, value: object, known: Iterable[str]) -> str:
    """A name of a closed list; anything else raises ``FreeUValueError`` with the nearest names."""
    choices = tuple(known)
    if not isinstance(value, str) or value not in choices:
        raise unknown_name(name, value, choices)
    return value


def checked_bins(name: str, value: object, least: int) -> int:
    """A whole number of frequency bins, written as an integer or as a float such as 2.0."""
    number = value if isinstance(value, bool) or not isinstance(value, Real) else checked_number(name, value)
    if isinstance(number, bool) or not isinstance(number, float) or number != math.floor(number):
        raise FreeUValueError(f"{name} must be a whole number of frequency bins, got {shown(value)}")
    if number < least:
        raise FreeUValueError(f"{name} must be at least {least} frequency bin{'' if least else 's'}, got {number:g}")
    return int(number)


def checked_strengths(name: str, value: object) -> tuple[float, ...]:
    """Strengths in 0..1, as a tuple."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise FreeUValueError(f"{name} must be a tuple of strengths such as (1, 0.5), got {shown(value)}")
    return tuple(checked_number(name, strength, 0.0, 1.0) for strength in value)


def checked_window(name: str, value: object, schedule: Schedule) -> tuple[float, float]:
    """A window in time within a schedule, in its unit and with its ramp; (0, 1) is none of its own in every unit.

    Raises:
        FreeUValueError: no pair of numbers, out of range or order, narrower than the ramp, or nothing of it lies
            within the schedule.
    """
    two = value if isinstance(value, (tuple, list)) and len(value) == 2 else None
    if two is None:
        raise FreeUValueError(f"{name} must be a pair (start, end), got {shown(value)}")
    high = 1.0 if schedule.unit == "fraction" else math.inf
    start, end = (checked_number(name, number, 0.0, high) for number in two)
    if (start, end) == NO_WINDOW:
        return NO_WINDOW
    falling = schedule.unit != "fraction"
    if not falling and start >= end:
        raise FreeUValueError(f"{name} must begin before it ends, got ({start:g}, {end:g})")
    if falling and start <= end:
        raise FreeUValueError(
            f"{schedule.unit} falls during denoising, so {name} must begin above its end, got ({start:g}, {end:g})"
        )
    if schedule.ramp > abs(end - start) and not math.isclose(schedule.ramp, abs(end - start), rel_tol=1e-9):
        raise FreeUValueError(f"ramp={schedule.ramp:g} is wider than {name}=({start:g}, {end:g}): make it smaller")
    sign = -1.0 if falling else 1.0
    if not max(sign * start, sign * schedule.start) < min(sign * end, sign * schedule.end):
        raise FreeUValueError(
            f"{name}=({start:g}, {end:g}) leaves nothing of the interval from {schedule.start:g} to "
            f"{schedule.end:g}, which bounds it: let the two overlap"
        )
    return (start, end)


def checked_ends(name: str, value: object) -> tuple[float, ...]:
    """No gains, or a pair of gains at the first and the last site, as a tuple."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise FreeUValueError(f"{name} must be a pair of gains such as (0.5, 1), got {shown(value)}")
    ends = tuple(checked_number(name, gain, *FACTOR_RANGE) for gain in value)
    if len(ends) not in (0, 2):
        raise FreeUValueError(
            f"{name} must hold the gains of the lowest and the highest site, such as (0.5, 1), got {shown(ends)}"
        )
    return ends


def site_factors(sites: object) -> dict[str, Stage]:
    """Factors by site path, from a mapping or pairs of path and ``Stage``, (b, s) or (b, s, g)."""
    items = sites.items() if isinstance(sites, Mapping) else sites
    found: dict[str, Stage] = {}
    expected = "sites must map the path of a site to its (b, s) or (b, s, g)"
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise FreeUValueError(f"{expected}, got {shown(sites)}")
    for item in items:
        path, own = item if isinstance(item, (tuple, list)) and len(item) == 2 else (None, item)
        given = (own.b, own.s, own.g) if isinstance(own, Stage) else own
        if not isinstance(path, str) or not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise FreeUValueError(f"{expected}, got {shown(item)}")
        numbers = zip("bsg", given, strict=False)
        found[path] = Stage(*[checked_number(f"{name} of {path}", value, *FACTOR_RANGE) for name, value in numbers])
    return found


def stage_factors(name: str, value: object, overrides: dict[str, Stage], short: str = "") -> tuple[float, ...] | None:
    """Factors by stage; those of single sites go into ``overrides``. None if no stage was named.

    Args:
        name: of the configuration's field.
        value: a sequence, or a mapping from stage or site path.
        overrides: the factors of single sites, which are changed.
        short: what the factor is called in a ``Stage``, if that is not ``name``.
    """
    short = short or name
    if value is None:
        return None
    if isinstance(value, Mapping):
        stages: dict[int, float] = {}
        for key, factor in value.items():
            number = checked_number(f"{name}[{shown(key)}]", factor, *FACTOR_RANGE)
            if isinstance(key, str):
                overrides[key] = replace(overrides.get(key, Stage()), **{short: number})
            elif key in (1, 2, 3) and not isinstance(key, bool):
                stages[int(key)] = number
            else:
                raise FreeUValueError(f"{name} has no stage {shown(key)}: use 1, 2, 3 or a site's path")
        count = max((*stages, 2)) if stages else 0
        return tuple(stages.get(stage, 1.0) for stage in range(1, count + 1)) or None
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise FreeUValueError(
            f"{name} must be a tuple with one factor per stage, such as (1.3, 1.4), got {shown(value)}"
        )
    factors = tuple(checked_number(f"{short}{i}", factor, *FACTOR_RANGE) for i, factor in enumerate(value, start=1))
    if len(factors) not in (2, 3):
        raise FreeUValueError(f"{name} must hold 2 or 3 factors, one per stage, got {len(factors)}: {shown(factors)}")
    return factors


@dataclass(frozen=True)
class Stage:
    """The factors of one decoder concatenation: backbone gain ``b``, gain ``s`` of the skip's low frequencies, and gain
    ``g`` of the whole skip, which multiplies ``s`` and ``high_gain``.

    >>> Stage(b=1.3, s=0.9).identity
    False
    """

    b: float = 1.0
    s: float = 1.0
    g: float = 1.0

    @property
    def identity(self) -> bool:
        return self.b == 1.0 and self.s == 1.0 and self.g == 1.0

    def toward_identity(self, weight: float, skip_weight: float | None = None) -> Stage:
        """Interpolate each factor: weight 1 is this stage, 0 the identity (exactly, so that no work is done there).

        Args:
            weight: of every factor.
            skip_weight: of ``s`` and ``g``, if it is another one.

        >>> Stage(b=1.5, s=0.5).toward_identity(0.5)
        Stage(b=1.25, s=0.75, g=1.0)
        """
        skip_weight = weight if skip_weight is None else skip_weight
        if weight == 1.0 == skip_weight:
            return self
        return Stage(
            1.0 + weight * (self.b - 1.0), 1.0 + skip_weight * (self.s - 1.0), 1.0 + skip_weight * (self.g - 1.0)
        )


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
        width = abs(self.end - self.start)
        # 0.6 - 0.2 is a hair less than 0.4, and a ramp as wide as the interval is fine.
        if self.ramp > width and not math.isclose(self.ramp, width, rel_tol=1e-9):
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


BY_STAGE = frozenset(f"{factor}{stage}" for factor in "bs" for stage in (1, 2, 3))
"""How diffusers and other tools name the factors."""


def joined(named: Mapping[str, Any], stages: Sequence[Stage] = ()) -> dict[str, Any]:
    """Arguments in which b1, b2 ... have become one mapping b of stages, and s1 ... one mapping s.

    Args:
        named: arguments by name; others stay.
        stages: factors of the stages that are not named; 1 without.

    Raises:
        FreeUValueError: both b and b1, or s and s1.

    >>> joined({"b1": 1.3, "end": 0.5}, (Stage(1.1, 0.9), Stage(1.2, 0.2)))
    {'end': 0.5, 'b': {1: 1.3, 2: 1.2}}
    """
    found = {name: value for name, value in named.items() if name not in BY_STAGE}
    for factor in "bs":
        own = {int(name[1]): named[name] for name in sorted(named.keys() & BY_STAGE) if name[0] == factor}
        if own and factor in named:
            raise FreeUValueError(f"{factor}={named[factor]!r} and {factor}{min(own)} say the same thing twice")
        if own:
            found[factor] = {place: getattr(stage, factor) for place, stage in enumerate(stages, 1)} | own
    return found
