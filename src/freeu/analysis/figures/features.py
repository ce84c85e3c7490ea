"""Figures 7, 8 and 14: frequencies in backbone, skip and fused features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from freeu.analysis.measurement.content import AMPLITUDE, FREQUENCY, Cell, Figure, Grid, Panel, Series, Verdict, minus
from freeu.analysis.measurement.measure import Spectrum
from freeu.analysis.measurement.runs import Runs
from freeu.analysis.measurement.trace import FeatureKey, Trace
from freeu.analysis.measurement.variants import Variants
from freeu.core.capture import PARTS


def figure_7(runs: Runs, variants: Variants) -> Figure:
    """Relative log amplitude of backbone, skip and fused features."""
    traces = runs.traces(variants.none)
    panels = []
    for block, paths in _blocks(traces[0]).items():
        series = []
        for number, part in enumerate(PARTS):
            curves = [
                one.curve for found in traces for path in paths for one in found.features[FeatureKey(path, part, False)]
            ]
            mean = np.mean([curve.value for curve in curves], axis=0)
            series.append(
                Series(part, tuple(curves[0].frequency.tolist()), tuple(mean.tolist()), dashed=number == len(PARTS) - 1)
            )
        panels.append(Panel(block, FREQUENCY, AMPLITUDE, tuple(series)))
    backbone, skip = (
        [[one for path in _paths(found) for one in found.features[FeatureKey(path, part, False)]] for found in traces]
        for part in ("backbone", "skip")
    )
    return Figure(
        7,
        "Relative log amplitude of backbone, skip and fused features",
        "Mean over steps, sites of the block (its concatenations of backbone and skip), channels, prompts and seeds. "
        "Fused features are the output of the module after the concatenation.",
        "Skip features carry far more high frequencies than backbone features, and pass them on to the fused ones.",
        tuple(panels),
        (
            Verdict(
                "Skips carry more high frequencies than the backbone.",
                "relative log amplitude of the upper half of frequencies, skip minus backbone",
                1,
                _minus(skip, backbone, lambda one: one.high),
                runs.clusters,
            ),
            Verdict(
                "More of the skips' power lies in high frequencies.",
                "share of the power beyond half the Nyquist frequency (frequency 0 left out), skip minus backbone",
                1,
                _minus(skip, backbone, lambda one: one.shares[2] if one.shares else 0.0),
                runs.clusters,
            ),
        ),
    )


def figure_8(runs: Runs, variants: Variants) -> Figure:
    """Channel means of backbone features over the steps."""
    traces = runs.traces(variants.none)
    path = _paths(traces[0])[-1]
    grid = _maps(runs, traces[0], path, lambda key: key.part == "backbone" and not key.changed, ("backbone",))
    own, other = [], []
    last = runs.shown[-1]
    for number, found in enumerate(traces):
        values = found.maps[FeatureKey(path, "backbone", False), last]
        own.append(_correlation(values, found.image))
        others = [one for one, index in zip(traces, runs.clusters, strict=True) if index != runs.clusters[number]]
        other.append(float(np.mean([_correlation(values, one.image) for one in others])) if others else 0.0)
    return Figure(
        8,
        "Channel means of the backbone's features",
        f"Mean over the channels of the backbone features that enter {path}, first prompt and seed.",
        "The mean over channels already shows the structure of the image: that is why FreeU scales by it.",
        (grid,),
        (
            Verdict(
                "The backbone's channel mean shows the image.",
                "absolute correlation of the last map with its own image's luma, minus that with other prompts'",
                1,
                minus(own, other),
                runs.clusters,
            ),
        ),
    )


def figure_14(runs: Runs, variants: Variants) -> Figure:
    """Channel means of fused features with and without FreeU."""
    off, on = runs.traces(variants.none), runs.traces(variants.freeu)
    path = _paths(off[0])[-1]
    grids = tuple(
        _maps(runs, found[0], path, lambda key: key.part == "fused", (variant.label,))
        for found, variant in ((off, variants.none), (on, variants.freeu))
    )

    with_freeu, without = (
        [[one for key, each in found.features.items() if key.part == "fused" for one in each] for found in traces]
        for traces in (on, off)
    )
    return Figure(
        14,
        "Feature maps with and without FreeU",
        f"Mean over the channels behind {path}, first prompt and seed.",
        "With FreeU feature maps show more of the structure and less noise.",
        grids,
        (
            Verdict(
                "FreeU lowers high frequencies in the decoder's features.",
                "relative log amplitude of the upper half of frequencies of fused features, with FreeU minus without",
                -1,
                _minus(with_freeu, without, lambda one: one.high),
                runs.clusters,
            ),
        ),
    )


def _minus(
    some: Sequence[Sequence[Spectrum]], others: Sequence[Sequence[Spectrum]], number: Callable[[Spectrum], float]
) -> tuple[float, ...]:
    """For each image the mean of a number over its spectra, minus that over others of the same image."""
    means = [[float(np.mean([number(one) for one in spectra])) for spectra in each] for each in (some, others)]
    return minus(*means)


def _paths(found: Trace) -> list[str]:
    """Paths of the sites in the order of the decoder."""
    return list(dict.fromkeys(key.path for key in found.features))


def _blocks(found: Trace) -> dict[str, list[str]]:
    """Sites by block: those of one feature map size have the same frequencies."""
    blocks: dict[str, list[str]] = {}
    for path in _paths(found):
        block = path.rpartition(".resnets.")[0] or path
        blocks.setdefault(block, []).append(path)
    return blocks


def _maps(runs: Runs, found: Trace, path: str, wanted: Callable[[FeatureKey], bool], rows: tuple[str, ...]) -> Grid:
    cells = tuple(
        Cell(next(v for (key, at), v in found.maps.items() if at == step and key.path == path and wanted(key)))
        for step in runs.shown
    )
    return Grid(f"{rows[0]}, {path}", rows, tuple(f"step {step + 1}" for step in runs.shown), (cells,))


def _correlation(values: NDArray[np.float32], image: Image) -> float:
    """Absolute correlation of a map with an image's luma, averaged over the pixels of each map position."""
    luma = image.convert("L").resize(values.shape[::-1], Resampling.BOX)
    a, b = values.astype(np.float64).ravel(), np.asarray(luma, dtype=np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return abs(float(a @ b)) / scale if scale > 0.0 else 0.0
