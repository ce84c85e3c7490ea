"""What the text encoder learns before the U-Net begins: to say what lies where in the scene that a caption describes.

Stable Diffusion's text encoder comes from CLIP and knows words when training begins. Learnt from the U-Net's loss
alone, the same knowledge costs tens of thousands of images; from captions and boxes it costs minutes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from freeu_zoo.errors import ZooError
from freeu_zoo.files import write_atomically
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import text
from freeu_zoo.training.precision import mixed
from freeu_zoo.training.run import rate
from freeu_zoo.world import captions
from freeu_zoo.world.scenes import SIZE, Scene, SceneMaker, World

CELLS = 8
"""Cells along each side of a layout: the lowest map of the U-Net."""


def layout(scene: Scene, world: World, cells: int = CELLS) -> np.ndarray:
    """Which noun fills each cell, (cells, cells) int64: 0 for background, else 1 + the noun's place in ``world``.

    A box counts without its outermost eighth, because sprites seldom fill their corners.
    """
    scale = cells / SIZE
    grid = np.zeros((cells, cells), dtype=np.int64)
    for thing in scene.painting_order:
        inset_x, inset_y = thing.width / 8, thing.height / 8
        left, right = (thing.left + inset_x) * scale, (thing.left + thing.width - inset_x) * scale
        top, bottom = (thing.top + inset_y) * scale, (thing.top + thing.height - inset_y) * scale
        rows = slice(round(top), max(round(bottom), round(top) + 1))
        columns = slice(round(left), max(round(right), round(left) + 1))
        grid[rows, columns] = 1 + world.nouns.index(thing.noun)
    return grid


class LayoutHead(nn.Module):
    """Reads a layout from the tokens of a caption: one query for each cell and one for the whole image."""

    def __init__(self, width: int, heads: int, world: World) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(1, CELLS * CELLS + 1, width))
        make = nn.TransformerDecoderLayer
        self.layers = nn.ModuleList(
            make(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2)
        )
        self.noun = nn.Linear(width, len(world.nouns) + 1)
        self.colour = nn.Linear(width, len(world.colours) + 1)
        self.whole = nn.Linear(width, len(world.styles) + 2 * len(world.colours))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of nouns and of object colours (batch, cells, kinds), and of style and background (batch, kinds)."""
        x = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            x = layer(x, tokens)
        return self.noun(x[:, :-1]), self.colour(x[:, :-1]), self.whole(x[:, -1])


def loss(head: LayoutHead, tokens: Tensor, batch: list[Scene], world: World) -> Tensor:
    """Mean cross-entropy of nouns, object colours, style and both ends of the background."""
    noun, colour, whole = head(tokens)
    nouns = torch.from_numpy(np.stack([layout(scene, world) for scene in batch])).flatten(1)
    names = world.colours
    colours = torch.zeros_like(nouns)
    for row, scene in enumerate(batch):
        for thing in scene.things:
            if thing.colour is not None:
                colours[row][nouns[row] == 1 + world.nouns.index(thing.noun)] = 1 + names.index(thing.colour)
    styles = torch.tensor([world.styles.index(scene.style) for scene in batch])
    ends = torch.tensor([[names.index(scene.background[i]) for i in (0, -1)] for scene in batch])
    style, top, bottom = whole.split((len(world.styles), len(names), len(names)), dim=1)
    return (
        F.cross_entropy(noun.flatten(0, 1), nouns.flatten())
        + F.cross_entropy(colour.flatten(0, 1), colours.flatten())
        + F.cross_entropy(style, styles)
        + F.cross_entropy(top, ends[:, 0])
        + F.cross_entropy(bottom, ends[:, 1])
    )


def train(recipe: Recipe, out: Path, say: Callable[[str], None]) -> None:
    """Train a text encoder on captions, and write its weights to ``out``."""
    settings, world = recipe.text, recipe.world
    torch.manual_seed(settings.seed)
    tokenizer = text.build_tokenizer(settings.length)
    encoder = text.build_encoder(settings, tokenizer)
    head = LayoutHead(settings.width, settings.heads, world)
    learned = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=0.01, fused=True)
    maker = SceneMaker(world, seed=recipe.data.seed + 1, held_out=False)
    draw = random.Random(settings.seed)
    steps = -(-settings.samples // settings.batch)
    began = said = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate(step, step / steps, warmup=100, level=0.3)
        batch = [maker.scene(step * settings.batch + i) for i in range(settings.batch)]
        tokens = text.tokens(tokenizer, [captions.caption(scene, draw) for scene in batch])
        with mixed():
            hidden = encoder(tokens).last_hidden_state
        value = loss(head, hidden.float(), batch, world)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if time.monotonic() - said > 20 or step + 1 == steps:
            said = time.monotonic()
            speed = (step + 1) * settings.batch / (said - began)
            say(f"text step {step + 1} of {steps}, {speed:.0f} captions/s, loss {value.item():.3f}")
    weights = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    write_atomically(out, lambda name: save_file(weights, name))


def load(encoder: CLIPTextModel, path: Path) -> None:
    """Put the weights that ``train`` wrote into an encoder.

    Raises:
        ZooError: they are not there, or of another size.
    """
    from safetensors.torch import load_file

    if not path.exists():
        raise ZooError(f"no text encoder in {path.parent}; run --stage text first")
    try:
        encoder.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ZooError(f"{path} belongs to another recipe or vocabulary; delete it") from error
