"""When guidance acts and what it does to low and high frequencies, as one frozen value. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from freeu.errors import FreeUValueError, shown
from freeu.schedule import FACTOR_RANGE, UNITS, Schedule, checked_bins, checked_number

PUBLISHED_BINS, PUBLISHED_SIDE = 20, 128
"""FreSca's cutoff in the official code, and the side of SDXL's latents at its own size."""
INTERVAL = "0.2-0.8, timestep:800-200 or sigma:5-0.3"
BANDS = "LOW:HIGH such as 1:1.25, or LOW:HIGH:BINS"

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class FreSca:
    """Gains of the guidance difference eps_cond - eps_uncond by frequency (FreSca, Huang et al., arXiv:2504.02154).

    The filter is that of the official code: a square of the spectrum over height and width, bins -t..t-1 in both
    directions, whose real part is kept.

    Args:
        low, high: gain of the low band and of everything else, each in 0..10; 1 leaves it as it is.
        threshold: t, half of the square's side in frequency bins, at least 1. None takes the published 20 bins for
            latents of 128x128 and as large a share of smaller ones: 10 for 64x64, 5 for 32x32.

    Raises:
        FreeUValueError: a field that is of the wrong type or outside its range, by name.

    >>> FreSca(1.0, 1.25).bins(64, 96)
    10
    """

    low: float
    high: float
    threshold: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", checked_number("low", self.low, *FACTOR_RANGE))
        object.__setattr__(self, "high", checked_number("high", self.high, *FACTOR_RANGE))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", checked_bins("threshold", self.threshold, 1))

    def bins(self, height: int, width: int) -> int:
        """The threshold for latents of a size.

        Raises:
            FreeUValueError: the band is wider than the spectrum.
        """
        side = min(height, width)
        if self.threshold is None:
            return max(1, round(side * PUBLISHED_BINS / PUBLISHED_SIDE))
        if self.threshold > max(1, side // 2):
            raise FreeUValueError(
                f"FreSca's threshold of {self.threshold} bins is too much for latents of {width}x{height}: use at "
                f"most {max(1, side // 2)}"
            )
        return self.threshold

    @classmethod
    def parse(cls, text: str) -> FreSca:
        """Read "LOW:HIGH" or "LOW:HIGH:BINS", which ``str`` gives.

        >>> FreSca.parse("1:1.25:5")
        FreSca(low=1.0, high=1.25, threshold=5)
        """
        found = re.fullmatch(rf"({_NUMBER}):({_NUMBER})(?::(\d{{1,9}}))?", text.strip())
        if found is None:
            raise FreeUValueError(f"FreSca must be {BANDS}, got {shown(text)}")
        low, high, threshold = found.groups()
        return cls(float(low), float(high), None if threshold is None else int(threshold))

    def __str__(self) -> str:
        text = f"{_plain(self.low)}:{_plain(self.high)}"
        return text if self.threshold is None else f"{text}:{self.threshold}"


@dataclass(frozen=True)
class Guiding:
    """What is done to classifier-free guidance.

    Args:
        interval: when guidance acts (Kynkaanniemi et al. 2024, arXiv:2404.07724); elsewhere the prediction with the
            prompt is used alone, as at CFG scale 1. Without a ramp. None means always.
        fresca: what it does to low and high frequencies, or None.

    Raises:
        FreeUValueError: an interval with a ramp.

    >>> Guiding(Schedule(0.2, 0.8)).identity, Guiding(fresca=FreSca(1.0, 1.0)).identity
    (False, True)
    """

    interval: Schedule | None = None
    fresca: FreSca | None = None

    def __post_init__(self) -> None:
        if self.interval is not None and self.interval.ramp != 0.0:
            raise FreeUValueError(f"a guidance interval has no ramp, got ramp={self.interval.ramp:g}")

    @property
    def identity(self) -> bool:
        """Whether nothing is changed whatever the model."""
        return not self.limited and (self.fresca is None or self.fresca.low == self.fresca.high == 1.0)

    @property
    def limited(self) -> bool:
        """Whether guidance may rest at some steps."""
        return self.interval is not None and not self.interval.whole

    @property
    def text(self) -> str:
        """What to tell people of it, in one line."""
        parts = [f"guidance interval {interval_text(self.interval)}"] if self.interval is not None else []
        return " and ".join([*parts, *([f"FreSca {self.fresca}"] if self.fresca is not None else [])])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without what is not set; ``from_dict`` gives back an equal value."""
        found: dict[str, Any] = {}
        if self.interval is not None:
            found["interval"] = {name: getattr(self.interval, name) for name in ("start", "end", "unit")}
        if self.fresca is not None:
            found["fresca"] = asdict(self.fresca)
        return found

    @classmethod
    def from_dict(cls, data: Any) -> Guiding:
        """Read what ``to_dict`` gave. Errors name the field."""
        known = {"interval": {"start", "end", "unit"}, "fresca": {"low", "high", "threshold"}}
        if not isinstance(data, Mapping) or not data or not data.keys() <= known.keys():
            raise FreeUValueError("guiding must have interval, fresca or both, and nothing else")
        for name, value in data.items():
            if not isinstance(value, Mapping) or value.keys() != known[name]:
                raise FreeUValueError(f"guiding.{name} must have the fields {', '.join(sorted(known[name]))}")
        return cls(
            Schedule(**data["interval"]) if "interval" in data else None,
            FreSca(**data["fresca"]) if "fresca" in data else None,
        )


def parse_interval(text: str) -> Schedule:
    """Read an interval, "0.2-0.8" of the steps, "timestep:800-200" or "sigma:5-0.3", from its first step on.

    The first number is the beginning and belongs to it, the second the end and does not; both as in ``Schedule``.

    Raises:
        FreeUValueError: it is none; the beginning does not come before the end.

    >>> parse_interval("sigma:5-0.3")
    Schedule(start=5.0, end=0.3, ramp=0.0, unit='sigma')
    """
    found = re.fullmatch(rf"(?:({'|'.join(UNITS)}):)?({_NUMBER})-({_NUMBER})", text.strip())
    if found is None:
        raise FreeUValueError(f"a guidance interval must look like {INTERVAL}, got {shown(text)}")
    unit, start, end = found.groups()
    return Schedule(float(start), float(end), unit=unit or "fraction")


def interval_text(interval: Schedule) -> str:
    """What ``parse_interval`` reads back."""
    unit = "" if interval.unit == "fraction" else f"{interval.unit}:"
    return f"{unit}{_plain(interval.start)}-{_plain(interval.end)}"


def _plain(number: float) -> str:
    """As short as it can be without losing a digit."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)
