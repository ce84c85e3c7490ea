"""Axes of a sweep: a name and its values, as text from a user and as changes to a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError, unknown_name
from freeu.pipelines.io.inputs import check_side, parse_seeds
from freeu.pipelines.models.addons.add_ons import MAX_WEIGHT
from freeu.pipelines.models.control.control import MAX_SCALE
from freeu.pipelines.models.schedulers import sampler_name
from freeu.pipelines.options.freeu import parse_config
from freeu.pipelines.options.option import check_range
from freeu.presets import preset
from freeu.schedule import checked_number

MAX_VALUES = 200
OFF = "off"


@dataclass(frozen=True)
class Settings:
    """What the axes of a sweep can change in one image; None means as the rest of the command says.

    Args:
        prompt, negative_prompt, seed, steps, guidance, scheduler, model: of the run.
        prompt_sr: what is searched for in both prompts, and what replaces it.
        size: width and height in pixels.
        denoising_strength: of an input image.
        lora_weight: of every LoRA.
        controlnet_weight: of the ControlNet.
        preset, config: FreeU's settings as a whole ("off": without FreeU).
        fields: single fields of FreeU's settings in the order given, such as (("b1", 1.2), ("end", 0.5)).
    """

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    model: str | None = None
    prompt_sr: tuple[str, str] | None = None
    size: tuple[int, int] | None = None
    denoising_strength: float | None = None
    lora_weight: float | None = None
    controlnet_weight: float | None = None
    preset: str | None = None
    config: str | None = None
    fields: tuple[tuple[str, Any], ...] = ()

    def with_value(self, name: str, value: Any) -> Settings:
        """These settings with the value of one axis."""
        name = canonical(name)
        name = _FIELDS.get(name, name)
        if name in _OF_RUN:
            return replace(self, **{name: value})
        return replace(self, fields=(*self.fields, (name, value)))

    def freeu(self, base: FreeUConfig | None) -> FreeUConfig | None:
        """FreeU's settings, from those of the rest of the command; None without FreeU.

        Raises:
            FreeUValueError: a field that these settings cannot have.
        """
        if OFF in (self.preset, self.config):
            return None
        if self.preset is not None:
            base = preset(self.preset)
        if self.config is not None:
            base = parse_config(self.config)
        if base is None:
            return None
        changes: dict[str, Any] = {}
        for name, value in self.fields:
            changes.update(_change(base, changes, name, value))
        return base.replace(**changes)  # all at once: a start beyond the old end is legal beside a new end


@dataclass(frozen=True)
class Axis:
    """One direction of a sweep.

    Args:
        name: as the user wrote it, such as "b1", "seed", "guidance-scale" or "cfg".
        values: in order; each was checked by itself.
    """

    name: str
    values: tuple[Any, ...]

    def file_word(self, place: int) -> str:
        """A value, by its place, in the name of a file: "b1=1.2"; what no file system minds, 40 letters at most."""
        shown = self.label(self.values[place]).removeprefix(f"{self.name} = ")
        if self.name == "model":
            shown = Path(shown).name
        plain = re.sub(r"[^A-Za-z0-9.+]+", "-", shown.replace(" to ", "-")).strip("-.")[:40].strip("-.")
        return f"{self.name.replace('/', '')}={plain or place + 1}"

    def label(self, value: Any) -> str:
        """A value as it is shown."""
        if self.name in ("prompt-sr", "prompt-s/r"):
            return str(value[1])
        if self.name == "size":
            return f"{value[0]}x{value[1]}"
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        if isinstance(value, tuple):
            shown = " to ".join(f"{number:g}" for number in value)
        return shown if self.name in ("prompt", "model", "preset", "scheduler") else f"{self.name} = {shown}"


def parse_axis(option: str, text: str) -> Axis:
    """An axis from "b1=1.0,1.2,1.4", "s2=0:1:0.25", "seed=0-3", "prompt=a fox|a cat" or "preset=off,sd14".

    Values are separated by | where there is one, else by commas; ``first:last:step`` is a range of numbers, both ends
    included.

    Args:
        option: of the command line, for messages.

    Raises:
        FreeUValueError: an unknown name, a value that it cannot have, a value twice, or more than 200.
    """
    name, equals, given = text.partition("=")
    name = name.strip().lower()
    if not equals or not given.strip():
        raise FreeUValueError(f"{option} must look like b1=1.0,1.2,1.4 or prompt=a fox|a cat, got {text!r}")
    number = re.fullmatch(r"([bsg])([123])", name)
    kind = "b1" if number else canonical(name)
    if kind not in _READ:
        raise unknown_name("axis", name, AXES)
    if kind == "seed":
        values: list[Any] = list(parse_seeds(given))
    else:
        words = [word.strip() for word in (given.split("|") if "|" in given else given.split(","))]
        words = [one for word in words for one in (_range(option, word) if kind in _NUMBERS else [word])]
        values = []
        for word in words:
            try:
                values.append(_READ[kind](word))
            except FreeUValueError as error:
                raise FreeUValueError(f"{option}: {error}") from None
            except ValueError:
                raise FreeUValueError(f"{option}: {word!r} is no value of {name}") from None
    if kind == "prompt-sr":
        values = [(values[0], value) for value in values]
    if len(set(values)) < len(values):
        raise FreeUValueError(f"{option} has a value twice: {text!r}")
    if len(values) > MAX_VALUES:
        raise FreeUValueError(f"{option} has {len(values)} values, more than {MAX_VALUES}: make several sweeps")
    return Axis(name, tuple(values))


def canonical(name: str) -> str:
    """The one name of an axis that has several, as in ``AXES``."""
    return _OTHER_NAMES.get(name, name)


def _range(option: str, word: str) -> list[str]:
    """The numbers of ``first:last:step``; any other word as it is."""
    parts = word.split(":")
    if len(parts) != 3:
        return [word]
    try:
        first, last, step = map(Decimal, parts)  # 0.1 + 0.2 must be 0.3
        if step > 0 and first <= last and (last - first) / step < MAX_VALUES:
            return [str(first + step * number) for number in range(int((last - first) / step) + 1)]
    except (InvalidOperation, ArithmeticError):
        pass
    raise FreeUValueError(
        f"{option}: a range must be first:last:step with numbers, first below last and at most {MAX_VALUES} values, "
        f"got {word!r}"
    )


def _change(base: FreeUConfig, before: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """What an axis changes in the fields of a configuration, after those that were changed before."""
    stage = re.fullmatch(r"([bsg])([123])", name)
    if stage is None and name not in ("b", "s"):
        return {"guidance" if name == "halves" else name: value}
    factors = {kind: list(before.get(kind, getattr(base, kind))) for kind in "bs"}
    gains = before.get("skip_gain", base.skip_gain)
    if isinstance(gains, tuple) or (stage is not None and stage[1] == "g"):
        factors["skip_gain"] = list(gains) if isinstance(gains, tuple) else [gains] * len(factors["b"])
    if stage is None:
        factors[name] = [value] * len(factors[name])
    else:
        place = int(stage[2]) - 1
        for numbers in factors.values():
            numbers += [1.0] * (place + 1 - len(numbers))
        factors["skip_gain" if stage[1] == "g" else stage[1]][place] = value
    return {kind: tuple(numbers) for kind, numbers in factors.items()}


def _text(word: str) -> str:
    if not word:
        raise FreeUValueError("a value is empty")
    return word


def _preset(word: str) -> str:
    if word != OFF:
        preset(word)
    return word


def _config(word: str) -> str:
    if word != OFF:
        parse_config(word)
    return word


def _size(word: str) -> tuple[int, int]:
    width, cross, height = word.lower().partition("x")
    sides = (int(width), int(height)) if cross else (int(word), int(word))
    return check_side("a width", sides[0]), check_side("a height", sides[1])


def _between(name: str, low: float, high: float) -> Callable[[str], float]:
    def checked(word: str) -> float:
        value = float(word)
        check_range(name, value, low, high)
        return value

    return checked


def _steps(word: str) -> int:
    steps = int(word)
    check_range("steps", steps, 1, 1_000)
    return steps


def _guidance_scale(word: str) -> float:
    scale = float(word)
    check_range("guidance-scale", scale, 0.0, 100.0)
    return scale


def _field(name: str, read: Callable[[str], Any] = float) -> Callable[[str], Any]:
    """A reader that lets a configuration judge the value."""

    def checked(word: str) -> Any:
        value = read(word)
        # Anything but the identity, so that a field is judged by itself.
        base = FreeUConfig(b=(1.1, 1.1), s=(0.9, 0.9))
        base.replace(**_change(base, {}, name, value))
        return value

    return checked


def _moment(name: str) -> Callable[[str], float]:
    """A reader of a place in the schedule, whose unit and other end only the whole settings know."""
    return lambda word: checked_number(name, float(word), 0.0)


def _window(word: str) -> tuple[float, ...]:
    """A window, whose unit and bounds only the whole settings know."""
    numbers = tuple(checked_number("a window", float(part), 0.0) for part in word.split(":"))
    if len(numbers) != 2:
        raise ValueError(word)
    return numbers


_OF_RUN = {item.name for item in fields(Settings)} - {"fields"}
_FIELDS = {
    "guidance-scale": "guidance",
    "negative-prompt": "negative_prompt",
    "prompt-sr": "prompt_sr",
    "denoising-strength": "denoising_strength",
    "lora-weight": "lora_weight",
    "controlnet-weight": "controlnet_weight",
    "high-gain": "high_gain",
    "skip-gain": "skip_gain",
    "skip-gain-ends": "skip_gain_ends",
    "b-window": "b_window",
    "s-window": "s_window",
}
_OTHER_NAMES = {
    "cfg": "guidance-scale",
    "sampler": "scheduler",
    "prompt-s/r": "prompt-sr",
    "denoise": "denoising-strength",
    # Of version 0.1.
    "guidance": "guidance-scale",
    "negative_prompt": "negative-prompt",
    "high_gain": "high-gain",
    # As in a configuration.
    "skip_gain": "skip-gain",
    "skip_gain_ends": "skip-gain-ends",
    "b_window": "b-window",
    "s_window": "s-window",
}
_READ: dict[str, Callable[[str], Any]] = {
    "prompt": _text,
    "negative-prompt": str,
    "seed": int,
    "steps": _steps,
    "guidance-scale": _guidance_scale,
    "scheduler": sampler_name,
    "model": _text,
    "prompt-sr": _text,
    "size": _size,
    "denoising-strength": _between("denoising-strength", 0.0, 1.0),
    "lora-weight": _between("lora-weight", -MAX_WEIGHT, MAX_WEIGHT),
    "controlnet-weight": _between("controlnet-weight", 0.0, MAX_SCALE),
    "preset": _preset,
    "config": _config,
    **{name: _field(name) for name in ("b1", "b", "s", "strength")},
    **{name: _moment(name) for name in ("start", "end", "ramp")},
    "high-gain": _field("high_gain"),
    "skip-gain": _field("skip_gain"),
    "skip-gain-ends": _field("skip_gain_ends", lambda word: FreeUConfig.parse(f"skip_gain_ends={word}").skip_gain_ends),
    **{f"{name}-window": _window for name in "bs"},
    **{name: _field(name, int) for name in ("version", "threshold")},
    **{name: _field(name, str) for name in ("profile", "mask", "dc", "share", "halves")},
    "channels": _field("channels", lambda word: FreeUConfig.parse(f"channels={word}").channels),
}
_NUMBERS = {
    "b1",
    "b",
    "s",
    "high-gain",
    "skip-gain",
    "start",
    "end",
    "ramp",
    "strength",
    "threshold",
    "steps",
    "guidance-scale",
    "denoising-strength",
    "lora-weight",
    "controlnet-weight",
}
AXES = ("b1", "b2", "b3", "s1", "s2", "s3", "g1", "g2", "g3", *(name for name in _READ if name != "b1"))
"""The names of axes."""
