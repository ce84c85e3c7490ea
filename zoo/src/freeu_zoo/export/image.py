"""From a checkpoint to a ``StableDiffusionPipeline`` directory that anything can load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from freeu_zoo import __version__, card, grid
from freeu_zoo.export.directory import finish, parts, prefix_text_encoder, tidy, training_facts, vocabulary_files
from freeu_zoo.files import write_json
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import diffusion, text, unet, vae
from freeu_zoo.world import captions
from freeu_zoo.world.scenes import RELATIONS, SIZE


def pipeline(recipe: Recipe, home: Path, coder: Path) -> tuple[StableDiffusionPipeline, dict[str, Any]]:
    """The pipeline with averaged weights (float32) and the autoencoder in ``coder``, and the training's numbers.

    Raises:
        ZooError: an earlier stage is missing.
    """
    weights, facts = unet.averaged(recipe, home)
    tokenizer = text.build_tokenizer(recipe.text.length)
    encoder, network = text.build_encoder(recipe.text, tokenizer), unet.build(recipe)
    for model, name in ((encoder, "text"), (network, "unet")):
        model.load_state_dict(weights[name])
        model.eval()
    made = StableDiffusionPipeline(
        vae=vae.load(coder),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=network,
        scheduler=diffusion.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return made, {**facts, "vae": vae.report(coder)}


def export(recipe: Recipe, home: Path, coder: Path, destination: Path, samples: bool = True) -> None:
    """Write the pipeline in float16, its ``freeu-zoo.json``, model card and sample grid; replaces ``destination``.

    Raises:
        ZooError: an earlier stage is missing.
    """
    made, numbers = pipeline(recipe, home, coder)
    new = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    # The text encoder stays float32: transformers loads weights in the type they are stored in, diffusers in float32,
    # so a pipeline loaded without torch_dtype would be half of each.
    for model in (made.unet, made.vae):
        torch.nn.Module.to(model, torch.float16)
    made.save_pretrained(new, safe_serialization=True)
    vocabulary_files(new / "tokenizer")
    prefix_text_encoder(new / "text_encoder")
    for name in ("vae", "unet"):
        tidy(new / name / "config.json")
    facts = describe(recipe, numbers, parts(made))
    write_json(new / "freeu-zoo.json", facts)
    (new / "README.md").write_text(card.text(facts), encoding="utf-8")
    if samples:
        grid.write(new, new)
    finish(new, destination)


def describe(recipe: Recipe, numbers: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``freeu-zoo.json`` says: what the model generates, how to ask, and how it was made."""
    settings = recipe.unet
    return {
        "name": recipe.name,
        "description": recipe.description,
        "pipeline": "StableDiffusionPipeline",
        "zoo_version": __version__,
        "recipe": recipe.name,
        "native_size": SIZE,
        "default_steps": recipe.sampling.steps,
        "default_guidance_scale": recipe.sampling.guidance,
        "prompt": "a {style} {noun} on a {colour} background",
        "nouns": list(recipe.world.nouns),
        "styles": list(recipe.world.styles),
        "colours": list(recipe.world.colours),
        "words": sorted(captions.words(recipe.world)),
        "relations": sorted(set(RELATIONS) if recipe.world.layouts.get("pair") else ()),
        "layouts": dict(recipe.world.layouts),
        "sheets": {
            "seeds": grid.of_each_layout(recipe),
            "guidance": [captions.plain_caption(scene) for scene in grid.strange(recipe)],
        },
        "parts": parts,
        "notes": recipe.notes,
        "training": training_facts(numbers, settings.batch) | {"vae": numbers["vae"]},
    }
