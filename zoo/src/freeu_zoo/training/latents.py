"""Scenes encoded once, so that the U-Net's training never waits for images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from freeu_zoo.errors import ZooError
from freeu_zoo.files import sha256, write_atomically
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import vae
from freeu_zoo.world.scenes import VERSION, Scene, SceneMaker

VALID = 192
"""Scenes of the fixed validation loss; each holds a combination that training never shows."""


@dataclass(frozen=True)
class Latents:
    """Scaled latents, float16 (n, 4, 32, 32), beside the scenes they came from."""

    train: Tensor
    train_scenes: list[Scene]
    valid: Tensor
    valid_scenes: list[Scene]


def prepare(recipe: Recipe, vae_folder: Path, home: Path, say: Callable[[str], None]) -> Latents:
    """Encode the recipe's scenes with the autoencoder, or read them if that was done with this very autoencoder.

    Raises:
        ZooError: there is no autoencoder yet, or the stored latents are damaged.
    """
    weights = vae_folder / "diffusion_pytorch_model.safetensors"
    if not weights.exists():
        raise ZooError(f"no autoencoder in {vae_folder}; run --stage vae first")
    maker = SceneMaker(recipe.world, recipe.data.seed, held_out=False)
    scenes = [maker.scene(number) for number in range(recipe.data.scenes)]
    judged = _validation(recipe)
    # The name tells what was encoded by what; another autoencoder or world never meets stale latents.
    path = home / f"latents-{sha256(weights)[:12]}-{world_key(recipe)}.safetensors"
    if path.exists():
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ZooError(f"{path} is damaged ({error}); delete it and run again") from error
    else:
        model = vae.load(vae_folder)
        say(f"encoding {len(scenes)} scenes")
        stored = {"train": vae.encode(model, scenes), "valid": vae.encode(model, judged)}
        write_atomically(path, lambda name: save_file(stored, name))
    return Latents(stored["train"], scenes, stored["valid"], judged)


def _validation(recipe: Recipe) -> list[Scene]:
    maker = SceneMaker(recipe.world, recipe.data.seed + 1000)
    found = [scene for scene in map(maker.scene, range(20 * VALID)) if scene.held_out()]
    # A first lesson holds nothing out: there, other sizes and places must do.
    return (found or [maker.scene(number) for number in range(VALID)])[:VALID]


def world_key(recipe: Recipe) -> str:
    """A short name of the recipe's scenes."""
    return hashlib.sha256(repr((VERSION, recipe.world, recipe.data.scenes, recipe.data.seed)).encode()).hexdigest()[:12]
