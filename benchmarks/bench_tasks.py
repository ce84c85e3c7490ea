"""What five tasks of a user take: commands or clicks, and seconds, on the embedded model, before and after.

    python benchmarks/bench_tasks.py [--before CHECKOUT] [--rounds 5] [--threads 2]

Each command is a fresh process; seconds run from its start to its end, so they hold imports and the loading of the
model. "My own checkpoint" is the embedded model in a folder elsewhere, without what it says of itself; its autoencoder
has no place in a single file of Stable Diffusion. The sliders are those of the studio in a headless Chromium, from the
first one touched to the new image; the start of the studio is a number of its own. ``--before`` names a checkout of an
earlier commit, whose commands run in turns with those of this one. Writes results/tasks.json.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import conditions, save

PROMPT = "a 3d fox on a blue background"
SLIDERS = {"b1": 1.1, "b2": 1.15, "s1": 0.7}
HERE = Path(__file__).resolve().parents[1]


def environment(tree: Path) -> dict[str, str]:
    """What makes a fresh process import freeu from a checkout."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(tree / part / "src") for part in ("", "zoo", "zoo-video"))}


def freeu(tree: Path, threads: int, *words: str) -> tuple[float, str]:
    """Seconds of a command, and what it printed."""
    command = [sys.executable, "-m", "freeu", *words, "--threads", str(threads)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tree))
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return seconds, done.stdout


@contextlib.contextmanager
def studio(tree: Path, threads: int) -> Iterator[tuple[str, float]]:
    """The address of a studio that runs, and the seconds until it printed it."""
    command = [sys.executable, "-m", "freeu", "ui", "--port", "0", "--threads", str(threads)]
    began = time.perf_counter()
    silent: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment(tree), **silent) as process:
        try:
            assert process.stdout is not None
            found = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)), None)
            if found is None:
                raise SystemExit("the studio did not start")
            yield found[0], time.perf_counter() - began
        finally:
            process.terminate()


def tune(page: Any, address: str) -> tuple[float, float]:
    """Seconds to the first pair of images of the studio, and from the first slider to the image that has all three."""
    page.goto(address, wait_until="domcontentloaded")
    page.locator("#generate").wait_for()
    page.wait_for_timeout(1_000)  # the server says in which language it goes on
    page.locator("#prompt textarea").fill(PROMPT)
    began = time.perf_counter()
    page.locator("#generate").click()
    page.locator("#said code").first.wait_for()
    first = time.perf_counter() - began
    began = time.perf_counter()
    for name, value in SLIDERS.items():
        box = page.locator(f"#{name} input[type=number]")
        box.fill(str(value))
        box.press("Tab")
    page.locator("#generate").click()
    for name, value in SLIDERS.items():
        page.locator("#said code", has_text=f"{name}={value:g}").first.wait_for()
    return first, time.perf_counter() - began


def opened(page: Any, file: Path) -> float:
    """Seconds until a browser shows a page with all of its images, none of them from elsewhere."""
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url))
    began = time.perf_counter()
    page.goto(file.as_uri())
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    seconds = time.perf_counter() - began
    others = [url for url in outside if not url.startswith(("data:", "blob:")) and url != file.as_uri()]
    if others:
        raise SystemExit(f"{file.name} asks for {others[0]}: it is not one file")
    return seconds


def one_round(tree: Path, folder: Path, checkpoint: Path, browser: Any, threads: int) -> dict[str, float]:
    """Every task once with the freeu of a checkout, in a folder of its own."""
    first, again, mine = (str(folder / name) for name in ("first", "again", "mine"))
    found: dict[str, float] = {}
    found["first image"], _ = freeu(tree, threads, "generate", PROMPT, "--output", first)
    found["first comparison of my own checkpoint"], _ = freeu(
        tree, threads, "compare", PROMPT, "--model", str(checkpoint), "--output", mine
    )
    (image,) = Path(first).glob("p*.png")
    sent = Path(first) / "manifest.json"
    if tree == HERE:
        sent = folder / "sent.png"
        shutil.copy(image, sent)  # the file alone, as it arrives by mail
    found["reproduce somebody's image"], said = freeu(tree, threads, "generate", "--from", str(sent), "--output", again)
    if "bit-identical" not in said:
        raise SystemExit(f"the image was not reproduced: {said}")
    with studio(tree, threads) as (address, started):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(600_000)
        found["the studio starts"] = started
        found["first pair in the studio"], found["tune three sliders"] = tune(page, address)
        page.close()
    letter = folder / "letter.html"
    began = time.perf_counter()
    shutil.copy(Path(mine) / "compare.html", letter)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    opened(page, letter)
    found["send a result to a colleague"] = time.perf_counter() - began
    page.close()
    found["kilobytes sent"] = letter.stat().st_size / 1000
    return found


HOW = {
    "first image": '1 command: `freeu generate "a 3d fox on a blue background"`',
    "first comparison of my own checkpoint": "1 command: `freeu compare PROMPT --model MODEL`",
    "reproduce somebody's image": "1 command: `freeu generate --from sent.png` (before: its `manifest.json` too)",
    "first pair in the studio": "`freeu ui`, a prompt and 1 click; the start of the studio is not counted",
    "tune three sliders": "3 sliders and 1 click; counted from the first slider",
    "send a result to a colleague": "no command: attach `compare.html`, one file; counted until a browser shows it",
}
"""What a user does, as the documentation says it."""


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def table(rounds: dict[str, list[dict[str, float]]]) -> list[str]:
    """The rows of docs/install.md."""
    columns = [rounds[name] for name in ("before", "after") if name in rounds]
    cells = {task: [spread([one[task] for one in column]) for column in columns] for task in HOW}
    return [f"| {task} | {how} | {' | '.join(cells[task])} |" for task, how in HOW.items()]


def commit(tree: Path) -> str:
    """The commit of a checkout."""
    words = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of each command (default: 2)")
    options = parser.parse_args()
    trees = ({"before": options.before.resolve()} if options.before else {}) | {"after": HERE}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        checkpoint = Path(folder) / "my-model"
        shutil.copytree(HERE / "zoo" / "src" / "freeu_zoo" / "models" / "mini-sd", checkpoint)
        for own in ("freeu.json", "freeu-zoo.json"):
            (checkpoint / own).unlink(missing_ok=True)  # a stranger's model has neither
        for number in range(options.rounds + 1):
            for name, tree in trees.items():
                work = Path(folder) / f"{name}-{number}"
                work.mkdir()
                rounds[name].append(one_round(tree, work, checkpoint, browser, options.threads))
                said = ", ".join(f"{task} {value:.1f}" for task, value in rounds[name][-1].items())
                print(f"round {number}, {name}: {said}", flush=True)
        browser.close()
    rounds = {name: found[1:] for name, found in rounds.items()}  # the first one compiles and reads from disk
    report = {
        "conditions": conditions() | {"threads": options.threads, "load": os.getloadavg()[2]},
        "commits": {name: commit(tree) for name, tree in trees.items()},
        "rounds": rounds,
        "table": table(rounds),
    }
    print("\n".join(report["table"]))
    print(f"written to {save('tasks', report)}")


if __name__ == "__main__":
    main()
