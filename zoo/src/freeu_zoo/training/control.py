"""The miniature ControlNet (Zhang, Rao & Agrawala, ICCV 2023, arXiv:2302.05543): edges that an image shall have.

A copy of the image model's encoder reads the edges; what it finds is added to the skips and to the middle of the image
model, which stays as it is. The additions begin at zero.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor

from freeu.personalize import Checkpoint
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import diffusion, text, vae
from freeu_zoo.training.precision import mixed
from freeu_zoo.training.run import OptimizerSettings, Prefetch, Run, Say
from freeu_zoo.world import captions, edges
from freeu_zoo.world.scenes import Scene, SceneMaker, compose, held_out_scenes

VALID = 64
"""Scenes of the fixed validation loss; each holds a combination that training never shows."""

EMBEDDING = (16, 32, 96)
"""Channels of the layers that read the edges: each step halves the image, and latents are four times smaller."""


def build(unet: Any) -> ControlNetModel:
    """A ControlNet that begins as a copy of a U-Net's encoder and adds nothing yet."""
    made: ControlNetModel = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING)
    return made


def condition(images: list[Image.Image], low: int = edges.LOW, high: int = edges.HIGH) -> Tensor:
    """The edges of images as a ControlNet takes them: (n, 3, height, width), 0 or 1."""
    found = np.stack([edges.canny(image, low, high) for image in images])
    return torch.from_numpy(found).float()[:, None].expand(-1, 3, -1, -1).contiguous()


class Trainer(Run):
    """A run of the ControlNet over scenes that are composed and encoded as it goes; the image model is frozen."""

    def __init__(self, recipe: Recipe, parent: Path, home: Path, say: Say, device: str = "cpu") -> None:
        self.recipe = recipe
        settings = recipe.unet
        torch.manual_seed(settings.seed)
        pipe: Any = StableDiffusionPipeline.from_pretrained(parent)
        self.tokenizer, self.coder = pipe.tokenizer, pipe.vae.eval()
        self.unet, self.encoder = pipe.unet.eval().to(device), pipe.text_encoder.eval().to(device)
        for frozen in (self.unet, self.encoder):
            frozen.requires_grad_(False)
        network = build(pipe.unet)
        if device == "cpu":
            for part in (network, self.unet):
                part.set_attn_processor(AttnProcessor())  # faster here than the fused kind, see unet.Trainer
        optimization = OptimizerSettings.of(
            settings, settings.warmup, betas=(0.9, 0.99), ema=settings.ema, report_steps=100
        )
        super().__init__(
            "control", network, optimization, Checkpoint(home / "control.ckpt", identity(recipe)), say, device
        )
        self.kept = diffusion.scheduler().alphas_cumprod.to(self.device)
        self.maker = SceneMaker(recipe.world, settings.seed, held_out=False)
        self.batch = Prefetch(self._batch)
        self._valid: list[tuple[Tensor, ...]] | None = None

    def loss_of(self, step: int) -> Tensor:
        """The loss of that step's batch."""
        return self.loss(*(part.to(self.device) for part in self.batch(step)))

    def _batch(self, step: int) -> tuple[Tensor, ...]:
        settings = self.recipe.unet
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        draw = random.Random(f"{settings.seed}/step/{step}")
        made = [self.maker.scene(number) for number in range(step * settings.batch, (step + 1) * settings.batch)]
        # Without a caption only the edges tell what it is, which teaches to look at them.
        said = ["" if draw.random() < settings.caption_dropout else captions.caption(scene, draw) for scene in made]
        times = diffusion.spread_timesteps(len(made), generator, settings.time_exponent)
        return (*self._prepared(made, said), times, torch.randn(len(made), 4, 32, 32, generator=generator))

    def _prepared(self, made: list[Scene], said: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, tokens and edges of scenes with their captions."""
        latent = vae.encode(self.coder, made).float()
        return latent, text.tokens(self.tokenizer, said), condition([compose(scene) for scene in made])

    def loss(self, latent: Tensor, words: Tensor, edged: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """The weighted v-prediction loss of one batch."""
        kept = self.kept[times]
        noisy, target = diffusion.noised(latent, noise, kept)
        with mixed(self.device):
            context = self.encoder(words).last_hidden_state
            down, middle = self.model(noisy, times, context, edged, return_dict=False)
            guess = self.unet(
                noisy, times, context, down_block_additional_residuals=down, mid_block_additional_residual=middle
            ).sample
        each = (guess.float() - target).square().mean(dim=(1, 2, 3))
        weight = diffusion.weights(kept, self.recipe.unet.min_snr)
        mean: Tensor = (each * weight).sum() / weight.sum()
        return mean

    def measure(self) -> float:
        """Loss on held-out scenes with fixed noise, times and captions."""
        if self._valid is None:
            generator, draw = torch.Generator().manual_seed(0), random.Random(0)
            made = held_out_scenes(self.recipe.world, VALID, seed=1000)
            self._valid = []
            for start in range(0, VALID, 16):
                part = made[start : start + 16]
                inputs = self._prepared(part, [captions.caption(scene, draw) for scene in part])
                times = diffusion.spread_timesteps(len(part), generator)
                self._valid.append((*inputs, times, torch.randn(len(part), 4, 32, 32, generator=generator)))
        losses = [self.loss(*(part.to(self.device) for part in batch)).item() for batch in self._valid]
        return sum(losses) / len(losses)


def identity(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must agree with. The length of the run is left out: a run may be prolonged."""
    free = {"samples", "level", "checkpoint_minutes", "grid_minutes"}
    settings = {key: value for key, value in asdict(recipe.unet).items() if key not in free}
    return {
        "control": settings,
        "parent": recipe.parent,
        "world": [recipe.world.nouns, recipe.world.styles],
    }
