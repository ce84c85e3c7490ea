"""The autoencoder: ``AutoencoderTiny`` with f = 4 and four latent channels of about unit variance."""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from torch import Tensor, nn

from freeu_zoo.errors import ZooError
from freeu_zoo.files import replace_directory, write_json
from freeu_zoo.recipe import Recipe
from freeu_zoo.training.precision import mixed
from freeu_zoo.world import scenes
from freeu_zoo.world.layouts import fit

FACTOR = 4
"""Pixels per latent cell along each axis."""

Say = Callable[[str], None]


def build(width: int) -> AutoencoderTiny:
    """A new autoencoder, ``width`` channels at every level (three levels: f = 4)."""
    return AutoencoderTiny(
        encoder_block_out_channels=(width, width, width),
        decoder_block_out_channels=(width, width, width),
        # No residual block at full resolution: three quarters of the time went there, for little.
        num_encoder_blocks=(0, 2, 3),
        num_decoder_blocks=(3, 2, 0),
        latent_channels=4,
        scaling_factor=1.0,
    )


def to_tensor(images: list[Image.Image]) -> Tensor:
    """RGB images of equal size to a float32 tensor (batch, 3, height, width) in -1..1."""
    array = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous() / 127.5 - 1


class Crops:
    """An endless source of training crops: half from the scenes, half from any emoji on any colour."""

    def __init__(self, recipe: Recipe, extra: list[Path], seed: int) -> None:
        self._maker = scenes.SceneMaker(recipe.world, recipe.data.seed + 2)
        self._extra = [_rgba(path) for path in extra]
        self._draw = random.Random(seed)

    def batch(self, count: int, side: int) -> Tensor:
        """``count`` random crops of ``side`` pixels, (count, 3, side, side) in -1..1."""
        return to_tensor([self._crop(side) for _ in range(count)])

    def _crop(self, side: int) -> Image.Image:
        draw = self._draw
        if self._extra and draw.random() < 0.5:
            sprite = draw.choice(self._extra)
            colour = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
            size = fit(sprite.size, draw.randint(40, 120))
            image = Image.new("RGB", (scenes.SIZE, scenes.SIZE), colour)
            sprite = sprite.resize(size, Image.Resampling.LANCZOS)
            left, top = (draw.randint(0, scenes.SIZE - side) for side in size)
            image.paste(sprite, (left, top), sprite)
        else:
            image = scenes.compose(self._maker.scene(draw.randrange(1 << 30)))
        x, y = (draw.randint(0, scenes.SIZE - side) for _ in range(2))
        return image.crop((x, y, x + side, y + side))


def _rgba(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGBA")


def train(recipe: Recipe, extra: list[Path], out: Path, say: Say) -> None:
    """Train the autoencoder and save it in ``out``; ``out/training.json`` has minutes, crops and PSNR."""
    settings = recipe.vae
    torch.manual_seed(settings.seed)
    vae = build(settings.width)
    crops = Crops(recipe, extra, settings.seed)

    def loss(image: Tensor) -> tuple[Tensor, Tensor]:
        with mixed():
            latent = vae.encoder(image)
            # Noise makes the decoder forgive a sampler's small errors.
            back = vae.decoder(latent + settings.latent_noise * torch.randn_like(latent))
        deviation, mean = torch.std_mean(latent.float(), dim=(0, 2, 3))
        # The decoder clamps softly at 3, so latents must be of unit size while they are learned, not only afterwards.
        unit = mean.square().mean() + (deviation - 1).square().mean()
        error = back.float() - image
        return error.abs().mean() + 2 * error.square().mean() + 0.05 * unit, error

    report = _optimize(recipe, vae.parameters(), settings.minutes, crops, loss, say)
    _scale_latents(vae, _held_out(recipe)[:64])
    _save(vae, recipe, report, out, say)


def polish(recipe: Recipe, extra: list[Path], source: Path, out: Path, say: Say) -> None:
    """Train the decoder of ``source`` on, and save the result in ``out``. The encoder, and so every latent, stays.

    Raises:
        ZooError: there is no autoencoder in ``source``.
    """
    settings = recipe.vae
    torch.manual_seed(settings.seed + 1)
    vae = load(source)
    crops = Crops(recipe, extra, settings.seed + 1)

    def loss(image: Tensor) -> tuple[Tensor, Tensor]:
        with mixed():
            with torch.no_grad():
                latent = vae.encoder(image)
            back = vae.decoder(latent + settings.latent_noise * torch.randn_like(latent))
        error = back.float() - image
        return error.abs().mean() + 2 * error.square().mean(), error

    learned = _optimize(recipe, vae.decoder.parameters(), settings.polish_minutes, crops, loss, say)
    before = report(source)
    _save(vae, recipe, {key: round(value + before[key], 2) for key, value in learned.items()}, out, say)


def load(folder: Path) -> AutoencoderTiny:
    """A saved autoencoder, float32, ready to use.

    Raises:
        ZooError: it is not there.
    """
    if not (folder / "config.json").exists():
        raise ZooError(f"no autoencoder in {folder}; run --stage vae first")
    return AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32).eval()


