"""What a new run takes over from somebody's image, of any dialect: prompt, seed, sampling and FreeU."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError
from freeu.metadata.fields import FREEU_FIELDS, REGION_FIELD
from freeu.metadata.reading import Found as Read
from freeu.metadata.reading import config_of, find
from freeu.pipelines.io.inputs import MAX_SEED, parse_seeds
from freeu.pipelines.models.infotext import own_sampler, sampler_of
from freeu.pipelines.models.sources.sources import embedded_models
from freeu.pipelines.models.sources.tasks import VIDEO_TASKS
from freeu.pipelines.options.freeu import FreeUOptions
from freeu.pipelines.options.option import Option
from freeu.pipelines.options.sampling import PromptOptions, SamplingOptions

_NETWORKS = re.compile(r"\s*<(lora|lyco|hypernet|locon):([^<>:]{1,100})[^<>]{0,100}>")
_TAKEN = {"Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", *FREEU_FIELDS}
_OF_NO_USE = {"Version", "Model hash", "VAE hash", "Lora hashes", "TI hashes", "Hashes", "RNG", "App", "User"}
"""Fields of A1111 that say nothing a run could take."""
_MOST_NAMED = 8
_OF_OURS = {
    "loras": ("LoRAs", "--lora"),
    "embeddings": ("embeddings", "--embedding"),
    "control": ("the ControlNet", "--controlnet"),
    "image_sha256": ("the input image", "--image"),
    "region_sha256": ("the region of FreeU", "--region"),
    "scalecrafter": ("ScaleCrafter", "--scalecrafter"),
    "guiding": ("guidance settings", "--guidance-interval, --fresca"),
    "guidance_rescale": ("guidance rescale", "--guidance-rescale"),
    "prediction_type": ("the prediction type", "--prediction-type"),
}
"""What freeu's own settings hold beside what is taken: what to call it, and the options that give it."""


@dataclass(frozen=True)
class Found:
    """What an image says.

    Args:
        prompt: "" where there is none.
        sampling: fields of ``SamplingOptions``; None for what it does not say.
        freeu: settings of FreeU in their short form, or None where it says nothing of them.
        left: what was not taken, for people.
        note: what else to tell.
    """

    prompt: str
    sampling: Mapping[str, Any]
    freeu: str | None
    left: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class LikeOptions:
    """An image whose prompt, sampling and FreeU are taken over."""

    PANEL: ClassVar[str] = "Images"

    like: Annotated[
        Path | None,
        Option(
            "Take prompt, negative prompt, seed, steps, CFG scale, sampler, size and FreeU from a PNG, JPEG, WebP or "
            "JSON of freeu, A1111, Forge, SD.Next, ComfyUI, Fooocus or InvokeAI; what is given here too wins.",
            "FILE",
        ),
    ] = None

    def fill(
        self,
        prompts: PromptOptions,
        sampling: SamplingOptions,
        freeu: FreeUOptions | None,
        given: Collection[str],
        model: str | None = None,
    ) -> tuple[PromptOptions, SamplingOptions, FreeUOptions | None, list[str]]:
        """Prompts, sampling and FreeU with what the image says, where nothing else was said.

        Args:
            prompts, sampling, freeu: of the command; None is without FreeU, whatever the image says.
            given: names of their fields that the user gave.
            model: that was asked for, or None.

        Returns:
            all three, and lines that say what was not taken.

        Raises:
            FreeUValueError: the file cannot be read, is of another kind, holds no settings, or such as no model takes.
        """
        assert self.like is not None, "callers ask for it only where an image was given"
        found = read_image_settings(self.like, model)
        if not prompts:
            if not found.prompt:
                raise FreeUValueError(f"--like {self.like} has no prompt: give one")
            prompts = replace(prompts, prompts=[found.prompt])
        taken = {name: value for name, value in found.sampling.items() if name not in given and value is not None}
        if {"width", "height", "size"} & set(given):  # half of another image's size fits nothing
            taken = {name: value for name, value in taken.items() if name not in ("width", "height")}
        if "num_images" in given and "seeds" in taken and sampling.num_images is None:  # counted from the image's seed
            taken["num_images"] = len(parse_seeds(sampling.seeds))
        if freeu is not None and found.freeu is not None and not {"preset", "config", "b", "s"} & set(given):
            freeu = replace(freeu, config=found.freeu)
        lines = [f"of {self.like}, not taken: {', '.join(found.left)}"] if found.left else []
        return prompts, replace(sampling, **taken), freeu, lines + ([found.note] if found.note else [])


def read_image_settings(path: Path, model: str | None = None) -> Found:
    """What an image or JSON file says of how it was made; errors as ``LikeOptions.fill``."""
    found = find(path)
    if found is None:
        raise FreeUValueError(
            f"--like {path} holds no settings: neither those of freeu, A1111, Fooocus or InvokeAI, nor a graph "
            "of ComfyUI with a KSampler"
        )
    if found.ours is not None and "model" in found.ours:
        return _of_ours(path, found.ours, model)
    return _of_a1111(path, found, model)


