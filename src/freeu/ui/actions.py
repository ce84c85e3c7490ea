"""What the page does, without a web framework: values of its inputs become requests, and what was made is kept.

A *form* holds the value of every input by its name, as the page sends them; they may come from anybody.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeu.analysis.measurement.content import Panel
from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.pipelines.io.inputs import MAX_SEED, MAX_SMALL_SEED
from freeu.pipelines.runs.plan import Plan
from freeu.tuning.votes.space import Settings
from freeu.ui.request import StudioRequest

OWN, NONE = "own", "none"
"""The model's own scheduler; no ControlNet."""
CUSTOM, RECOMMENDED = "custom", "recommended"
"""Presets beside those of ``freeu presets``."""
FACTORS = ("b1", "b2", "b3", "s1", "s2", "s3")
OF_PRESETS = (*FACTORS, "version", "profile", "dc", "gain_lowest", "gain_highest")
"""The inputs that a preset sets."""
LIVE = ("auto", "always", "never")
LIVE_SECONDS = 3.0
"""A pair that takes less is generated again while sliders are moved."""
MAX_BATCH = 16
GALLERY = 24
HISTORY = 20


class Stopped(Exception):  # noqa: N818 - it is no error
    """A visitor has stopped what is being made."""


class Running:
    """What each visitor has running, so that he can stop it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, threading.Event] = {}

    def begin(self, session: str) -> threading.Event:
        """A new run of a visitor; set once it is to stop."""
        with self._lock:
            self._runs[session] = threading.Event()
            return self._runs[session]

    def stop(self, session: str) -> None:
        """End the latest run of a visitor; nothing where there is none."""
        with self._lock:
            run = self._runs.pop(session, None)
        if run is not None:
            run.set()


@dataclass(frozen=True)
class Shown:
    """A pair as the page shows it, light enough to keep for every visitor.

    Args:
        form: the values that make it again, one image with its seed.
        plan: of the image with FreeU.
        files: the PNG files without and with FreeU.
        seconds, remembered: of making it, and how many of its two images were there.
        notes: what a visitor should know of it.
        texts: the settings to copy.
        spectra: of both images.
        against: FreeU's settings of the first image; None is plain sampling.
        settings: of both images as votes search them; None where a vote on them would say nothing.
    """

    form: Mapping[str, Any]
    plan: Plan
    files: tuple[str, str]
    seconds: float
    remembered: int
    notes: tuple[str, ...]
    texts: Mapping[str, str]
    spectra: Panel
    against: FreeUConfig | None = None
    settings: tuple[Settings, Settings] | None = None

    @property
    def caption(self) -> str:
        return f"{self.plan.prompts[0]}, seed {self.plan.seeds[0]}: {self.plan.config}"


def entered(gallery: Sequence[Shown], new: Shown) -> list[Shown]:
    """The gallery with a new pair first; each image is in it once."""
    others = [old for old in gallery if (old.plan, old.against) != (new.plan, new.against)]
    return [new, *others][:GALLERY]


def remembered_prompts(history: Sequence[Any] | None, prompt: str) -> list[str]:
    """The prompts of a visitor with the latest first, each once; what is no text is left out."""
    texts = [text for text in history or () if isinstance(text, str)]
    return list(dict.fromkeys([prompt.strip(), *texts]))[:HISTORY]


def parse_seed(text: object) -> int:
    """A seed as it was typed; -1 draws one.

    Raises:
        FreeUValueError: anything but -1 or a whole number from 0 to 2^64 - 1.
    """
    written = str(text).strip()
    if written == "-1":
        return secrets.randbelow(MAX_SMALL_SEED + 1)
    if not re.fullmatch(r"\d{1,20}", written) or int(written) > MAX_SEED:
        raise FreeUValueError(f"the seed must be 0 to {MAX_SEED}, or -1 for a random one, got {written[:30]!r}")
    return int(written)


def requests_from(form: Mapping[str, Any]) -> list[tuple[dict[str, Any], StudioRequest]]:
    """What a form asks for: one request for each image of the batch, each with the form that makes it alone.

    Raises:
        FreeUValueError: a value that cannot be used.
    """
    first = parse_seed(form["seed"])
    batch = _whole("batch size", form["batch"])
    if not 1 <= batch <= MAX_BATCH:
        raise FreeUValueError(f"the batch size must lie in 1 to {MAX_BATCH}, got {batch}")
    forms = [{**form, "seed": str(min(first + number, MAX_SEED)), "batch": 1} for number in range(batch)]
    return [(one, request_from(one)) for one in forms]


def request_from(form: Mapping[str, Any]) -> StudioRequest:
    """What the values of a form mean; its seed is a number.

    Raises:
        FreeUValueError: a value that cannot be used.
    """
    control = form["control"]
    return StudioRequest(
        model=str(form["model"]),
        prompt=str(form["prompt"] or ""),
        negative_prompt=str(form["negative_prompt"] or ""),
        seed=parse_seed(form["seed"]),
        steps=_whole("steps", form["steps"]),
        guidance=_number("CFG scale", form["guidance"]),
        scheduler=None if form["scheduler"] == OWN else str(form["scheduler"]),
        width=_whole("width", form["width"]),
        height=_whole("height", form["height"]),
        config=config_from(form),
        image=uploaded(form["image"]),
        denoising=_number("denoising strength", form["denoising"]),
        control=None if control == NONE else str(control),
        control_image=uploaded(form["control_image"]),
        preprocessor=str(form["preprocessor"]),
        control_weight=_number("ControlNet weight", form["control_weight"]),
        lora=uploaded(form["lora"]),
        lora_weight=_number("LoRA weight", form["lora_weight"]),
    )


def config_from(form: Mapping[str, Any]) -> FreeUConfig:
    """FreeU's settings of a form; a third stage of 1 and 1 is none.

    Raises:
        FreeUValueError: a value outside its range.
    """
    numbers = {name: _number(name, form[name]) for name in FACTORS}
    stages = 2 if numbers["b3"] == numbers["s3"] == 1.0 else 3
    gains = _number("gain_lowest", form["gain_lowest"]), _number("gain_highest", form["gain_highest"])
    return FreeUConfig(
        b=tuple(numbers[f"b{stage}"] for stage in range(1, stages + 1)),
        s=tuple(numbers[f"s{stage}"] for stage in range(1, stages + 1)),
        version=form["version"],
        profile=form["profile"],
        start=form["start"],
        end=form["end"],
        strength=form["strength"],
        b_window=(form["b_start"], form["b_end"]),
        s_window=(form["s_start"], form["s_end"]),
        dc=form["dc"],
        **({"skip_gain": gains[0]} if gains[0] == gains[1] else {"skip_gain_ends": gains}),
    )


def slider_values(config: FreeUConfig) -> list[Any]:
    """Values of the inputs that a preset sets; a third stage that is not there is 1."""
    factors = dict.fromkeys(FACTORS, 1.0)
    for number, stage in enumerate(config.stages, start=1):
        factors |= {f"b{number}": stage.b, f"s{number}": stage.s}
    gains = config.skip_gain_ends or (config.skip_gain, config.skip_gain)
    return [*factors.values(), config.version, config.profile, config.dc, *gains]


def form_of(config: FreeUConfig) -> dict[str, Any]:
    """Values of all inputs of FreeU for a configuration that acts in all steps with all of its strength."""
    whole = {"start": 0.0, "end": 1.0, "strength": 1.0, "b_start": 0.0, "b_end": 1.0, "s_start": 0.0, "s_end": 1.0}
    return dict(zip(OF_PRESETS, slider_values(config), strict=True)) | whole


def live(form: Mapping[str, Any], gallery: Sequence[Shown], seconds: float | None) -> dict[str, Any] | None:
    """The form to generate from when a slider was released, or None to wait for the button.

    Args:
        form: its seed of -1 becomes that of the last image: one slider is compared, not another noise.
        gallery: of the visitor; before the first image nothing is generated.
        seconds: of a pair of images; None before the first.
    """
    fast = seconds is not None and seconds < LIVE_SECONDS
    if not gallery or form["live"] == "never" or (form["live"] != "always" and not fast):
        return None
    seed = gallery[0].form["seed"] if str(form["seed"]).strip() == "-1" else form["seed"]
    return {**form, "seed": seed, "batch": 1}


def uploaded(value: Any) -> Path | None:
    """A file as the page sends it, or None. Gradio lets none through that was not uploaded, or made by the page."""
    path = value.get("path") if isinstance(value, Mapping) else value
    return Path(str(path)) if path else None


def one_line(error: Exception, folder: Path | None = None) -> str:
    """An error as the page shows it: one line, in which options are called as on the page.

    Args:
        error: of freeu.
        folder: where uploaded files lie; a visitor knows the name of his file alone.
    """
    text = " ".join(str(error).split())
    if folder is not None:
        text = re.sub(rf"{re.escape(str(folder))}/\w+/", "", text)
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda found: found[1].replace("-", " "), text)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FreeUValueError(f"the {name} must be a number, got {str(value)[:30]!r}")
    return float(value)


def _whole(name: str, value: object) -> int:
    number = _number(name, value)
    if number != int(number) if abs(number) < 2**53 else True:
        raise FreeUValueError(f"the {name} must be a whole number, got {number:g}")
    return int(number)
