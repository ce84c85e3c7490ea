"""What a search varies: the settings of FreeU, and those of guidance, its rival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from freeu.config import FreeUConfig
from freeu.evaluate.experiment.arms import Arm
from freeu.guiding.settings import Guiding
from freeu.presets import presets
from freeu.schedule import Schedule, Stage

if TYPE_CHECKING:
    import optuna

WINDOWS = {"all": (0.0, 1.0), "early": (0.0, 0.4), "middle": (0.3, 0.7), "late": (0.5, 1.0)}
"""Parts of the steps in which a factor may act, as fractions."""
TIMED = ("b_window", "s_window")
B, S, SKIP, S_STEP = (0.8, 1.6), (0.0, 1.5), (0.8, 1.3), 0.05
"""Ranges of the gains of the backbone, of the skip's low band and of the whole skip; the step of the second."""

Parameters = dict[str, Any]


def windows_of(steps: int) -> tuple[str, ...]:
    """The names of the windows in which one of so many steps falls.

    >>> windows_of(1), windows_of(6)
    (('all', 'early'), ('all', 'early', 'middle', 'late'))
    """
    places = [step / steps for step in range(steps)]
    return tuple(name for name, (start, end) in WINDOWS.items() if any(start <= place < end for place in places))


class Space(Protocol):
    """Settings of one kind.

    Attributes:
        name: of the kind, "freeu" or "guidance".
    """

    @property
    def name(self) -> str: ...

    def to_dict(self) -> dict[str, Any]:
        """What decides which settings a search may try, as plain data."""
        ...

    def suggest(self, trial: optuna.Trial) -> Arm:
        """The settings of a trial."""
        ...

    def arm(self, parameters: Mapping[str, Any]) -> Arm:
        """The settings that parameters stand for."""
        ...

    def first(self) -> list[Parameters]:
        """Settings that are tried first."""
        ...


