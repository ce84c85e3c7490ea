"""From a checkpoint to a ``TextToVideoSDPipeline`` directory that anything can load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import TextToVideoSDPipeline

from freeu.personalize import Checkpoint
from freeu_zoo import __version__, card
from freeu_zoo.errors import ZooError
from freeu_zoo.export import clip_sheet
from freeu_zoo.export.directory import finish, parts, prefix_text_encoder, tidy, training_facts, vocabulary_files
from freeu_zoo.files import write_json
from freeu_zoo.recipe import Recipe, shipped
from freeu_zoo.training import diffusion, video
from freeu_zoo.training.run import average_of, facts_of
from freeu_zoo.training.video import Parent
from freeu_zoo.world import captions, clips
from freeu_zoo.world.scenes import SIZE


def pipeline(recipe: Recipe, home: Path, parent: Parent) -> tuple[TextToVideoSDPipeline, dict[str, Any]]:
    """The pipeline with averaged weights (float32) and the parent's autoencoder, and the training's numbers.

    Raises:
        ZooError: nothing was trained yet.
    """
    state = Checkpoint(home / "unet.ckpt", video.identity(recipe)).read()
    if state is None:
        raise ZooError(f"nothing trained in {home} yet; run --stage unet first")
    weights = average_of(state)
    tokenizer, encoder = video.build_text(recipe)
    network = video.build(recipe)
    for name, model in (("text.", encoder), ("unet.", network)):
        model.load_state_dict({k.removeprefix(name): v for k, v in weights.items() if k.startswith(name)})
        model.eval()
    made = TextToVideoSDPipeline(
        vae=video.load_coder(parent.coder),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=network,
        scheduler=diffusion.scheduler(),
    )
    return made, facts_of(state)


def export(recipe: Recipe, home: Path, parent: Parent, destination: Path, samples: bool = True) -> None:
    """Write the pipeline in float16, its ``freeu-zoo.json``, card and sample sheet; replaces ``destination``.

    Raises:
        ZooError: nothing was trained yet.
    """
    made, numbers = pipeline(recipe, home, parent)
    new = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for model in (made.unet, made.vae):  # the text encoder stays float32, see ``export``
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
        clip_sheet.write_samples(new, new)
    finish(new, destination)


def image_model(recipe: Recipe) -> str | None:
    """The name of the image model with which the first lesson began."""
    while recipe.kind == "video" and recipe.parent is not None:
        recipe = shipped(recipe.parent)
    return recipe.name if recipe.kind != "video" else None


def describe(recipe: Recipe, numbers: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``freeu-zoo.json`` says: what the model generates, how to ask, and how it was made."""
    return {
        "kind": "video",
        "name": recipe.name,
        "description": recipe.description,
        "pipeline": "TextToVideoSDPipeline",
        "zoo_version": __version__,
        "recipe": recipe.name,
        "parent": image_model(recipe),
        "native_size": SIZE,
        "default_steps": recipe.sampling.steps,
        "default_guidance_scale": recipe.sampling.guidance,
        "default_frames": recipe.video.frames,
        "default_fps": recipe.video.fps,
        "prompt": "a {style} {noun} {motion} on a {colour} background",
        "nouns": list(recipe.world.nouns),
        "styles": list(recipe.world.styles),
        "colours": list(recipe.world.colours),
        "motions": {name: list(phrases) for name, phrases in clips.MOTIONS.items()},
        "words": sorted({*captions.words(recipe.world), *clips.words()}),
        "sheets": {"samples": clip_sheet.sample_prompts(recipe)},
        "parts": parts,
        "notes": recipe.notes,
        "training": training_facts(numbers, recipe.unet.batch),
    }
