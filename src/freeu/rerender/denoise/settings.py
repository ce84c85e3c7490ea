"""Settings of the key frames: prompt, sampling, and when each constraint between the frames acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from freeu.errors import FreeUValueError, unknown_name
from freeu.pipelines.io.inputs import MAX_SMALL_SEED
from freeu.pipelines.options.option import check_range
from freeu.wording import counted

STAGES = ("cross-frame", "shape", "outline", "pixel", "fidelity", "colour")
"""The constraints in the order in which they act: those of section 4.1, and "outline", which removes what is drawn
beyond the outline of what moves, in the window of "pixel". "fidelity" is how these two encode their image."""

DEFAULT_STAGES = ("cross-frame", "outline", "pixel", "fidelity")
"""Those that are enabled by default, chosen by ``benchmarks/bench_rerender.py``: "colour" increases colour drift, which
"pixel" prevents already, and "shape" has no measurable effect beside the others."""

MAX_STEPS = 1_000


@dataclass(frozen=True)
class Windows:
    """When each constraint acts: (start, end) as fractions of the steps that are made.

    It acts in every step that overlaps its window, so the shortest window acts in one step; never if start and end are
    equal.

    The defaults are those of the official code (of its examples for colour). The official code counts from pure noise;
    here the steps that ``strength`` skips do not count, or the window of shape would end before the first step.
    """

    cross_frame: tuple[float, float] = (0.0, 1.0)
    shape: tuple[float, float] = (0.0, 0.1)
    pixel: tuple[float, float] = (0.5, 0.8)
    colour: tuple[float, float] = (0.8, 1.0)

    def __post_init__(self) -> None:
        """Raise ``FreeUValueError`` for a window that is not 0 <= start <= end <= 1."""
        for item in dataclasses.fields(self):
            window = getattr(self, item.name)
            if not (isinstance(window, (tuple, list)) and len(window) == 2):
                raise FreeUValueError(f"window {item.name} must be (start, end), got {window!r}")
            start, end = window
            if not 0.0 <= start <= end <= 1.0:
                raise FreeUValueError(f"window {item.name} must satisfy 0 <= start <= end <= 1, got ({start}, {end})")
            object.__setattr__(self, item.name, (float(start), float(end)))


@dataclass(frozen=True)
class KeyFrameSettings:
    """What determines the key frames of a video, apart from the model and the video.

    Args:
        prompt, negative_prompt: what the images should and should not show.
        steps: of the full schedule, 1 to 1000; ``int(steps * strength)`` of them are made, as by diffusers.
        guidance: CFG scale, 0 to 100; None takes the default of the pipeline.
        strength: denoising strength, 0 to 1; 0 returns frames unchanged.
        control_scale: ControlNet weight, 0 to 2.
        seed: of the noise, which is the same for all key frames.
        stages: those of ``STAGES`` that are enabled.
        windows: when they act.
        pixel_strength: how far each step of "outline" and "pixel" moves to its target, 0 to 1.

    Raises:
        FreeUValueError: a value outside its range, or an unknown stage.
    """

    prompt: str
    negative_prompt: str = ""
    steps: int = 20
    guidance: float | None = None
    strength: float = 0.6
    control_scale: float = 1.0
    seed: int = 0
    stages: Collection[str] = DEFAULT_STAGES
    windows: Windows = field(default_factory=Windows)
    pixel_strength: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.stages, str):
            raise FreeUValueError(f"stages must be a collection of names, got the string {self.stages!r}")
        for name in self.stages:
            if name not in STAGES:
                raise unknown_name("stage", name, STAGES)
        object.__setattr__(self, "stages", tuple(name for name in STAGES if name in self.stages))
        check_range("steps", self.steps, 1, MAX_STEPS)
        check_range("guidance", self.guidance, 0.0, 100.0)
        check_range("strength", self.strength, 0.0, 1.0)
        check_range("control_scale", self.control_scale, 0.0, 2.0)
        check_range("seed", self.seed, 0, MAX_SMALL_SEED)
        check_range("pixel_strength", self.pixel_strength, 0.0, 1.0)
        if self.strength and not self.made:
            raise FreeUValueError(
                f"strength {self.strength:g} of {counted(self.steps, 'step')} is less than one step: use more steps, "
                "a higher strength, or strength 0"
            )

    @property
    def made(self) -> int:
        """How many steps of the schedule are made."""
        return int(self.steps * self.strength)

    def on(self, stage: str) -> bool:
        """Whether a stage is enabled."""
        return stage in self.stages

    def acts(self, stage: str, step: int, total: int) -> bool:
        """Whether a stage acts in a step.

        Args:
            stage: one that has a window, or "outline", which has that of "pixel".
            step: 0 is the first that is made.
            total: how many calls of the U-Net are made; second-order solvers make two for a step.
        """
        window = "pixel" if stage == "outline" else stage.replace("-", "_")
        start, end = getattr(self.windows, window)
        # Rounded: 0.7 * 10 is a little more than 7.
        touched = start < end and round(start * total, 9) < step + 1 and step < round(end * total, 9)
        return self.on(stage) and touched

    def record(self) -> dict[str, Any]:
        """All fields as plain data for JSON."""
        return dataclasses.asdict(self) | {
            "stages": list(self.stages),
            "windows": {name: list(window) for name, window in dataclasses.asdict(self.windows).items()},
        }
