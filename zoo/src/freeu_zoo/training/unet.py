"""Training of the U-Net and the text encoder."""

from __future__ import annotations

import functools
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from freeu.personalize import Checkpoint
from freeu_zoo.errors import ZooError
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import diffusion, text, text_lesson
from freeu_zoo.training.latents import Latents
from freeu_zoo.training.precision import mixed
from freeu_zoo.training.run import OptimizerSettings, Run, Say, facts_of
from freeu_zoo.world import captions


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


class LayoutProbe(nn.Module):
    """Reads from the middle of the U-Net which noun fills each cell; only training has it.

    At noisy timesteps that can be known from the caption alone, so its cross-entropy teaches the network to listen
    long before the denoising loss would. The idea is REPA's (arXiv:2410.06940), with the scene's own description in
    place of another network's features.
    """

    def __init__(self, recipe: Recipe, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.read = nn.Conv2d(recipe.unet.widths[-1], len(recipe.world.nouns) + 1, 1)
        self._middle: Tensor | None = None
        unet.mid_block.register_forward_hook(self._note)

    def _note(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        self._middle = output

    def forward(self, layouts: Tensor) -> Tensor:
        """Cross-entropy of the U-Net's last forward pass; ``layouts`` is (batch, 8, 8) int64."""
        assert self._middle is not None
        middle, self._middle = self._middle, None
        loss: Tensor = F.cross_entropy(self.read(middle.float()), layouts)
        return loss


class Trainer(Run):
    """A run of the U-Net and the text encoder over a recipe's latents."""

    def __init__(self, recipe: Recipe, data: Latents, home: Path, say: Say, device: str = "cpu") -> None:
        self.recipe, self.data = recipe, data
        settings = recipe.unet
        torch.manual_seed(settings.seed)
        self.tokenizer = text.build_tokenizer(recipe.text.length)
        unet = build(recipe)
        if device == "cpu":
            # On CPUs without AMX plain attention trains a quarter faster than the fused kind, and NCHW than NHWC.
            unet.set_attn_processor(AttnProcessor())
        else:
            unet.to(memory_format=torch.channels_last)
        model = nn.ModuleDict({"unet": unet, "text": text.build_encoder(recipe.text, self.tokenizer)})
        if settings.layout_weight:
            model["probe"] = LayoutProbe(recipe, unet)
        optimization = OptimizerSettings.of(
            settings, settings.warmup, betas=(0.9, 0.99), ema=settings.ema, report_steps=100
        )
        super().__init__("unet", model, optimization, Checkpoint(home / "unet.ckpt", identity(recipe)), say, device)
        self.parts: Any = model
        self.kept = diffusion.scheduler().alphas_cumprod.to(self.device)
        self.latents = data.train.to(self.device)
        self.words, self.layouts, self.empty = (part.to(self.device) for part in self._prepare_words())

    def _prepare_words(self) -> tuple[Tensor, Tensor, Tensor]:
        """Captions of all scenes as tokens (scenes, captions, length), layouts (scenes, 8, 8), the empty caption.

        Made once: a fast device would wait for them.
        """
        count, scenes = self.recipe.unet.captions, self.data.train_scenes
        draw = random.Random(f"{self.recipe.unet.seed}/captions")
        texts = [captions.caption(scene, draw) for scene in scenes for _ in range(count)]
        tokens = text.tokens(self.tokenizer, [*texts, ""])
        layouts = np.stack([text_lesson.layout(scene, self.recipe.world) for scene in scenes])
        return tokens[:-1].view(len(scenes), count, -1), torch.from_numpy(layouts), tokens[-1]

    def start_from(self, parent: dict[str, dict[str, Tensor]]) -> None:
        """Begin with a parent's U-Net, and with its text encoder if it has the same words and sizes.

        ``parent`` has weights by part, as ``averaged`` and ``of_directory`` give them.
        """
        self.parts["unet"].load_state_dict(parent["unet"])
        shapes = {name: value.shape for name, value in self.parts["text"].state_dict().items()}
        if shapes == {name: value.shape for name, value in parent["text"].items()}:
            self.parts["text"].load_state_dict(parent["text"])
        self.begin_average()

    def start_with_encoder(self, encoder: Path) -> None:
        """Begin with a text encoder that had its lesson."""
        text_lesson.load(self.parts["text"], encoder)
        self.begin_average()

    def loss_of(self, step: int) -> Tensor:
        """The loss of that step's batch."""
        settings = self.recipe.unet
        # Sampled on the CPU, so that a run may move from one kind of device to another.
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        rows = torch.tensor(self._chosen(step, settings.batch))
        which = torch.randint(settings.captions, rows.shape, generator=generator).to(self.device)
        dropped = (torch.rand(rows.shape, generator=generator) < settings.caption_dropout).to(self.device)
        times = diffusion.spread_timesteps(len(rows), generator, settings.time_exponent).to(self.device)
        noise = torch.randn(len(rows), *self.latents.shape[1:], generator=generator).to(self.device)
        rows = rows.to(self.device)
        words = torch.where(dropped[:, None], self.empty, self.words[rows, which])
        return self.loss(self.latents[rows].float(), words, times, noise, self.layouts[rows])

    def loss(
        self, latent: Tensor, words: Tensor, times: Tensor, noise: Tensor, layouts: Tensor | None = None
    ) -> Tensor:
        """The weighted v-prediction loss of one batch; with ``layouts`` (batch, 8, 8) the probe's beside it."""
        kept = self.kept[times]
        noisy, target = diffusion.noised(latent, noise, kept)
        with mixed(self.device):
            context = self.parts["text"](words).last_hidden_state
            guess = self.parts["unet"](noisy, times, context).sample
        each = (guess.float() - target).square().mean(dim=(1, 2, 3))
        weight = diffusion.weights(kept, self.recipe.unet.min_snr)
        mean: Tensor = (each * weight).sum() / weight.sum()
        if layouts is not None and "probe" in self.parts:
            mean = mean + self.recipe.unet.layout_weight * self.parts["probe"](layouts)
        return mean

    def _chosen(self, step: int, batch: int) -> list[int]:
        """Indices of a step's scenes: a new shuffle for each pass over the data."""
        count = len(self.data.train)
        places = (divmod(place, count) for place in range(step * batch, (step + 1) * batch))
        return [_order(self.recipe.unet.seed, epoch, count)[index] for epoch, index in places]

    def measure(self) -> float:
        """Loss on held-out scenes with fixed noise, times and captions."""
        generator = torch.Generator().manual_seed(0)
        draw = random.Random(0)
        words = text.tokens(self.tokenizer, [captions.caption(scene, draw) for scene in self.data.valid_scenes])
        losses = []
        for start in range(0, len(words), 32):
            part = slice(start, start + 32)
            latent = self.data.valid[part].float().to(self.device)
            times = diffusion.spread_timesteps(len(latent), generator).to(self.device)
            noise = torch.randn(latent.shape, generator=generator).to(self.device)
            losses.append(self.loss(latent, words[part].to(self.device), times, noise).item())
        return sum(losses) / len(losses)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    order = list(range(count))
    random.Random(f"{seed}/order/{epoch}").shuffle(order)
    return order


def identity(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must agree with. The length of the run is left out: a run may be prolonged."""
    free = {"samples", "level", "checkpoint_minutes", "grid_minutes"}
    settings = {key: value for key, value in asdict(recipe.unet).items() if key not in free}
    size = {key: asdict(recipe.text)[key] for key in ("width", "layers", "heads", "length")}
    return {
        "unet": settings,
        "text": size,
        "world": [recipe.world.nouns, recipe.world.styles],
    }


def of_directory(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The weights in a model's directory by part ("unet", "text"), float32."""
    models = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        "text": CLIPTextModel.from_pretrained(folder / "text_encoder"),
    }
    return {name: model.state_dict() for name, model in models.items()}


def averaged(recipe: Recipe, home: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The averaged weights of a run by part ("unet", "text"), and its step, seconds and curve.

    Raises:
        ZooError: nothing was trained there.
        FreeUValueError: the checkpoint is damaged or of another recipe.
    """
    state = Checkpoint(home / "unet.ckpt", identity(recipe)).read()
    if state is None:
        raise ZooError(f"nothing trained in {home} yet; run --stage vae and --stage unet first")
    parts: dict[str, dict[str, Tensor]] = {"unet": {}, "text": {}}
    for name, value in state.tensors.items():
        kind, _, rest = name.partition("/")
        part, _, key = rest.partition(".")
        if kind == "ema" and part in parts:
            parts[part][key] = value
    return parts, facts_of(state)
