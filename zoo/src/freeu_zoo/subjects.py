"""A subject that the miniature Stable Diffusion never saw: a few images of it, and prompts that ask for it.

    python -m freeu_zoo.subjects FOLDER --subject bear --count 5

FOLDER receives the images to learn from (``00.png`` ...) with their captions (``00.txt``), ``prompts.jsonl`` with
what each prompt asks for, in ``scenes`` the real scene of every prompt, and ``subject.json``. The prompts say "sks
panda" for a bear: the rare word and a noun that the model knows.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from freeu_zoo.errors import ZooError
from freeu_zoo.files import write_atomically, write_json
from freeu_zoo.prompts import asked
from freeu_zoo.recipe import shipped
from freeu_zoo.world import captions, sprites
from freeu_zoo.world.scenes import Scene, SceneMaker, World, compose

CLASSES = {
    "bear": "panda",
    "koala": "panda",
    "tiger": "fox",
    "owl": "penguin",
    "swan": "duck",
    "lobster": "crab",
    "shark": "fish",
    "rose": "tulip",
    "palm": "tree",
    "pear": "apple",
    "peach": "apple",
    "lemon": "banana",
    "cookie": "doughnut",
    "truck": "bus",
    "tractor": "car",
}
"""Nouns that ``mini-sd`` never saw, each with one that it knows and that looks alike."""

SHARES = {"single": 8, "restyled": 3, "count": 3, "pair": 6}
"""Kinds of prompts, in twentieths: the subject on other backgrounds, in another style, counted, and with a thing that
the model knows."""


def examples(subject: str, style: str, count: int, seed: int = 0) -> list[Scene]:
    """Scenes of one subject alone: other sizes and places, and no two on the same background.

    Raises:
        ZooError: more than there are backgrounds.
    """
    world = World(
        (subject,), (style,), layouts={"single": 1.0}, gradients=0.0, recoloured=0.0, sides=(72, 112), jitter=12
    )
    if not 1 <= count <= len(world.colours) - 1:
        raise ZooError(f"--count must lie in 1 to {len(world.colours) - 1}, got {count}: each has its own background")
    found: dict[tuple[str, ...], Scene] = {}
    for scene in _scenes(world, seed):
        found.setdefault(scene.background, scene)
        if len(found) == count:
            break
    return list(found.values())


def scenes(subject: str, style: str, count: int, seed: int = 1) -> list[tuple[str, Scene]]:
    """Scenes that prompts ask for, with their kinds in the proportions of ``SHARES``, no two with the same caption."""
    known = shipped("mini-sd").world.nouns
    others = [noun for noun in known if noun != CLASSES.get(subject)]
    whole = sum(SHARES.values())
    places = {kind: round(sum(list(SHARES.values())[: at + 1]) * count / whole) for at, kind in enumerate(SHARES)}
    found: dict[str, tuple[str, Scene]] = {}
    for kind, until in places.items():
        styles = tuple(one for one in sprites.STYLES if one != style) if kind == "restyled" else (style,)
        layout = "single" if kind == "restyled" else kind
        world = World((subject,), styles, layouts={layout: 1.0}, gradients=0.1, recoloured=0.0)
        if kind == "pair":
            world = replace(world, nouns=(subject, *others))
        for scene in _scenes(world, seed):
            if len(found) >= until:
                break
            if subject in (thing.noun for thing in scene.things):
                found.setdefault(captions.plain_caption(scene), (kind, scene))
    return list(found.values())


def _scenes(world: World, seed: int) -> Iterator[Scene]:
    maker = SceneMaker(world, seed)
    for number in range(20_000):
        yield maker.scene(number)


def called(text: str, subject: str, name: str) -> str:
    """A caption in which the subject, one or many of it, is called otherwise."""
    for word, other in ((sprites.plural(subject), f"{name}s"), (subject, name)):
        text = re.sub(rf"\b{re.escape(word)}\b", other, text)
    return re.sub(r"\ban (?=[^aeiou])", "a ", text)


def rows(made: Iterable[tuple[str, Scene]], subject: str, name: str, seed: int = 1) -> list[dict[str, Any]]:
    """A prompt for each scene, every other one paraphrased; what it asks for has the subject's own noun."""
    draw = random.Random(seed)
    found = []
    for number, (kind, scene) in enumerate(made):
        text = captions.full_caption(scene, draw) if number % 2 else captions.plain_caption(scene)
        found.append({"prompt": called(text, subject, name), "layout": kind, "asked": asked(scene)})
    return found


def write(folder: Path, subject: str, style: str = "3d", count: int = 5, prompts: int = 20, token: str = "sks") -> None:
    """Write what the module's text says.

    Raises:
        ZooError: a noun that has no class here, a style that there is not, or too many images.
    """
    if subject not in CLASSES:
        raise ZooError(f"no subject {subject!r}; known: {', '.join(CLASSES)}")
    if style not in sprites.STYLES:
        raise ZooError(f"no style {style!r}; known: {', '.join(sprites.STYLES)}")
    name = f"{token} {CLASSES[subject]}"
    shown = examples(subject, style, count)
    made = scenes(subject, style, prompts)
    for number, scene in enumerate(shown):
        _save(folder / f"{number:02}.png", scene)
        _write(folder / f"{number:02}.txt", called(captions.plain_caption(scene), subject, name) + "\n")
    for number, (_, scene) in enumerate(made):
        _save(folder / "scenes" / f"{number:04}.png", scene)
    _write(folder / "prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows(made, subject, name)))
    write_json(
        folder / "subject.json",
        {
            "subject": subject,
            "class_noun": CLASSES[subject],
            "style": style,
            "token": token,
        },
    )


def _save(path: Path, scene: Scene) -> None:
    write_atomically(path, functools.partial(compose(scene).save, format="PNG"))


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (2 after a one-line error)."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.subjects", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--subject", default="bear", help=f"one of {', '.join(CLASSES)} (default: bear)")
    parser.add_argument("--style", default="3d", help=f"one of {', '.join(sprites.STYLES)} (default: 3d)")
    parser.add_argument("--count", type=int, default=5, help="images to learn from (default: 5)")
    parser.add_argument("--prompts", type=int, default=20, help="prompts with their scenes (default: 20)")
    parser.add_argument("--token", default="sks", help="the rare word in the prompts (default: sks)")
    options = parser.parse_args(arguments)
    try:
        if options.prompts < 1:
            raise ZooError(f"--prompts must be at least 1, got {options.prompts}")
        write(options.folder, options.subject, options.style, options.count, options.prompts, options.token)
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
