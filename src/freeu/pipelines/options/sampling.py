"""Prompts, seeds and sampling, and the image that image-to-image and inpainting start from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from freeu.errors import FreeUValueError, unknown_name
from freeu.pipelines.io.inputs import MAX_SEEDS, MAX_SMALL_SEED, check_side, count_on, draw_seeds, parse_seeds
from freeu.pipelines.io.prompt_lines import PromptLine, common_settings
from freeu.pipelines.io.prompts import collect_lines, collect_prompts
from freeu.pipelines.models.schedulers import SAMPLERS, SCHEDULES, check_sampler
from freeu.pipelines.models.weighting import WEIGHTINGS
from freeu.pipelines.options.option import Argument, Option, check_bounds, given
from freeu.wording import counted

DENOISING_STRENGTH = 0.6
"""Of image-to-image, inpainting and video-to-video, unless told otherwise."""


@dataclass(frozen=True)
class PromptOptions:
    """The prompts of a run, as words or as the name of a file."""

    PANEL: ClassVar[str] = "Images"

    prompts: Annotated[
        list[str] | None, Argument("What the images show; several prompts make several rows.", "PROMPT")
    ] = None
    prompts_from: Annotated[
        str | None,
        Option(
            "A text file, one prompt a line (# begins a comment; or --prompt ... --negative_prompt ... as for A1111), "
            ".jsonl, captions of COCO (.json), a data set "
            "(hf:ID[:SPLIT[:COLUMN]]), or 'paper': the prompts of the paper and its demo.",
            "FILE|hf:ID|paper",
            ("--prompts",),
        ),
    ] = None
    limit: Annotated[int | None, Option("Only the first N of --prompts.", "N")] = None
    sample: Annotated[int | None, Option("Only N of --prompts, drawn at random.", "N")] = None
    sample_seed: Annotated[int, Option("Seed of --sample.", "SEED", bounds=(0, MAX_SMALL_SEED))] = 0

    def collect(self) -> tuple[str, ...]:
        """The prompts themselves; errors as ``prompts.collect_prompts``."""
        check_bounds(self)
        return collect_prompts(tuple(self.prompts or ()), self.prompts_from, self.limit, self.sample, self.sample_seed)

    def lines(self) -> list[PromptLine]:
        """The prompts with what their lines say beside them; errors as ``prompts.collect_lines``."""
        check_bounds(self)
        return collect_lines(tuple(self.prompts or ()), self.prompts_from, self.limit, self.sample, self.sample_seed)

    def __bool__(self) -> bool:
        return bool(self.prompts or self.prompts_from or self.limit or self.sample)


@dataclass(frozen=True)
class SamplingOptions:
    """How images are sampled; None means the model's own default. Random seeds are drawn when it is made."""

    PANEL: ClassVar[str] = "Images"

    seeds: Annotated[
        str, Option("Seeds, such as 1 or 0,3,5 or 0-7; -1 is a random one.", "SEEDS", ("--seeds", "--seed"))
    ] = "0"
    num_images: Annotated[
        int | None,
        Option(
            "Images per prompt: as many seeds, counted from that of --seed.",
            "N",
            ("--num-images", "-n"),
            bounds=(1, MAX_SEEDS),
        ),
    ] = None
    steps: Annotated[int | None, Option("Denoising steps (default: the model's).", "N", bounds=(1, 1_000))] = None
    guidance_scale: Annotated[
        float | None,
        Option(
            "CFG scale (default: the model's).",
            "SCALE",
            ("--guidance-scale", "--cfg"),
            old=("--guidance",),
            bounds=(0.0, 100.0),
        ),
    ] = None
    negative_prompt: Annotated[
        str, Option("What the images should not show.", "TEXT", ("--negative-prompt", "--neg"))
    ] = ""
    scheduler: Annotated[
        str | None,
        Option(
            f"The sampler: {', '.join(SAMPLERS)}, some with {', '.join(SCHEDULES)} after a hyphen, or its name in "
            "ComfyUI or A1111 (default: the model's).",
            "NAME",
            ("--scheduler", "--sampler"),
        ),
    ] = None
    weighting: Annotated[
        str | None,
        Option(
            "a1111: (word:1.3), [word] and BREAK are weights and chunks, and long prompts are read to their end "
            "(default: signs are words, and long prompts are cut).",
            "a1111",
        ),
    ] = None
    width: Annotated[
        int | None, Option("Width (default: that of an input, if there is one, else the model's).", "PIXELS")
    ] = None
    height: Annotated[
        int | None, Option("Height (default: that of an input, if there is one, else the model's).", "PIXELS")
    ] = None

    size: Annotated[str | None, Option("Width and height in one, such as 512x768; 512 is a square.", "WxH")] = None

    def __post_init__(self) -> None:
        """Draw random seeds, and put what is said in short (-n, --size) into the other fields where it makes sense."""
        object.__setattr__(self, "seeds", draw_seeds(self.seeds))
        counted = count_on(self.seeds, self.num_images)
        if counted is not None:
            object.__setattr__(self, "seeds", counted)
            object.__setattr__(self, "num_images", None)
        sides = _sides(self.size)
        if sides is not None and self.width is None and self.height is None:
            for name, value in zip(("width", "height", "size"), (*sides, None), strict=True):
                object.__setattr__(self, name, value)

    def check(self) -> None:
        """Raise ``FreeUValueError`` for the first value that no model takes."""
        parse_seeds(self.seeds)
        check_bounds(self)
        if self.num_images is not None:
            raise FreeUValueError(
                f"--num-images {self.num_images} counts on from one seed, got --seeds {self.seeds}: give the first one"
            )
        if self.size is not None:
            if _sides(self.size) is None:
                raise FreeUValueError(f"--size must look like 512x768 or 512, got {self.size!r}")
            raise FreeUValueError(f"--size {self.size} and --width or --height say the same thing twice: give one")
        if self.weighting is not None and self.weighting not in WEIGHTINGS:
            raise unknown_name("--weighting", self.weighting, WEIGHTINGS)
        if self.scheduler is not None:
            check_sampler(self.scheduler)
        for name, side in (("--width", self.width), ("--height", self.height)):
            if side is not None:
                check_side(name, side)


