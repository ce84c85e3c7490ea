"""From a checkpoint to a ``ControlNetModel`` directory that anything can load, and what it does."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image

from freeu.personalize import Checkpoint
from freeu_zoo import __version__, card
from freeu_zoo.errors import ZooError
from freeu_zoo.export.directory import finish, tidy, training_facts
from freeu_zoo.files import write_atomically, write_json
from freeu_zoo.grid import sheet
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import control
from freeu_zoo.training.run import average_of, facts_of
from freeu_zoo.world import captions, edges
from freeu_zoo.world.scenes import SIZE, Scene, compose, held_out_scenes

SEEDS = (0, 1, 2)
"""Of the sample sheet."""

SHOWN, MEASURED = 10, 24
"""Held-out scenes of the sample sheet, and of the measures."""


def network(recipe: Recipe, home: Path, parent: Path) -> tuple[ControlNetModel, dict[str, Any]]:
    """The ControlNet with averaged weights (float32), and the training's numbers.

    Raises:
        ZooError: nothing was trained yet.
    """
    state = Checkpoint(home / "control.ckpt", control.identity(recipe)).read()
    if state is None:
        raise ZooError(f"nothing trained in {home} yet; run --stage control first")
    pipe: Any = StableDiffusionPipeline.from_pretrained(parent)
    made = control.build(pipe.unet)
    made.load_state_dict(average_of(state))
    return made.eval(), facts_of(state)


def export(recipe: Recipe, home: Path, parent: Path, destination: Path, samples: bool = True) -> None:
    """Write the ControlNet in float16, its ``freeu-zoo.json``, card and sample sheet; replaces ``destination``.

    Raises:
        ZooError: nothing was trained yet.
    """
    made, numbers = network(recipe, home, parent)
    new = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    torch.nn.Module.to(made, torch.float16)
    made.save_pretrained(new, safe_serialization=True)
    tidy(new / "config.json")
    facts = describe(recipe, numbers, sum(p.numel() for p in made.parameters()))
    if samples:
        pipe = pipeline(parent, new)
        facts["edge_agreement"] = measure(pipe, recipe)
        write_samples(pipe, recipe, new / "samples.png")
    write_json(new / "freeu-zoo.json", facts)
    (new / "README.md").write_text(card.text(facts), encoding="utf-8")
    finish(new, destination)


def describe(recipe: Recipe, numbers: dict[str, Any], parameters: int) -> dict[str, Any]:
    """What ``freeu-zoo.json`` says: what it is for, what it was shown, and how it was made."""
    return {
        "kind": "control",
        "name": recipe.name,
        "description": recipe.description,
        "control": "canny",
        "thresholds": [edges.LOW, edges.HIGH],
        "zoo_version": __version__,
        "recipe": recipe.name,
        "parent": recipe.parent,
        "native_size": SIZE,
        "default_steps": recipe.sampling.steps,
        "default_guidance_scale": recipe.sampling.guidance,
        "nouns": list(recipe.world.nouns),
        "styles": list(recipe.world.styles),
        "parameters": parameters,
        "sheets": {"samples": [captions.plain_caption(scene) for scene in shown(recipe)]},
        "notes": recipe.notes,
        "training": training_facts(numbers, recipe.unet.batch),
    }


def shown(recipe: Recipe) -> list[Scene]:
    """Scenes of the sample sheet, which training never showed."""
    return held_out_scenes(recipe.world, SHOWN, seed=9000)


def pipeline(parent: Path, folder: Path | ControlNetModel) -> StableDiffusionControlNetPipeline:
    """The image model with a ControlNet, loaded as a user would, or with one that is in memory."""
    network = ControlNetModel.from_pretrained(folder) if isinstance(folder, Path) else folder
    made: Any = StableDiffusionControlNetPipeline.from_pretrained(parent, controlnet=network, safety_checker=None)
    made.set_progress_bar_config(disable=True)
    return made


def generate(
    pipe: Any, recipe: Recipe, asked: list[str], edged: torch.Tensor, seeds: list[int], scale: float = 1.0
) -> list[Image.Image]:
    """One image for each prompt, its edges (n, 3, height, width) and its seed."""
    images: list[Image.Image] = []
    for start in range(0, len(asked), 8):
        part = slice(start, start + 8)
        images += pipe(
            asked[part],
            edged[part],
            num_inference_steps=recipe.sampling.steps,
            guidance_scale=recipe.sampling.guidance,
            controlnet_conditioning_scale=scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
        ).images
    return images


def measure(pipe: Any, recipe: Recipe) -> dict[str, Any]:
    """Mean agreement of the edges of images with those asked for.

    With the ControlNet, without it, and of real scenes that went through the autoencoder: what can be reached.
    """
    made = held_out_scenes(recipe.world, MEASURED, seed=9100)
    images = [compose(scene) for scene in made]
    wanted = [edges.canny(image) for image in images]
    asked, edged = [captions.plain_caption(scene) for scene in made], control.condition(images)
    seeds = list(range(len(made)))
    found = {
        "with": generate(pipe, recipe, asked, edged, seeds),
        "without": generate(pipe, recipe, asked, edged, seeds, scale=0.0),
        "coded": _coded(pipe, images),
    }
    means = {
        name: sum(map(edges.agreement, map(edges.canny, some), wanted)) / len(wanted) for name, some in found.items()
    }
    return {"scenes": len(made), "within": 2, **{name: round(mean, 3) for name, mean in means.items()}}


@torch.no_grad()
def _coded(pipe: Any, images: list[Image.Image]) -> list[Image.Image]:
    pixels = pipe.image_processor.preprocess(images)
    back = pipe.vae.decode(pipe.vae.encode(pixels).latents).sample
    return pipe.image_processor.postprocess(back)  # type: ignore[no-any-return]


def write_samples(pipe: Any, recipe: Recipe, output: Path) -> None:
    """Write the sample sheet: a row for each scene.

    The scene, its edges, images of its caption with ``SEEDS``, and of its caption in the next style, with the first
    seed.
    """
    made = shown(recipe)
    images = [compose(scene) for scene in made]
    edged = control.condition(images)
    styles = recipe.world.styles
    others = [dataclasses.replace(scene, style=styles[(styles.index(scene.style) + 1) % len(styles)]) for scene in made]
    columns = [images, [edges.as_image(edges.canny(image)) for image in images]]
    for scenes, seed in [*((made, seed) for seed in SEEDS), (others, SEEDS[0])]:
        asked = [captions.plain_caption(scene) for scene in scenes]
        columns.append(generate(pipe, recipe, asked, edged, [seed] * len(asked)))
    rows = itertools.chain.from_iterable(zip(*columns, strict=True))
    write_atomically(output, sheet(list(rows), len(columns)).save)
