"""Score images by metrics that are plugged in: whatever one of them raises costs the values of its images alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError, one_line
from freeu.evaluate.experiment.prompts import Prompt
from freeu.evaluate.experiment.scoring import AT_ONCE, Sample, Values
from freeu.evaluate.metrics.plugins.metric import Metric, Score, as_metric
from freeu.pipelines.io.inputs import open_image
from freeu.wording import counted

if TYPE_CHECKING:
    from PIL.Image import Image

COMPARES = "image and reference"
"""What a metric sees that needs the matching real image."""


@dataclass(frozen=True)
class Failure:
    """An image that a metric gave no value for: its arm and file, the metric, and why."""

    arm: str
    file: Path
    metric: str
    error: str


def plugged_metrics(
    given: Sequence[Any], taken: Sequence[str] = (), *, videos: bool = False, matches: bool = True
) -> tuple[Metric, ...]:
    """Metrics, or callables as metrics, each of a name of its own.

    Args:
        given: see ``as_metric``.
        taken: names of measures that there are anyway.
        videos: whether videos are scored, for which there are no such metrics.
        matches: whether there is a real image of each prompt.

    Raises:
        FreeUValueError: a name that is given twice or taken, a metric that does not fit what is scored, or what
            ``as_metric`` refuses.
    """
    found: dict[str, Metric] = {}
    for metric in map(as_metric, given):
        if metric.name in found or metric.name in taken:
            raise FreeUValueError(
                f"the metric {metric.name!r} has the name of another measure: give it a name of its own"
            )
        if videos:
            raise FreeUValueError(f"the metric {metric.name} scores images, and these are videos: leave it out")
        if metric.sees == COMPARES and not matches:
            raise FreeUValueError(
                f"the metric {metric.name} compares each image with its real one: "
                "give --reference DIR and --reference-matches"
            )
        found[metric.name] = metric
    return tuple(found.values())


def score_plugged(
    metrics: Sequence[Metric],
    arms: Mapping[str, Sequence[Sample]],
    rows: Mapping[str, Sequence[Values]],
    prompts: Sequence[Prompt],
    references: Sequence[Path] = (),
    *,
    say: Callable[[str], None] = lambda _: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Failure]:
    """Score every image of every arm by every metric, one metric after the other.

    Args:
        metrics: one that sees a reference skips an arm that holds nothing else.
        arms: their images.
        rows: the values of those images, which are added to: None where a metric gives none.
        prompts: by number.
        references: the real image of each prompt; empty if there are none.
        say: called with what is being done.
        report: called with how many images this metric has scored, and of how many.

    Raises:
        FreeUValueError: an image that cannot be read, or a metric whose weights cannot be loaded.
    """
    failures: list[Failure] = []
    for metric in metrics:
        compares = metric.sees == COMPARES
        done, total = 0, sum(len(samples) for samples in arms.values())
        say(f"loading {metric.name}")
        score = open_metric(metric)
        for arm, samples in arms.items():
            if not samples or (compares and all(one.path == references[one.prompt] for one in samples)):
                continue
            say(f"scoring {arm} by {metric.name}")
            for start in range(0, len(samples), AT_ONCE):
                block = samples[start : start + AT_ONCE]
                images = [open_image(one.path) for one in block]
                texts = [prompts[one.prompt].text for one in block]
                real = [open_image(references[one.prompt]) for one in block] if compares else None
                own = rows[arm][start : start + AT_ONCE]
                for one, row, found in zip(block, own, metric_values(score, images, texts, real), strict=True):
                    if isinstance(found, str):
                        failures.append(Failure(arm, one.path, metric.name, found))
                    row[metric.name] = None if isinstance(found, str) else found
                done += len(block)
                report(done, total)
    return failures


def open_metric(metric: Metric) -> Score:
    """What scores; a metric whose weights cannot be loaded raises ``FreeUValueError``."""
    try:
        return metric.open()
    except FreeUValueError:
        raise
    except Exception as error:  # whatever another package runs
        raise FreeUValueError(f"the metric {metric.name} cannot be loaded: {one_line(error)}") from None


def metric_values(
    score: Score, images: list[Image], prompts: list[str], references: list[Image] | None
) -> Iterator[float | str]:
    """A value for each image, or why there is none. A batch that fails is scored again image by image."""
    try:
        yield from _scored(score, images, prompts, references)
    except Exception as error:  # whatever a user's function raises
        if len(images) == 1:
            yield one_line(error)
            return
        for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            yield from metric_values(score, [image], [prompt], references and [references[index]])


def _scored(score: Score, images: list[Image], prompts: list[str], references: list[Image] | None) -> list[float | str]:
    # Copies: a function that draws on an image must not change what the next one sees.
    copies = [image.copy() for image in images]
    values = list(score(copies, prompts) if references is None else score(copies, prompts, references))
    if len(values) != len(images):
        raise FreeUValueError(f"it gave {counted(len(values), 'value')} for {counted(len(images), 'image')}")
    numbers = [float(value) for value in values]
    return [number if math.isfinite(number) else f"it gave {number}" for number in numbers]
