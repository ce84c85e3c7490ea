"""Everything that decides the pictures of a run, as one frozen value that JSON can hold."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.inputs import MAX_SEED, format_seeds

ARMS = {"baseline": "without FreeU", "freeu": "with FreeU"}
COMMANDS = ("compare", "generate")
KINDS = ("embedded", "directory", "file", "hub")
TASKS = ("text", "image", "inpaint", "video")
INPUT_IMAGE, INPUT_MASK = "input-image.png", "input-mask.png"


@dataclass(frozen=True)
class ModelReference:
    """The model of a run: how to find it again and how to tell that it is the same.

    Args:
        kind, reference: as in ``sources.ModelSource``.
        name: what to show.
        class_name: class of the pipeline that was used.
        fingerprint: see ``sources.fingerprint``.
        variant, model_config: the options of the command line, or None.
    """

    kind: str
    reference: str
    name: str
    class_name: str
    fingerprint: str
    variant: str | None = None
    model_config: str | None = None


@dataclass(frozen=True)
class Picture:
    """One picture to make: prompt number, prompt, seed, and "baseline" or "freeu"."""

    index: int
    prompt: str
    seed: int
    arm: str

    @property
    def file(self) -> str:
        return f"p{self.index:03d}-s{self.seed:04d}-{self.arm}.png"


@dataclass(frozen=True)
class Plan:
    """What a run makes.

    Args:
        command: "compare" or "generate".
        prompts, negative_prompt, seeds: every prompt is drawn with every seed.
        arms: "baseline" and "freeu", or one of them.
        config: what FreeU does; None if no picture uses it.
        model: see ``ModelReference``.
        task: "text", "image", "inpaint" or "video".
        steps: denoising steps.
        guidance: scale of classifier-free guidance.
        scheduler: a name of ``schedulers.SAMPLERS``, or None for the model's own.
        width, height: of the pictures, in pixels.
        image_sha, mask_sha: SHA-256 of the pixels of the input picture and mask at that size, or None.
        image_strength: 0..1, how much of the input picture is noised away; None for text-to-image.
        dtype, device, threads: the arithmetic; all three can change the last bits.
        frames: of each clip, for the task "video"; None for still pictures.

    Raises:
        FreeUValueError: a field that is of the wrong type or outside its range, by name.
    """

    command: str
    prompts: tuple[str, ...]
    negative_prompt: str
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    config: FreeUConfig | None
    model: ModelReference
    task: str
    steps: int
    guidance: float
    scheduler: str | None
    width: int
    height: int
    image_sha: str | None
    mask_sha: str | None
    image_strength: float | None
    dtype: str
    device: str
    threads: int
    frames: int | None = None

    def __post_init__(self) -> None:
        _require("command", self.command in COMMANDS, self.command)
        _require("prompts", bool(self.prompts) and all(isinstance(p, str) and p for p in self.prompts), self.prompts)
        _require("seeds", bool(self.seeds) and all(_whole(seed, 0, MAX_SEED) for seed in self.seeds), self.seeds)
        _require("arms", bool(self.arms) and all(arm in ARMS for arm in self.arms), self.arms)
        _require("config", self.config is not None or "freeu" not in self.arms, self.config)
        _require("task", self.task in TASKS, self.task)
        _require("steps", _whole(self.steps, 1, 10_000), self.steps)
        _require("guidance", _real(self.guidance, 0.0, 1_000.0), self.guidance)
        for name in ("width", "height"):
            _require(name, _whole(getattr(self, name), 8, 16_384), getattr(self, name))
        _require("threads", _whole(self.threads, 1, 4_096), self.threads)
        frames = self.frames
        _require("frames", _whole(frames, 1, 4_096) if self.task == "video" else frames is None, frames)
        strength = self.image_strength
        _require("image_strength", strength is None or _real(strength, 0.0, 1.0), strength)
        for name in ("negative_prompt", "dtype", "device"):
            _require(name, isinstance(getattr(self, name), str), getattr(self, name))

    def pictures(self) -> Iterator[Picture]:
        """Every picture in the order in which it is made: the pictures that belong together are neighbours."""
        for index, prompt in enumerate(self.prompts):
            for seed in self.seeds:
                for arm in self.arms:
                    yield Picture(index, prompt, seed, arm)

    @property
    def count(self) -> int:
        return len(self.prompts) * len(self.seeds) * len(self.arms)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_dict`` gives back an equal plan."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
        data["config"] = self.config.to_dict() if self.config else None
        data["model"] = asdict(self.model)
        return data

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Read what ``to_dict`` gave.

        Raises:
            FreeUValueError: a field that is missing, unknown or damaged, by name.
        """
        values = _exact_fields("plan", data, cls)
        for name in ("prompts", "seeds", "arms"):
            _require(name, isinstance(values[name], list), values[name])
            values[name] = tuple(values[name])
        if values["config"] is not None:
            values["config"] = FreeUConfig.from_dict(values["config"])
        model = _exact_fields("model", values["model"], ModelReference)
        for name, value in model.items():
            optional = name in ("variant", "model_config")
            _require(f"model.{name}", isinstance(value, str) or (optional and value is None), value)
        _require("model.kind", model["kind"] in KINDS, model["kind"])
        values["model"] = ModelReference(**model)
        return cls(**values)

    def command_line(self) -> str:
        """The command that makes these pictures from the same model, for a shell."""
        words = ["freeu", self.command, *self.prompts, "--seeds", format_seeds(self.seeds)]
        words += ["--model", self.model.name]
        if self.config is not None:
            words += ["--config", str(self.config)]
        elif self.command == "generate":
            words.append("--no-freeu")
        if self.negative_prompt:
            words += ["--negative-prompt", self.negative_prompt]
        words += ["--steps", str(self.steps), "--guidance", f"{self.guidance:g}"]
        if self.scheduler is not None:
            words += ["--scheduler", self.scheduler]
        words += ["--width", str(self.width), "--height", str(self.height)]
        if self.image_strength is not None:
            words += ["--image", INPUT_IMAGE, *(["--mask", INPUT_MASK] if self.mask_sha else [])]
            words += ["--image-strength", f"{self.image_strength:g}"]
        words += ["--dtype", self.dtype, "--device", self.device, "--threads", str(self.threads)]
        return shlex.join(words)

    def differences(self, other: Plan) -> list[str]:
        """Fields in which two plans differ, as "name: mine, theirs"."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {_short(mine[name])}, {_short(theirs[name])}" for name in mine if mine[name] != theirs[name]]


def counted(number: int, noun: str) -> str:
    """ "1 thread", "2 threads"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short(value: Any) -> str:
    text = str(FreeUConfig.from_dict(value)) if isinstance(value, dict) and "b" in value else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _require(name: str, fine: bool, value: object) -> None:
    if not fine:
        raise FreeUValueError(f"{name} is not usable: {_short(value) or repr(value)}")


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _real(value: object, low: float, high: float) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _exact_fields(what: str, data: Any, cls: type) -> dict[str, Any]:
    """The fields of a dataclass, none more, and none missing but those with a default, which came later."""
    if not isinstance(data, Mapping):
        raise FreeUValueError(f"{what} must be a JSON object, got {type(data).__name__}")
    known = {item.name: item.default for item in fields(cls)}
    for name in sorted(known.keys() - data.keys()):
        if known[name] is MISSING:
            raise FreeUValueError(f"{what} has no field {name!r}")
    for name in sorted(data.keys() - known.keys()):
        raise FreeUValueError(f"{what} has an unknown field {name!r}")
    return {**{name: default for name, default in known.items() if default is not MISSING}, **data}
