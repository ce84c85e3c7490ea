"""Recipes: everything that decides what a model becomes, in one TOML file."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from . import sprites
from .errors import ZooError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Part = TypeVar("Part")


@dataclass(frozen=True)
class World:
    """Which scenes: see ``scenes.SceneMaker``. ``scenes`` of them are encoded for the U-Net."""

    nouns: tuple[str, ...]
    scenes: int = 7680
    seed: int = 0
    sides: tuple[int, int] = (84, 112)
    jitter: int = 6
    extra_sprites: int = 400


@dataclass(frozen=True)
class VaeRecipe:
    """The autoencoder. ``minutes`` is the time limit and the length of the learning-rate schedule.

    ``polish_minutes`` train the decoder alone, afterwards: it may take as long as one likes, the latents stay.
    """

    width: int = 48
    minutes: float = 7.0
    polish_minutes: float = 4.0
    batch: int = 16
    crop: int = 64
    learning_rate: float = 1.5e-3
    latent_noise: float = 0.05
    seed: int = 1


@dataclass(frozen=True)
class TextRecipe:
    """The text encoder; ``width`` is also the U-Net's cross-attention width."""

    width: int = 128
    layers: int = 3
    heads: int = 4
    length: int = 32


@dataclass(frozen=True)
class UnetRecipe:
    """The U-Net and its training. The length is ``steps`` unless ``minutes`` of training end it sooner.

    ``level`` is the part of the run at the highest learning rate; for ``time_exponent`` see ``diffusion``.
    """

    widths: tuple[int, int, int] = (48, 96, 192)
    groups: int = 16
    heads: int = 4
    minutes: float = 88.0
    steps: int = 0
    batch: int = 32
    learning_rate: float = 7e-4
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.998
    caption_dropout: float = 0.12
    min_snr: float = 5.0
    time_exponent: float = 1.0
    level: float = 0.5
    checkpoint_minutes: float = 3.0
    seed: int = 2


@dataclass(frozen=True)
class Sampling:
    """The defaults that go with the model."""

    steps: int = 20
    guidance: float = 3.0


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. ``name`` is the model's name too; ``notes`` go into its card."""

    name: str
    description: str
    world: World
    notes: str = ""
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    unet: UnetRecipe = field(default_factory=UnetRecipe)
    sampling: Sampling = field(default_factory=Sampling)


def read(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ZooError: no such file, no TOML, an unknown key or noun; the message names it.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ZooError(f"cannot read the recipe {path}: {error}") from error
    parts = {"world": World, "vae": VaeRecipe, "text": TextRecipe, "unet": UnetRecipe, "sampling": Sampling}
    unknown = sorted(set(raw) - set(parts) - {"name", "description", "notes"})
    if unknown or not {"name", "world"} <= set(raw):
        raise ZooError(f"{path}: a recipe has name, description and [{'], ['.join(parts)}]; unknown: {unknown or '-'}")
    made: dict[str, Any] = {key: _part(kind, raw[key], f"{path} [{key}]") for key, kind in parts.items() if key in raw}
    made |= {key: str(raw[key]).strip() for key in ("description", "notes") if key in raw}
    recipe = Recipe(**{"name": raw["name"], "description": ""} | made)
    strangers = sorted(set(recipe.world.nouns) - set(sprites.table().nouns))
    if strangers or not recipe.world.nouns:
        raise ZooError(f"{path}: no sprite for {strangers or 'an empty noun list'}; see freeu_zoo/data/sprites.toml")
    return recipe


def _part(kind: type[Part], raw: Any, where: str) -> Part:
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(raw) - names)
    if unknown:
        raise ZooError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(sorted(names))}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ZooError(f"{where}: {error}") from error


def smoke(recipe: Recipe) -> Recipe:
    """The same recipe made tiny: every stage runs, nothing is learnt."""
    replace = dataclasses.replace
    return replace(
        recipe,
        name=f"{recipe.name}-smoke",
        world=replace(recipe.world, nouns=recipe.world.nouns[:2], scenes=32, extra_sprites=4),
        vae=replace(recipe.vae, width=16, minutes=0.05, polish_minutes=0.05, batch=4),
        text=replace(recipe.text, width=32, layers=1),
        unet=replace(
            recipe.unet, widths=(16, 32, 64), minutes=2.0, steps=6, batch=8, warmup=2, checkpoint_minutes=0.02
        ),
        sampling=replace(recipe.sampling, steps=3),
    )
