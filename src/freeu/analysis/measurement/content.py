"""The parts of a figure as data: lines, grids of images, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.intervals import Estimate, mean_interval, paired_interval

FREQUENCY = "frequency"
"""The label of an axis of angular frequencies, 0 to pi."""
LEAST_PROMPTS = 5
"""Fewest prompts with which a verdict is decided: bootstrap intervals over fewer are too narrow."""
INTERVAL = "expanded"
"""Kind of the verdicts' intervals: plain percentiles over a few prompts cover far less than the nominal 95 %."""
AMPLITUDE = "log amplitude relative to frequency 0"


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Args:
        label: in the legend.
        x, y: of equal length.
        low, high: 95 % interval of ``y``, or None.
        shade: 0..1, position of the line in an ordered family (steps, values of b), or None for an unrelated line.
        dashed: whether it is dashed, as the second of a pair.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    shade: float | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines over two axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Cell:
    """One image or map of a grid.

    Args:
        pixels: (H, W, 3) uint8 for an image, (H, W) float for a map.
        values: statistics of the image by name.
    """

    pixels: NDArray[Any]
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_map(self) -> bool:
        return self.pixels.ndim == 2


@dataclass(frozen=True)
class Grid:
    """Images in rows and columns."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """One claim of the paper, tested by the sign of a number.

    Args:
        claim: what the paper says.
        measure: what the number is.
        sign: 1 if the claim predicts a number above 0, -1 if below.
        values: the number for each image.
        clusters: the prompt of each image.
    """

    claim: str
    measure: str
    sign: int
    values: tuple[float, ...]
    clusters: tuple[int, ...]

    @cached_property
    def estimate(self) -> Estimate:
        """The mean with its 95 % interval over prompts."""
        return mean_interval(self.values, self.clusters, method=INTERVAL)

    @property
    def answer(self) -> str:
        """ "agrees" or "disagrees" if the whole interval lies on one side of 0, else "undecided".

        Also undecided with fewer than ``LEAST_PROMPTS`` prompts.
        """
        side = _side(self.estimate)
        return "undecided" if side == 0 else "agrees" if side == self.sign else "disagrees"

    def beyond(self, baseline: Verdict) -> tuple[Estimate, str]:
        """Compare the number with that of a network with random weights, prompt by prompt.

        Args:
            baseline: the same verdict of the random network over the same prompts and seeds.

        Returns:
            the number minus the baseline's, and what it means: "beyond noise" if this verdict is decided and the whole
            interval of the difference lies on the same side of 0 as the number; "no evidence" if it is decided but the
            difference is not on that side, so that random weights give as much; "undecided" if the verdict is.
        """
        difference = paired_interval(self.values, baseline.values, self.clusters, method=INTERVAL)
        side = _side(self.estimate)
        if side == 0:
            return difference, "undecided"
        return difference, "beyond noise" if _side(difference) == side else "no evidence"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "claim": self.claim,
            "measure": self.measure,
            "sign": self.sign,
            **estimate_dict(self.estimate),
            "answer": self.answer,
            "values": list(self.values),
            "prompt_of_each": list(self.clusters),
        }


def estimate_dict(found: Estimate) -> dict[str, Any]:
    """An estimate as plain data for JSON."""
    return {"value": found.value, "low": found.low, "high": found.high, "prompts": found.clusters}


def _side(found: Estimate) -> int:
    """1 or -1 if the whole interval lies above or below 0 and there are enough prompts, else 0."""
    if found.clusters < LEAST_PROMPTS or found.low is None or found.high is None:
        return 0
    return int(found.low > 0.0) - int(found.high < 0.0)


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, reproduced on another model.

    Args:
        number: in the paper.
        title: one line.
        shows: what is plotted.
        claim: what the paper concludes from its figure.
        content: panels and grids in order.
        verdicts: tests of the claim.
    """

    number: int
    title: str
    shows: str
    claim: str
    content: tuple[Panel | Grid, ...]
    verdicts: tuple[Verdict, ...] = ()


def compare_verdicts(
    figures: Iterable[Figure], baseline: Iterable[Figure]
) -> Iterator[tuple[Figure, Verdict, Verdict | None]]:
    """Each verdict with its figure, and the same verdict of a random baseline if there is one.

    Args:
        figures: of the model.
        baseline: the same figures with random weights, as of ``make_figures`` within ``random_unet``; may be empty.

    >>> import freeu, freeu_zoo
    >>> from diffusers import StableDiffusionPipeline
    >>> pipe = StableDiffusionPipeline.from_pretrained(freeu_zoo.model_path())
    >>> pipe.set_progress_bar_config(disable=True)
    >>> from freeu import analysis
    >>> small = {"steps": 2, "width": 64, "height": 64}
    >>> figures = analysis.make_figures(pipe, ["a 3d fox on a blue background"], [4], **small)
    >>> with analysis.random_unet(pipe):
    ...     baseline = analysis.make_figures(pipe, ["a 3d fox on a blue background"], [4], **small)
    >>> for figure, verdict, random in compare_verdicts(figures, baseline):
    ...     print(figure.number, verdict.claim, verdict.answer, random.answer)
    4 High frequencies fall. undecided undecided
    """
    others = {(figure.number, verdict.measure): verdict for figure in baseline for verdict in figure.verdicts}
    for figure in figures:
        for verdict in figure.verdicts:
            yield figure, verdict, others.get((figure.number, verdict.measure))


def minus(values: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """Differences, image by image."""
    return tuple(float(a - b) for a, b in zip(values, others, strict=True))


def as_pixels(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Values 0..1 as bytes; values outside are clipped."""
    return np.asarray(np.round(np.clip(values, 0.0, 1.0) * 255.0), dtype=np.uint8)
