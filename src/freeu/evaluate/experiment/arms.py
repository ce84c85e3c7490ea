"""The arms of an experiment: the ways in which the same prompts and seeds are generated."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError, unknown_name
from freeu.guiding.settings import FreSca, Guiding, parse_interval
from freeu.presets import preset, presets

BASELINE = "none"
RECOMMENDED = "freeu"
SCALED = "scalecrafter"
CALIBRATED, EFFECTIVE, NEUTRAL = "calibrated", "effective", "neutral"
MATCHING = (CALIBRATED, EFFECTIVE, NEUTRAL)
"""Arms whose CFG scale is found by another arm, which stands behind a colon."""


@dataclass(frozen=True)
class Arm:
    """One way of generating.

    Args:
        name: as it was written; the name in tables.
        config: FreeU's settings; None without FreeU, and for the model's recommendation until that is known.
        guidance: another CFG scale than that of the run, or None.
        calibrates: name of the arm that decides the CFG scale of this one, or None.
        how: by what, of ``MATCHING``: "calibrated" and "effective" are plain sampling that is as strong as that arm,
            "neutral" is that arm at the CFG scale at which it is as strong as plain sampling.
        scalecrafter: whether ScaleCrafter is on, with the settings that are recommended for the model and the size.
        recommended: whether FreeU's settings are those that are recommended for the model, which must be known first.
        guiding: a guidance interval, FreSca or both, or None.
        rescale: of guidance rescale, 0..1, or None.
        reader: the only part of the resnet behind a site that sees FreeU's change, of
            ``config.READERS``, or None for all.
    """

    name: str
    config: FreeUConfig | None = None
    guidance: float | None = None
    calibrates: str | None = None
    how: str = CALIBRATED
    scalecrafter: bool = False
    recommended: bool = False
    guiding: Guiding | None = None
    rescale: float | None = None
    reader: str | None = None

    @property
    def with_freeu(self) -> bool:
        return self.config is not None or self.recommended

    @property
    def changes_guidance(self) -> bool:
        """Whether it does more to guidance than set its scale."""
        return self.guiding is not None or self.rescale is not None

    def folder(self, number: int) -> str:
        """A name for its folder of images, such as ``arm-1-sd14``."""
        return f"arm-{number}-" + re.sub(r"[^\w.]+", "-", self.name).strip("-")[:60]


def parse_arms(text: str) -> tuple[Arm, ...]:
    """Arms from "none, sd14, guidance=5, calibrated:sd14, interval=0.2-0.8+sd14, b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2".

    ``none`` is plain sampling, against which all others are compared. Every other arm is one part or several with "+"
    between them: FreeU (``freeu``, what is recommended for the model, a preset or settings), ``guidance=W``,
    ``interval=0.2-0.8``, ``rescale=0.7``, ``fresca=1:1.25`` and ``scalecrafter``. A name may stand before the parts,
    "strong: b1=1.6 b2=1.8 v=2", by which tables and other arms call them. ``calibrated:ARM``, ``effective:ARM`` and
    ``neutral:ARM`` go by another arm.

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
        if arm.calibrates is not None:
            _check_match(arm, arms.get(arm.calibrates))
    return tuple(sorted(arms.values(), key=lambda arm: arm.name != BASELINE))


def _check_match(arm: Arm, matched: Arm | None) -> None:
    """Refuse an arm that cannot go by the one that it names."""
    if matched is None:
        raise FreeUValueError(f"arm {arm.name!r} needs the arm that it matches: add {arm.calibrates!r} to --arms")
    if matched.scalecrafter:
        raise FreeUValueError(f"arm {arm.name!r}: guidance is calibrated without ScaleCrafter: leave it out")
    if arm.how == CALIBRATED:
        if not matched.with_freeu:
            raise FreeUValueError(f"arm {arm.name!r}: only an arm with FreeU can be calibrated to")
        if matched.changes_guidance or matched.guidance is not None:
            raise FreeUValueError(
                f"arm {arm.name!r}: calibration is to FreeU alone, at the CFG scale of the run: use "
                f"{EFFECTIVE}:{matched.name}"
            )
    elif matched.calibrates is not None or not (matched.with_freeu or matched.changes_guidance):
        raise FreeUValueError(
            f"arm {arm.name!r}: {arm.how} goes by an arm with FreeU, interval=, rescale= or fresca=, not by "
            f"{matched.name!r}"
        )
    elif arm.how == NEUTRAL and matched.guidance is not None:
        raise FreeUValueError(
            f"arm {arm.name!r}: its CFG scale is what is looked for: leave guidance= out of {matched.name!r}"
        )


