"""Latent consistency distillation (LCM, arXiv:2310.04378; LCM-LoRA, arXiv:2311.05556): a few steps instead of twenty.

The student learns to say at every timestep where the teacher's guided path from there ends. Each step takes a noisy
latent, lets the teacher go k timesteps along its path with one DDIM step, and asks the student to say the same at both
places; at the latter the average of its weights answers (the target network), without a gradient.

Two forms: "unet" learns all weights, and takes the CFG scale as an input (``time_cond_proj_dim``); "lora" learns
low-rank additions to the teacher's weights for the CFG scales of the recipe, without such an input.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.func import functional_call

from freeu.personalize import Checkpoint
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import diffusion, text
from freeu_zoo.training.distillation import consistency, lora
from freeu_zoo.training.latents import Latents
from freeu_zoo.training.precision import mixed
from freeu_zoo.training.run import OptimizerSettings, Run, Say
from freeu_zoo.world import captions

VALID = 16
"""Held-out scenes of the measure."""


def build(recipe: Recipe, teacher: UNet2DConditionModel) -> UNet2DConditionModel:
    """A student's network that begins as its teacher."""
    settings = recipe.lcm
    extra = {"time_cond_proj_dim": settings.embedding} if settings.form == "unet" else {}
    made: Any = UNet2DConditionModel.from_config({**teacher.config, **extra})
    weights = teacher.state_dict()
    if settings.form == "unet":
        # What reads the CFG scale is new. It begins at zero: the student begins as the teacher.
        weights["time_embedding.cond_proj.weight"] = torch.zeros_like(made.time_embedding.cond_proj.weight)
    made.load_state_dict(weights)
    return made


def learned(recipe: Recipe, student: UNet2DConditionModel) -> lora.Whole | lora.LowRank:
    """What of a student's network is learned."""
    return lora.Whole(student) if recipe.lcm.form == "unet" else lora.LowRank(student, recipe.lcm.rank)