def report(folder: Path) -> dict[str, float]:
    """Minutes, crops and PSNR of a saved autoencoder's training: beside it, or in its model's ``freeu-zoo.json``."""
    own = folder / "training.json"
    if own.exists():
        found: dict[str, float] = json.loads(own.read_text(encoding="utf-8"))
    else:
        found = json.loads((folder.parent / "freeu-zoo.json").read_text(encoding="utf-8"))["training"]["vae"]
    return found


def _optimize(
    recipe: Recipe,
    parameters: Iterable[nn.Parameter],
    minutes: float,
    crops: Crops,
    loss_of: Callable[[Tensor], tuple[Tensor, Tensor]],
    say: Say,
) -> dict[str, float]:
    settings, learned = recipe.vae, list(parameters)
    optimizer = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=1e-4, fused=True)
    began, step, last, limit = time.monotonic(), 0, 0.0, minutes * 60
    while (spent := time.monotonic() - began) < limit:
        # One cosine over the time there is, after a short warm-up.
        rate = min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * spent / limit))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * max(rate, 0.01)
        loss, error = loss_of(crops.batch(settings.batch, settings.crop))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step += 1
        if spent - last > 20:
            last = spent
            psnr = -10 * math.log10(error.square().mean().item() / 4)
            speed = step * settings.batch / spent
            say(f"vae {spent:.0f} s, step {step}, {speed:.0f} crops/s, loss {loss.item():.4f}, crops {psnr:.1f} dB")
    return {"minutes": round((time.monotonic() - began) / 60, 2), "crops": step * settings.batch}


def _save(vae: AutoencoderTiny, recipe: Recipe, report: dict[str, float], out: Path, say: Say) -> None:
    report["psnr_db"] = round(psnr_on_scenes(vae.eval(), _held_out(recipe)), 2)
    report["scaling_factor"] = vae.config.scaling_factor
    temporary = out.with_name(f".{out.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    vae.save_pretrained(temporary)
    config = json.loads((temporary / "config.json").read_text(encoding="utf-8"))
    # diffusers writes this entry for AutoencoderTiny, and warns about it on loading.
    config.pop("block_out_channels", None)
    write_json(temporary / "config.json", config)
    write_json(temporary / "training.json", report)
    replace_directory(temporary, out)
    say(f"vae done: {json.dumps(report)}")


@torch.no_grad()
def _scale_latents(vae: AutoencoderTiny, some: list[scenes.Scene]) -> None:
    latent = vae.encoder(to_tensor([scenes.compose(scene) for scene in some]))
    vae.register_to_config(scaling_factor=round(1 / latent.std().item(), 5))


def _held_out(recipe: Recipe) -> list[scenes.Scene]:
    """104 scenes of other sizes and places than the training's."""
    maker = scenes.SceneMaker(recipe.world, recipe.data.seed + 1000)
    return [maker.scene(number) for number in range(104)]


@torch.no_grad()
def psnr_on_scenes(vae: AutoencoderTiny, some: list[scenes.Scene]) -> float:
    """Mean peak signal-to-noise ratio in dB over whole scenes, after rounding to 8 bits as a user sees them."""
    values = []
    for scene in some:
        image = to_tensor([scenes.compose(scene)])
        back = vae.decoder(vae.encoder(image)).clamp(-1, 1)
        back = ((back + 1) * 127.5).round() / 127.5 - 1
        values.append(10 * math.log10(4 / max((back - image).square().mean().item(), 1e-10)))
    return sum(values) / len(values)


@torch.no_grad()
def encode(vae: AutoencoderTiny, some: list[scenes.Scene], batch: int = 32) -> Tensor:
    """Scaled latents of scenes, float16 (scenes, 4, 32, 32)."""
    parts = []
    for start in range(0, len(some), batch):
        images = [scenes.compose(scene) for scene in some[start : start + batch]]
        with mixed():
            latent = vae.encoder(to_tensor(images))
        parts.append((latent.float() * vae.config.scaling_factor).half())
    return torch.cat(parts)