def _of_ours(path: Path, settings: Mapping[str, Any], model: str | None) -> Found:
    if settings.get("task") in VIDEO_TASKS:
        raise FreeUValueError(f"--like {path} holds frames of a video: give an image")
    try:
        name, prompt, negative = settings["model"]["name"], settings["prompt"], settings["negative_prompt"]
        values = {key: str(settings[key]) for key in ("seed", "steps", "guidance", "width", "height")}
        scheduler = settings["scheduler"]
        if not all(isinstance(text, str) for text in (name, prompt, negative, scheduler or "")):
            raise TypeError("a text is none")
        if scheduler is None and model is not None and Path(model).name != name:
            scheduler = own_sampler(settings)  # another model's own sampler may be another
        config = _short(None if settings.get("config") is None else FreeUConfig.from_dict(settings["config"]))
    except (KeyError, TypeError, AttributeError, FreeUValueError) as error:
        raise FreeUValueError(f"the settings in {path} are damaged: {error}") from None
    left = [f"{what} ({option.format(path=path)})" for key, (what, option) in _OF_OURS.items() if settings.get(key)]
    if model is None and name not in embedded_models():
        left.insert(0, f"the model {_shown(name)} (--model)")
    size = (values["width"], values["height"])
    sampling = _sampling(path, values["steps"], values["guidance"], values["seed"], size)
    return Found(prompt, {**sampling, "negative_prompt": negative, "scheduler": scheduler}, config, tuple(left))


def _of_a1111(path: Path, read: Read, model: str | None) -> Found:
    found, fields = read.parameters, read.parameters.fields
    left = [f"{_shown(name)} {_shown(value)}" for name, value in fields.items() if name not in _TAKEN | _OF_NO_USE]
    for first, option in (("LoRA ", "--lora"), (REGION_FIELD, "--region")):
        left = [f"{one} ({option})" if one.startswith(first) else one for one in left]
    if model is None:
        left = [f"{one} (--model)" if one.startswith("Model ") else one for one in left]
    else:
        left = [one for one in left if not one.startswith("Model ")]
    prompt, negative = found.prompt, found.negative_prompt
    for match in _NETWORKS.finditer(f"{prompt} {negative}"):
        left.append(f"{match[1]} {_shown(match[2])}" + (" (--lora)" if match[1] != "hypernet" else ""))
    if len(left) > _MOST_NAMED:
        left = [*left[:_MOST_NAMED], f"and {len(left) - _MOST_NAMED} more"]
    try:
        scheduler = sampler_of(fields)
    except FreeUValueError:
        schedule = fields.get("Schedule type")
        scheduler = None
        left.insert(0, f"Sampler {_shown(fields['Sampler'])}" + (f" with {_shown(schedule)}" if schedule else ""))
    config = None
    try:
        config = _short(config_of(read))
    except FreeUValueError as error:
        left.insert(0, f"FreeU ({_shown(str(error), 80)})")
    width, cross, height = fields.get("Size", "").partition("x")
    size = (width, height) if cross else None
    sampling = _sampling(path, fields.get("Steps"), fields.get("CFG scale"), fields.get("Seed"), size)
    note = (
        ""
        if fields.get("Version", "").startswith("freeu")
        else "its seed gives other noise here, so the images differ from it"
    )
    return Found(
        _NETWORKS.sub("", prompt),
        {**sampling, "negative_prompt": _NETWORKS.sub("", negative), "scheduler": scheduler},
        config,
        tuple(left),
        f"{path}: {note}" if note else "",
    )


def _sampling(
    path: Path, steps: str | None, scale: str | None, seed: str | None, size: tuple[str, str] | None
) -> dict[str, Any]:
    """Fields of ``SamplingOptions``; None where nothing is said. A model may take them or not: that is judged later."""
    found: dict[str, Any] = {"steps": None, "guidance_scale": None, "seeds": None, "width": None, "height": None}
    if steps is not None:
        found["steps"] = _whole(path, "steps", steps, 1, 1_000)
    if seed is not None:
        found["seeds"] = str(_whole(path, "seed", seed, 0, MAX_SEED))
    if size is not None:
        found["width"], found["height"] = (_whole(path, "size", side, 8, 16_384) for side in size)
    if scale is not None:
        try:
            found["guidance_scale"] = float(scale[:40])
        except ValueError:
            found["guidance_scale"] = -1.0
        if not 0.0 <= found["guidance_scale"] <= 100.0:
            raise FreeUValueError(f"--like {path}: its CFG scale is no number from 0 to 100: {_shown(scale)}")
    return found


def _whole(path: Path, name: str, text: str, low: int, high: int) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else -1
    if not low <= value <= high:
        raise FreeUValueError(f"--like {path}: its {name} is no whole number from {low} to {high}: {_shown(text)}")
    return value


def _short(config: FreeUConfig | None) -> str | None:
    """Settings of FreeU as ``--config`` takes them; paths of sites that no terminal can show are refused."""
    text = None if config is None else str(config)
    if text is not None and not text.isprintable():
        raise FreeUValueError(f"the path of a site is no text: {_shown(text)}")
    return text


def _shown(text: str, most: int = 40) -> str:
    """A text of a foreign file for a terminal: short, and without anything that could move its cursor."""
    short = text if len(text) <= most else text[: most - 3] + "..."
    return short if short.isprintable() else repr(short)[1:-1]