class Trainer(Run):
    """A run of the student over a recipe's latents; teacher and text encoder are frozen."""

    def __init__(self, recipe: Recipe, parent: Path, data: Latents, home: Path, say: Say, device: str = "cpu") -> None:
        self.recipe, self.data = recipe, data
        settings = recipe.unet
        torch.manual_seed(settings.seed)
        pipe: Any = StableDiffusionPipeline.from_pretrained(parent)
        self.tokenizer = pipe.tokenizer
        self.teacher, self.encoder = pipe.unet.eval().to(device), pipe.text_encoder.eval().to(device)
        for frozen in (self.teacher, self.encoder):
            frozen.requires_grad_(False)
        self.student = build(recipe, pipe.unet).to(device)
        if device == "cpu":
            for part in (self.student, self.teacher):
                part.set_attn_processor(AttnProcessor())  # faster here than the fused kind, see unet.Trainer
        optimization = OptimizerSettings.of(
            settings, settings.warmup, betas=(0.9, 0.99), ema=settings.ema, report_steps=100
        )
        checkpoint = Checkpoint(home / "lcm.ckpt", identity(recipe))
        if recipe.lcm.form == "lora":
            self.student.requires_grad_(False)
        self.learned = learned(recipe, self.student)
        super().__init__("lcm", self.learned, optimization, checkpoint, say, device)
        self.kept = diffusion.scheduler().alphas_cumprod.to(self.device)
        self.latents = data.train.to(self.device)
        draw = random.Random(f"{settings.seed}/captions")
        said = [captions.caption(scene, draw) for scene in data.train_scenes for _ in range(settings.captions)]
        tokens = text.tokens(self.tokenizer, [*said, ""]).to(self.device)
        self.words, self.empty = tokens[:-1].view(len(data.train_scenes), settings.captions, -1), tokens[-1:]
        self._valid: list[tuple[Tensor, ...]] | None = None

    def loss_of(self, step: int) -> Tensor:
        """The loss of that step's batch."""
        settings, lcm = self.recipe.unet, self.recipe.lcm
        # Sampled on the CPU, so that a run may move from one kind of device to another.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        rows = torch.randint(len(self.latents), (settings.batch,), generator=generator)
        which = torch.randint(settings.captions, rows.shape, generator=generator)
        spread = diffusion.spread_timesteps(len(rows), generator, settings.time_exponent)
        places = (spread // (diffusion.STEPS // lcm.solver_steps)).clamp(max=lcm.solver_steps - 1)
        low, high = lcm.guidance
        weight = low - 1 + (high - low) * torch.rand(rows.shape, generator=generator)
        noise = torch.randn(len(rows), *self.latents.shape[1:], generator=generator)
        times = consistency.solver_times(lcm.solver_steps)[places]
        rows, which, times, weight, noise = (part.to(self.device) for part in (rows, which, times, weight, noise))
        return self.loss(self.latents[rows].float(), self.words[rows, which], times, weight, noise)

    def loss(self, latent: Tensor, words: Tensor, times: Tensor, weight: Tensor, noise: Tensor) -> Tensor:
        """The distance of what the student says at ``times`` from what its average says one solver step further."""
        noisy, _ = diffusion.noised(latent, noise, self.kept[times])
        with torch.no_grad():
            context, ends = self.context(words), consistency.solver_ends(times, self.recipe.lcm.solver_steps)
            nearer = consistency.ddim(noisy, self.guided(noisy, times, context, weight), times, ends, self.kept)
            wanted = self.answer(nearer, ends, context, weight, self.ema)
        found = self.answer(noisy, times, context, weight)
        return consistency.pseudo_huber(found, wanted, self.recipe.lcm.huber)

    def context(self, words: Tensor) -> Tensor:
        """The embeddings of tokens (batch, length)."""
        with mixed(self.device):
            hidden: Tensor = self.encoder(words).last_hidden_state
        return hidden

    def guided(self, noisy: Tensor, times: Tensor, context: Tensor, weight: Tensor) -> Tensor:
        """The teacher's guided v, v_c + w (v_c - v_u), with w the CFG scale - 1 (paper, Sec. 4.2)."""
        empty = self.context(self.empty).expand(len(context), -1, -1)
        with mixed(self.device):
            both = self.teacher(noisy.repeat(2, 1, 1, 1), times.repeat(2), torch.cat([context, empty])).sample
        told, untold = both.float().chunk(2)
        guided: Tensor = told + weight.view(-1, 1, 1, 1) * (told - untold)
        return guided

    def answer(
        self, noisy: Tensor, times: Tensor, context: Tensor, weight: Tensor, state: dict[str, Tensor] | None = None
    ) -> Tensor:
        """The consistency function of the student, or with the weights in ``state`` (such as the average)."""
        inputs: dict[str, Any] = {}
        if self.recipe.lcm.form == "unet":
            inputs["timestep_cond"] = consistency.guidance_embedding(weight, self.recipe.lcm.embedding)
        weights = self.learned.weights(state)
        with mixed(self.device):
            v = functional_call(self.student, weights, (noisy, times, context), inputs).sample
        return consistency.consistency(noisy, v.float(), times, self.kept)

    def measure(self) -> float:
        """How far from the end of the teacher's path the student's answer is: mean absolute difference of latents.

        Held-out scenes with fixed noise, from four timesteps, at the middle of the recipe's CFG scales.
        """
        if self._valid is None:
            self._valid = list(self._paths())
        losses = [
            (self.answer(noisy, times, context, weight) - end).abs().mean().item()
            for noisy, times, context, weight, end in self._valid
        ]
        return sum(losses) / len(losses)

    def _paths(self) -> Iterator[tuple[Tensor, ...]]:
        """Inputs of ``answer`` for held-out scenes, and where the teacher gets from there with all its steps."""
        lcm, quarters = self.recipe.lcm, 4
        grid = consistency.solver_times(lcm.solver_steps)
        generator, draw = torch.Generator().manual_seed(0), random.Random(0)
        scenes, latents = self.data.valid_scenes[:VALID], self.data.valid[:VALID]
        words = text.tokens(self.tokenizer, [captions.caption(scene, draw) for scene in scenes]).to(self.device)
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        for part in range(quarters):
            rows = slice(part, None, quarters)
            place = len(grid) - 1 - part * len(grid) // quarters
            latent, context = latents[rows].float().to(self.device), self.context(words[rows])
            times = grid[place].expand(len(latent)).to(self.device)
            weight = torch.full((len(latent),), sum(lcm.guidance) / 2 - 1, device=self.device)
            noisy, _ = diffusion.noised(latent, noise[rows], self.kept[times])
            moving, now = noisy, times
            for _ in range(place + 1):
                ends = consistency.solver_ends(now, lcm.solver_steps)
                moving = consistency.ddim(moving, self.guided(moving, now, context, weight), now, ends, self.kept)
                now = ends
            yield noisy, times, context, weight, moving


def identity(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must agree with. The length of the run is left out: a run may be prolonged."""
    free = {"samples", "level", "checkpoint_minutes", "grid_minutes"}
    settings = {key: value for key, value in asdict(recipe.unet).items() if key not in free}
    return {
        "lcm": asdict(recipe.lcm),
        "unet": settings,
        "parent": recipe.parent,
        "data": [recipe.data.scenes, recipe.data.seed],
        "world": [recipe.world.nouns, recipe.world.styles],
    }
