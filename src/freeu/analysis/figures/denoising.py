"""Figures 3, 4 and 13: frequencies of what is being denoised, step by step."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray

from freeu.analysis.measurement.content import (
    AMPLITUDE,
    FREQUENCY,
    Cell,
    Figure,
    Grid,
    Panel,
    Series,
    Verdict,
    as_pixels,
    minus,
)
from freeu.analysis.measurement.measure import fourier_split
from freeu.analysis.measurement.runs import Runs
from freeu.analysis.measurement.trace import Trace
from freeu.analysis.measurement.variants import Variants
from freeu.intervals import mean_interval

SPLIT = math.pi / 4
"""Angular frequency between low and high in Fig. 3."""


def figure_3(runs: Runs, variants: Variants) -> Figure:
    """Low and high frequencies of the image over the denoising steps."""
    traces = runs.traces(variants.none)
    rows: list[list[Cell]] = [[], [], []]
    for _, image in sorted(traces[0].stages.items()):
        low, high = _parts(image)
        # High frequencies have mean 0, shown as grey, and are amplified twice.
        for row, values in zip(rows, (_colour(image), low, 0.5 + 2.0 * high), strict=True):
            row.append(Cell(as_pixels(values)))
    grid = Grid(
        "Decoded latents of the first prompt and seed",
        ("image", "low frequencies", "high frequencies"),
        tuple(f"step {step + 1}" for step in sorted(traces[0].stages)),
        tuple(map(tuple, rows)),
    )
    rates = [_rates(one) for one in traces]
    return Figure(
        3,
        "Low and high frequencies of the image over the denoising steps",
        "The latents behind some of the steps, decoded, and their two parts by inverse Fourier transforms: below and "
        "from a quarter of the Nyquist frequency.",
        "During denoising low frequencies (layout, colour) change slowly, high ones (edges, texture) change much.",
        (grid,),
        (
            Verdict(
                "High frequencies change more than low ones.",
                "log ratio of the relative changes from one shown step to the next, high frequencies over low ones",
                1,
                tuple(math.log(high / low) for low, high in rates),
                runs.clusters,
            ),
        ),
    )


def _colour(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Three channels; a grey image has one."""
    return np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float64)


def _parts(image: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high frequencies, both (H, W, 3)."""
    parts = fourier_split(torch.from_numpy(_colour(image)).permute(2, 0, 1), SPLIT)
    low, high = (part.permute(1, 2, 0).numpy() for part in parts)
    return low, high


def _rates(found: Trace) -> tuple[float, float]:
    """Of low and high frequencies: RMS change from one shown step to the next, over the standard deviation."""
    stages = [_parts(image) for _, image in sorted(found.stages.items())]
    rates = []
    for band in (0, 1):
        changes = [
            np.sqrt(np.square(after[band] - before[band]).mean()) / max(float(before[band].std()), 1e-6)
            for before, after in itertools.pairwise(stages)
        ]
        rates.append(max(float(np.mean(changes)), 1e-9))
    return rates[0], rates[1]


def figure_4(runs: Runs, variants: Variants) -> Figure:
    """Relative log amplitude of the latents, a curve for each step."""
    traces = runs.traces(variants.none)
    falls = tuple(one.latents[-1].high - one.latents[0].high for one in traces)
    return Figure(
        4,
        "Relative log amplitude of the latents, step by step",
        "A curve for each denoising step, mean over all prompts and seeds: noise has a flat spectrum, images a falling "
        "one.",
        "High frequencies fall sharply during denoising, low frequencies stay.",
        (Panel("Latents", FREQUENCY, AMPLITUDE, _by_step(runs, traces)),),
        (
            Verdict(
                "High frequencies fall.",
                "relative log amplitude of the upper half of frequencies, last step minus first",
                -1,
                falls,
                runs.clusters,
            ),
        ),
    )


def _by_step(runs: Runs, traces: list[Trace]) -> tuple[Series, ...]:
    steps = runs.shown
    last = max(steps[-1], 1)
    series = []
    for step in steps:
        curves = [one.latents[step].curve for one in traces]
        mean = np.mean([curve.value for curve in curves], axis=0)
        series.append(
            Series(f"step {step + 1}", tuple(curves[0].frequency.tolist()), tuple(mean.tolist()), shade=step / last)
        )
    return tuple(series)


def figure_13(runs: Runs, variants: Variants) -> Figure:
    """Relative log amplitude of the latents with and without FreeU."""
    off, on = runs.traces(variants.none), runs.traces(variants.freeu)
    steps = range(len(off[0].latents))
    series = []
    for label, traces, dashed in ((variants.none.label, off, False), (variants.freeu.label, on, True)):
        values = np.array([_high(found) for found in traces])
        bands = [mean_interval(values[:, step].tolist(), runs.clusters) for step in steps]
        series.append(
            Series(
                label,
                tuple(float(step + 1) for step in steps),
                tuple(band.value for band in bands),
                tuple(band.value if band.low is None else band.low for band in bands),
                tuple(band.value if band.high is None else band.high for band in bands),
                dashed=dashed,
            )
        )
    ends = []
    for label, traces, dashed in ((variants.none.label, off, False), (variants.freeu.label, on, True)):
        curves = [one.latents[-1].curve for one in traces]
        mean = np.mean([curve.value for curve in curves], axis=0)
        ends.append(Series(label, tuple(curves[0].frequency.tolist()), tuple(mean.tolist()), dashed=dashed))
    return Figure(
        13,
        "Relative log amplitude during denoising, with and without FreeU",
        "Left: the mean of the upper half of frequencies at each step, with 95 % intervals. Right: the last step.",
        "With FreeU high frequencies are lower at every step: the backbone's denoising is stronger.",
        (
            Panel("Upper half of frequencies", "denoising step", "relative log amplitude", tuple(series)),
            Panel("Last step", FREQUENCY, AMPLITUDE, tuple(ends)),
        ),
        (
            Verdict(
                "FreeU lowers high frequencies during denoising.",
                "relative log amplitude of the upper half of frequencies, mean over steps, with FreeU minus without",
                -1,
                minus([_high(one).mean() for one in on], [_high(one).mean() for one in off]),
                runs.clusters,
            ),
            Verdict(
                "With FreeU high frequencies decay faster.",
                "slope of that amplitude from the first step (0) to the last (1), with FreeU minus without",
                -1,
                minus([_decay(one) for one in on], [_decay(one) for one in off]),
                runs.clusters,
            ),
        ),
    )


def _high(found: Trace) -> NDArray[np.float64]:
    """Relative log amplitude of the upper half of the latents' frequencies at each step."""
    return np.array([one.high for one in found.latents])


def _decay(found: Trace) -> float:
    """Its slope over the denoising, from first step (0) to last step (1)."""
    values = _high(found)
    return float(np.polyfit(np.linspace(0.0, 1.0, len(values)), values, 1)[0])
