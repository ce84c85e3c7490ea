"""The arms of an experiment: the ways in which the same prompts and seeds are generated."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError, unknown_name
from freeu.presets import preset, presets

BASELINE = "none"
RECOMMENDED = "freeu"
SCALED = "scalecrafter"


@dataclass(frozen=True)
class Arm:
    """One way of generating.

    Args:
        name: as it was written; the name in tables.
        config: FreeU's settings; None without FreeU, and for the model's recommendation until that is known.
        guidance: another CFG scale than that of the run, or None.
        calibrates: name of the arm that plain sampling with another CFG scale is to match, or None.
        scalecrafter: whether ScaleCrafter is on, with the settings that are recommended for the model and the size.
    """

    name: str
    config: FreeUConfig | None = None
    guidance: float | None = None
    calibrates: str | None = None
    scalecrafter: bool = False

    @property
    def recommended(self) -> bool:
        """Whether FreeU's settings are those that are recommended for the model, which must be known first."""
        return self.name in (RECOMMENDED, f"{SCALED}+{RECOMMENDED}")

    def folder(self, number: int) -> str:
        """A name for its folder of images, such as ``arm-1-sd14``."""
        return f"arm-{number}-" + re.sub(r"[^\w.]+", "-", self.name).strip("-")[:60]


def parse_arms(text: str) -> tuple[Arm, ...]:
    """Arms from "none, sd14, guidance=5, calibrated:sd14, b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2".

    Settings may have a name before them, "strong: b1=1.6 b2=1.8 v=2", by which tables and ``calibrated`` call them.

    ``none`` is plain sampling, against which all others are compared; ``freeu`` is what is recommended for the model;
    ``scalecrafter`` is ScaleCrafter without FreeU, ``scalecrafter+sd14`` with it.

    Raises:
        FreeUValueError: an unknown name, a bad number, an arm given twice, or no ``none``.
    """
    arms: dict[str, Arm] = {}
    for word in (part.strip() for part in text.split(",")):
        arm = _parse(word)
        if arm.name in arms:
            raise FreeUValueError(f"arm {arm.name!r} is given twice")
        arms[arm.name] = arm
    if BASELINE not in arms:
        raise FreeUValueError(f"--arms needs {BASELINE!r}, to which the others are compared, got {text!r}")
    for arm in arms.values():
        if arm.calibrates is None:
            continue
        matched = arms.get(arm.calibrates)
        if matched is None:
            raise FreeUValueError(f"arm {arm.name!r} needs the arm that it matches: add {arm.calibrates!r} to --arms")
        if matched.scalecrafter:
            raise FreeUValueError(f"arm {arm.name!r}: guidance is calibrated without ScaleCrafter: leave it out")
        if matched.config is None and not matched.recommended:
            raise FreeUValueError(f"arm {arm.name!r}: only an arm with FreeU can be calibrated to")
    return tuple(sorted(arms.values(), key=lambda arm: arm.name != BASELINE))


def _parse(word: str) -> Arm:
    if word in (BASELINE, RECOMMENDED):
        return Arm(word)
    if word == SCALED:
        return Arm(word, scalecrafter=True)
    if word.startswith(f"{SCALED}+"):
        inside = _parse(word.partition("+")[2].strip())
        if inside.name == BASELINE or inside.scalecrafter or inside.calibrates is not None:
            raise FreeUValueError(
                f"arm {word!r}: after {SCALED}+ comes FreeU, or guidance=W; {SCALED} alone has neither"
            )
        return replace(inside, name=f"{SCALED}+{inside.name}", scalecrafter=True)
    if word.startswith("calibrated:"):
        return Arm(word, calibrates=word.partition(":")[2].strip())
    named = re.fullmatch(r"([\w.+-]+)\s*:\s*(.*=.*)", word)
    if named is not None:
        name, settings = named.groups()
        if name in (BASELINE, RECOMMENDED, SCALED, *presets()):
            raise FreeUValueError(f"arm {word!r}: {name} is the name of something else, choose another name")
        return Arm(name, config=FreeUConfig.parse(settings))
    if word.startswith("guidance="):
        try:
            scale = float(word.partition("=")[2])
        except ValueError:
            scale = -1.0
        if not 1.0 <= scale <= 100.0:
            raise FreeUValueError(f"arm {word!r}: the CFG scale must be a number in 1 to 100 (1: no guidance)")
        return Arm(word, guidance=scale)
    if "=" in word:
        return Arm(word, config=FreeUConfig.parse(word))
    if word not in presets():
        known = [
            BASELINE,
            RECOMMENDED,
            SCALED,
            f"{SCALED}+ARM",
            "guidance=W",
            "calibrated:ARM",
            "NAME: b1=...",
            *presets(),
        ]
        raise unknown_name("arm", word, known)
    return Arm(word, config=preset(word))
