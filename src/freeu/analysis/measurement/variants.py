"""The variants that the figures compare: sampling without FreeU, with it, and with parts of it."""

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
        name: short, unique, valid as a folder name.
        label: in figures.
        config: FreeU's settings; None without FreeU.
    """

    name: str
    label: str
    config: FreeUConfig | None


def distinct(variants: Iterable[Variant]) -> list[Variant]:
    """The first variant of each configuration: some figures have other names for the same configuration."""
    found: dict[FreeUConfig | None, Variant] = {}
    for variant in variants:
        found.setdefault(variant.config, variant)
    return list(found.values())


@dataclass(frozen=True)
class Sweep:
    """Variants that differ in one number, ascending; ``values[i]`` belongs to ``variants[i]``."""

    symbol: str
    values: tuple[float, ...]
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Extent:
    """The values of each sweep.

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
        config: FreeU's settings; they must change the backbone.
        extent: of the sweeps.

    Raises:
        FreeUValueError: ``config`` does not change the backbone.
    """

    def __init__(self, config: FreeUConfig, extent: Extent) -> None:
        if all(stage.b == 1.0 for stage in config.stages):
            raise FreeUValueError(f"the figures need a backbone factor b other than 1, got {config}")
        self.config, self.extent = config, extent
        self.none = NONE
        self.freeu = Variant("freeu", "FreeU", config)
        ones = (1.0,) * len(config.stages)
        bare = config.replace(s=ones, **_WHOLE_SKIP)
        self.backbone_only = Variant("b-only", "b alone", bare)
        self.channels = tuple(
            Variant(f"channels-{name}", label, bare.replace(channels=name))
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
        """FreeU with another b at every stage, s as configured (Fig. 17)."""
        return self._factor("b", self.extent.backbone)

    def skip(self) -> Sweep:
        """FreeU with another s at every stage, b as configured (Fig. 18)."""
        return self._factor("s", self.extent.skip)

    def _factor(self, symbol: str, values: tuple[float, ...]) -> Sweep:
        variants = tuple(
            Variant(f"{symbol}-{value:g}", f"{symbol} = {value:g}", self.config.replace(**{symbol: self._times(value)}))
            for value in values
        )
        return Sweep(symbol, values, variants)

    def over_time(self) -> tuple[Variant, ...]:
        """For videos: version 1, then version 2 with each way of sharing the structure map among frames."""
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
                self.config.replace(version=1, **_WHOLE_SKIP, **fields(value)),
            )
            for value in self.extent.plain
        )
        return Sweep(symbol, self.extent.plain, variants)


# What else there is to the skip, for variants that are to leave it alone.
_WHOLE_SKIP: dict[str, Any] = {"skip_gain": 1.0, "skip_gain_ends": ()}
_OVER_TIME = {
    "frame": "one map per frame",
    "clip": "one range for the video",
    "shared": "one map for the video",
    "smooth": "smoothed maps",
}
_VERSIONS = {1: "constant factor", 2: "structure-aware factor"}
