"""The miniature ModelScope: a ``UNet3DConditionModel`` whose spatial layers begin as those of an image model."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from freeu.personalize import Checkpoint
from freeu_zoo.errors import ZooError
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import diffusion, text, text_lesson, vae
from freeu_zoo.training.precision import mixed
from freeu_zoo.training.run import OptimizerSettings, Run, Say
from freeu_zoo.training.unet import LayoutProbe
from freeu_zoo.world import clips
from freeu_zoo.world.clips import Clip, ClipMaker

TEMPORAL = ("transformer_in", "temp_convs", "temp_attentions")
"""Parts of a parameter's name that tell layers over time from layers over space."""

VALID = 32
"""Clips of the fixed validation loss; each holds a combination that training never shows."""


def build(recipe: Recipe) -> UNet3DConditionModel:
    """A new video U-Net with the widths and levels of the image model, and nothing that happens over time yet.

    Attention heads are 12 wide everywhere: this class knows one width for all, the image model has four heads at each
    level. Heads cut in half hardly change its images, and training mends that.
    """
    made = UNet3DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=recipe.unet.widths,
        down_block_types=("DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"),
        cross_attention_dim=recipe.text.width,
        attention_head_dim=recipe.video.head_width,
        norm_num_groups=recipe.unet.groups,
    )
    for name, module in made.named_modules():
        if name == "transformer_in" or name.split(".")[-2:-1] == ["temp_attentions"]:
            # As the temporal convolutions do by themselves: at first a clip is so many independent images.
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return made


def build_text(recipe: Recipe) -> tuple[Any, Any]:
    """The tokenizer, which knows the words for motion too, and a new text encoder for it."""
    tokenizer = text.build_tokenizer(recipe.text.length, clips.words())
    return tokenizer, text.build_encoder(recipe.text, tokenizer)


