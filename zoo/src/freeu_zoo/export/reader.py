"""From a checkpoint to the directory of a scene reader, with its accuracy on scenes that it never saw."""

from __future__ import annotations

import random
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from freeu.personalize import Checkpoint
from freeu_zoo import __version__, card
from freeu_zoo.errors import ZooError
from freeu_zoo.export.directory import finish, training_facts
from freeu_zoo.files import write_json
from freeu_zoo.reader import Network, SceneReader
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import reader as training
from freeu_zoo.training.run import average_of, facts_of
from freeu_zoo.world import degrade
from freeu_zoo.world.scenes import compose, held_out_scenes


def export(recipe: Recipe, home: Path, destination: Path) -> None:
    """Write the reader's directory (float16 weights) with its accuracy; replaces ``destination``.

    Raises:
        ZooError: nothing was trained yet.
    """
    state = Checkpoint(home / "reader.ckpt", training.identity(recipe)).read()
    if state is None:
        raise ZooError(f"nothing trained in {home} yet; run --stage train first")
    words = training.words_of(recipe)
    network = Network(words, recipe.reader.widths)
    weights = {name: value.half() if value.is_floating_point() else value for name, value in average_of(state).items()}
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    reader = SceneReader(network, words)
    scenes = held_out_scenes(recipe.world, 1000, recipe.data.seed + 1000)
    clean = [compose(scene) for scene in scenes]
    draw = random.Random(1)
    worse = [degrade.some(image, draw, 1.0) for image in clean]
    scores = {"clean": training.accuracy(reader, scenes, clean), "degraded": training.accuracy(reader, scenes, worse)}
    new = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_file(weights, new / "reader.safetensors")
    facts = {
        "name": recipe.name,
        "kind": "reader",
        "description": recipe.description,
        "zoo_version": __version__,
        "recipe": recipe.name,
        "widths": list(recipe.reader.widths),
        **asdict(words),
        "parameters": sum(p.numel() for p in network.parameters()),
        "accuracy_on_1000_held_out": {
            kind: {name: round(value, 4) for name, value in found.items()} for kind, found in scores.items()
        },
        "training": training_facts(facts_of(state), recipe.reader.batch),
    }
    write_json(new / "freeu-zoo.json", facts)
    (new / "README.md").write_text(card.text(facts), encoding="utf-8")
    finish(new, destination)