@dataclass(frozen=True)
class FreeUSpace:
    """The settings of FreeU, at the CFG scale of the run.

    Args:
        family: name of the preset that is recommended for the model.
        windows: names of ``WINDOWS`` in which a step falls.
        sites: paths of sites with factors of their own, and their stages.
        moves: further settings to try first, as parameters that differ from the identity.
    """

    family: str = "sd14"
    windows: tuple[str, ...] = tuple(WINDOWS)
    sites: tuple[tuple[str, int | None], ...] = ()
    moves: tuple[tuple[tuple[str, float], ...], ...] = ()
    name = "freeu"
    stages = 2

    def to_dict(self) -> dict[str, Any]:
        return {"space": self.name} | asdict(self)

    def suggest(self, trial: optuna.Trial) -> Arm:
        parameters: Parameters = {"version": trial.suggest_categorical("version", [1, 2])}
        for stage in range(1, self.stages + 1):
            parameters[f"b{stage}"] = trial.suggest_float(f"b{stage}", *B, step=0.01)
            parameters[f"s{stage}"] = trial.suggest_float(f"s{stage}", *S, step=S_STEP)
        parameters["skip_gain"] = trial.suggest_float("skip_gain", *SKIP, step=0.01)
        parameters["dc"] = trial.suggest_categorical("dc", ["scale", "keep"])
        for window in TIMED:
            parameters[window] = trial.suggest_categorical(window, list(self.windows))
        for path, _ in self.sites:
            parameters[f"b@{path}"] = trial.suggest_float(f"b@{path}", *B, step=0.01)
            parameters[f"s@{path}"] = trial.suggest_float(f"s@{path}", *S, step=S_STEP)
        return self.arm(parameters)

    def arm(self, parameters: Mapping[str, Any]) -> Arm:
        numbers = range(1, self.stages + 1)
        config = FreeUConfig(
            b=tuple(round(parameters[f"b{stage}"], 4) for stage in numbers),
            s=tuple(round(parameters[f"s{stage}"], 4) for stage in numbers),
            version=parameters["version"],
            skip_gain=round(parameters["skip_gain"], 4),
            dc=parameters["dc"],
            b_window=WINDOWS[parameters["b_window"]],
            s_window=WINDOWS[parameters["s_window"]],
            sites=tuple(
                (path, Stage(round(parameters[f"b@{path}"], 4), round(parameters[f"s@{path}"], 4)))
                for path, _ in self.sites
            ),
        )
        return Arm("tuned", config=config)

    def first(self) -> list[Parameters]:
        """The family's preset, mild settings, and each factor alone: the identity is what all are compared to."""
        plain: Parameters = {"version": 2, "skip_gain": 1.0, "dc": "scale", "b_window": "all", "s_window": "all"}
        plain |= {f"{factor}{stage}": 1.0 for factor in "bs" for stage in range(1, self.stages + 1)}
        moves: list[Parameters] = [
            self._preset(self.family),
            {"b1": 1.1, "b2": 1.1},
            {"b1": 1.2, "b2": 1.3},
            {"b1": 1.2, "b2": 1.3, "version": 1},
            {"skip_gain": 1.1},
            {"skip_gain": 0.9},
            {"b1": 1.1, "b2": 1.2, "skip_gain": 1.1},
            {"s1": 0.8, "s2": 0.8, "s_window": "early"},
            {"s1": 1.2, "s2": 1.2},
            {"b1": 1.2, "b2": 1.3, "b_window": "late"},
            {"s1": 0.6, "s2": 0.6, "dc": "keep"},
            *map(dict, self.moves),
        ]
        reachable = [move for move in moves if all(move.get(key, "all") in self.windows for key in TIMED)]
        return [
            self._complete({name: _on_grid(name, value) for name, value in (plain | move).items()})
            for move in reachable
        ]

    def _complete(self, parameters: Parameters) -> Parameters:
        """With the factors of single sites, which override their stage's: they begin as those."""
        alone = {
            f"{factor}@{path}": parameters.get(f"{factor}{stage}", 1.0) for path, stage in self.sites for factor in "bs"
        }
        return alone | parameters

    def _preset(self, name: str) -> Parameters:
        config = presets()[name].config
        found: Parameters = {"version": config.version}
        for stage, factors in enumerate(config.stages[: self.stages], start=1):
            found |= {f"b{stage}": _within(factors.b, B), f"s{stage}": _within(factors.s, S)}
        return found


@dataclass(frozen=True)
class GuidanceSpace:
    """CFG scale and guidance interval, without FreeU.

    Args:
        scale: the CFG scale of the run, above 1.
    """

    scale: float
    name = "guidance"

    def to_dict(self) -> dict[str, Any]:
        return {"space": self.name} | asdict(self)

    @property
    def _range(self) -> tuple[float, float]:
        return max(1.1, self.scale / 3.0), self.scale * 3.0

    def suggest(self, trial: optuna.Trial) -> Arm:
        return self.arm(
            {
                "scale": trial.suggest_float("scale", *self._range, log=True),
                "start": trial.suggest_float("start", 0.0, 0.4, step=0.05),
                "end": trial.suggest_float("end", 0.6, 1.0, step=0.05),
            }
        )

    def arm(self, parameters: Mapping[str, Any]) -> Arm:
        start, end = (round(parameters[name], 4) for name in ("start", "end"))
        interval = None if (start, end) == (0.0, 1.0) else Guiding(Schedule(start, end))
        return Arm("guidance", guidance=round(parameters["scale"], 3), guiding=interval)

    def first(self) -> list[Parameters]:
        """Weaker and stronger guidance, and guidance in the middle alone."""
        low, high = self._range
        moves = [(0.7, 0.0, 1.0), (1.4, 0.0, 1.0), (2.0, 0.0, 1.0), (1.0, 0.2, 0.8), (1.4, 0.2, 0.8), (1.4, 0.0, 0.8)]
        return [{"scale": _within(self.scale * by, (low, high)), "start": a, "end": b} for by, a, b in moves]


def _on_grid(name: str, value: Any) -> Any:
    """A parameter as a trial may have it: s goes in steps of ``S_STEP``."""
    return round(round(value / S_STEP) * S_STEP, 4) if name in ("s1", "s2") else value


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
