"""Train a miniature Stable Diffusion from a recipe: ``python -m freeu_zoo.train RECIPE.toml``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from . import sprites
from .errors import ZooError
from .recipe import Recipe, read, smoke

STAGES = ("sprites", "vae", "unet", "polish", "export", "all")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (1 after a one-line error, 130 after Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.train", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a recipe file, such as freeu_zoo/recipes/mini-sd.toml")
    parser.add_argument("--stage", choices=STAGES, default="all", help="do only this stage (default: all)")
    parser.add_argument("--work", type=Path, default=Path("work"), help="where downloads and checkpoints go")
    parser.add_argument("--output", type=Path, help="where the model goes (default: WORK/models/NAME)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: try every stage in a minute or two")
    options = parser.parse_args(arguments)
    try:
        recipe = read(options.recipe)
        if options.smoke:
            recipe = smoke(recipe)
        run(recipe, options.stage, options.work, options.output, options.threads)
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def run(recipe: Recipe, stage: str, work: Path, output: Path | None = None, threads: int = 1) -> Path:
    """Run one stage, or all that are not done yet; return the model's directory (which exists after ``export``).

    Raises:
        ZooError: sprites cannot be fetched, or an earlier stage is missing.
    """
    # torch and diffusers take seconds to load; errors in the command line should not.
    import torch

    from . import export, latents, unet, vae
    from .scenes import SceneMaker

    torch.set_num_threads(threads)
    home = work / recipe.name
    home.mkdir(parents=True, exist_ok=True)
    say = Log(home / "log.txt")
    sprite_folder = work / "sprites"
    sprites.unpack(sprites.fetch(work / "npm"), sprite_folder, recipe.world.extra_sprites)
    world = recipe.world
    maker = SceneMaker(world.nouns, sprite_folder, world.seed, world.sides, world.jitter)
    destination = output or work / "models" / recipe.name
    if stage == "vae" or (stage == "all" and not (home / "vae").exists()):
        vae.train(recipe, maker, sprite_folder, home / "vae", say)
    if stage in ("unet", "all"):
        unet.train(recipe, latents.prepare(recipe, maker, home, say), home, say)
    if stage == "polish" or (stage == "all" and not (home / "vae-polished").exists()):
        vae.polish(recipe, maker, sprite_folder, home / "vae", home / "vae-polished", say)
    if stage in ("export", "all"):
        export.export(recipe, home, destination)
        say(f"model in {destination}")
    return destination


class Log:
    """Prints a line and appends it, with the time, to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, line: str) -> None:
        text = f"{time.strftime('%H:%M:%S')} {line}"
        print(text, flush=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
