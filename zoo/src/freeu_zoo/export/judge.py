"""From a checkpoint to a ``CLIPModel`` directory that anything can load."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import CLIPImageProcessorPil

from freeu.personalize import Checkpoint
from freeu_zoo import __version__, card
from freeu_zoo.errors import ZooError
from freeu_zoo.export.directory import finish, training_facts, vocabulary_files
from freeu_zoo.files import write_json
from freeu_zoo.recipe import Recipe
from freeu_zoo.training import judge, text
from freeu_zoo.training.run import average_of, facts_of
from freeu_zoo.world.scenes import SIZE, held_out_scenes


def export(recipe: Recipe, home: Path, destination: Path) -> None:
    """Write the ``CLIPModel`` directory (float16, with tokenizer and image processor); replaces ``destination``.

    Raises:
        ZooError: nothing was trained yet.
    """
    state = Checkpoint(home / "judge.ckpt", judge.identity(recipe)).read()
    if state is None:
        raise ZooError(f"nothing trained in {home} yet; run --stage train first")
    tokenizer = text.build_tokenizer(recipe.text.length)
    model = judge.build(recipe, tokenizer).eval()
    model.load_state_dict(average_of(state))
    accuracy = judge.retrieval(model, tokenizer, held_out_scenes(recipe.world, 500, recipe.data.seed + 1000))
    new = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    model.half().save_pretrained(new)
    tokenizer.save_pretrained(new)
    vocabulary_files(new)
    size = {"height": SIZE, "width": SIZE}
    CLIPImageProcessorPil(
        size=size, crop_size=size, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(new)
    facts = {
        "name": recipe.name,
        "kind": "judge",
        "description": recipe.description,
        "zoo_version": __version__,
        "recipe": recipe.name,
        "nouns": list(recipe.world.nouns),
        "parameters": sum(p.numel() for p in model.parameters()),
        "retrieval_of_500_held_out": round(accuracy, 4),
        "training": training_facts(facts_of(state), recipe.judge.batch),
    }
    write_json(new / "freeu-zoo.json", facts)
    (new / "README.md").write_text(card.text(facts), encoding="utf-8")
    finish(new, destination)
