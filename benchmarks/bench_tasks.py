"""What five tasks of a user take: commands or clicks, and seconds, on the embedded model.

    python benchmarks/bench_tasks.py [--rounds 5] [--threads 2]

Each command is a fresh process; seconds run from its start to its end, so they hold imports and the loading of the
model. "My own checkpoint" is the embedded model in a folder elsewhere, without what it says of itself; its autoencoder
has no place in a single file of Stable Diffusion. The sliders are those of the studio in a headless Chromium, from the
first one touched to the new image; the start of the studio is a number of its own. Writes results/tasks.json.
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
SLIDERS = {"b1": 1.1, "s1": 0.7, "end": 0.8}


def freeu(threads: int, *words: str) -> tuple[float, str]:
    """Seconds of a command, and what it printed."""
    command = [sys.executable, "-m", "freeu", *words, "--threads", str(threads)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return seconds, done.stdout


@contextlib.contextmanager
def studio(threads: int) -> Iterator[tuple[str, float]]:
    """The address of a studio that runs, and the seconds until it printed it."""
    command = [sys.executable, "-m", "freeu", "ui", "--port", "0", "--threads", str(threads)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                raise SystemExit("the studio did not start")
            yield found[0], time.perf_counter() - began
        finally:
            process.terminate()


def tune(page: Any, address: str) -> tuple[float, float]:
    """Seconds to the first pair of images of the studio, and from the first slider to the image that has all three."""
    page.goto(address, wait_until="domcontentloaded")
    page.locator("#gallery").wait_for()
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


def one_round(folder: Path, checkpoint: Path, browser: Any, threads: int) -> dict[str, float]:
    """Every task once, in a folder of its own."""
    first, again, mine = (str(folder / name) for name in ("first", "again", "mine"))
    found: dict[str, float] = {}
    found["first image"], _ = freeu(threads, "generate", PROMPT, "--output", first)
    found["first comparison of my own checkpoint"], _ = freeu(
        threads, "compare", PROMPT, "--model", str(checkpoint), "--output", mine
    )
    (image,) = Path(first).glob("p*.png")
    sent = folder / "sent.png"
    shutil.copy(image, sent)  # the file alone, as it arrives by mail
    found["reproduce somebody's image"], said = freeu(threads, "generate", "--from", str(sent), "--output", again)
    if "bit-identical" not in said:
        raise SystemExit(f"the image was not reproduced: {said}")
    with studio(threads) as (address, started):
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
    "first image": '`freeu generate "a 3d fox on a blue background"`',
    "first comparison of my own checkpoint": '`freeu compare "a 3d fox on a blue background" --model MODEL`',
    "reproduce somebody's image": "`freeu generate --from sent.png`: the image alone is enough",
    "tune three sliders": "`freeu ui`, three sliders and a click on *Generate*; counted from the first slider",
    "send a result to a colleague": "no command: attach `compare.html`, one file; counted until a browser shows it",
}
"""What a user does, as the documentation says it."""


def table(medians: dict[str, float]) -> list[str]:
    """The rows of docs/install.md."""
    return [f"| {task} | {how} | {medians[task]:.1f} |" for task, how in HOW.items()]


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of each command (default: 2)")
    options = parser.parse_args()
    import freeu_zoo

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        checkpoint = Path(name) / "my-model"
        shutil.copytree(freeu_zoo.model_path(), checkpoint)
        for own in ("freeu.json", "freeu-zoo.json"):
            (checkpoint / own).unlink(missing_ok=True)  # a stranger's model has neither
        rounds = []
        for number in range(options.rounds + 1):
            folder = Path(name) / str(number)
            folder.mkdir()
            rounds.append(one_round(folder, checkpoint, browser, options.threads))
            print(f"round {number}: " + ", ".join(f"{task} {value:.1f}" for task, value in rounds[-1].items()))
        browser.close()
    rounds = rounds[1:]  # the first one compiles the files and reads them from disk
    medians = {task: statistics.median(one[task] for one in rounds) for task in rounds[0]}
    report = {
        "conditions": conditions() | {"threads": options.threads, "load": os.getloadavg()[2]},
        "rounds": rounds,
        "medians": medians,
        "table": table(medians),
    }
    print("\n".join(report["table"]))
    print(f"written to {save('tasks', report)}")


if __name__ == "__main__":
    main()
