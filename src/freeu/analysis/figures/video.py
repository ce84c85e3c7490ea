"""Figures of videos, which the paper does not have: changes over time, and flicker by version and by shared maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from freeu.analysis.measurement.content import Figure, Panel, Series, Verdict, minus
from freeu.analysis.measurement.runs import Drawn, Runs
from freeu.analysis.measurement.variants import Variant, Variants
from freeu.evaluate.metrics.temporal import fast_share, mean_flicker, pair_flicker, temporal_spectrum
from freeu.motion.measure import Frame, optical_flow

CYCLES = "cycles per frame"
FLICKER = "flicker (levels left between neighbouring frames once movement is taken out)"
FAST = "share of the power over time above 0.25 cycles per frame"


def figure_101(runs: Runs, variants: Variants) -> Figure:
    """Power over time, with and without FreeU (video; not in the paper)."""
    ways = (variants.none, variants.backbone_only, variants.freeu)
    series = []
    for number, way in enumerate(ways):
        found = [temporal_spectrum(_frames(one)) for one in runs.drawn(way)]
        # The mean of each pixel over time is no change; the rest is shown in tenfold steps.
        mean = np.mean([power[1:] for _, power in found], axis=0).clip(1e-6)
        series.append(
            Series(
                way.label,
                tuple(found[0][0][1:].tolist()),
                tuple(np.log10(mean).tolist()),
                dashed=number == len(ways) - 1,
            )
        )
    return Figure(
        101,
        "Power over time, with and without FreeU",
        "Power of each pixel's luma over the frames by frequency (cosine transform), mean over pixels and videos.",
        "This is of videos and not in the paper; the question is whether FreeU adds what changes from frame to frame.",
        (Panel("Clips", CYCLES, "log10 of power in squared levels", tuple(series)),),
        (
            Verdict(
                "FreeU makes changes over time slower. (Not of the paper.)",
                f"{FAST}, FreeU minus plain",
                -1,
                _difference(runs, variants.freeu, variants.none, lambda one: fast_share(_frames(one))),
                runs.clusters,
            ),
            Verdict(
                "FreeU flickers less. (Not of the paper.)",
                f"{FLICKER}, FreeU minus plain",
                -1,
                _difference(runs, variants.freeu, variants.none, _flicker),
                runs.clusters,
            ),
        ),
    )


def figure_102(runs: Runs, variants: Variants) -> Figure:
    """Flicker by version and by what frames share (video; not in the paper)."""
    constant, frame, *shared = variants.over_time()
    ways = (variants.none, constant, frame, *shared)
    verdicts = [
        Verdict(
            "A map for each frame flickers more than a constant factor. (Not of the paper.)",
            f"{FLICKER}, version 2 with a map for each frame minus version 1",
            1,
            _difference(runs, frame, constant, _flicker),
            runs.clusters,
        )
    ]
    verdicts += [
        Verdict(
            f"{way.label[0].upper()}{way.label[1:]}: less flicker than under a map for each frame. (Not of the paper.)",
            f"{FLICKER}, {way.label} minus {frame.label}",
            -1,
            _difference(runs, way, frame, _flicker),
            runs.clusters,
        )
        for way in shared
    ]
    return Figure(
        102,
        "Flicker by version and by what the frames share",
        "Mean absolute difference of neighbouring frames in levels of 0 to 255, brought over each other by optical "
        "flow; mean over videos, for each pair of neighbours.",
        "This is of videos and not in the paper; version 2 makes a map for each frame, which can differ from its "
        "neighbours'.",
        (Panel("Clips", "first frame of the pair", "levels", tuple(_over_pairs(runs, ways))),),
        tuple(verdicts),
    )


def _over_pairs(runs: Runs, ways: Sequence[Variant]) -> list[Series]:
    series = []
    for number, way in enumerate(ways):
        pairs = np.array([[_flicker_of(*two) for two in _pairs(one)] for one in runs.drawn(way)])
        first = tuple(float(place) for place in range(1, pairs.shape[1] + 1))
        series.append(Series(way.label, first, tuple(pairs.mean(axis=0).tolist()), dashed=number == 0))
    return series


def _frames(drawn: Drawn) -> list[Frame]:
    return [np.asarray(frame) for frame in drawn.frames]


def _pairs(drawn: Drawn) -> list[tuple[Frame, Frame]]:
    return list(itertools.pairwise(_frames(drawn)))


def _flicker_of(first: Frame, second: Frame) -> float:
    """Flicker of one pair; 0 where nothing can be traced."""
    return mean_flicker([pair_flicker(first, second, optical_flow(first, second))]) or 0.0


def _flicker(drawn: Drawn) -> float:
    found = [pair_flicker(*two, optical_flow(*two)) for two in _pairs(drawn)]
    return mean_flicker(found) or 0.0


def _difference(runs: Runs, way: Variant, other: Variant, number: Callable[[Drawn], float]) -> tuple[float, ...]:
    return minus(*([number(one) for one in runs.drawn(each)] for each in (way, other)))
