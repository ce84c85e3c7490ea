"""The ways of generating that the figures compare: sampling without FreeU, with it, and with parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from freeu.config import OVER_TIME, FreeUConfig
from freeu.errors import FreeUValueError


@dataclass(frozen=True)
class Variant:
    """One way of generating.

    Args:
        name: short, unique, fit for a folder.
        label: as figures show it.
        config: what FreeU does; None without it.
    """

    name: str
    label: str
    config: FreeUConfig | None


def distinct(ways: Iterable[Variant]) -> list[Variant]:
    """The first way of each configuration: ways that generate the same images have different names in some figures."""
    found: dict[FreeUConfig | None, Variant] = {}
    for way in ways:
        found.setdefault(way.config, way)
    return list(found.values())


@dataclass(frozen=True)
class Sweep:
    """Variants that differ in one number, ascending; ``values[i]`` belongs to ``variants[i]``."""

    symbol: str
    values: tuple[float, ...]
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Extent:
    """How much is generated: the values of each sweep.

    Args:
        plain: factors of whole backbone or whole skip (Fig. 5); 1 is sampling without FreeU.
        backbone: values of b in FreeU (Fig. 17).
        skip: values of s in FreeU (Fig. 18).
    """

    plain: tuple[float, ...]
    backbone: tuple[float, ...]
    skip: tuple[float, ...]


LIGHT = Extent(plain=(0.6, 1.0, 1.4), backbone=(1.0, 1.4, 1.8), skip=(0.2, 0.6, 1.0))
FULL = Extent(plain=(0.6, 0.8, 1.0, 1.2, 1.4), backbone=(1.0, 1.2, 1.4, 1.6, 1.8), skip=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))

NONE = Variant("none", "without FreeU", None)


class Variants:
    """Every variant that the figures need, made from one configuration.

    Args:
        config: FreeU as it is to be examined; it must change the backbone.
        extent: of the sweeps.

    Raises:
        FreeUValueError: ``config`` leaves every backbone alone.
    """

    def __init__(self, config: FreeUConfig, extent: Extent) -> None:
        if all(stage.b == 1.0 for stage in config.stages):
            raise FreeUValueError(f"the figures need a backbone factor other than 1, got {config}")
        self.config, self.extent = config, extent
        self.none = NONE
        self.freeu = Variant("freeu", "FreeU", config)
        ones = (1.0,) * len(config.stages)
        self.backbone_only = Variant("b-only", "b alone", config.replace(s=ones))
        self.channels = tuple(
            Variant(f"channels-{name}", label, config.replace(s=ones, channels=name))
            for name, label in (
                ("first", "first half"),
                ("second", "second half"),
                ("even", "every other"),
                ("all", "all"),
            )
        )
        other = 1 if config.version == 2 else 2
        self.other_version = Variant(f"version-{other}", _VERSIONS[other], config.replace(version=other))
        self.this_version = Variant("freeu", _VERSIONS[config.version], config)

    def plain_backbone(self) -> Sweep:
        """The whole backbone times b, nothing else (Figs. 5 and 6)."""
        return self._plain("b", lambda value: {"b": self._times(value), "s": self._times(1.0), "channels": "all"})

    def plain_skip(self) -> Sweep:
        """The whole skip times s, nothing else (Fig. 5)."""
        return self._plain("s", lambda value: {"b": self._times(1.0), "s": self._times(value), "high_gain": value})

    def backbone(self) -> Sweep:
        """FreeU with another b at every stage, s as it is (Fig. 17)."""
        return Sweep(
            "b",
            self.extent.backbone,
            tuple(
                Variant(f"b-{value:g}", f"b = {value:g}", self.config.replace(b=self._times(value)))
                for value in self.extent.backbone
            ),
        )

    def skip(self) -> Sweep:
        """FreeU with another s at every stage, b as it is (Fig. 18)."""
        return Sweep(
            "s",
            self.extent.skip,
            tuple(
                Variant(f"s-{value:g}", f"s = {value:g}", self.config.replace(s=self._times(value)))
                for value in self.extent.skip
            ),
        )

    def over_time(self) -> tuple[Variant, ...]:
        """For videos: version 1, version 2 with a map for each frame, then with what frames can share."""
        constant = Variant("constant", "version 1", self.config.replace(version=1, over_time=OVER_TIME[0]))
        return (
            constant,
            *(
                Variant(f"over-time-{name}", f"version 2, {label}", self.config.replace(version=2, over_time=name))
                for name, label in _OVER_TIME.items()
            ),
        )

    def _times(self, value: float) -> tuple[float, ...]:
        return (value,) * len(self.config.stages)

    def _plain(self, symbol: str, fields: Callable[[float], dict[str, Any]]) -> Sweep:
        variants = tuple(
            NONE
            if value == 1.0
            else Variant(
                f"whole-{symbol}-{value:g}",
                f"{symbol} = {value:g}",
                self.config.replace(version=1, **fields(value)),
            )
            for value in self.extent.plain
        )
        return Sweep(symbol, self.extent.plain, variants)


_OVER_TIME = {
    "frame": "a map for each frame",
    "clip": "one range for the video",
    "shared": "one map for the video",
    "smooth": "maps that follow smoothly",
}
_VERSIONS = {1: "constant factor", 2: "structure-aware factor"}
