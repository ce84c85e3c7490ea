"""Unselected sheets of clips: a row for each clip, its frames from left to right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import clips
from .clips import Clip, ClipMaker
from .files import write_atomically
from .grid import sheet
from .recipe import Recipe

PROGRESS = 7
"""Clips of a sheet of a half-trained model: one for each motion."""


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


def draw(
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


def write(pipe: Any, recipe: Recipe, asked: list[str], seeds: list[int], output: Path) -> None:
    """Draw clips with the recipe's settings and write them as rows of one picture."""
    settings = recipe.sampling
    rows = draw(pipe, asked, recipe.video.frames, settings.steps, settings.guidance, seeds)
    picture = sheet([frame for row in rows for frame in row], recipe.video.frames)
    write_atomically(output, picture.save)


def progress_sheet(pipe: Any, recipe: Recipe, output: Path) -> None:
    """Write what a half-trained pipeline makes of a clip of each motion, and the captions beside it."""
    asked = [clips.plain_caption(clip) for clip in of_each_motion(recipe, seed=77)]
    write(pipe, recipe, asked, list(range(len(asked))), output)
    write_atomically(output.with_suffix(".txt"), lambda path: path.write_text("\n".join(asked) + "\n", "utf-8"))
