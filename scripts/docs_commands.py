"""Runs the commands that the documentation shows, as they stand there, on the embedded models.

    python scripts/docs_commands.py                # every page
    python scripts/docs_commands.py docs/study.md

Each page begins in an empty folder, and its commands run in their order: one that names a file which no command before
it made fails. Names under ``path/to/`` are the reader's own files; ``STAND_INS`` says what lies there instead.
``ROWS`` is the whole list of what is not run, and of what makes a command small. Exit code 1 if a command fails.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import runpy
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
SECONDS = 900
"""After so long a command is stopped, and has failed."""


class Row(NamedTuple):
    """What is done with the commands that match a pattern."""

    does: str
    """``leave``: not run; ``serve``: stopped once it has printed its address; ``add``: run with ``words`` behind it;
    ``refuse``: a refusal with ``words`` is a documented answer too, with exit code 2, or 1 where it is the result."""
    pattern: str
    why: str
    words: str = ""


ROWS = (
    Row("leave", r"^pip ", "installs packages from the network; scripts/extras.py installs each extra"),
    Row("leave", r"^make ", "builds an environment from the network"),
    Row("leave", r"^python scripts/", "builds environments from the network"),
    Row("leave", r"^python benchmarks/(?!demo_study)", "a measurement of minutes that replaces a file of results"),
    Row("leave", r"(stabilityai|damo-vilab|owner)/|s3://", "a model or a folder of the network"),
    Row("leave", r"--device cuda", "needs a GPU"),
    Row("leave", r"postgresql://|10\.0\.0\.5", "needs a server of its own"),
    Row("leave", r"--motion-adapter|stable-video-diffusion|text-to-video-synth", "no embedded model is of that kind"),
    Row("leave", r"--model \S+\.safetensors", "one file of a checkpoint needs a configuration, here from the network"),
    Row("leave", r"path/to/study", "the study is made in study.md, and served there"),
    Row("leave", r"pickscore=|my_package", "needs weights or code that no package here has"),
    Row("leave", r"--(width|height) (1024|4096)", "more than four times the size of the embedded model"),
    Row("leave", r"<carved-by>", "needs captions of the reader's own"),
    Row("refuse", r"--preset tuned/", "so small a search mostly finds that none is best", "has no settings of FreeU"),
    Row("refuse", r"^freeu convert .*--to comfyui --profile diffusers", "what it shows", "cannot do the same"),
    Row("refuse", r"--earlier-votes", "nobody has voted", "no votes"),
    Row(
        "serve",
        r"^freeu (ui|study serve|tune (?!.*--earlier).*--objective votes)",
        "runs until it is stopped",
        "--port 0",
    ),
    Row("add", r"^freeu (compare|generate|video|sweep)(?!.*--from)", "20 steps", "--steps 2"),
    Row("add", r"^freeu (dreambooth|reversion) generate|^freeu rerender", "20 steps", "--steps 2"),
    Row("add", r"^python -m freeu_zoo.prompts (?!.*--seed 7).*--scenes real", "an image of each prompt", "--count 6"),
    Row("add", r"^python -m freeu_zoo.prompts (?!.*--scenes real|.*--clips)|--seed 7", "hundreds", "--count 40"),
    Row("add", r"^freeu (compare|generate)(?!.*--output (pairs|plain|ch)).*--prompts pr", "many prompts", "--limit 6"),
    Row("add", r"^freeu evaluate(?!.*--images)", "many images", "--sample 6"),
    Row("add", r"^freeu evaluate(?!.*--(images|when\b))", "20 steps", "--steps 2"),
    Row("add", r"^freeu evaluate(?!.*--(images|explain|when\b))", "64 prompts", "--calibration-prompts 2"),
    Row("add", r"^freeu evaluate(?!.*--images).*--seeds 0-3", "four seeds", "--seeds 0"),
    Row("add", r"^freeu evaluate.*--when", "a grid of steps and scales", "--when-steps 4 --when-guidance 3"),
    Row("add", r"^freeu analyze", "tens of images", "--steps 2"),
    Row("add", r"^freeu analyze.*--prompts", "a model with many prompts", "--limit 2"),
    Row("add", r"^freeu tune (?!.*votes)", "120 trials", "--steps 1 --trials 1 --search-prompts 8 --confirm-prompts 8"),
    Row("add", r"^freeu tune (?!.*votes)", "hundreds of prompts", "--limit 40 --finalists 1"),
    Row("add", r"^freeu tune .*votes", "a prompt for each of 90 votes", "--steps 1 --votes 5 --final-votes 10"),
    Row("add", r"^freeu (dreambooth|reversion) train", "a training of minutes", "--steps 2 --sample-every 0"),
    Row("add", r"^freeu dreambooth train", "class images", "--class-images 2"),
    Row("add", r"^freeu check", "20 timed pairs", "--pairs 3"),
)


COLOURS = ("red", "blue", "green", "pink", "yellow", "orange", "purple", "gray")


def mini(name: str) -> Path:
    """The folder of an embedded model."""
    import freeu_zoo

    return Path(freeu_zoo.__file__).parent / "models" / name


def _link(name: str) -> Callable[[Path], None]:
    return lambda place: place.symlink_to(mini(name), target_is_directory=True)


def _image(place: Path) -> None:
    from PIL import Image

    Image.radial_gradient("L").resize((128, 128)).convert("RGB").save(place)


def _image_of_a1111(place: Path) -> None:
    """A picture with settings as Forge writes them."""
    from freeu.metadata import write

    _image(place)
    write(place, "sd15", "forge")


def _images(place: Path) -> None:
    from PIL import Image

    place.mkdir()
    darker = 100 if place.name == "with" else 0  # arms of a study differ
    for number in range(8):
        turned = Image.radial_gradient("L").rotate(40 * number, fillcolor=25 * number)
        turned = turned.point(lambda value: max(value - darker, 0))
        turned.convert("RGB").save(place / f"{number}.png")


def _prompts(place: Path) -> None:
    place.write_text("".join(f"a 3d fox on a {colour} background\n" for colour in COLOURS))


def _film(place: Path) -> None:
    import numpy as np

    from freeu.pipelines.io.clip_files import ClipWriter

    with ClipWriter(place, "mp4", 8, 128, 128, comment="") as writer:
        for number in range(12):
            frame = np.full((128, 128, 3), 200, np.uint8)
            frame[40:90, 10 + 4 * number : 60 + 4 * number] = (180, 40, 40)
            writer.add(frame)


def _lora(place: Path) -> None:
    import torch
    from safetensors.torch import save_file

    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    down, up = torch.full((2, 192), 0.01), torch.full((192, 2), 0.01)
    save_file({f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}, place)


def _embedding(place: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"<toy>": torch.full((1, 128), 0.01)}, place)


def _preset(place: Path) -> None:
    import json

    import freeu
    from freeu.presets.files import PresetFile

    found = PresetFile("studio", freeu.preset("mild"), "mini-sd", "", 3.0, 20, "liked best in the studio")
    place.write_text(json.dumps(found.to_dict()))


STAND_INS: dict[str, Callable[[Path], None]] = {
    "path/to/sd15": _link("mini-sd"),
    "path/to/sdxl": _link("mini-sd"),
    "path/to/my-fine-tune": _link("mini-sd"),
    "path/to/canny": _link("mini-canny"),
    "path/to/sd-controlnet-canny": _link("mini-canny"),
    "path/to/clip": _link("judge"),
    "path/to/photo.png": _image,
    "path/to/image.png": _image_of_a1111,
    "path/to/mask.png": _image,
    "path/to/edges.png": _image,
    "path/to/photos": _images,
    "path/to/images": _images,
    "path/to/without": _images,
    "path/to/with": _images,
    "path/to/prompts.txt": _prompts,
    "path/to/dog.mp4": _film,
    "path/to/mini-sd-studio.json": _preset,
    "path/to/style.safetensors": _lora,
    "path/to/toy.safetensors": _embedding,
    "benchmarks": lambda place: place.symlink_to(ROOT / "benchmarks", target_is_directory=True),
}
"""What lies at a name of the reader's own, and the checkout's folder for what a page runs from it."""


def commands(page: Path) -> Iterator[str]:
    """Commands of a page, in its order: lines of fenced ``sh`` blocks and of indented ones, continued ones joined."""
    fence, shell, before = "", False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        opened = re.match(r"```(\w*)", line)
        if opened and not (fence and opened[1]):
            fence = "" if fence else "```"
            shell = bool(fence) and opened[1] in ("sh", "bash")
            continue
        if shell or (not fence and re.match(r" {4,}\S", line)):
            joined = before + line.strip()
            before = joined[:-1] if joined.endswith("\\") else ""
            if not before and re.match(r"(freeu|python|pip|make) ", joined):
                yield joined


def plain_words(command: str) -> list[str]:
    """The words of a command, as a shell reads them.

    Raises:
        ValueError: it has something that only a shell does (a variable, a pipe, a second command).
    """
    reader = shlex.shlex(command, posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, "#"
    words = list(reader)
    for word in words:
        if re.fullmatch(r"[();<>|&]+", word) or "$" in word:
            raise ValueError(f"{command}: {word} needs a shell")
    return words


def rows(command: str) -> list[Row]:
    """The rows of the table that match a command."""
    plain = shlex.join(plain_words(command)).replace("'", "")
    return [row for row in ROWS if re.search(row.pattern, plain)]


def names(command: str, name: str) -> bool:
    """Whether a command names a file or folder, or something in it."""
    return re.search(rf"(^|[ =]){re.escape(name)}(?![\w.-])", command) is not None


def furnish(folder: Path, lines: list[str]) -> None:
    """Put there what the commands of a page take for the reader's own."""
    for name, make in STAND_INS.items():
        if any(names(line, name) for line in lines):
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            make(place)


