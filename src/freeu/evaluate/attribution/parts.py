"""The parts of a configuration, each as an arm of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from freeu.config import FreeUConfig
from freeu.core.readers import has_readers
from freeu.core.site import Site
from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.arms import BASELINE, Arm, parse_arms
from freeu.schedule import NO_WINDOW, Stage

WHOLE = "whole"
THIRDS = ("early", "middle", "late")
"""The thirds of the schedule."""
PATHS = {"conv_shortcut": "by the shortcut", "norm1": "by the norm"}
"""What the two ways through the resnet behind a site are called."""


@dataclass(frozen=True)
class Part:
    """One part of a configuration.

    Args:
        arm: that generates it alone.
        group: what the configuration was divided by; "" for the whole, and for s alone where more acts on the skip.
        of: name of the arm that the parts of this group make up together; "" without a group.
    """

    arm: Arm
    group: str = ""
    of: str = ""


@dataclass(frozen=True)
class Division:
    """A configuration in parts.

    Args:
        parts: the whole first.
        left_out: what could not be divided, and why, a sentence each.
    """

    parts: tuple[Part, ...]
    left_out: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms of the experiment, plain sampling first."""
        return (Arm(BASELINE), *(part.arm for part in self.parts))

    @property
    def groups(self) -> dict[str, tuple[str, list[str]]]:
        """By group the arm that its parts make up together, and their names."""
        found: dict[str, tuple[str, list[str]]] = {}
        for part in self.parts:
            if part.group:
                found.setdefault(part.group, (part.of, []))[1].append(part.arm.name)
        return found


def parse_whole(text: str) -> Arm:
    """The arm that ``--explain`` names: FreeU and nothing else.

    Raises:
        FreeUValueError: an arm that is none, or that changes guidance, the CFG scale or convolutions.
    """
    arms = parse_arms(f"{BASELINE},{text}")
    arm = arms[-1]
    plain = arm.guidance is None and arm.calibrates is None and not arm.changes_guidance and not arm.scalecrafter
    if len(arms) != 2 or not arm.with_freeu or not plain:
        raise FreeUValueError(
            f"--explain takes one configuration of FreeU alone (freeu, a preset, settings such as b1=1.3), got {text!r}"
        )
    return arm


def divide(config: FreeUConfig, touched: Mapping[Site, Stage], steps: int) -> Division:
    """Divide a configuration by factor, stage, site, frequency, time and way through the resnets.

    Every part sets the factors of its sites one by one, so the sites keep theirs whatever else is left out.

    Args:
        config: the whole.
        touched: the sites that it changes, in the decoder's order, with their factors after ``strength``.
        steps: of the denoising.

    Raises:
        FreeUValueError: it changes no site.
    """
    if not touched:
        raise FreeUValueError("--explain: this configuration changes nothing on this model: choose another one")
    return _Divider(config, touched, steps).divide()


