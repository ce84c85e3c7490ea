"""The grid of ``freeu evaluate --when``: steps of denoising, CFG scales, windows in time and settings of FreeU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.evaluate.experiment.arms import BASELINE, Arm, parse_arms
from freeu.pipelines.runs.interval import acts
from freeu.schedule import NO_WINDOW
from freeu.wording import counted

WINDOWS = {"early": (0.0, 1 / 3), "middle": (1 / 3, 2 / 3), "late": (2 / 3, 1.0), "all": (0.0, 1.0)}
"""Where in the denoising FreeU acts, as fractions of its steps."""
STEPS, GUIDANCE = "4,6,10,20", "1,3,5"
SETTINGS = "b: b1=1.2 b2=1.3, s: s1=0.6 s2=0.6, rho: skip_gain=1.1"
"""Mild ones: b and s on stages 1 and 2, and Skip-Tuning's gain of every skip."""


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Args:
        steps, guidance: of the denoising.
        factor: name of the settings; ``BASELINE`` for plain sampling.
        window: a name of ``WINDOWS``; "" for plain sampling.
        arm: that generates it.
        file: name of the file that holds what was measured.
    """

    steps: int
    guidance: float
    factor: str
    window: str
    arm: Arm
    file: str

    @property
    def acting(self) -> int:
        """In how many steps FreeU acts."""
        config = self.arm.config
        return 0 if config is None else sum(config.weights(step / self.steps)[0] > 0.0 for step in range(self.steps))

    @property
    def text(self) -> str:
        where = f"{counted(self.steps, 'step')}, CFG scale {self.guidance:g}"
        return f"{where}, {self.factor} {self.window}".rstrip()


@dataclass(frozen=True)
class Grid:
    """Everything that is compared.

    Args:
        steps, guidance: in the order of the tables; CFG scale 1 is sampling without guidance.
        settings: what is tried in each window, by the names of the arms.
    """

    steps: tuple[int, ...]
    guidance: tuple[float, ...]
    settings: tuple[tuple[str, FreeUConfig], ...]

    @classmethod
    def parse(cls, steps: str = STEPS, guidance: str = GUIDANCE, settings: str = SETTINGS) -> Grid:
        """The grid of three lists with commas.

        Raises:
            FreeUValueError: a bad number or bad settings, something twice, or settings with a schedule of their own.

        >>> Grid.parse("4", "1,3", "b: b1=1.2 b2=1.2").guidance
        (1.0, 3.0)
        """
        whole = _numbers("--when-steps", steps, 1, 1_000)
        if any(number != int(number) for number in whole):
            raise FreeUValueError(f"--when-steps must be whole numbers, got {steps!r}")
        found = []
        for arm in parse_arms(f"{BASELINE},{settings}")[1:]:
            config = arm.config
            if config is None or arm.changes_guidance or arm.guidance is not None or arm.scalecrafter:
                raise FreeUValueError(
                    f"--when-settings takes settings of FreeU alone, such as b1=1.2, got {arm.name!r}"
                )
            if config.identity:
                raise FreeUValueError(f"--when-settings: {arm.name!r} changes nothing: leave it out")
            if not config.schedule.whole or config.b_window != NO_WINDOW or config.s_window != NO_WINDOW:
                raise FreeUValueError(
                    f"--when-settings: {arm.name!r} has a schedule, which the windows set: leave it out"
                )
            found.append((arm.name, config))
        return cls(tuple(int(number) for number in whole), _numbers("--when-guidance", guidance, 1, 100), tuple(found))

    def cells(self) -> Iterator[Cell]:
        """Every cell; plain sampling of the same steps and CFG scale comes before those that are compared to it."""
        for guidance in self.guidance:
            for steps in self.steps:
                stem = f"steps-{steps}-cfg-{guidance:g}"
                yield Cell(steps, guidance, BASELINE, "", Arm(BASELINE), f"{stem}-{BASELINE}.json")
                for number, (name, config) in enumerate(self.settings):
                    for window, (start, end) in WINDOWS.items():
                        limited = config.replace(start=start, end=end)
                        arm = Arm(name, limited)
                        if acts(limited, steps):
                            file = f"{stem}-{window}-{arm.folder(number)[4:]}.json"
                            yield Cell(steps, guidance, name, window, arm, file)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Window and name of the settings, in the order of the tables."""
        return [(window, name) for name, _ in self.settings for window in WINDOWS]

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {
            "steps": list(self.steps),
            "guidance": list(self.guidance),
            "settings": {name: config.to_dict() for name, config in self.settings},
            "windows": {name: list(window) for name, window in WINDOWS.items()},
        }


def _numbers(option: str, text: str, low: float, high: float) -> tuple[float, ...]:
    found: list[float] = []
    for word in text.split(","):
        try:
            number = float(word)
        except ValueError:
            number = low - 1.0
        if not low <= number <= high:
            raise FreeUValueError(f"{option} must be numbers in {low:g} to {high:g} with commas, got {text!r}")
        if number in found:
            raise FreeUValueError(f"{option} names {number:g} twice")
        found.append(number)
    return tuple(found)
