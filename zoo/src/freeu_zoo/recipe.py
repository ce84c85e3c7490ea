"""Recipes: everything that decides what a model becomes, in one TOML file."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from freeu_zoo.errors import ZooError
from freeu_zoo.world import scenes, sprites

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Part = TypeVar("Part")

FOLDER = Path(__file__).parent / "recipes"
"""Where the shipped recipes are; a ``parent`` is looked up there."""


@dataclass(frozen=True)
class DataRecipe:
    """The training data: ``scenes`` of them are composed (and, for the U-Net, encoded) once.

    ``extra_sprites`` other emoji are shown to the autoencoder only.
    """

    scenes: int = 3072
    seed: int = 0
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
    """The text encoder; ``width`` is also the U-Net's cross-attention width.

    ``samples`` captions are learned before the U-Net begins (see ``text_lesson``); with 0 the two begin together.
    """

    width: int = 128
    layers: int = 3
    heads: int = 4
    length: int = 32
    samples: int = 0
    batch: int = 128
    learning_rate: float = 1e-3
    seed: int = 3


@dataclass(frozen=True)
class UnetRecipe:
    """The U-Net and its training over ``samples`` latents.

    Args:
        level: the part of the run at the highest learning rate.
        time_exponent: see ``diffusion.spread_timesteps``.
        layout_weight: weight of the auxiliary loss: what lies where, read from the middle of the U-Net.
        captions: captions made for each scene.
    """

    widths: tuple[int, int, int] = (48, 96, 192)
    groups: int = 16
    heads: int = 4
    samples: int = 141_312
    batch: int = 32
    learning_rate: float = 7e-4
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.998
    caption_dropout: float = 0.12
    min_snr: float = 5.0
    time_exponent: float = 1.0
    layout_weight: float = 0.0
    captions: int = 8
    level: float = 0.5
    checkpoint_minutes: float = 3.0
    grid_minutes: float = 20.0
    seed: int = 2


@dataclass(frozen=True)
class VideoRecipe:
    """What a video model has beside an image model (``video``).

    Args:
        frames: of a clip.
        fps: at which its clips are shown.
        short: frames of the pieces of clips that the run begins with; they cost less and teach most of it. At least 3:
            with 2, gradients of convolutions over time in bfloat16 are not finite on CPUs (torch 2.13).
        short_samples: how many of these.
        head_width: channels of an attention head.
        spatial_rate: learning rate of layers over space, as a share of that of layers over time.
    """

    frames: int = 8
    fps: int = 8
    short: int = 4
    short_samples: int = 0
    head_width: int = 12
    spatial_rate: float = 0.3


@dataclass(frozen=True)
class LcmRecipe:
    """How a model is distilled (``lcm``).

    Args:
        form: "lora": low-rank additions to the parent's U-Net; "unet": a U-Net that takes the CFG scale as an input.
        rank: of the additions.
        embedding: width of the embedded CFG scale, even.
        solver_steps: of the teacher from noise to image, at most 1000; k of the paper is 1000 // solver_steps.
        guidance: the lowest and the highest CFG scale of the teacher.
        huber: c of the pseudo-Huber loss.
    """

    form: str = "lora"
    rank: int = 32
    embedding: int = 64
    solver_steps: int = 25
    guidance: tuple[float, float] = (3.0, 3.0)
    huber: float = 0.001


@dataclass(frozen=True)
class Sampling:
    """The defaults that go with the model."""

    steps: int = 20
    guidance: float = 3.0


@dataclass(frozen=True)
class JudgeRecipe:
    """The judge, a ``CLIPModel``: image and caption towers trained to find each other (``judge``)."""

    width: int = 192
    layers: int = 6
    heads: int = 6
    patch: int = 16
    projection: int = 128
    samples: int = 300_000
    batch: int = 96
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    level: float = 0.3
    seed: int = 11
    checkpoint_minutes: float = 3.0


@dataclass(frozen=True)
class ReaderRecipe:
    """The scene reader, a small residual network with one answer for each object (``reader``)."""

    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    samples: int = 200_000
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    level: float = 0.3
    seed: int = 21
    checkpoint_minutes: float = 3.0


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Args:
        name: of the recipe and of the model.
        world: which scenes.
        kind: "diffusion", "video", "control", "lcm", "judge" or "reader".
        parent: a recipe whose autoencoder is kept and whose U-Net this one begins with; of a video model the recipe
            of the image model, or of the lesson before; of a ControlNet or a distilled model the recipe of the image
            model.
        notes: for the model card.
    """

    name: str
    description: str
    world: scenes.World
    kind: str = "diffusion"
    parent: str | None = None
    notes: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    unet: UnetRecipe = field(default_factory=UnetRecipe)
    video: VideoRecipe = field(default_factory=VideoRecipe)
    lcm: LcmRecipe = field(default_factory=LcmRecipe)
    sampling: Sampling = field(default_factory=Sampling)
    judge: JudgeRecipe = field(default_factory=JudgeRecipe)
    reader: ReaderRecipe = field(default_factory=ReaderRecipe)


_PARTS: dict[str, type[Any]] = {
    "world": scenes.World,
    "data": DataRecipe,
    "vae": VaeRecipe,
    "text": TextRecipe,
    "unet": UnetRecipe,
    "video": VideoRecipe,
    "lcm": LcmRecipe,
    "sampling": Sampling,
    "judge": JudgeRecipe,
    "reader": ReaderRecipe,
}
_KINDS = {
    "diffusion": ("world", "data", "vae", "text", "unet", "sampling"),
    "video": ("world", "text", "unet", "video", "sampling"),
    "control": ("world", "unet", "sampling"),
    "lcm": ("world", "data", "unet", "lcm", "sampling"),
    "judge": ("world", "data", "text", "judge"),
    "reader": ("world", "data", "reader"),
}


