"""Exemplars of one relation, for learning it from images, and prompts with other nouns to test what was learned.

    python -m freeu_zoo.relations FOLDER --relation inside --count 10

Writes the images ``0000.png`` and so on, ``captions.jsonl`` in which a word of the user's choice stands for the
relation ("a 3d cat <R> a gift on a blue background"), and ``prompts.jsonl``. The nouns are divided in two: no noun of
an exemplar is in a prompt, so that what helps there is the relation and not the images that were shown.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from freeu_zoo.errors import ZooError
from freeu_zoo.files import write_atomically
from freeu_zoo.prompts import asked
from freeu_zoo.recipe import shipped
from freeu_zoo.world import captions
from freeu_zoo.world.scenes import RELATIONS, Scene, SceneMaker, World, compose

TOKEN = "<R>"
CAPTIONS = 4
"""Captions of each exemplar: the plainest, then paraphrases."""


def divided(world: World, seed: int) -> tuple[World, World]:
    """A world of pairs of objects for exemplars and one for prompts, each with half of the nouns."""
    nouns = list(world.nouns)
    random.Random(f"{seed}/nouns").shuffle(nouns)
    half = len(nouns) // 2
    pairs = replace(world, layouts={"pair": 1.0})
    return replace(pairs, nouns=tuple(nouns[:half])), replace(pairs, nouns=tuple(nouns[half:]))


def scenes_of(world: World, relation: str, count: int, seed: int, held_out: bool) -> list[Scene]:
    """That many scenes of a relation, no two of the same pair of nouns.

    Args:
        held_out: as in ``SceneMaker``: whether some combination in each scene is one that no training shows.

    Raises:
        ZooError: the world has not so many.
    """
    pairs = math.comb(len(world.nouns), 2)
    if count > pairs:
        raise ZooError(
            f"{len(world.nouns)} nouns make {pairs} pairs, and {count} are wanted on this side of the division: "
            "ask for fewer"
        )
    maker = SceneMaker(world, seed, held_out)
    found: dict[frozenset[str], Scene] = {}
    for number in range(40 * count + 400):
        scene = maker.scene(number)
        if scene.relation == relation:
            found.setdefault(frozenset(thing.noun for thing in scene.things), scene)
        if len(found) == count:
            return list(found.values())
    raise ZooError(f"this world has no {count} pairs {relation!r}, only some {len(found)}: ask for fewer")


def caption_rows(made: Sequence[Scene], token: str, seed: int) -> list[dict[str, str]]:
    """``CAPTIONS`` lines for each exemplar, the relation called ``token``."""
    draw = random.Random(f"{seed}/captions")
    rows = []
    for number, scene in enumerate(made):
        texts = [captions.plain_caption(scene, relation=token)]
        texts += [captions.full_caption(scene, draw, token) for _ in range(CAPTIONS - 1)]
        rows += [{"file": f"{number:04}.png", "caption": text} for text in dict.fromkeys(texts)]
    return rows


def prompt_rows(made: Sequence[Scene], token: str) -> list[dict[str, Any]]:
    """A prompt for each scene, in the plainest words, with what it asks for."""
    return [
        {"prompt": captions.plain_caption(scene, relation=token), "layout": scene.layout, "asked": asked(scene)}
        for scene in made
    ]


def write(
    world: World, folder: Path, relation: str, count: int, prompts: int, token: str = TOKEN, seed: int = 9000
) -> None:
    """Write exemplars, captions and prompts.

    Args:
        world: its nouns are divided between exemplars and prompts; exemplars show what training showed too, prompts
            ask for combinations that it never showed.
        relation: one of ``RELATIONS``.
        count, prompts: how many images and how many prompts.
        token: one word, which stands for the relation.

    Raises:
        ZooError: an unknown relation, a token of several words, a folder with files in it, or too small a world.
    """
    if relation not in RELATIONS:
        raise ZooError(f"no relation {relation!r}; known: {', '.join(RELATIONS)}")
    if len(token.split()) != 1:
        raise ZooError(f"--token must be one word, got {token!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ZooError(f"{folder} exists already: name a folder that does not")
    shown, tested = divided(world, seed)
    exemplars = scenes_of(shown, relation, count, seed, held_out=False)
    rows = prompt_rows(scenes_of(tested, relation, prompts, seed + 1, held_out=True), token)
    for number, scene in enumerate(exemplars):
        write_atomically(folder / f"{number:04}.png", functools.partial(compose(scene).save, format="PNG"))
    for name, lines in (("captions.jsonl", caption_rows(exemplars, token, seed)), ("prompts.jsonl", rows)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomically(folder / name, functools.partial(Path.write_text, data=text, encoding="utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (2 after a one-line error)."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.relations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="a new folder to write to")
    parser.add_argument("--relation", required=True, help=f"one of: {', '.join(RELATIONS)}")
    parser.add_argument("--count", type=int, default=10, help="number of exemplars (default: 10)")
    parser.add_argument("--prompts", type=int, default=24, help="number of prompts with other nouns (default: 24)")
    parser.add_argument("--token", default=TOKEN, help=f"the word for the relation (default: {TOKEN})")
    parser.add_argument("--seed", type=int, default=9000, help="other images and prompts for another seed")
    parser.add_argument("--recipe", default="mini-sd", help="whose world (default: mini-sd)")
    options = parser.parse_args(arguments)
    try:
        for name in ("count", "prompts"):
            if getattr(options, name) < 1:
                raise ZooError(f"--{name} must be at least 1, got {getattr(options, name)}")
        recipe = shipped(options.recipe)
        if recipe.kind == "video":
            raise ZooError(f"{recipe.name} is a recipe of clips: name one of images")
        write(
            recipe.world, options.folder, options.relation, options.count, options.prompts, options.token, options.seed
        )
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
