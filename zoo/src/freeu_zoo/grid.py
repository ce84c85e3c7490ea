"""Unselected sample sheets: fixed prompts, fixed seeds, nothing thrown away."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from freeu_zoo import DEFAULT_MODEL, model_path, prompts
from freeu_zoo.errors import ZooError
from freeu_zoo.files import write_atomically
from freeu_zoo.recipe import Recipe
from freeu_zoo.world.captions import plain_caption, simple_caption
from freeu_zoo.world.scenes import SIZE, Scene, SceneMaker

COLUMNS = 12
CFG_SCALES = (1.0, 3.0, 5.0)


def every_noun(facts: dict[str, Any]) -> list[str]:
    """One prompt for each noun and style; colours take turns."""
    colours = facts["colours"]
    return [
        simple_caption(noun, style, colours[(place + shift) % len(colours)])
        for shift, style in enumerate(facts["styles"])
        for place, noun in enumerate(facts["nouns"])
    ]


def strange(recipe: Recipe, count: int = COLUMNS) -> list[Scene]:
    """The first scenes that ``freeu_zoo.prompts`` makes, all held out; any scenes, where nothing is held out."""
    try:
        return prompts.scenes(recipe.world, count)
    except ZooError:
        maker = SceneMaker(recipe.world, seed=9000)
        return [maker.scene(number) for number in range(count)]


def of_each_layout(recipe: Recipe) -> list[str]:
    """A caption of each layout, from ``strange``."""
    made = strange(recipe, 60)
    return [
        next(plain_caption(scene) for scene in made if scene.layout == layout)
        for layout in dict.fromkeys(scene.layout for scene in made)
    ]


def generate(
    pipe: Any, asked: list[str], steps: int, guidance: float, seeds: list[int], batch: int = 8
) -> list[Image.Image]:
    """One image for each prompt and its seed, whatever the batch."""
    import torch

    images: list[Image.Image] = []
    pipe.set_progress_bar_config(disable=True)
    for start in range(0, len(asked), batch):
        part = slice(start, start + batch)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        images += pipe(asked[part], num_inference_steps=steps, guidance_scale=guidance, generator=generators).images
    return images


def sheet(images: list[Image.Image], columns: int = COLUMNS) -> Image.Image:
    """Images side by side, row by row."""
    rows = -(-len(images) // columns)
    made = Image.new("RGB", (columns * SIZE, rows * SIZE))
    for place, image in enumerate(images):
        made.paste(image, (place % columns * SIZE, place // columns * SIZE))
    return made


def write(folder: Path, output: Path) -> None:
    """Load the model in ``folder`` as a user would, and write its three sheets into the folder ``output``.

    ``samples.png`` has every noun in every style (image n has seed n), ``seeds.png`` a held-out prompt of each layout
    with seeds 0 to 15, ``guidance.png`` held-out prompts (image n has seed n) at ``CFG_SCALES``, a row each.
    """
    from diffusers import StableDiffusionPipeline

    facts = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    steps, guidance = facts["default_steps"], facts["default_guidance_scale"]
    nouns = every_noun(facts)
    asked = [prompt for prompt in facts["sheets"]["seeds"] for _ in range(16)]
    strange = facts["sheets"]["guidance"]
    by_guidance = [generate(pipe, strange, steps, scale, list(range(len(strange)))) for scale in CFG_SCALES]
    sheets = {
        "samples": sheet(generate(pipe, nouns, steps, guidance, list(range(len(nouns))))),
        "seeds": sheet(generate(pipe, asked, steps, guidance, list(range(16)) * len(facts["sheets"]["seeds"])), 16),
        "guidance": sheet([image for row in by_guidance for image in row]),
    }
    for name, image in sheets.items():
        write_atomically(output / f"{name}.png", image.save)


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
    images = generate(pipe, asked, recipe.sampling.steps, recipe.sampling.guidance, list(range(len(asked))))
    image = sheet(images, 8)
    write_atomically(output, image.save)
    write_atomically(output.with_suffix(".txt"), lambda path: path.write_text("\n".join(asked) + "\n", "utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """``python -m freeu_zoo.grid FOLDER [--model DIR]``."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.grid", description=__doc__)
    parser.add_argument("output", type=Path, help="folder for samples.png, seeds.png and guidance.png")
    parser.add_argument("--model", type=Path, default=None, help=f"a model directory (default: {DEFAULT_MODEL})")
    options = parser.parse_args(arguments)
    try:
        write(options.model or model_path(), options.output)
    except (ZooError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
