"""What a figure consists of, before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.evaluate.intervals import Estimate

FREQUENCY = "frequency"
"""The label of an axis of angular frequencies, 0 to pi."""
LEAST_PROMPTS = 5
"""Prompts below which no verdict is given: a bootstrap over fewer is too narrow to decide anything."""
AMPLITUDE = "log amplitude relative to frequency 0"


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Args:
        label: in the legend.
        x, y: of equal length.
        low, high: 95 % interval of ``y``, or None.
        shade: 0..1, the place of the line in an ordered family (steps, values of b), or None for a line of its own.
        dashed: for the second of a pair.
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
    """One picture or map of a grid.

    Args:
        pixels: (H, W, 3) uint8 for a picture, (H, W) float for a map.
        values: numbers that go with it.
    """

    pixels: NDArray[Any]
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_map(self) -> bool:
        return self.pixels.ndim == 2


@dataclass(frozen=True)
class Grid:
    """Pictures in rows and columns."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """One claim of the paper, put as a number whose sign decides.

    Args:
        claim: what the paper says.
        measure: what the number is.
        sign: 1 if the claim says that it is above 0, -1 if below.
        estimate: the number with its interval over prompts.
    """

    claim: str
    measure: str
    sign: int
    estimate: Estimate

    @property
    def answer(self) -> str:
        """ "agrees" or "disagrees" if the whole interval lies on one side of 0, else "undecided".

        Also undecided with fewer than ``LEAST_PROMPTS`` prompts.
        """
        low, high = self.estimate.low, self.estimate.high
        few = self.estimate.clusters < LEAST_PROMPTS
        if few or low is None or high is None or low <= 0.0 <= high:
            return "undecided"
        return "agrees" if (low > 0.0) == (self.sign > 0) else "disagrees"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = self.estimate
        return {
            "claim": self.claim,
            "measure": self.measure,
            "sign": self.sign,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "prompts": found.clusters,
            "answer": self.answer,
        }


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, made anew.

    Args:
        number: in the paper.
        title: a line.
        shows: what is to be seen.
        claim: what the paper concludes from its own.
        content: panels and grids in order.
        verdicts: the numbers that decide.
    """

    number: int
    title: str
    shows: str
    claim: str
    content: tuple[Panel | Grid, ...]
    verdicts: tuple[Verdict, ...] = ()


def as_pixels(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Values 0..1 as bytes; what lies outside is cut off."""
    return np.asarray(np.round(np.clip(values, 0.0, 1.0) * 255.0), dtype=np.uint8)
