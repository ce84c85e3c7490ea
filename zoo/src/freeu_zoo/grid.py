"""Unselected sample grids: every noun in every style, fixed seeds, nothing thrown away."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from . import DEFAULT_MODEL, model_path
from .captions import plain_caption, simple_caption
from .files import write_atomically
from .recipe import Recipe
from .scenes import SIZE, Scene, SceneMaker

COLUMNS = 8


def prompts(facts: dict[str, Any]) -> list[str]:
    """One prompt for each noun and style; colours take turns."""
    colours = facts["colours"]
    return [
        simple_caption(noun, style, colours[(place + shift) % len(colours)])
        for shift, style in enumerate(facts["styles"])
        for place, noun in enumerate(facts["nouns"])
    ]


def draw(pipe: Any, asked: list[str], steps: int, guidance: float, seed: int = 0, batch: int = 8) -> list[Image.Image]:
    """One picture for each prompt; the n-th uses seed ``seed + n``, whatever the batch."""
    import torch

    pictures: list[Image.Image] = []
    pipe.set_progress_bar_config(disable=True)
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        pictures += pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=generators).images
    return pictures


def sheet(pictures: list[Image.Image], columns: int = COLUMNS) -> Image.Image:
    """Pictures side by side, row by row."""
    rows = -(-len(pictures) // columns)
    made = Image.new("RGB", (columns * SIZE, rows * SIZE))
    for place, picture in enumerate(pictures):
        made.paste(picture, (place % columns * SIZE, place // columns * SIZE))
    return made


def write(folder: Path, output: Path, seed: int = 0) -> None:
    """Load the model in ``folder`` as a user would, and write its grid as a PNG file."""
    from diffusers import StableDiffusionPipeline

    facts = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pictures = draw(pipe, prompts(facts), facts["default_steps"], facts["default_guidance_scale"], seed)
    picture = sheet(pictures)
    write_atomically(output, picture.save)


def mixed(recipe: Recipe, seed: int = 77) -> list[Scene]:
    """24 scenes of every kind that the recipe's world has, the same for ever."""
    quota = {"single": 10, "placed": 1, "count": 4, "pair": 8, "trio": 1}
    wanted = {layout: most for layout, most in quota.items() if recipe.world.layouts.get(layout)}
    maker = SceneMaker(recipe.world, seed)
    found: list[Scene] = []
    for layout, most in wanted.items():
        many = (maker.scene(number) for number in itertools.count())
        found += itertools.islice((scene for scene in many if scene.layout == layout), most)
    return found


def progress_sheet(pipe: Any, recipe: Recipe, output: Path) -> None:
    """Write what a half-trained pipeline makes of the plain captions of ``mixed``, and the captions beside it."""
    asked = [plain_caption(scene) for scene in mixed(recipe)]
    picture = sheet(draw(pipe, asked, recipe.sampling.steps, recipe.sampling.guidance))
    write_atomically(output, picture.save)
    write_atomically(output.with_suffix(".txt"), lambda path: path.write_text("\n".join(asked) + "\n", "utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """``python -m freeu_zoo.grid OUT.png [--model DIR]``."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.grid", description=__doc__)
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("--model", type=Path, default=None, help=f"a model directory (default: {DEFAULT_MODEL})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first picture")
    options = parser.parse_args(arguments)
    write(options.model or model_path(), options.output, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
