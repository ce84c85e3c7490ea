"""From a checkpoint to a ``StableDiffusionPipeline`` directory that anything can load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from . import __version__, captions, card, diffusion, grid, text, unet, vae
from .checkpoint import State
from .files import replace_directory, write_json
from .recipe import Recipe
from .scenes import RELATIONS, SIZE


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
    report = json.loads((coder / "training.json").read_text(encoding="utf-8"))
    return made, {**facts, "vae": report}


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
    for name in ("vae", "unet"):
        tidy(new / name / "config.json")
    facts = describe(recipe, numbers, parts(made))
    write_json(new / "freeu-zoo.json", facts)
    (new / "README.md").write_text(card.text(facts), encoding="utf-8")
    if samples:
        grid.write(new, new)
    finish(new, destination)


def finish(new: Path, destination: Path) -> None:
    """Put a finished directory in its place."""
    for path in new.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes files that only their owner can read
    replace_directory(new, destination)


def training_facts(state: State, batch: int) -> dict[str, Any]:
    """What a card tells of a run."""
    step, seconds = state.facts["step"], state.facts["seconds"]
    return {
        "samples": step * batch,
        "steps": step,
        "minutes": round(seconds / 60, 1),
        "samples_per_second": round(step * batch / max(seconds, 1e-9), 1),
        "curve": _thin(state.facts["curve"]),
    }


def vocabulary_files(folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt`` from ``tokenizer.json``: transformers before 5 wants them."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    write_json(folder / "vocab.json", model["vocab"])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tidy(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    # The first tells where the weights lay on the machine that trained; for the second see vae.py.
    for entry in ("_name_or_path", "block_out_channels" if path.parent.name == "vae" else ""):
        config.pop(entry, None)
    write_json(path, config)


def parts(made: Any) -> list[dict[str, Any]]:
    """What a pipeline consists of, for the card."""
    network, encoder, coder = made.unet.config, made.text_encoder.config, made.vae.config
    notes = {
        "unet": f"widths {'-'.join(map(str, network.block_out_channels))}, "
        f"{network.layers_per_block} layers per block, attention at 16x16 and 8x8",
        "text_encoder": f"{encoder.num_hidden_layers} layers, {encoder.hidden_size} wide, "
        f"{encoder.vocab_size} tokens, inputs of {encoder.max_position_embeddings}",
        "vae": f"f = 4, {coder.latent_channels} latent channels, scaling factor {coder.scaling_factor}",
    }
    return [
        {
            "part": name,
            "class": type(getattr(made, name)).__name__,
            "parameters": sum(p.numel() for p in getattr(made, name).parameters()),
            "notes": note,
        }
        for name, note in notes.items()
    ]


def describe(recipe: Recipe, numbers: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``freeu-zoo.json`` says: what the model draws, how to ask, and how it was made."""
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
        "training": training_facts(State({}, numbers), settings.batch) | {"vae": numbers["vae"]},
    }


def _thin(curve: list[list[float]], most: int = 16) -> list[dict[str, float]]:
    """At most about ``most`` points of the loss curve, the last one among them."""
    stride = max(1, -(-len(curve) // most))
    kept = curve[::-1][::stride][::-1]
    return [
        {"step": int(step), "minutes": round(seconds / 60, 1), "loss": round(loss, 4), "held_out": round(held, 4)}
        for step, seconds, loss, held in kept
    ]
