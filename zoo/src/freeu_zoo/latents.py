"""Scenes encoded once, so that the U-Net's training never waits for pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from . import vae
from .errors import ZooError
from .files import sha256, write_atomically
from .recipe import Recipe
from .scenes import Scene, SceneMaker

FIRST_HELD_OUT = 1_000_000
"""Scenes from this number on are never trained on."""


@dataclass(frozen=True)
class Latents:
    """Scaled latents, float16 (n, 4, 32, 32), beside the scenes they came from."""

    train: Tensor
    train_scenes: list[Scene]
    valid: Tensor
    valid_scenes: list[Scene]


def prepare(recipe: Recipe, maker: SceneMaker, home: Path, say: Callable[[str], None]) -> Latents:
    """Encode the recipe's scenes with ``home/vae``, or read them if that was done with this very autoencoder.

    Raises:
        ZooError: there is no autoencoder yet.
    """
    weights = home / "vae" / "diffusion_pytorch_model.safetensors"
    if not weights.exists():
        raise ZooError(f"no autoencoder in {home / 'vae'}; run --stage vae first")
    train = range(recipe.world.scenes)
    valid = range(FIRST_HELD_OUT, FIRST_HELD_OUT + 5 * min(96, maker.combinations), 5)
    # The name tells what was encoded by what; another autoencoder or world never meets stale latents.
    path = home / f"latents-{sha256(weights)[:12]}-{world_key(recipe)}.safetensors"
    if path.exists():
        stored = load_file(path)
    else:
        model = vae.load(home / "vae")
        say(f"encoding {len(train)} scenes")
        stored = {"train": vae.encode(model, maker, train), "valid": vae.encode(model, maker, valid)}
        write_atomically(path, lambda name: save_file(stored, name))
    return Latents(stored["train"], [maker.scene(n) for n in train], stored["valid"], [maker.scene(n) for n in valid])


def world_key(recipe: Recipe) -> str:
    """A short name of the recipe's world."""
    return hashlib.sha256(repr(recipe.world).encode()).hexdigest()[:12]
