"""Unselected sheets of clips: a row for each clip, its frames from left to right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from freeu_zoo.files import write_atomically
from freeu_zoo.grid import sheet
from freeu_zoo.recipe import Recipe
from freeu_zoo.world import clips
from freeu_zoo.world.clips import Clip, ClipMaker


def of_each_motion(recipe: Recipe, seed: int, held_out: bool | None = None) -> list[Clip]:
    """The first clip of each motion, in the order of ``clips.MOTIONS``."""
    maker = ClipMaker(recipe.world, recipe.video.frames, seed, held_out)
    found: dict[str, Clip] = {}
    number = 0
    while len(found) < len(clips.MOTIONS):
        clip = maker.clip(number)
        found.setdefault(clip.motion, clip)
        number += 1
    return [found[motion] for motion in clips.MOTIONS]


def generate(
    pipe: Any, asked: list[str], frames: int, steps: int, guidance: float, seeds: list[int]
) -> list[list[Image.Image]]:
    """The frames of one clip for each prompt and its seed."""
    import torch

    made = []
    pipe.set_progress_bar_config(disable=True)
    for prompt, seed in zip(asked, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        clip = pipe(
            prompt,
            num_frames=frames,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generator,
            output_type="np",
        ).frames[0]
        made.append([Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in clip])
    return made


def sample_prompts(recipe: Recipe) -> list[str]:
    """Prompts of the sample sheet: each motion in each style, clips that training never showed."""
    found = []
    for place, style in enumerate(recipe.world.styles):
        world = dataclasses.replace(recipe.world, styles=(style,))
        made = of_each_motion(dataclasses.replace(recipe, world=world), 9000 + place, held_out=True)
        found += [clips.plain_caption(clip) for clip in made]
    return found


def write_samples(folder: Path, output: Path) -> None:
    """Load the model in ``folder`` as a user would, and write ``samples.png`` into the folder ``output``.

    A row for each prompt in its ``freeu-zoo.json``, in order; row n has seed n.
    """
    from diffusers import TextToVideoSDPipeline

    facts = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
    pipe = TextToVideoSDPipeline.from_pretrained(folder)
    asked = facts["sheets"]["samples"]
    names = ("default_frames", "default_steps", "default_guidance_scale")
    frames, steps, guidance = (facts[name] for name in names)
    rows = generate(pipe, asked, frames, steps, guidance, list(range(len(asked))))
    write_atomically(output / "samples.png", sheet([frame for row in rows for frame in row], frames).save)


def progress_sheet(pipe: Any, recipe: Recipe, output: Path) -> None:
    """Write what a half-trained pipeline makes of a clip of each motion, and the captions beside it."""
    asked = [clips.plain_caption(clip) for clip in of_each_motion(recipe, seed=77)]
    settings, frames = recipe.sampling, recipe.video.frames
    rows = generate(pipe, asked, frames, settings.steps, settings.guidance, list(range(len(asked))))
    write_atomically(output, sheet([frame for row in rows for frame in row], frames).save)
    write_atomically(output.with_suffix(".txt"), lambda path: path.write_text("\n".join(asked) + "\n", "utf-8"))