def _parse(word: str) -> Arm:
    if word == BASELINE:
        return Arm(word)
    how, colon, other = word.partition(":")
    if colon and how in MATCHING:
        return Arm(word, calibrates=other.strip(), how=how)
    named = re.fullmatch(r"([\w.+-]+)\s*:\s*(.*=.*)", word)
    if named is None:
        return _combined(word)
    name, settings = named.groups()
    if name in (BASELINE, RECOMMENDED, SCALED, *presets()):
        raise FreeUValueError(f"arm {word!r}: {name} is the name of something else, choose another name")
    return replace(_combined(settings), name=name)


def _combined(text: str) -> Arm:
    """An arm of parts with "+" between them; that of a number such as 1e+3 is none."""
    parts = [part.strip() for part in re.split(r"(?<![\d.][eE])\+", text)]
    found: dict[str, Any] = {}
    for part in parts:
        if len(parts) > 1 and (part == BASELINE or part.partition(":")[0] in MATCHING):
            raise FreeUValueError(
                f"arm {text!r}: {part or 'nothing'!r} is no part of another arm: parts are FreeU, guidance=W, "
                f"interval=A-B, rescale=R, fresca=LOW:HIGH and {SCALED}"
            )
        for key, value in _part(part, text).items():
            if key in found:
                raise FreeUValueError(f"arm {text!r} has two parts of one kind, {part!r} and another: give one")
            found[key] = value
    interval, fresca = found.pop("interval", None), found.pop("fresca", None)
    guiding = Guiding(interval, fresca) if interval is not None or fresca is not None else None
    freeu = found.pop("freeu", None)
    return Arm("+".join(parts), freeu, recommended=found.pop("recommended", False) is True, guiding=guiding, **found)


def _part(part: str, whole: str) -> dict[str, Any]:
    """The fields of ``Arm`` that a part sets; "freeu", "interval" and "fresca" are put together afterwards."""
    if part == RECOMMENDED:
        return {"freeu": None, "recommended": True}
    if part == SCALED:
        return {"scalecrafter": True}
    key, equals, value = part.partition("=")
    if equals and key in _VALUES:
        try:
            return {key: _VALUES[key](value)}
        except FreeUValueError as error:
            raise FreeUValueError(f"arm {whole!r}: {error}") from None
    if equals:
        return {"freeu": FreeUConfig.parse(part)}
    if part not in presets():
        known = [
            *(BASELINE, RECOMMENDED, SCALED, "guidance=W", "interval=A-B", "rescale=R", "fresca=LOW:HIGH", "ARM+ARM"),
            *(f"{how}:ARM" for how in MATCHING),
            "NAME: b1=...",
            *presets(),
        ]
        raise unknown_name("arm", part, known)
    return {"freeu": preset(part)}


def _number(text: str, low: float, high: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = low - 1.0
    if not low <= number <= high:
        raise FreeUValueError(f"{what} must be a number in {low:g} to {high:g}, got {text!r}")
    return number


_VALUES: dict[str, Callable[[str], Any]] = {
    "guidance": lambda text: _number(text, 1.0, 100.0, "the CFG scale (1: no guidance)"),
    "interval": parse_interval,
    "rescale": lambda text: _number(text, 0.0, 1.0, "guidance rescale"),
    "fresca": FreSca.parse,
}