def read(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ZooError: no such file, no TOML, an unknown key, noun, style or colour; the message names it.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ZooError(f"cannot read the recipe {path}: {error}") from error
    kind = str(raw.get("kind", "diffusion"))
    if kind not in _KINDS:
        raise ZooError(f"{path}: kind must be {', '.join(_KINDS)}, got {kind!r}")
    texts = ("name", "kind", "parent", "description", "notes")
    unknown = sorted(set(raw) - set(_KINDS[kind]) - set(texts))
    if unknown or not {"name", "world"} <= set(raw):
        raise ZooError(
            f"{path}: a recipe of kind {kind} has {', '.join(texts)} and [{'], ['.join(_KINDS[kind])}]; "
            f"unknown: {', '.join(unknown) or '-'}"
        )
    if "nouns" in raw["world"]:
        raw["world"] = {**raw["world"], "nouns": _nouns(raw["world"]["nouns"], path)}
    made: dict[str, Any] = {key: _part(_PARTS[key], raw[key], f"{path} [{key}]") for key in _KINDS[kind] if key in raw}
    made |= {key: str(raw[key]).strip() for key in texts if key in raw}
    recipe = Recipe(**{"description": ""} | made)
    _check_world(recipe.world, path)
    _check_lcm(recipe.lcm, path)
    return recipe


def shipped(name: str) -> Recipe:
    """A recipe of the package by name.

    Raises:
        ZooError: there is none of that name.
    """
    return read(FOLDER / f"{name}.toml")


def _nouns(value: Any, path: Path) -> list[str]:
    """A list of nouns, or a number: so many from the head of the table, whose order is deliberate."""
    table = list(sprites.table().nouns)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= len(table):
            raise ZooError(f"{path} [world]: nouns must be a list or 1 to {len(table)}, got {value}")
        return table[:value]
    if value == "all":
        return table
    if not isinstance(value, list):
        raise ZooError(f'{path} [world]: nouns must be a list, a number or "all", got {value!r}')
    return value


def _check_world(world: scenes.World, path: Path) -> None:
    known = {"nouns": sprites.table().nouns, "styles": sprites.STYLES, "colours": scenes.COLOURS}
    for name, all_of_them in known.items():
        asked = getattr(world, name)
        strangers = sorted(set(asked) - set(all_of_them))
        if strangers or not asked:
            raise ZooError(
                f"{path} [world]: no such {name}: {', '.join(strangers) or 'an empty list'}; "
                f"known: {', '.join(all_of_them)}"
            )
    strangers = sorted(set(world.layouts) - {"single", "placed", "count", "pair", "trio"})
    if strangers or not any(weight > 0 for weight in world.layouts.values()):
        raise ZooError(f"{path} [world]: layouts are single, placed, count, pair, trio; got {dict(world.layouts)}")


def _check_lcm(lcm: LcmRecipe, path: Path) -> None:
    low, high = lcm.guidance if len(lcm.guidance) == 2 else (0.0, 0.0)
    checks = {
        f'form must be "lora" or "unet", got {lcm.form!r}': lcm.form in ("lora", "unet"),
        f"rank must be at least 1, got {lcm.rank}": lcm.rank >= 1,
        f"embedding must be even and at least 4, got {lcm.embedding}": lcm.embedding >= 4 and lcm.embedding % 2 == 0,
        f"solver_steps must be 1 to 1000, got {lcm.solver_steps}": 1 <= lcm.solver_steps <= 1000,
        f"guidance must be two CFG scales from 1 up, in order, got {list(lcm.guidance)}": 1 <= low <= high,
        f"huber must be above 0, got {lcm.huber}": lcm.huber > 0,
    }
    for message, fine in checks.items():
        if not fine:
            raise ZooError(f"{path} [lcm]: {message}")


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
    """The same recipe made tiny: every stage runs, nothing is learned."""
    replace = dataclasses.replace
    batch = 4 if recipe.kind == "video" else 8
    return replace(
        recipe,
        name=f"{recipe.name}-smoke",
        world=replace(recipe.world, nouns=recipe.world.nouns[:4], styles=recipe.world.styles[:2]),
        data=replace(recipe.data, scenes=32, extra_sprites=0),
        vae=replace(recipe.vae, width=16, minutes=0.03, polish_minutes=0.03, batch=4),
        text=replace(recipe.text, width=32, layers=1, heads=4, batch=8, samples=min(recipe.text.samples, 32)),
        unet=replace(
            recipe.unet,
            widths=(16, 32, 64),
            samples=4 * batch,
            batch=batch,
            warmup=2,
            checkpoint_minutes=0.02,
            captions=2,
        ),
        video=replace(recipe.video, frames=4, short=3, short_samples=min(recipe.video.short_samples, 8), head_width=4),
        lcm=replace(recipe.lcm, rank=2, embedding=8, solver_steps=4),
        sampling=replace(recipe.sampling, steps=1),
        judge=replace(recipe.judge, width=48, layers=1, heads=2, projection=32, samples=64, batch=16),
        reader=replace(recipe.reader, widths=(8, 16, 32, 64), samples=64, batch=16),
    )
