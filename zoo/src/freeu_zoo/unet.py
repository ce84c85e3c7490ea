"""Training of the U-Net and the text encoder."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from . import diffusion, text
from .checkpoint import Checkpoint
from .latents import Latents
from .recipe import Recipe, UnetRecipe

Say = Callable[[str], None]


def build(recipe: Recipe) -> UNet2DConditionModel:
    """A new U-Net: three levels, two layers per block, so nine decoder concats; attention at 16x16 and 8x8 only."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=recipe.unet.widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=recipe.text.width,
        # diffusers' historic naming: this is the number of heads.
        attention_head_dim=recipe.unet.heads,
        norm_num_groups=recipe.unet.groups,
    )


class Trainer:
    """One training run. The randomness of step n follows from the seed and n alone: a resumed run is the same run."""

    def __init__(self, recipe: Recipe, data: Latents, home: Path, say: Say) -> None:
        self.recipe, self.data, self.say = recipe, data, say
        settings = recipe.unet
        torch.manual_seed(settings.seed)
        self.tokenizer = text.build_tokenizer(recipe.text.length)
        self.model = nn.ModuleDict({"unet": build(recipe), "text": text.build_encoder(recipe.text, self.tokenizer)})
        # On CPUs without AMX plain attention trains a quarter faster than the fused kind.
        self.model["unet"].set_attn_processor(AttnProcessor())  # type: ignore[operator]
        self.model.train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.kept: Tensor = diffusion.scheduler().alphas_cumprod
        self.step, self.seconds = 0, 0.0
        self.curve: list[list[float]] = []
        self.checkpoint = Checkpoint(home / "unet.ckpt.pt", identity(recipe))

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one.

        Raises:
            ZooError: the checkpoint is damaged or of another recipe.
        """
        state = self.checkpoint.read()
        if state is None:
            return False
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema = state["ema"]
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        self.checkpoint.write(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema,
                "step": self.step,
                "seconds": self.seconds,
                "curve": self.curve,
            }
        )

    def progress(self) -> float:
        """How much of the run is over, 0..1: the steps if the recipe counts them, or the minutes, whichever is more."""
        settings = self.recipe.unet
        by_steps = self.step / settings.steps if settings.steps else 0.0
        # With steps given the schedule must not depend on the clock: only the end may.
        by_time = self.seconds / (settings.minutes * 60)
        return min(1.0, by_steps if settings.steps and by_time < 1 else by_time)

    def train_step(self) -> float:
        """One optimizer step; returns the loss."""
        settings = self.recipe.unet
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate(settings, self.step, self.progress())
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        chosen = self._chosen(settings.batch)
        latent = self.data.train[chosen].float()
        draw = random.Random(f"{settings.seed}/{self.step}")
        words = text.captions([self.data.train_scenes[i] for i in chosen], draw, settings.caption_dropout)
        times = diffusion.spread_timesteps(len(chosen), generator, settings.time_exponent)
        noise = torch.randn(latent.shape, generator=generator)
        loss = self.loss(latent, words, times, noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return loss.item()

    def loss(self, latent: Tensor, words: list[str], times: Tensor, noise: Tensor) -> Tensor:
        """The weighted v-prediction loss of one batch."""
        kept = self.kept[times]
        noisy, target = diffusion.noised(latent, noise, kept)
        with torch.autocast("cpu", torch.bfloat16):
            context = self.model["text"](self._tokens(words)).last_hidden_state
            guess = self.model["unet"](noisy, times, context).sample
        each = (guess.float() - target).square().mean(dim=(1, 2, 3))
        weight = diffusion.weights(kept, self.recipe.unet.min_snr)
        mean: Tensor = (each * weight).sum() / weight.sum()
        return mean

    def _tokens(self, words: list[str]) -> Tensor:
        length = self.recipe.text.length
        tokens: Tensor = self.tokenizer(
            words, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return tokens

    def _chosen(self, batch: int) -> list[int]:
        """Indices of this step's scenes: a new shuffle for each pass over the data."""
        count = len(self.data.train)
        chosen = []
        for place in range(self.step * batch, (self.step + 1) * batch):
            epoch, index = divmod(place, count)
            chosen.append(self._order(epoch, count)[index])
        return chosen

    def _order(self, epoch: int, count: int) -> list[int]:
        if getattr(self, "_shuffled", (-1, []))[0] != epoch:
            order = list(range(count))
            random.Random(f"{self.recipe.unet.seed}/order/{epoch}").shuffle(order)
            self._shuffled = (epoch, order)
        return self._shuffled[1]

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.unet.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            mean = self.ema[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)

    @torch.no_grad()
    def validate(self) -> float:
        """Loss of the averaged weights on held-out scenes with fixed noise, times and captions."""
        held = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        self.model.eval()
        generator = torch.Generator().manual_seed(0)
        words = text.captions(self.data.valid_scenes, random.Random(0), 0.0)
        losses = []
        for start in range(0, len(words), 32):
            latent = self.data.valid[start : start + 32].float()
            times = diffusion.spread_timesteps(len(latent), generator)
            noise = torch.randn(latent.shape, generator=generator)
            losses.append(self.loss(latent, words[start : start + 32], times, noise).item())
        self.model.load_state_dict(held)
        self.model.train()
        return sum(losses) / len(losses)


def identity(recipe: Recipe) -> dict[str, str]:
    """What a checkpoint must agree with. The length of the run is left out: a run may be prolonged."""
    free = {"minutes", "steps", "level", "checkpoint_minutes"}
    settings = {key: value for key, value in asdict(recipe.unet).items() if key not in free}
    return {key: json.dumps(value) for key, value in (("unet", settings), ("text", asdict(recipe.text)))}


def rate(settings: UnetRecipe, step: int, progress: float) -> float:
    """Learning rate as a fraction of the highest: warm-up, level, then a cosine over the rest."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup))
    fall = 0.5 + 0.5 * math.cos(math.pi * max(0.0, (progress - settings.level) / (1 - settings.level)))
    return warm * max(fall, 0.01)


def train(
    recipe: Recipe, data: Latents, home: Path, say: Say, on_step: Callable[[Trainer], None] | None = None
) -> None:
    """Train until the recipe's steps or minutes are over; resumes by itself. Leaves ``home/unet.ckpt.pt``."""
    settings = recipe.unet
    trainer = Trainer(recipe, data, home, say)
    if trainer.resume():
        say(f"resumed at step {trainer.step}, {trainer.seconds / 60:.1f} minutes")
    losses: list[float] = []
    saved = trainer.seconds
    while trainer.progress() < 1:
        began = time.monotonic()
        if on_step is not None:
            on_step(trainer)
        loss = trainer.train_step()
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss {loss} at step {trainer.step}; delete the checkpoint, lower learning_rate")
        losses.append(loss)
        # Only training counts: neither validation nor a pause of the machine's owner eats into the schedule.
        trainer.seconds += time.monotonic() - began
        if len(losses) == 50 or trainer.progress() >= 1:
            held_out = trainer.validate()
            seen = trainer.step * settings.batch
            mean = sum(losses) / len(losses)
            trainer.curve.append([trainer.step, trainer.seconds, mean, held_out])
            say(
                f"unet step {trainer.step}, {trainer.seconds / 60:.1f} min, {seen} samples "
                f"({seen / trainer.seconds:.1f}/s), loss {mean:.4f}, held out {held_out:.4f}, {trainer.progress():.0%}"
            )
            losses = []
        if trainer.seconds - saved > settings.checkpoint_minutes * 60:
            saved = trainer.seconds
            trainer.save()
    trainer.save()