def _begin(folder: Path, words: list[str], log: Path) -> None:
    """In a process of its own: what ``freeu ...`` or ``python ...`` does, in a folder, its output into a file."""
    os.setsid()
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(one, "wb", 0), write_through=True) for one in (1, 2))
    sys.argv = words[1:] if words[0] == "python" else words
    if words[0] == "freeu":
        from freeu.cli import main

        sys.exit(main(words[1:]))
    if words[1] == "-m":
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(words[1]).parent))
        runpy.run_path(words[1], run_name="__main__")


class Runner:
    """Runs commands in processes that share the imports: a fork of one that has loaded torch and diffusers."""

    def __init__(self) -> None:
        # One thread: on a busy machine every thread waits for the slowest.
        os.environ.update(HF_HUB_OFFLINE="1", BROWSER="true", COLUMNS="160", OMP_NUM_THREADS="1")
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            [
                "torch",
                "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
                "transformers.models.clip.modeling_clip",
            ]
        )

    def run(self, command: str, folder: Path) -> str | None:
        """Run a command in a folder.

        Returns:
            what is wrong, with what it said, or None.
        """
        found = rows(command)
        words = plain_words(command)
        for row in found:
            words += shlex.split(row.words) if row.does in ("add", "serve") else []
        serves = any(row.does == "serve" for row in found)
        refusals = [row.words for row in found if row.does == "refuse"]
        log = folder / ".log"
        process = self.context.Process(target=_begin, args=(folder, words, log))
        process.start()
        end = time.monotonic() + SECONDS
        address = False
        while process.is_alive() and time.monotonic() < end:
            process.join(0.2)
            address = serves and log.exists() and "http://" in log.read_text(errors="replace")
            if address:
                os.kill(process.pid or 0, signal.SIGINT)
                process.join(60)
                break
        late = process.is_alive()
        if late:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
        said = log.read_text(errors="replace") if log.exists() else ""
        code = process.exitcode
        if late:
            wrong = "did not end"
        elif serves:
            wrong = "" if address and code in (0, 130) else f"exit code {code}, address: {address}"
        elif refusals:
            wrong = (
                "" if code == 0 or (code in (1, 2) and refusals[0] in said) else f"exit code {code}, not the refusal"
            )
        else:
            wrong = "" if code == 0 else f"exit code {code}"
        return f"{wrong}\n  ran: {shlex.join(words)}\n{said[-3000:]}" if wrong else None


def run_page(runner: Runner, lines: list[str], tell: Callable[[str], None]) -> list[str]:
    """Run these commands in an empty folder.

    Returns:
        the ones that failed, each with what was wrong.
    """
    failed = []
    with tempfile.TemporaryDirectory(prefix="docs-") as place:
        folder = Path(place)
        furnish(folder, lines)
        for line in lines:
            left = [row for row in rows(line) if row.does == "leave"]
            if left:
                tell(f"  left   {line[:110]}\n           ({left[0].why})")
                continue
            began = time.monotonic()
            wrong = runner.run(line, folder)
            tell(f"  {'FAILED' if wrong else 'ok    '} {line[:110]}  [{time.monotonic() - began:.0f} s]")
            if wrong:
                tell(wrong)
                failed.append(f"{line}\n{wrong}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES, help="pages (default: all)")
    options = parser.parse_args()
    runner, failed = Runner(), 0
    for page in options.pages:
        lines = list(commands(page))
        if lines:
            print(page, flush=True)
            failed += len(run_page(runner, lines, lambda text: print(text, flush=True)))
    print(f"{failed} commands failed" if failed else "every command ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
