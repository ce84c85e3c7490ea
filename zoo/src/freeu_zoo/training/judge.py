"""The judge: a small ``CLIPModel`` trained to match scenes with their captions, and with nothing else in mind."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from freeu.personalize import Checkpoint
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import text
from freeu_zoo.training.precision import mixed
from freeu_zoo.training.run import OptimizerSettings, Prefetch, Run, Say
from freeu_zoo.world import captions, degrade
from freeu_zoo.world.scenes import SIZE, Scene, SceneMaker, compose, held_out_scenes


def build(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A new judge for that tokenizer."""
    settings, words = recipe.judge, recipe.text
    end = tokenizer.convert_tokens_to_ids(text.END)
    return CLIPModel(
        CLIPConfig(
            projection_dim=settings.projection,
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": words.width,
                "intermediate_size": 4 * words.width,
                "num_hidden_layers": words.layers,
                "num_attention_heads": words.heads,
                "max_position_embeddings": words.length,
                "projection_dim": settings.projection,
                "bos_token_id": tokenizer.convert_tokens_to_ids(text.START),
                "eos_token_id": end,
                "pad_token_id": end,
            },
            vision_config={
                "hidden_size": settings.width,
                "intermediate_size": 4 * settings.width,
                "num_hidden_layers": settings.layers,
                "num_attention_heads": settings.heads,
                "image_size": SIZE,
                "patch_size": settings.patch,
                "projection_dim": settings.projection,
            },
        )
    )


class Trainer(Run):
    """A contrastive run."""

    def __init__(self, recipe: Recipe, home: Path, say: Say) -> None:
        self.recipe = recipe
        settings = recipe.judge
        torch.manual_seed(settings.seed)
        self.tokenizer = text.build_tokenizer(recipe.text.length)
        optimization = OptimizerSettings.of(settings, warmup=200, betas=(0.9, 0.98), ema=0.998, report_steps=200)
        checkpoint = Checkpoint(home / "judge.ckpt", identity(recipe))
        super().__init__("judge", build(recipe, self.tokenizer), optimization, checkpoint, say)
        self.maker = SceneMaker(recipe.world, recipe.data.seed, held_out=False)
        self.batches = Prefetch(self._batch)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """A step's scenes, some of them degraded, and one caption each as tokens."""
        size = self.recipe.judge.batch
        draw = random.Random(f"{self.recipe.judge.seed}/{step}")
        scenes = [self.maker.scene(step * size + i) for i in range(size)]
        images = degrade.tensor([degrade.some(compose(scene), draw) for scene in scenes])
        return images, text.tokens(self.tokenizer, [_words(scene, draw) for scene in scenes], longest=True)

    def loss_of(self, step: int) -> Tensor:
        """The contrastive loss of that step's batch."""
        loss = self.loss(*self.batches(step))
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=4.6052)  # type: ignore[operator]  # a factor of 100, as in CLIP
        return loss

    def loss(self, images: Tensor, tokens: Tensor) -> Tensor:
        """CLIP's symmetric loss; images (batch, 3, 128, 128) in -1..1, tokens (batch, length)."""
        with mixed():
            out = self.model(input_ids=tokens, pixel_values=images)
        logits = out.logits_per_image.float()
        # Two scenes may have one and the same caption; then neither is a wrong answer for the other.
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        target = same / same.sum(dim=1, keepdim=True)
        return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target))

    def measure(self) -> float:
        """Share of held-out scenes whose own caption scores highest among those of 256."""
        return retrieval(
            self.model, self.tokenizer, held_out_scenes(self.recipe.world, 256, self.recipe.data.seed + 1000)
        )


def _words(scene: Scene, draw: random.Random) -> str:
    """Mostly captions that say everything: what is left out cannot be judged."""
    return captions.caption(scene, draw) if draw.random() < 0.3 else captions.full_caption(scene, draw)


def identity(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must agree with."""
    settings = {name: value for name, value in asdict(recipe.judge).items() if name not in ("samples", "level")}
    return {"judge": settings, "text": asdict(recipe.text), "world": recipe.world.nouns}


@torch.no_grad()
def retrieval(model: Any, tokenizer: CLIPTokenizer, scenes: list[Scene]) -> float:
    """Share of scenes, 0..1, whose own caption scores highest among the captions of all."""
    tokens = text.tokens(tokenizer, [captions.plain_caption(scene) for scene in scenes], longest=True)
    out = model(input_ids=tokens, pixel_values=degrade.tensor([compose(scene) for scene in scenes]))
    best = out.logits_per_image.argmax(dim=1)
    return float((tokens[best] == tokens).all(-1).float().mean())
