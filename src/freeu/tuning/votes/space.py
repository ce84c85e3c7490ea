"""The settings that a search by votes may try: fewer than the automatic one varies, since a person gives few votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.config import FreeUConfig
from freeu.evaluate.experiment.arms import BASELINE, Arm
from freeu.tuning.space import SKIP, B, FreeUSpace, S

Floats = NDArray[np.float64]
Settings = Mapping[str, float]
"""Factors by name; those of plain sampling are all 1."""

RANGES: dict[str, tuple[tuple[float, float], float]] = {
    "b1": (B, 0.01),
    "b2": (B, 0.01),
    "s1": (S, 0.05),
    "s2": (S, 0.05),
    "skip_gain": (SKIP, 0.01),
}
"""Range of each factor, and the steps in which it is tried."""
NONE: Settings = dict.fromkeys(RANGES, 1.0)
"""Plain sampling."""
FIXED = {"version": 2, "dc": "scale", "b_window": "all", "s_window": "all"}
"""What the search of ``tuning.space.FreeUSpace`` varies besides."""

_LOW = np.array([low for (low, _), _ in RANGES.values()])
_WIDTH = np.array([high - low for (low, high), _ in RANGES.values()])
_STEP = np.array([step for _, step in RANGES.values()])


def point(settings: Settings) -> Floats:
    """Settings as a point of the unit cube, (5,)."""
    return np.asarray((np.array([settings[name] for name in RANGES]) - _LOW) / _WIDTH)


def points(several: Sequence[Settings]) -> Floats:
    """The same of several, (n, 5)."""
    return np.array([point(one) for one in several]).reshape(len(several), len(RANGES))


def settings_at(place: Floats) -> dict[str, float]:
    """The settings nearest to a point, in whole steps."""
    values = np.clip(_LOW + place * _WIDTH, _LOW, _LOW + _WIDTH)
    whole = 1.0 + np.round((values - 1.0) / _STEP) * _STEP
    return {name: round(float(value), 4) for name, value in zip(RANGES, whole, strict=True)}


@dataclass(frozen=True)
class VoteSpace:
    """The four factors of FreeU, version 2, and the gain of the whole skip.

    Args:
        family: name of the preset that is recommended for the model.
    """

    family: str = "sd14"

    def to_dict(self) -> dict[str, Any]:
        """What decides which settings a search may try, as plain data."""
        return {"family": self.family, "ranges": {name: list(bounds) for name, (bounds, _) in RANGES.items()}} | FIXED

    def first(self) -> list[dict[str, float]]:
        """Settings that are compared with plain sampling first: of the automatic search, those that lie in here."""
        moves = FreeUSpace(self.family).first()
        own = [move for move in moves if all(move[name] == value for name, value in FIXED.items())]
        return [{name: float(move[name]) for name in RANGES} for move in own]

    def arm(self, settings: Settings) -> Arm:
        """The settings as an arm; plain sampling has no FreeU at all."""
        if all(settings[name] == 1.0 for name in RANGES):
            return Arm(BASELINE)
        return FreeUSpace(self.family).arm(dict(settings) | FIXED)

    def settings(self, config: FreeUConfig | None) -> dict[str, float] | None:
        """The settings that ``arm`` makes a configuration of; None if it lies outside of what may be tried.

        Args:
            config: None is plain sampling.
        """
        if config is None or config.identity:
            return dict(NONE)
        gain = config.skip_gain
        if len(config.stages) != 2 or not isinstance(gain, (int, float)):
            return None
        found = {f"b{number}": stage.b for number, stage in enumerate(config.stages, start=1)}
        found |= {f"s{number}": stage.s for number, stage in enumerate(config.stages, start=1)}
        found["skip_gain"] = gain
        inside = all(low <= found[name] <= high for name, ((low, high), _) in RANGES.items())
        return found if inside and self.arm(found).config == config else None
