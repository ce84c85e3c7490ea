"""The images of pairs, generated ahead in a thread while a person looks at those before."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from freeu.errors import FreeUError, FreeURuntimeError
from freeu.evaluate.experiment.experiment import arm_plan
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.runs.generate import generate_images
from freeu.pipelines.runs.plan import PlannedImage
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import deterministic, png
from freeu.tuning.votes.ballots import SEARCH, Pair
from freeu.tuning.votes.search import VoteSearch
from freeu.tuning.votes.space import Settings

AHEAD = 3
"""Pairs that are ready or being made."""
WAIT_S = 0.5
"""How often the thread looks for something to do where nobody wakes it."""


class PairImages:
    """Makes the images of the pairs that come next, for the length of a ``with`` block.

    Files are PNGs without their settings, under names that say nothing of them: the vote is blind.

    Args:
        search: whose pairs.
        prepared: the pipeline, and the plan whose settings an arm changes.
        prompts: by number.
        folder: where the files are; those that are there are kept.
        negatives: the negative prompt of each, or () where all have that of the plan.
    """

    def __init__(
        self,
        search: VoteSearch,
        prepared: Prepared,
        prompts: Sequence[str],
        folder: Path,
        negatives: Sequence[str] = (),
    ) -> None:
        # Those that are held out are not among the prompts of the plan.
        plan = replace(prepared.plan, prompts=tuple(prompts), negatives=tuple(negatives))
        self._search, self._prepared, self._prompts = search, replace(prepared, plan=plan), prompts
        self._output = OutputFolder(folder)
        self._awake = threading.Event()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="freeu-pair-images", daemon=True)
        self.failure: FreeUError | None = None
        """What ended the thread before its time."""
        self.when_failed: Callable[[], None] = lambda: None

    def __enter__(self) -> PairImages:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._awake.set()
        self._thread.join()

    def path(self, pair: Pair, side: str) -> Path:
        """The file of the image on the left or right, whether or not it is there yet."""
        return self._path(pair, pair.left if side == "left" else pair.right)

    def ready(self, pair: Pair) -> bool:
        """Whether both images are there."""
        return all(self.path(pair, side).is_file() for side in ("left", "right"))

    def wake(self) -> None:
        """Look for pairs to make at once: a vote was given."""
        self._awake.set()

    def _path(self, pair: Pair, settings: Settings) -> Path:
        what = json.dumps([dict(settings), pair.prompt, pair.seed], sort_keys=True)
        return self._output.path / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.png"

    def _run(self) -> None:
        plan = self._prepared.plan
        try:
            with quiet(), deterministic(plan.device, plan.threads):
                while not self._ends:
                    self._awake.clear()
                    pair = next((one for one in self._search.ahead(AHEAD) if not self.ready(one)), None)
                    if pair is None:
                        self._awake.wait(WAIT_S)
                    else:
                        self._make(pair)
        except FreeUError as error:
            self.failure = error
            self.when_failed()

    def _make(self, pair: Pair) -> None:
        for settings in (pair.first, pair.second):
            path = self._path(pair, settings)
            if path.is_file() or self._ends:
                continue
            plan = arm_plan(self._prepared.loaded, self._prepared.plan, self._search.space.arm(settings))
            planned = PlannedImage(pair.prompt, self._prompts[pair.prompt], pair.seed, plan.arms[0])
            try:
                ((image, _),) = generate_images(self._prepared.loaded.pipe, plan, (planned,))
            except FreeURuntimeError:
                # Numbers that are not finite, by these settings. In the verdict there is nothing else to show.
                if pair.stage != SEARCH or plan.config is None:
                    raise
                self._search.drop(pair.id)
                return
            self._output.write(path.name, png(image))
