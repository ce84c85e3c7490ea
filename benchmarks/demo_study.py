"""A complete study with simulated raters over HTTP: a demonstration of the software, never evidence about people.

    python -m freeu_zoo.prompts prompts.jsonl --count 24
    freeu compare --prompts prompts.jsonl --output pairs
    freeu study new pairs --demonstration --raters 24 --pairs-per-rater 16 --checks 2 --output study
    python benchmarks/demo_study.py study

The raters are programs that do what a browser does: they fetch the state and both images, and answer from the pixels.
For alignment the embedded judge compares each image with the prompt (CLIP score). For quality it takes the best score
among many captions, a measure of how clearly the image shows something that the judge knows. Raters add noise of their
own and a position bias to the left; one in eight is a spammer, who answers at once. Response times are reported, not
waited for.

    python benchmarks/demo_study.py study --screenshots docs/images

takes the screenshots of the documentation instead: the voting page of this study, and the report of
``results/study-demonstration/results.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import freeu_zoo
import httpx
import numpy as np
from PIL import Image

from freeu.evaluate import CLIP
from freeu.study.plan.folder import StudyFolder
from freeu.study.results.report import make_report

RESULTS = Path(__file__).parent / "results" / "study-demonstration" / "results.json"
NOISE, LEFT = 4.0, 0.5
"""Standard deviation of the noise and position bias of a rater, in points of the CLIP score (0..100)."""
SPAMMERS = 8
"""One of so many raters is a spammer."""
HEIGHT = 850
"""Of the screenshots of the voting page, in pixels."""


class Scorer:
    """The embedded judge; equal files are scored once."""

    def __init__(self, captions: list[str]) -> None:
        self._clip = CLIP(freeu_zoo.judge_path())
        self._captions = captions
        self._texts = self._clip.text_features(captions)
        self._scores: dict[bytes, np.ndarray] = {}
        self._lock = threading.Lock()

    def scores(self, png: bytes) -> np.ndarray:
        """100 times the cosine similarity of an image with each caption."""
        with self._lock:
            if png not in self._scores:
                with Image.open(io.BytesIO(png)) as image:
                    features = self._clip.image_features([image.convert("RGB")])[0]
                self._scores[png] = 100.0 * self._texts @ features
            return self._scores[png]

    def score(self, png: bytes, question: str, prompt: str) -> float:
        """The score of an image for a question."""
        scores = self.scores(png)
        return float(scores[self._captions.index(prompt)] if question == "alignment" else scores.max())


@dataclass
class Rater:
    """A simulated rater with a session of their own."""

    client: httpx.Client
    number: int

    def __post_init__(self) -> None:
        self.dice = random.Random(self.number)
        self.spammer = self.number % SPAMMERS == SPAMMERS - 1

    def join(self) -> Any:
        """Give consent and return the first state."""
        token = re.search(r'name="csrf" value="(\w+)"', self.client.get("/").text)
        assert token
        self.client.post("/start", data={"csrf": token[1], "consent": "yes"}).raise_for_status()
        csrf = re.search(r'data-csrf="(\w+)"', self.client.get("/vote").text)
        assert csrf
        self.client.headers["x-csrf-token"] = csrf[1]
        return self.client.get("/api/state").json()

    def answer(self, task: dict[str, Any], questions: dict[str, str], scorer: Scorer) -> tuple[str, float]:
        """The chosen side and the response time in seconds."""
        left, right = (self.client.get(f"/media/{task[side]}").raise_for_status().content for side in ("left", "right"))
        if self.spammer:
            return self.dice.choice(("left", "right")), self.dice.uniform(0.2, 0.6)
        question = questions[task["question"]]
        scores = [scorer.score(png, question, task["prompt"]) for png in (left, right)]
        difference = scores[0] - scores[1] + LEFT + self.dice.gauss(0.0, NOISE)
        return "left" if difference > 0.0 else "right", self.dice.lognormvariate(1.3, 0.4)

    def vote(self, questions: dict[str, str], scorer: Scorer) -> int:
        """Answer every task; the number of acknowledged answers."""
        state, given = self.join(), 0
        while (task := state["task"]) is not None:
            choice, seconds = self.answer(task, questions, scorer)
            body = {"task": task["task"], "revision": task["revision"], "choice": choice, "seconds": seconds}
            # Programs vote faster than the rate limit allows.
            while (reply := self.client.post("/api/vote", json=body)).status_code == 429:
                time.sleep(float(reply.headers["retry-after"]))
            state = reply.raise_for_status().json()["state"]
            given += 1
        return given


@contextlib.contextmanager
def serving(study: Path) -> Iterator[str]:
    """Serve a study in a process of its own; its address."""
    command = [sys.executable, "-m", "freeu", "study", "serve", str(study), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found, "the server did not start"
        yield found[0]
    finally:
        server.terminate()
        server.wait(30)


def vote(study: StudyFolder) -> int:
    """Let the raters of a study vote; the number of their answers."""
    plan = study.plan
    scorer = Scorer(list(plan.prompts))
    questions = {question.text["en"]: question.name for question in plan.questions}
    with serving(study.path) as address:

        def take_part(number: int) -> int:
            headers = {"accept-language": "en"}
            with httpx.Client(base_url=address, headers=headers, follow_redirects=True, timeout=60) as client:
                return Rater(client, number).vote(questions, scorer)

        with ThreadPoolExecutor(8) as crowd:
            return sum(crowd.map(take_part, range(plan.raters)))


def take_screenshots(study: Path, folder: Path) -> None:
    """Write study-vote.png and study-report.png for the documentation. The study itself gets no rater.

    Args:
        study: folder of a study.
        folder: where the PNG files go.
    """
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        copy = Path(shutil.copytree(study, Path(name) / "study"))
        address = stack.enter_context(serving(copy))
        chromium = stack.enter_context(sync_playwright()).chromium
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = chromium.launch(executable_path=path, args=["--no-sandbox"])
        stack.callback(browser.close)
        shots = []
        for width, language in ((1000, "en"), (390, "zh-CN")):
            page = browser.new_page(viewport={"width": width, "height": HEIGHT}, locale=language, has_touch=width < 500)
            page.goto(address)
            page.locator("[name=consent]").check()
            page.locator("button.primary").click()
            page.wait_for_selector("[data-ready]")
            shots.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        both = Image.new("RGB", (sum(shot.width for shot in shots) + 24, HEIGHT), "#dcdce2")
        both.paste(shots[0], (0, 0))
        both.paste(shots[1], (shots[0].width + 24, 0))
        both.save(folder / "study-vote.png", optimize=True)
        report_image(browser).save(folder / "study-report.png", optimize=True)


def report_image(browser: Any) -> Image.Image:
    """The top of the report of ``results/study-demonstration/results.json``, in full colour."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.html"
        report.write_text(make_report(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(report.as_uri())
        return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study made with --demonstration")
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="take the screenshots of the documentation")
    options = parser.parse_args()
    study = StudyFolder.open(options.study)
    if not study.plan.demonstration:
        raise SystemExit("this study is for human raters: make one with freeu study new --demonstration")
    if options.screenshots:
        take_screenshots(study.path, options.screenshots)
        return
    print(f"{study.plan.raters} simulated raters gave {vote(study)} answers: freeu study results {options.study}")


if __name__ == "__main__":
    main()
