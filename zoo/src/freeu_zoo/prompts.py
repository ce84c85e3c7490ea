"""Prompts that test several things each, with what they ask for as data, and real scenes that answer them.

    python -m freeu_zoo.prompts prompts.jsonl --count 500 --scenes FOLDER

Every prompt holds a combination (of noun, style and colour, of noun and its colour, or of two nouns and their
relation) that no training has shown. With ``--clips`` they ask for one object in motion.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from freeu_zoo.errors import ZooError
from freeu_zoo.files import write_atomically
from freeu_zoo.recipe import Recipe, shipped
from freeu_zoo.world import captions, clips
from freeu_zoo.world.clips import Clip, ClipMaker
from freeu_zoo.world.scenes import Scene, SceneMaker, World, compose

SHARES = {"single": 0.4, "count": 0.2, "pair": 0.4}
"""Layouts of the prompts: all of these ask for something that a reader can check."""


def asked(scene: Scene) -> dict[str, Any]:
    """What a caption that says everything asks for.

    Nouns are in order of mention, equal ones once; ``count`` is the number of objects; ``background`` has one colour,
    or two from top to bottom; ``colours`` has None for an object in its own colours.
    """
    things = scene.things[:1] if scene.layout == "count" else scene.things
    return {
        "nouns": [thing.noun for thing in things],
        "count": len(scene.things),
        "style": scene.style,
        "background": list(scene.background),
        "colours": [thing.colour for thing in things],
        "relation": scene.relation,
    }


def scenes(world: World, count: int, seed: int = 9000) -> list[Scene]:
    """That many held-out scenes of a world, layouts in the proportions of ``SHARES``, no two with the same caption.

    Raises:
        ZooError: the world has not so many.
    """
    layouts = {name: share for name, share in SHARES.items() if world.layouts.get(name)}
    maker = SceneMaker(replace(world, layouts=layouts), seed, held_out=True)
    found: dict[str, Scene] = {}
    for number in range(20 * count + 100):
        scene = maker.scene(number)
        found.setdefault(captions.plain_caption(scene), scene)
        if len(found) == count:
            return list(found.values())
    raise ZooError(f"this world has no {count} different prompts, only some {len(found)}: ask for fewer")


def rows(made: list[Scene], seed: int = 9000) -> list[dict[str, Any]]:
    """A prompt for each scene: every other one in the plainest words, the rest paraphrased."""
    draw = random.Random(seed)
    return [
        {
            "prompt": captions.full_caption(scene, draw) if number % 2 else captions.plain_caption(scene),
            "layout": scene.layout,
            "asked": asked(scene),
        }
        for number, scene in enumerate(made)
    ]


def clips_of(recipe: Recipe, count: int, seed: int = 9000) -> list[Clip]:
    """That many held-out clips of a video recipe, motions in turn, no two with the same caption.

    Raises:
        ZooError: the recipe's world has not so many.
    """
    maker = ClipMaker(recipe.world, recipe.video.frames, seed, held_out=True)
    motions = itertools.cycle(clips.MOTIONS)
    wanted, found = next(motions), {}
    for number in range(200 * count + 1000):
        clip = maker.clip(number)
        caption = clips.plain_caption(clip)
        if clip.motion == wanted and caption not in found:
            found[caption], wanted = clip, next(motions)
        if len(found) == count:
            return list(found.values())
    raise ZooError(f"this world has no {count} different prompts, only some {len(found)}: ask for fewer")


def clip_rows(made: list[Clip], seed: int = 9000) -> list[dict[str, Any]]:
    """A prompt for each clip: every other one in the plainest words, the rest with another word for the motion."""
    draw = random.Random(seed)
    return [
        {
            "prompt": captions.plain_caption(clip.scene, draw.choice(clips.MOTIONS[clip.motion]))
            if number % 2
            else clips.plain_caption(clip),
            "layout": clip.scene.layout,
            "asked": {**asked(clip.scene), "motion": clip.motion},
        }
        for number, clip in enumerate(made)
    ]


def write(recipe: Recipe, output: Path, count: int, folder: Path | None, seed: int = 9000) -> None:
    """Write the prompts as JSON lines and, in ``folder``, the scene of each as ``0000.png`` and so on.

    Those of a video recipe are animated PNG, without loss.
    """
    if recipe.kind == "video":
        made = clips_of(recipe, count, seed)
        lines = [json.dumps(row) for row in clip_rows(made, seed)]
        moving = [clips.images(clip) for clip in made]
    else:
        still = scenes(recipe.world, count, seed)
        lines = [json.dumps(row) for row in rows(still, seed)]
        moving = [[compose(scene)] for scene in still] if folder is not None else []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, frames in enumerate(moving):
            more: dict[str, Any] = (
                {
                    "save_all": True,
                    "append_images": frames[1:],
                    "duration": round(1000 / recipe.video.fps),
                    "loop": 0,
                    # Equal frames that ask for the same would be merged; for opaque pixels the two ways are one.
                    "blend": [place % 2 for place in range(len(frames))],
                }
                if len(frames) > 1
                else {}
            )
            write_atomically(folder / f"{number:04}.png", functools.partial(frames[0].save, format="PNG", **more))
    write_atomically(output, lambda path: path.write_text("\n".join(lines) + "\n", encoding="utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (2 after a one-line error)."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.prompts", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("output", type=Path, help="the JSON lines file to write")
    parser.add_argument("--count", type=int, default=500, help="number of prompts (default: 500)")
    parser.add_argument("--scenes", type=Path, help="also write the real scenes into this folder")
    parser.add_argument("--seed", type=int, default=9000, help="other prompts for another seed")
    parser.add_argument("--clips", action="store_true", help="prompts for clips; the scenes are animated PNG")
    parser.add_argument("--recipe", help="whose world (default: mini-sd, or mini-modelscope with --clips)")
    options = parser.parse_args(arguments)
    try:
        if options.count < 1:
            raise ZooError(f"--count must be at least 1, got {options.count}")
        recipe = shipped(options.recipe or ("mini-modelscope" if options.clips else "mini-sd"))
        if (recipe.kind == "video") != options.clips:
            raise ZooError(f"--clips goes with a recipe of kind video alone; {recipe.name} is of kind {recipe.kind}")
        write(recipe, options.output, options.count, options.scenes, options.seed)
    except (ZooError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
