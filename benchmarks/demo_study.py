"""A whole study with simulated raters, over HTTP: a demonstration of the software, never evidence about people.

    python -m freeu_zoo.prompts prompts.jsonl --count 24
    freeu compare --prompts prompts.txt --output pairs     # prompts.txt: the prompts of that file, one a line
    freeu study new pairs --demonstration --raters 24 --pairs-per-rater 16 --checks 2 --output study
    python benchmarks/demo_study.py study

The raters are programs that do what a browser does: they fetch the page's state and both pictures, and answer from the
pixels that they were sent. For alignment the embedded judge compares each picture with the prompt (CLIP score), for
quality it tells how clearly the picture shows anything that it knows (the best score among many captions). What they
see is blurred by noise of their own and a slight liking for the left; one in eight is a spammer, who clicks at once.
The time that an answer takes is told, not waited for.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import subprocess
import sys
import threading
import time
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

NOISE, LEFT = 4.0, 0.5
"""Of what a rater sees, in points of the CLIP score (0..100)."""
SPAMMERS = 8
"""Every so-many-th rater clicks at once."""


class Eyes:
    """The embedded judge; equal files are looked at once."""

    def __init__(self, captions: list[str]) -> None:
        self._clip = CLIP(freeu_zoo.judge_path())
        self._captions = captions
        self._texts = self._clip.text_features(captions)
        self._scores: dict[bytes, np.ndarray] = {}
        self._lock = threading.Lock()

    def look(self, png: bytes) -> np.ndarray:
        """100 times the cosine of a picture with each caption."""
        with self._lock:
            if png not in self._scores:
                with Image.open(io.BytesIO(png)) as picture:
                    features = self._clip.picture_features([picture.convert("RGB")])[0]
                self._scores[png] = 100.0 * self._texts @ features
            return self._scores[png]

    def score(self, png: bytes, question: str, prompt: str) -> float:
        """How well a picture does by a question."""
        scores = self.look(png)
        return float(scores[self._captions.index(prompt)] if question == "alignment" else scores.max())


@dataclass
class Rater:
    """One simulated rater with a browser's session."""

    client: httpx.Client
    number: int

    def __post_init__(self) -> None:
        self.dice = random.Random(self.number)
        self.spammer = self.number % SPAMMERS == SPAMMERS - 1

    def join(self) -> Any:
        """Give consent; the first state."""
        token = re.search(r'name="csrf" value="(\w+)"', self.client.get("/").text)
        assert token
        self.client.post("/start", data={"csrf": token[1], "consent": "yes"}).raise_for_status()
        csrf = re.search(r'data-csrf="(\w+)"', self.client.get("/vote").text)
        assert csrf
        self.client.headers["x-csrf-token"] = csrf[1]
        return self.client.get("/api/state").json()

    def answer(self, task: dict[str, Any], questions: dict[str, str], eyes: Eyes) -> tuple[str, float]:
        """The side that looks better, and the seconds that the answer takes."""
        left, right = (self.client.get(f"/media/{task[side]}").raise_for_status().content for side in ("left", "right"))
        if self.spammer:
            return self.dice.choice(("left", "right")), self.dice.uniform(0.2, 0.6)
        question = questions[task["question"]]
        scores = [eyes.score(png, question, task["prompt"]) for png in (left, right)]
        seen = scores[0] - scores[1] + LEFT + self.dice.gauss(0.0, NOISE)
        return "left" if seen > 0.0 else "right", self.dice.lognormvariate(1.3, 0.4)

    def vote(self, questions: dict[str, str], eyes: Eyes) -> int:
        """Answer everything; how many answers were acknowledged."""
        state, given = self.join(), 0
        while (task := state["task"]) is not None:
            choice, seconds = self.answer(task, questions, eyes)
            body = {"task": task["task"], "revision": task["revision"], "choice": choice, "seconds": seconds}
            while (reply := self.client.post("/api/vote", json=body)).status_code == 429:  # faster than people may be
                time.sleep(float(reply.headers["retry-after"]))
            state = reply.raise_for_status().json()["state"]
            given += 1
        return given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study made with --demonstration")
    options = parser.parse_args()
    plan = StudyFolder.open(options.study).plan
    if not plan.demonstration:
        raise SystemExit("this study is meant for people: make one with freeu study new --demonstration")
    eyes = Eyes(list(plan.prompts))
    questions = {question.text["en"]: question.name for question in plan.questions}
    command = [sys.executable, "-m", "freeu", "study", "serve", str(options.study), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found, "the server did not start"

        def take_part(number: int) -> int:
            headers = {"accept-language": "en"}
            with httpx.Client(base_url=found[0], headers=headers, follow_redirects=True, timeout=60) as client:
                return Rater(client, number).vote(questions, eyes)

        with ThreadPoolExecutor(8) as crowd:
            given = sum(crowd.map(take_part, range(plan.raters)))
        print(f"{plan.raters} simulated raters gave {given} answers: freeu study results {options.study}")
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