class _Divider:
    def __init__(self, config: FreeUConfig, touched: Mapping[Site, Stage], steps: int) -> None:
        self.config, self.steps = config, steps
        self.sites: Sequence[Site] = list(touched)
        self.factors = {site.path: found for site, found in touched.items()}
        self.left_out: list[str] = []

    def divide(self) -> Division:
        parts = [Part(Arm(WHOLE, self.config))]
        for group in (self._by_factor, self._by_place, self._by_frequency, self._by_time, self._by_reader):
            parts += group()
        return Division(tuple(parts), tuple(self.left_out))

    # -- what there is ------------------------------------------------------------------------------------------

    def _any(self, name: str) -> bool:
        return any(getattr(found, name) != 1.0 for found in self.factors.values())

    @property
    def _gains(self) -> bool:
        """Whether the skip is changed by more than ``s``."""
        return self._any("g") or self.config.high_gain != 1.0

    @property
    def _b(self) -> str:
        """The name of the arm of b alone: that of the whole, if there is nothing else."""
        return "b" if self._any("s") or self._gains else WHOLE

    @property
    def _s(self) -> str:
        """That of s alone."""
        return "s" if self._any("b") or self._gains else WHOLE

    def _only(self, factors: Mapping[str, Stage], **fields: object) -> FreeUConfig:
        """The configuration with these factors and no others."""
        ones = (1.0,) * len(self.config.stages)
        kept = {path: found for path, found in factors.items() if not found.identity}
        plain = {"b": ones, "s": ones, "skip_gain": 1.0, "skip_gain_ends": (), "high_gain": 1.0, "strength": 1.0}
        return self.config.replace(**{**plain, "sites": tuple(kept.items()), **fields})

    # -- the groups ---------------------------------------------------------------------------------------------

    def _by_factor(self) -> Iterator[Part]:
        if self._any("b") and self._b != WHOLE:
            yield Part(Arm("b", self._only({p: Stage(b=f.b) for p, f in self.factors.items()})), "factor", WHOLE)
        if self._gains and self._any("b"):
            # High frequencies have a gain by stage alone, so the stages stay as they are.
            config = self._without(self.config, True, False)
            yield Part(Arm("skip", config), "factor", WHOLE)
        if self._any("s") and self._s != WHOLE:
            alone = Arm("s", self._only({p: Stage(s=f.s) for p, f in self.factors.items()}))
            yield Part(alone) if self._gains else Part(alone, "factor", WHOLE)

    def _by_place(self) -> Iterator[Part]:
        if self.config.high_gain != 1.0:
            self.left_out.append("stages and sites: high_gain cannot be set for single sites.")
            return
        stages = list(dict.fromkeys(site.stage_in(self.config.profile) for site in self.sites))
        if len(stages) > 1:
            for stage in stages:
                chosen = {
                    site.path: self.factors[site.path]
                    for site in self.sites
                    if site.stage_in(self.config.profile) == stage
                }
                name = "sites of no stage" if stage is None else f"stage {stage}"
                yield Part(Arm(name, self._only(chosen)), "stage", WHOLE)
        if len(self.sites) > 1:
            for path, found in self.factors.items():
                yield Part(Arm(path, self._only({path: found})), "site", WHOLE)

    def _by_frequency(self) -> Iterator[Part]:
        if not self._any("s"):
            return
        if self.config.dc != "scale":
            self.left_out.append(f"mean and waves: dc={self.config.dc} leaves one of them as it is.")
            return
        factors = {path: Stage(s=found.s) for path, found in self.factors.items()}
        for name, dc in (("s on the mean", "only"), ("s on the waves", "keep")):
            yield Part(Arm(name, self._only(factors, dc=dc)), "frequency", self._s)

    def _by_time(self) -> Iterator[Part]:
        config = self.config
        if config.unit != "fraction":
            self.left_out.append(f"times: the schedule is in {config.unit}, whose steps lie unevenly.")
            return
        width = (config.end - config.start) / 3.0
        edges = [config.start, config.start + width, config.start + 2.0 * width, config.end]
        for number, name in enumerate(THIRDS):
            inside = [step / self.steps for step in range(self.steps)]
            inside = [place for place in inside if edges[number] <= place < edges[number + 1]]
            weights = [config.weights(place) for place in inside]
            b = self._any("b") and any(b > 0.0 for b, _ in weights)
            skip = (self._any("s") or self._gains) and any(skip > 0.0 for _, skip in weights)
            if b or skip:
                fields = {"start": edges[number], "end": edges[number + 1], "ramp": 0.0}
                yield Part(Arm(name, self._without(config, not b, not skip).replace(**fields)), "time", WHOLE)
            else:
                self.left_out.append(f"{name}: no step acts in this third of the schedule.")

    @staticmethod
    def _without(config: FreeUConfig, b: bool, skip: bool) -> FreeUConfig:
        """A configuration without b or without what acts on the skip, and without a window of it."""
        ones: Any = (1.0,) * len(config.stages)
        if b:
            sites = tuple((path, replace(own, b=1.0)) for path, own in config.sites)
            config = config.replace(b=ones, b_window=NO_WINDOW, sites=sites)
        if skip:
            sites = tuple((path, Stage(b=own.b)) for path, own in config.sites)
            plain: dict[str, Any] = {"skip_gain": 1.0, "skip_gain_ends": (), "high_gain": 1.0}
            config = config.replace(s=ones, s_window=NO_WINDOW, sites=sites, **plain)
        return config

    def _by_reader(self) -> Iterator[Part]:
        scaled = [site for site in self.sites if self.factors[site.path].b != 1.0]
        if not scaled:
            return
        without = [site.path for site in scaled if not has_readers(site)]
        if without:
            self.left_out.append(
                f"shortcut and norm: the module at {without[0]} does not read its input by norm1 and conv_shortcut."
            )
            return
        config = self._only({path: Stage(b=found.b) for path, found in self.factors.items()})
        for reader, name in PATHS.items():
            yield Part(Arm(f"b {name}", config, reader=reader), "way", self._b)
