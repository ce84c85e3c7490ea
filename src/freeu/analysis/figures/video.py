"""Figures for videos, which are not in the paper: power over time, and flicker by version and ``over_time``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from freeu.analysis.measurement.content import Figure, Panel, Series, Verdict, minus
from freeu.analysis.measurement.runs import Generated, Runs
from freeu.analysis.measurement.variants import Variant, Variants
from freeu.evaluate.metrics.temporal import fast_share, mean_flicker, pair_flicker, temporal_spectrum
from freeu.motion.measure import Frame, optical_flow

CYCLES = "cycles per frame"
FLICKER = "flicker (difference of neighbouring frames in levels, after motion compensation)"
FAST = "share of the power over time above 0.25 cycles per frame"


def figure_101(runs: Runs, variants: Variants) -> Figure:
    """Power over time, with and without FreeU (video; not in the paper)."""
    shown = (variants.none, variants.backbone_only, variants.freeu)
    series = []
    for number, variant in enumerate(shown):
        found = [temporal_spectrum(_frames(one)) for one in runs.generated(variant)]
        # The mean of each pixel over time is left out; the rest is shown on a log10 scale.
        mean = np.mean([power[1:] for _, power in found], axis=0).clip(1e-6)
        series.append(
            Series(
                variant.label,
                tuple(found[0][0][1:].tolist()),
                tuple(np.log10(mean).tolist()),
                dashed=number == len(shown) - 1,
            )
        )
    return Figure(
        101,
        "Power over time, with and without FreeU",
        "Power of each pixel's luma over the frames by frequency (cosine transform), mean over pixels and videos.",
        "Not in the paper, which shows no spectra over time; the question is whether FreeU adds fast changes.",
        (Panel("Videos", CYCLES, "log10 of power in squared levels", tuple(series)),),
        (
            Verdict(
                "FreeU makes changes over time slower. (Not in the paper.)",
                f"{FAST}, FreeU minus plain",
                -1,
                _difference(runs, variants.freeu, variants.none, lambda one: fast_share(_frames(one))),
                runs.clusters,
            ),
            Verdict(
                "FreeU flickers less. (Not in the paper.)",
                f"{FLICKER}, FreeU minus plain",
                -1,
                _difference(runs, variants.freeu, variants.none, _flicker),
                runs.clusters,
            ),
        ),
    )


def figure_102(runs: Runs, variants: Variants) -> Figure:
    """Flicker by version and by how frames share the structure map (video; not in the paper)."""
    constant, frame, *shared = variants.over_time()
    shown = (variants.none, constant, frame, *shared)
    verdicts = [
        Verdict(
            "One structure map per frame flickers more than a constant factor. (Not in the paper.)",
            f"{FLICKER}, version 2 with one map per frame minus version 1",
            1,
            _difference(runs, frame, constant, _flicker),
            runs.clusters,
        )
    ]
    verdicts += [
        Verdict(
            f"{variant.label[0].upper()}{variant.label[1:]}: less flicker than one map per frame. (Not in the paper.)",
            f"{FLICKER}, {variant.label} minus {frame.label}",
            -1,
            _difference(runs, variant, frame, _flicker),
            runs.clusters,
        )
        for variant in shared
    ]
    return Figure(
        102,
        "Flicker by version and by how frames share the structure map",
        "Mean absolute difference of neighbouring frames in levels of 0 to 255, after warping one to the other by "
        "optical flow; mean over videos, for each pair of neighbours.",
        "Not in the paper; version 2 computes a structure map for each frame, which can differ from those of its "
        "neighbours.",
        (Panel("Videos", "first frame of the pair", "levels", tuple(_over_pairs(runs, shown))),),
        tuple(verdicts),
    )


def _over_pairs(runs: Runs, shown: Sequence[Variant]) -> list[Series]:
    series = []
    for number, variant in enumerate(shown):
        pairs = np.array([[_flicker_of(*two) for two in _pairs(one)] for one in runs.generated(variant)])
        first = tuple(float(place) for place in range(1, pairs.shape[1] + 1))
        series.append(Series(variant.label, first, tuple(pairs.mean(axis=0).tolist()), dashed=number == 0))
    return series


def _frames(generated: Generated) -> list[Frame]:
    return [np.asarray(frame) for frame in generated.frames]


def _pairs(generated: Generated) -> list[tuple[Frame, Frame]]:
    return list(itertools.pairwise(_frames(generated)))


def _flicker_of(first: Frame, second: Frame) -> float:
    """Flicker of one pair; 0 if no pixel is traceable."""
    return mean_flicker([pair_flicker(first, second, optical_flow(first, second))]) or 0.0


def _flicker(generated: Generated) -> float:
    found = [pair_flicker(*two, optical_flow(*two)) for two in _pairs(generated)]
    return mean_flicker(found) or 0.0


def _difference(
    runs: Runs, variant: Variant, other: Variant, number: Callable[[Generated], float]
) -> tuple[float, ...]:
    return minus(*([number(one) for one in runs.generated(each)] for each in (variant, other)))
