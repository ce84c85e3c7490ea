"""Training of the scene reader on clean and degraded scenes, and what it scores on scenes it never saw."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from freeu.personalize import Checkpoint
from freeu_zoo.reader import NUMBERS, RELATIONS, SLOTS, Network, SceneReader, Words
from freeu_zoo.recipe import Recipe
from freeu_zoo.training.precision import mixed
from freeu_zoo.training.run import OptimizerSettings, Prefetch, Run, Say
from freeu_zoo.world import degrade
from freeu_zoo.world.scenes import Scene, SceneMaker, Thing, compose, held_out_scenes

BLOTS = 0.04
"""Share of training images in which nothing can be named: a reader must be able to say so."""


def canonical(scene: Scene) -> tuple[tuple[Thing, ...], str | None]:
    """Different objects in the reader's order, and the relation in the reader's words."""
    things = scene.things[:1] if scene.layout == "count" else scene.things
    swapped = {"right of": "left of", "below": "above"}.get(scene.relation or "")
    return (things[::-1], swapped) if swapped else (things, scene.relation)


class Trainer(Run):
    """A run of the reader."""

    def __init__(self, recipe: Recipe, home: Path, say: Say) -> None:
        self.recipe = recipe
        settings = recipe.reader
        torch.manual_seed(settings.seed)
        self.words = words_of(recipe)
        optimization = OptimizerSettings.of(settings, warmup=200, betas=(0.9, 0.99), ema=0.998, report_steps=200)
        checkpoint = Checkpoint(home / "reader.ckpt", identity(recipe))
        super().__init__("reader", Network(self.words, settings.widths), optimization, checkpoint, say)
        self.maker = SceneMaker(recipe.world, recipe.data.seed, held_out=False)
        self.batches = Prefetch(self._batch)

    def _batch(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """A step's images, most of them degraded, and the right answers."""
        size = self.recipe.reader.batch
        draw = random.Random(f"{self.recipe.reader.seed}/{step}")
        scenes = [self.maker.scene(step * size + i) for i in range(size)]
        images = [degrade.some(compose(scene), draw) for scene in scenes]
        blots = [draw.random() < BLOTS for _ in scenes]
        images = [degrade.blot(p, draw) if is_blot else p for p, is_blot in zip(images, blots, strict=True)]
        return degrade.tensor(images), self._answers(scenes, blots)

    def loss_of(self, step: int) -> Tensor:
        """Mean cross-entropy of all answers on that step's scenes."""
        images, answers = self.batches(step)
        with mixed():
            logits = self.model(images)
        return self._loss({name: value.float() for name, value in logits.items()}, answers)

    def _answers(self, scenes: Sequence[Scene], blots: Sequence[bool]) -> dict[str, Tensor]:
        answers: dict[str, list[object]] = {name: [] for name in self.model.heads}  # type: ignore[union-attr]
        words = self.words
        for scene, is_blot in zip(scenes, blots, strict=True):
            things, relation = canonical(scene)
            nouns = [0] * SLOTS
            # -100 is what cross_entropy leaves out: no object, no colour to name.
            tints = [-100] * SLOTS
            for slot, thing in enumerate(() if is_blot else things):
                nouns[slot] = 1 + words.nouns.index(thing.noun)
                tints[slot] = 1 + words.colours.index(thing.colour) if thing.colour else 0
            answers["noun"].append(nouns)
            answers["colour"].append(tints)
            answers["style"].append(-100 if is_blot else words.styles.index(scene.style))
            answers["top"].append(words.colours.index(scene.background[0]))
            answers["bottom"].append(words.colours.index(scene.background[-1]))
            answers["count"].append(-100 if is_blot else NUMBERS.index(len(scene.things)))
            answers["relation"].append(-100 if is_blot else 1 + RELATIONS.index(relation) if relation else 0)
        return {name: torch.tensor(values) for name, values in answers.items()}

    @staticmethod
    def _loss(logits: dict[str, Tensor], answers: dict[str, Tensor]) -> Tensor:
        losses = {
            name: F.cross_entropy(value.flatten(0, -2), answers[name].flatten()) for name, value in logits.items()
        }
        total: Tensor = sum(losses.values(), start=torch.zeros(())) + 2 * losses["noun"]
        return total

    def measure(self) -> float:
        """Share of held-out scenes, half of them degraded, of which every object is named."""
        scenes = held_out_scenes(self.recipe.world, 256, self.recipe.data.seed + 1000)
        draw = random.Random(0)
        reader = SceneReader(self.model, self.words)  # type: ignore[arg-type]
        return accuracy(reader, scenes, [degrade.some(compose(scene), draw, 0.5) for scene in scenes])["nouns"]


def words_of(recipe: Recipe) -> Words:
    """What the recipe's reader has names for."""
    return Words(recipe.world.nouns, recipe.world.styles, recipe.world.colours)


def identity(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must agree with."""
    settings = {name: value for name, value in asdict(recipe.reader).items() if name not in ("samples", "level")}
    return {"reader": settings, "world": asdict(words_of(recipe))}


def accuracy(reader: SceneReader, scenes: Sequence[Scene], images: Sequence[Image.Image]) -> dict[str, float]:
    """Share of right answers by aspect, 0..1; colour and relation count only where there is one to tell."""
    right: dict[str, list[bool]] = {
        name: [] for name in ("nouns", "count", "style", "background", "colour", "relation")
    }
    for scene, reading in zip(scenes, reader.read(images), strict=True):
        things, relation = canonical(scene)
        right["nouns"].append(reading.nouns == tuple(thing.noun for thing in things))
        right["count"].append(reading.count == len(scene.things))
        right["style"].append(reading.style == scene.style)
        right["background"].append(reading.background == scene.background)
        if any(thing.colour for thing in things):
            right["colour"].append(reading.colours == tuple(thing.colour for thing in things))
        if relation is not None:
            right["relation"].append(reading.relation == relation)
    return {name: sum(values) / len(values) for name, values in right.items() if values}
