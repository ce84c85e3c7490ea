"""Train a miniature model from a recipe: ``python -m freeu_zoo.train RECIPE``."""

from __future__ import annotations

import argparse
import graphlib
import math
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from freeu import FreeUError
from freeu_zoo import recipe as recipes
from freeu_zoo.errors import ZooError
from freeu_zoo.recipe import Recipe, read, shipped, smoke
from freeu_zoo.world import sprites

STAGES = {
    "diffusion": ("sprites", "vae", "text", "unet", "polish", "export"),
    "video": ("unet", "export"),
    "control": ("control", "export"),
    "lcm": ("lcm", "export"),
    "judge": ("train", "export"),
    "reader": ("train", "export"),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (2 after a one-line error, 130 after Ctrl-C)."""
    options = _parser().parse_args(arguments)
    # In the background Ctrl-C is ignored unless asked for, and schedulers send SIGTERM: both keep what was learned.
    before = [signal.signal(kind, _stop) for kind in (signal.SIGINT, signal.SIGTERM)]
    try:
        if options.recipe is None:
            if not options.smoke:
                raise ZooError(f"which recipe? One of {', '.join(_names())}, or a file; or --smoke to try them all")
            _smoke_all(options.work, options.threads, options.device)
            return 0
        chosen = read(Path(options.recipe)) if options.recipe.endswith(".toml") else shipped(options.recipe)
        if options.smoke:
            chosen = smoke(chosen)
        job = Job(chosen, options.work or Path("work"), options.output, options.threads, options.device)
        job.minutes = options.minutes
        job.start = options.parent
        job.run(options.stage)
    except (ZooError, FreeUError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    finally:
        for kind, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(kind, handler)
    return 0


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m freeu_zoo.train", description=__doc__)
    parser.add_argument("recipe", nargs="?", help=f"a recipe file, or a name: {', '.join(_names())}")
    parser.add_argument("--stage", default="all", help="do only this stage (default: all that are not done)")
    parser.add_argument("--work", type=Path, help="where downloads and checkpoints go (default: work)")
    parser.add_argument("--output", type=Path, help="where the model goes (default: WORK/models/NAME)")
    parser.add_argument(
        "--parent",
        type=Path,
        help="for image models, and to distil one: begin with this model's directory, in place of the recipe's parent",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="end this sitting after so much training")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda: where the U-Net is trained (default: cpu)")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes, to try every stage; all recipes if none is named"
    )
    return parser


def _names() -> list[str]:
    return sorted(path.stem for path in recipes.FOLDER.glob("*.toml"))


def _smoke_all(work: Path | None, threads: int, device: str) -> None:
    """Run every shipped recipe, made tiny, end to end in one folder (a temporary one, unless ``work`` is given)."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        parents = {name: [parent] if (parent := shipped(name).parent) else [] for name in _names()}
        for name in graphlib.TopologicalSorter(parents).static_order():
            began = time.monotonic()
            Job(smoke(shipped(name)), folder, None, threads, device).run("all")
            print(f"{name}: every stage ran, {time.monotonic() - began:.0f} s", flush=True)


@dataclass
class Job:
    """One recipe in one work folder."""

    recipe: Recipe
    work: Path
    output: Path | None = None
    threads: int = 1
    device: str = "cpu"
    minutes: float = math.inf
    start: Path | None = None

    @property
    def home(self) -> Path:
        """Where this recipe's checkpoints are."""
        return self.work / self.recipe.name

    @property
    def destination(self) -> Path:
        """Where the finished model goes."""
        return self.output or self.work / "models" / self.recipe.name

    def has_checkpoint(self, name: str) -> bool:
        """Whether a training of that name has left one: its folder alone may be of a crash before the first."""
        return (self.home / f"{name}.ckpt" / "state.json").exists()

    def run(self, stage: str = "all") -> Path:
        """Run one stage, or all that are not done yet; return the model's directory (which exists after ``export``).

        Raises:
            ZooError: no such stage, sprites cannot be fetched, or an earlier stage is missing.
            FreeUError: a checkpoint is damaged or of another recipe, or cannot be written.
        """
        stages = STAGES[self.recipe.kind]
        if stage not in (*stages, "all"):
            raise ZooError(f"--stage of a {self.recipe.kind} recipe is {', '.join(stages)} or all, got {stage!r}")
        if self.start is not None:
            self._check_start(self.start)
        # torch and diffusers take seconds to load; errors in the command line should not.
        import torch

        if self.device != "cpu" and not torch.cuda.is_available():
            raise ZooError(f"--device {self.device}: there is no such device here; use cpu")
        torch.set_num_threads(self.threads)
        self.home.mkdir(parents=True, exist_ok=True)
        self.say = Log(self.home / "log.txt")
        for each in stages if stage == "all" else (stage,):
            if not getattr(self, f"_{self.recipe.kind}_{each}")(forced=stage != "all"):
                return self.destination
        if stage in ("export", "all"):
            self.say(f"model in {self.destination}")
        return self.destination

    def _check_start(self, folder: Path) -> None:
        if self.recipe.kind not in ("diffusion", "lcm") or self.recipe.parent is None:
            raise ZooError(f"--parent: {self.recipe.name} is not an image model that begins with another one")
        needed = [f"{part}/config.json" for part in ("unet", "text_encoder", "vae")]
        if self.recipe.kind == "lcm":
            needed.append("freeu-zoo.json")
        missing = [name.removesuffix("/config.json") for name in needed if not (folder / name).exists()]
        if missing:
            raise ZooError(f"--parent {folder}: no image model there, {', '.join(missing)} is missing")

    # Each stage says whether the next one may follow. With ``forced`` it is done even if its result exists.

    def _diffusion_sprites(self, forced: bool) -> bool:
        count = self.recipe.data.extra_sprites
        self._extra = sprites.extras(self.work, count) if count else []
        return True

    def _diffusion_vae(self, forced: bool) -> bool:
        from freeu_zoo.training import vae

        if self.recipe.parent is not None:
            if self.start is None:
                self._run_parent()
        elif forced or not (self.home / "vae").exists():
            self._diffusion_sprites(forced)
            vae.train(self.recipe, self._extra, self.home / "vae", self.say)
        return True

    def _run_parent(self) -> None:
        parent = self._parent()
        if parent is not None and not parent.has_checkpoint("unet"):
            self.say(f"first its parent, {parent.recipe.name}")
            for stage in ("sprites", "vae", "text", "unet", "polish"):
                parent.run(stage)

    def _parent(self) -> Job | None:
        if self.recipe.parent is None:
            return None
        recipe = shipped(self.recipe.parent)
        if self.recipe.name.endswith("-smoke"):
            recipe = smoke(recipe)
        return Job(recipe, self.work, None, self.threads, self.device)

    @property
    def _vae(self) -> Path:
        """The autoencoder whose latents are used."""
        if self.start is not None:
            return self.start / "vae"
        parent = self._parent()
        return parent._vae if parent is not None else self.home / "vae"

    @property
    def _polished(self) -> Path:
        """The autoencoder with the decoder that was trained longest."""
        own, parent = self.home / "vae-polished", self._parent()
        if own.exists():
            return own
        return self._vae if self.start is not None or parent is None else parent._polished

    def _diffusion_text(self, forced: bool) -> bool:
        from freeu_zoo.training import text_lesson

        out = self.home / "text.safetensors"
        if self.recipe.text.samples and (forced or not out.exists()):
            text_lesson.train(self.recipe, out, self.say)
        return True

    def _diffusion_unet(self, forced: bool) -> bool:
        from freeu_zoo import grid
        from freeu_zoo.export import image
        from freeu_zoo.training import latents, unet

        data = latents.prepare(self.recipe, self._vae, self.home, self.say)
        trainer = unet.Trainer(self.recipe, data, self.home, self.say, self.device)
        if not trainer.resume():
            parent = self._parent()
            if self.start is not None:
                trainer.start_from(unet.of_directory(self.start))
            elif parent is not None:
                trainer.start_from(unet.averaged(parent.recipe, parent.home)[0])
            if self.recipe.text.samples:
                trainer.start_with_encoder(self.home / "text.safetensors")

        def show() -> None:
            made, _ = image.pipeline(self.recipe, self.home, self._polished)
            path = self.home / "grids" / f"step-{trainer.step:06}.png"
            grid.progress_sheet(made, self.recipe, path)
            self.say(f"images in {path}")

        return trainer.go(self.minutes, show, self.recipe.unet.grid_minutes)

    def _diffusion_polish(self, forced: bool) -> bool:
        from freeu_zoo.training import vae

        out = self.home / "vae-polished"
        if self.recipe.vae.polish_minutes and (forced or not out.exists()):
            parent = self._parent()
            before = self._vae if self.start is not None or parent is None else parent._polished
            self._diffusion_sprites(forced)
            vae.polish(self.recipe, self._extra, before, out, self.say)
        return True

    def _shipped_parent(self) -> Path:
        """A parent's directory: the one named, else as shipped, unless it was trained here or recipes are tried."""
        from freeu_zoo import model_path

        if self.start is not None:
            return self.start
        parent = self._parent()
        if parent is None:
            kind = self.recipe.kind
            raise ZooError(f"{self.recipe.name}: a {kind} model needs a parent, the model that it begins with")
        wanted = self.recipe.name.endswith("-smoke") or parent.recipe.kind == "video"
        if wanted and not parent.destination.exists():
            parent.run()
        return parent.destination if parent.destination.exists() else model_path(parent.recipe.name)

    def _video_unet(self, forced: bool) -> bool:
        from freeu_zoo.export import clip_sheet
        from freeu_zoo.export.video import pipeline
        from freeu_zoo.training import video

        parent = video.Parent(self._shipped_parent())
        trainer = video.Trainer(self.recipe, video.load_coder(parent.coder), self.home, self.say, self.device)
        if not trainer.resume():
            trainer.start_from(parent)

        def show() -> None:
            made, _ = pipeline(self.recipe, self.home, parent)
            path = self.home / "grids" / f"step-{trainer.step:06}.png"
            clip_sheet.progress_sheet(made, self.recipe, path)
            self.say(f"clips in {path}")

        return trainer.go(self.minutes, show, self.recipe.unet.grid_minutes)

    def _video_export(self, forced: bool) -> bool:
        from freeu_zoo.export.video import export
        from freeu_zoo.training.video import Parent

        if not self.has_checkpoint("unet"):  # asked before a parent that is not shipped would be trained
            raise ZooError(f"nothing trained in {self.home} yet; run --stage unet first")
        export(self.recipe, self.home, Parent(self._shipped_parent()), self.destination)
        return True

    def _control_control(self, forced: bool) -> bool:
        from freeu_zoo.export import control
        from freeu_zoo.training.control import Trainer

        parent = self._shipped_parent()
        trainer = Trainer(self.recipe, parent, self.home, self.say, self.device)
        trainer.resume()

        def show() -> None:
            network, _ = control.network(self.recipe, self.home, parent)
            path = self.home / "grids" / f"step-{trainer.step:06}.png"
            path.parent.mkdir(exist_ok=True)
            control.write_samples(control.pipeline(parent, network), self.recipe, path)
            self.say(f"images in {path}")

        return trainer.go(self.minutes, show, self.recipe.unet.grid_minutes)

    def _control_export(self, forced: bool) -> bool:
        from freeu_zoo.export import control

        if not self.has_checkpoint("control"):  # asked before a parent that is not shipped would be trained
            raise ZooError(f"nothing trained in {self.home} yet; run --stage control first")
        control.export(self.recipe, self.home, self._shipped_parent(), self.destination)
        return True

    def _lcm_lcm(self, forced: bool) -> bool:
        from freeu_zoo import grid
        from freeu_zoo.export import lcm
        from freeu_zoo.training import latents
        from freeu_zoo.training.distillation.lcm import Trainer

        parent = self._shipped_parent()
        data = latents.prepare(self.recipe, parent / "vae", self.home, self.say)
        trainer = Trainer(self.recipe, parent, data, self.home, self.say, self.device)
        trainer.resume()

        def show() -> None:
            made = lcm.pipeline(self.recipe, self.home, parent)
            path = self.home / "grids" / f"step-{trainer.step:06}.png"
            grid.progress_sheet(made, self.recipe, path)
            self.say(f"images in {path}")

        return trainer.go(self.minutes, show, self.recipe.unet.grid_minutes)

    def _lcm_export(self, forced: bool) -> bool:
        from freeu_zoo.export import lcm

        if not self.has_checkpoint("lcm"):  # asked before a parent that is not shipped would be trained
            raise ZooError(f"nothing trained in {self.home} yet; run --stage lcm first")
        lcm.export(self.recipe, self.home, self._shipped_parent(), self.destination)
        return True

    def _judge_train(self, forced: bool) -> bool:
        from freeu_zoo.training import judge

        trainer = judge.Trainer(self.recipe, self.home, self.say)
        trainer.resume()
        return trainer.go(self.minutes)

    def _judge_export(self, forced: bool) -> bool:
        from freeu_zoo.export import judge

        judge.export(self.recipe, self.home, self.destination)
        return True

    def _reader_train(self, forced: bool) -> bool:
        from freeu_zoo.training import reader

        trainer = reader.Trainer(self.recipe, self.home, self.say)
        trainer.resume()
        return trainer.go(self.minutes)

    def _reader_export(self, forced: bool) -> bool:
        from freeu_zoo.export import reader

        reader.export(self.recipe, self.home, self.destination)
        return True

    def _diffusion_export(self, forced: bool) -> bool:
        from freeu_zoo.export import image

        image.export(self.recipe, self.home, self._polished, self.destination)
        return True


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
