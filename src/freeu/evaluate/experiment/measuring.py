"""Generate and score in memory, for searches, which need the scores of thousands of images and not the images."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from freeu.evaluate.experiment.arms import Arm
from freeu.evaluate.experiment.experiment import arm_plan
from freeu.evaluate.experiment.plugged import metric_values, open_metric, plugged_metrics
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import Judges, Values, caption_features, score_images
from freeu.pipelines.models.loading import quiet
from freeu.pipelines.runs.generate import generate_images
from freeu.pipelines.runs.plan import PlannedImage
from freeu.pipelines.runs.prepare import Prepared
from freeu.pipelines.runs.run import deterministic

Pair = tuple[int, int]
"""The number of a prompt, and a seed."""


@dataclass
class Measurer:
    """Measures arms on any prompts and seeds; the same pair has the same noise under every arm.

    Args:
        prepared: the pipeline, and the plan whose settings an arm changes.
        prompts: by number, with what they ask for.
        judges: what scores.
    """

    prepared: Prepared
    prompts: tuple[Prompt, ...]
    judges: Judges

    def __post_init__(self) -> None:
        self._captions = caption_features(self.prompts, self.judges)
        metrics = plugged_metrics(self.judges.metrics, matches=False)
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
        while together := tuple(itertools.islice(todo, plan.batch)):
            batch = [PlannedImage(number, self.prompts[number].text, seed, plan.arms[0]) for number, seed in together]
            images = [image for image, _ in generate_images(self.prepared.loaded.pipe, plan, batch)]
            numbers = [number for number, _ in together]
            found = score_images(images, numbers, self.prompts, self.judges, self._captions)
            texts = [self.prompts[number].text for number in numbers]
            for name, score in self._metrics:
                for row, value in zip(found.rows, metric_values(score, images, texts, None), strict=True):
                    row[name] = None if isinstance(value, str) else value
            yield list(zip(together, found.rows, strict=True))

    def values(self, arm: Arm, pairs: Sequence[Pair]) -> dict[Pair, Values]:
        """The values of all of them."""
        return dict(one for block in self.blocks(arm, pairs) for one in block)
