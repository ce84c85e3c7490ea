"""Generate and score in memory, for searches, which need the scores of thousands of images or videos and not these."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from freeu.evaluate.experiment.arms import Arm
from freeu.evaluate.experiment.experiment import arm_plan
from freeu.evaluate.experiment.plugged import metric_values, open_metric, plugged_metrics
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import Judges, Values, caption_features, score_images
from freeu.evaluate.experiment.video_scoring import measure_video, score_video
from freeu.pipelines.io.output import OutputFolder
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.runs.executors import Batch, Executor, Made, Silent, Work
from freeu.pipelines.runs.generate import generate_frames, generate_images
from freeu.pipelines.runs.manifest import environment
from freeu.pipelines.runs.plan import Plan, PlannedImage
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import ImageMaker, Produced, deterministic

if TYPE_CHECKING:
    from PIL.Image import Image

Pair = tuple[int, int]
"""The number of a prompt, and a seed."""


@dataclass
class Measurer:
    """Measures arms on any prompts and seeds; the same pair has the same noise under every arm.

    Args:
        prepared: the pipeline, and the plan whose settings an arm changes.
        prompts: by number, with what they ask for.
        judges: what scores.
        executor: where images are generated; None is this process, which scores them in any case. Videos are generated
            here.
    """

    prepared: Prepared
    prompts: tuple[Prompt, ...]
    judges: Judges
    executor: Executor | None = None

    def __post_init__(self) -> None:
        self._captions = caption_features(self.prompts, self.judges)
        videos = self.prepared.plan.frames is not None
        metrics = plugged_metrics(self.judges.metrics, videos=videos, matches=False)
        self._metrics = [(metric.name, open_metric(metric)) for metric in metrics]

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """The settings of torch under which everything is generated, for the length of a ``with`` block."""
        plan = self.prepared.plan
        with quiet(), deterministic(plan.device, plan.threads):
            yield

    def blocks(self, arm: Arm, pairs: Sequence[Pair]) -> Iterator[list[tuple[Pair, Values]]]:
        """Generate and score, one call of the pipeline at a time.

        Args:
            arm: with its settings known, not recommended or calibrated.
            pairs: in the order in which they are wanted.

        Yields:
            the values of some images by measure.
        """
        plan = arm_plan(self.prepared.loaded, self.prepared.plan, arm)
        todo = iter(pairs)
        calls = []
        while together := tuple(itertools.islice(todo, plan.batch)):
            calls.append(
                tuple(PlannedImage(number, self.prompts[number].text, seed, plan.arms[0]) for number, seed in together)
            )
        scored = self._scored_images if plan.frames is None else self._scored_videos
        for batch, rows in scored(plan, tuple(calls)):
            yield [((one.index, one.seed), row) for one, row in zip(batch, rows, strict=True)]

    def _scored_images(self, plan: Plan, calls: tuple[Batch, ...]) -> Iterator[tuple[Batch, list[Values]]]:
        for batch, images in self._generated(plan, calls):
            numbers = [one.index for one in batch]
            found = score_images(images, numbers, self.prompts, self.judges, self._captions)
            texts = [one.prompt for one in batch]
            for name, score in self._metrics:
                for row, value in zip(found.rows, metric_values(score, images, texts, None), strict=True):
                    row[name] = None if isinstance(value, str) else value
            yield batch, found.rows

    def _scored_videos(self, plan: Plan, calls: tuple[Batch, ...]) -> Iterator[tuple[Batch, list[Values]]]:
        for batch in calls:
            rows = []
            for one in batch:
                frames, _ = generate_frames(self.prepared.loaded.pipe, plan, one)
                found = measure_video(map(np.asarray, frames), self.judges)
                rows.append(score_video(found, one.index, self.prompts, self._captions)[0])
            yield batch, rows

    def _generated(self, plan: Plan, calls: tuple[Batch, ...]) -> Iterator[tuple[Batch, list[Image]]]:
        """The images of each call of the pipeline, in the order of the calls; those that nobody asks for are not made.

        An executor may be a few calls ahead.
        """
        if self.executor is None:
            for batch in calls:
                yield batch, [image for image, _ in generate_images(self.prepared.loaded.pipe, plan, batch)]
            return
        maker = _InMemory()
        made_with = environment(plan.device)
        work = Work(Prepared(plan, self.prepared.loaded), maker, OutputFolder(Path()), calls, made_with, Silent())
        there: set[Batch] = set()
        with contextlib.closing(self.executor.results(work)) as results:  # type: ignore[type-var]
            for batch in calls:
                while batch not in there:
                    there.add(next(results)[0])
                yield batch, [maker.images.pop(planned) for planned in batch]

    def values(self, arm: Arm, pairs: Sequence[Pair]) -> dict[Pair, Values]:
        """The values of all of them."""
        return dict(one for block in self.blocks(arm, pairs) for one in block)


class _InMemory(ImageMaker):
    """Keeps the images that an executor made, and writes none."""

    def __init__(self) -> None:
        self.images: dict[PlannedImage, Image] = {}

    def write(self, output: OutputFolder, planned: PlannedImage, one: Produced) -> Made:
        from PIL import Image

        with Image.open(io.BytesIO(one.png)) as image:
            self.images[planned] = image.convert("RGB")
        return one.made