class Parent:
    """What a video model begins with: the directory of an image model, or of a video model of an earlier lesson."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "unet").is_dir():
            raise ZooError(f"no image or video model in {folder}")
        self.folder = folder
        config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        self.moves = config["_class_name"] == UNet3DConditionModel.__name__

    @property
    def coder(self) -> Path:
        """Where its autoencoder is."""
        return self.folder / "vae"

    def weights(self) -> dict[str, Tensor]:
        """The weights of its U-Net, float32, as a video U-Net names and shapes them; those of an image model's are all
        spatial.
        """
        found = load_file(self.folder / "unet" / "diffusion_pytorch_model.safetensors")
        if self.moves:
            return {name: value.float() for name, value in found.items()}
        return {
            # There the projections around attention are linear, here they were convolutions of one pixel.
            name: (value.flatten(1) if name.endswith(("proj_in.weight", "proj_out.weight")) else value).float()
            for name, value in found.items()
        }

    def encoder(self, tokenizer: Any, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Its text encoder's weights; words that it does not know are embedded as in ``new``."""
        weights = CLIPTextModel.from_pretrained(self.folder / "text_encoder").state_dict()
        known = json.loads((self.folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
        name = next(key for key in new if key.endswith("token_embedding.weight"))
        table = new[name].clone()
        for token, number in tokenizer.get_vocab().items():
            if token in known:
                table[number] = weights[name][known[token]]
        return {key: weights.get(key, value) for key, value in new.items()} | {name: table}


def load_coder(folder: Path) -> AutoencoderTiny:
    """The image model's autoencoder as it was shipped, in float32."""
    made: AutoencoderTiny = AutoencoderTiny.from_pretrained(folder)
    return made.float().eval()


@torch.no_grad()
def encode(coder: AutoencoderTiny, made: list[Clip]) -> Tensor:
    """Scaled latents of clips of equal length, (clips, 4, frames, 32, 32)."""
    pixels = vae.to_tensor([image for clip in made for image in clips.images(clip)])
    with mixed():
        latent = coder.encode(pixels).latents.float() * coder.config.scaling_factor
    clip_wise: Tensor = latent.unflatten(0, (len(made), -1)).transpose(1, 2).contiguous()
    return clip_wise


class Trainer(Run):
    """A run of the video U-Net and the text encoder over clips that are composed and encoded as it goes."""

    def __init__(self, recipe: Recipe, coder: AutoencoderTiny, home: Path, say: Say, device: str = "cpu") -> None:
        self.recipe, self.coder = recipe, coder
        settings = recipe.unet
        torch.manual_seed(settings.seed)
        self.tokenizer, encoder = build_text(recipe)
        unet = build(recipe)
        if device == "cpu":
            unet.set_attn_processor(AttnProcessor())  # trains a fifth faster here than the fused kind
        for module in unet.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # clips never come twice, so there is nothing to forget
        optimization = OptimizerSettings.of(
            settings, settings.warmup, betas=(0.9, 0.99), ema=settings.ema, report_steps=100
        )
        model = nn.ModuleDict({"unet": unet, "text": encoder})
        if settings.layout_weight:
            # Read frame by frame, it teaches where the motion that the caption tells takes the object.
            model["probe"] = LayoutProbe(recipe, unet)
        super().__init__("unet", model, optimization, Checkpoint(home / "unet.ckpt", identity(recipe)), say, device)
        self.parts: Any = model
        self.kept = diffusion.scheduler().alphas_cumprod.to(self.device)
        self.maker = ClipMaker(recipe.world, recipe.video.frames, settings.seed, held_out=False)

    def learning_rates(self) -> list[dict[str, Any]]:
        """What the image model has learned already follows slowly; what must learn of motion does not."""
        new = (*TEMPORAL, "attn2", "text.", "probe.")
        known: list[nn.Parameter] = []
        learning: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            (learning if any(part in name for part in new) else known).append(parameter)
        return [{"params": learning}, {"params": known, "share": self.recipe.video.spatial_rate}]

    def start_from(self, parent: Parent) -> None:
        """Begin with an image model's spatial layers, or with all of a video model, and with its text encoder."""
        own, found = self.parts["unet"].state_dict(), parent.weights()
        wanted = {
            name: value.shape
            for name, value in own.items()
            if parent.moves or not any(part in name for part in TEMPORAL)
        }
        if wanted != {name: value.shape for name, value in found.items()}:
            raise ZooError(f"{parent.folder} is no image or video model of the widths {self.recipe.unet.widths}")
        self.parts["unet"].load_state_dict(own | found)
        encoder = self.parts["text"]
        encoder.load_state_dict(parent.encoder(self.tokenizer, encoder.state_dict()))
        self.begin_average()

    def loss_of(self, step: int) -> Tensor:
        """The loss of that step's batch: short pieces of clips at first, whole clips later."""
        settings, video = self.recipe.unet, self.recipe.video
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        draw = random.Random(f"{settings.seed}/step/{step}")
        numbers = range(step * settings.batch, (step + 1) * settings.batch)
        chosen = [self.maker.clip(number) for number in numbers]
        words = text.tokens(
            self.tokenizer, [clips.caption(clip, draw, settings.caption_dropout) for clip in chosen], longest=True
        )
        if step * settings.batch < video.short_samples:
            first = draw.randint(0, video.frames - video.short)
            chosen = [Clip(clip.frames[first : first + video.short], clip.motion) for clip in chosen]
        latent = encode(self.coder, chosen)
        times = diffusion.spread_timesteps(len(latent), generator, settings.time_exponent)
        noise = torch.randn(latent.shape, generator=generator)
        layouts = [text_lesson.layout(scene, self.recipe.world) for clip in chosen for scene in clip.frames]
        parts = (latent, words, times, noise, torch.from_numpy(np.stack(layouts)))
        return self.loss(*(part.to(self.device) for part in parts))

    def loss(
        self, latent: Tensor, words: Tensor, times: Tensor, noise: Tensor, layouts: Tensor | None = None
    ) -> Tensor:
        """The weighted v-prediction loss of a batch of clips.

        With ``layouts`` (clips * frames, 8, 8) the probe's beside it.
        """
        kept = self.kept[times]
        noisy, target = diffusion.noised(latent, noise, kept)
        with mixed(self.device):
            context = self.parts["text"](words).last_hidden_state
            guess = self.parts["unet"](noisy, times, context).sample
        each = (guess.float() - target).square().mean(dim=(1, 2, 3, 4))
        weight = diffusion.weights(kept, self.recipe.unet.min_snr)
        mean: Tensor = (each * weight).sum() / weight.sum()
        if layouts is not None and "probe" in self.parts:
            mean = mean + self.recipe.unet.layout_weight * self.parts["probe"](layouts)
        return mean

    def measure(self) -> float:
        """Loss on held-out clips with fixed noise, times and captions."""
        generator, draw, losses = torch.Generator().manual_seed(0), random.Random(0), []
        maker = ClipMaker(self.recipe.world, self.recipe.video.frames, seed=1000, held_out=True)
        for start in range(0, VALID, 4):
            chosen = [maker.clip(number) for number in range(start, start + 4)]
            words = text.tokens(self.tokenizer, [clips.caption(clip, draw) for clip in chosen], longest=True)
            latent = encode(self.coder, chosen)
            times = torch.arange(len(latent)) * 250 + 250 * torch.rand(1, generator=generator)
            noise = torch.randn(latent.shape, generator=generator)
            parts = (part.to(self.device) for part in (latent, words, times.long(), noise))
            losses.append(self.loss(*parts).item())
        return sum(losses) / len(losses)


def identity(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must agree with. The length of the run is left out: a run may be prolonged."""
    free = {"samples", "level", "checkpoint_minutes", "grid_minutes"}
    settings = {key: value for key, value in asdict(recipe.unet).items() if key not in free}
    size = {key: asdict(recipe.text)[key] for key in ("width", "layers", "heads", "length")}
    video = {key: value for key, value in asdict(recipe.video).items() if key != "short_samples"}
    return {
        "unet": settings,
        "text": size,
        "video": video,
        "world": [recipe.world.nouns, recipe.world.styles],
    }
