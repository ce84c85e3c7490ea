"""The scene reader: says from an image alone which objects it shows, how many, in what colours, style and relation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from freeu_zoo.errors import ZooError
from freeu_zoo.world import degrade
from freeu_zoo.world.layouts import SIZE

SLOTS = 3
"""Different objects that an image may show."""

RELATIONS = ("left of", "above", "on", "inside", "behind")
"""Relations as they are read: "right of" and "below" are these with the objects exchanged."""

NUMBERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Reading:
    """What an image shows.

    Args:
        nouns: different objects; in a relation its subject first, else from left to right.
        count: number of objects, equal ones counted one by one.
        style: of the sprites.
        background: one colour, or two for a gradient from top to bottom.
        colours: for each noun a colour name, or None for its own colours.
        relation: of the first noun to the second, one of ``RELATIONS``, or None.
        confidence: for each noun the probability that the reader gives it.
    """

    nouns: tuple[str, ...]
    count: int
    style: str
    background: tuple[str, ...]
    colours: tuple[str | None, ...]
    relation: str | None
    confidence: tuple[float, ...]


@dataclass(frozen=True)
class Words:
    """What a reader knows the names of."""

    nouns: tuple[str, ...]
    styles: tuple[str, ...]
    colours: tuple[str, ...]


class Block(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, height, width) to the same."""
        inner = F.relu(self.norms[0](self.first(x)))
        return F.relu(x + self.norms[1](self.second(inner)))


class Network(nn.Module):
    """Residual stages down to 8x8, then one query for each object and one for the whole image."""

    def __init__(self, words: Words, widths: Sequence[int]) -> None:
        super().__init__()
        stem, *rest = widths
        layers: list[nn.Module] = [
            nn.Conv2d(3, stem, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(),
        ]
        width = stem
        for wider in rest:
            layers += [nn.Conv2d(width, wider, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            layers.append(Block(wider))
            width = wider
        self.trunk = nn.Sequential(*layers)
        self.places = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.queries = nn.Parameter(0.02 * torch.randn(1, SLOTS + 1, width))
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.heads = nn.ModuleDict(
            {
                "noun": nn.Linear(width, len(words.nouns) + 1),
                "colour": nn.Linear(width, len(words.colours) + 1),
                "style": nn.Linear(width, len(words.styles)),
                "top": nn.Linear(width, len(words.colours)),
                "bottom": nn.Linear(width, len(words.colours)),
                "count": nn.Linear(width, len(NUMBERS)),
                "relation": nn.Linear(width, len(RELATIONS) + 1),
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits by head: (batch, slots, kinds) for "noun" and "colour", (batch, kinds) for the rest.

        Args:
            images: (batch, 3, 128, 128) in -1..1.
        """
        seen, _ = self.look(images)
        return {
            name: head(seen[:, :SLOTS] if name in ("noun", "colour") else seen[:, SLOTS])
            for name, head in self.heads.items()
        }

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the queries saw, (batch, slots + 1, width), and the mean of the trunk's map, (batch, width)."""
        seen = self.trunk(images).flatten(2).transpose(1, 2)
        x = self.queries.expand(len(images), -1, -1)
        for layer in self.decoder:
            x = layer(x, seen + self.places)
        return x, seen.mean(dim=1)


class SceneReader:
    """A trained reader."""

    def __init__(self, network: Network, words: Words, device: str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.nouns, self.styles, self.colours = words.nouns, words.styles, words.colours
        self._device = device

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> SceneReader:
        """Load a reader from its directory.

        Raises:
            ZooError: the directory is not a reader's, or damaged.
        """
        try:
            facts: dict[str, Any] = json.loads((folder / "freeu-zoo.json").read_text(encoding="utf-8"))
            words = Words(*(tuple(facts[name]) for name in ("nouns", "styles", "colours")))
            network = Network(words, facts["widths"])
            network.load_state_dict({k: v.float() for k, v in load_file(folder / "reader.safetensors").items()})
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ZooError(f"{folder} holds no scene reader ({type(error).__name__}: {error})") from error
        return cls(network, words, device)

    @torch.no_grad()
    def read(self, images: Sequence[Image.Image], batch: int = 32) -> list[Reading]:
        """Read images of any size; they are scaled to 128x128."""
        readings: list[Reading] = []
        for start in range(0, len(images), batch):
            part = [_fitted(image) for image in images[start : start + batch]]
            logits = {name: value.float().cpu() for name, value in self.network(self._tensor(part)).items()}
            readings += [self._reading({name: value[i] for name, value in logits.items()}) for i in range(len(part))]
        return readings

    def _tensor(self, images: list[Image.Image]) -> Tensor:
        return degrade.tensor(images).to(self._device)

    def _reading(self, logits: dict[str, Tensor]) -> Reading:
        chances = logits["noun"].softmax(dim=-1)
        best = [int(i) for i in chances.argmax(dim=-1)]
        slots = [i for i, kind in enumerate(best) if kind > 0]
        tints = [int(i) for i in logits["colour"].argmax(dim=-1)]
        top, bottom = (self.colours[int(logits[end].argmax())] for end in ("top", "bottom"))
        relation = int(logits["relation"].argmax())
        return Reading(
            nouns=tuple(self.nouns[best[i] - 1] for i in slots),
            count=NUMBERS[int(logits["count"].argmax())],
            style=self.styles[int(logits["style"].argmax())],
            background=(top,) if top == bottom else (top, bottom),
            colours=tuple(self.colours[tints[i] - 1] if tints[i] else None for i in slots),
            relation=RELATIONS[relation - 1] if relation and len(slots) == 2 else None,
            confidence=tuple(round(float(chances[i, best[i]]), 4) for i in slots),
        )


def _fitted(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    return image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