def with_lines(sampling: SamplingOptions, lines: Sequence[PromptLine]) -> tuple[SamplingOptions, tuple[str, ...]]:
    """Sampling with what the lines of a file say, as far as the command line does not say it.

    Returns:
        the options, and the negative prompt of each prompt, or () where all have the same.

    Raises:
        FreeUValueError: lines that differ in what a run has one of.
    """
    names = {"seed": "seeds", "cfg_scale": "guidance_scale", "sampler_name": "scheduler"}
    typed = given(sampling)
    found = {names.get(name, name): value for name, value in common_settings(lines).items()}
    sampling = replace(sampling, **{name: value for name, value in found.items() if name not in typed})
    negatives = tuple(sampling.negative_prompt if line.negative is None else line.negative for line in lines)
    if len(set(negatives)) > 1:
        return sampling, negatives
    return (replace(sampling, negative_prompt=negatives[0]) if negatives else sampling), ()


def _sides(size: str | None) -> tuple[int, int] | None:
    """Width and height of a text such as "512x768"; None for anything else."""
    found = re.fullmatch(r"\s*(\d{1,5})\s*(?:[x×*:,]\s*(\d{1,5})\s*)?", size or "", re.IGNORECASE)
    return (int(found[1]), int(found[2] or found[1])) if found is not None else None


@dataclass(frozen=True)
class FrameOptions:
    """For commands that take models of images and of videos."""

    frames: Annotated[
        int | None, Option("Frames of each video, where the model generates video.", "N", bounds=(1, 1_000))
    ] = None


@dataclass(frozen=True)
class ImageInput:
    """The image that image-to-image and inpainting start from."""

    PANEL: ClassVar[str] = "Images"

    image: Annotated[Path | None, Option("Start from this image (image-to-image).", "FILE")] = None
    mask: Annotated[Path | None, Option("Inpaint only where this image is white.", "FILE")] = None
    denoising_strength: Annotated[
        float | None,
        Option(
            f"Denoising strength of --image: how much of it is replaced (default {DENOISING_STRENGTH:g}).",
            "0..1",
            ("--denoising-strength", "--denoise"),
            old=("--image-strength",),
            bounds=(0.0, 1.0),
        ),
    ] = None

    def check(self) -> None:
        """Raise ``FreeUValueError`` for a number out of bounds, or for what needs an image where there is none."""
        check_bounds(self)
        if self.image is None and self.mask is not None:
            raise FreeUValueError("--mask needs the image it belongs to: give --image FILE too")
        if self.image is None and self.denoising_strength is not None:
            raise FreeUValueError("--denoising-strength needs an image to start from: give --image FILE too")


def effective_strength(strength: float | None, steps: int) -> float:
    """The denoising strength that is used; one that leaves no step to do raises ``FreeUValueError``."""
    strength = DENOISING_STRENGTH if strength is None else strength
    if int(steps * strength) < 1:
        raise FreeUValueError(
            f"--denoising-strength {strength:g} leaves none of {counted(steps, 'step')} to do: "
            f"raise it to {min(1.0, 1.01 / steps):.2g} or more, or raise --steps"
        )
    return strength
