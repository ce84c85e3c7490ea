"""Figures 5, 6, 9, 10 and 15 to 19: the effect of b and s on the images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from freeu.analysis.measurement.content import AMPLITUDE, FREQUENCY, Cell, Figure, Grid, Panel, Series, Verdict, minus
from freeu.analysis.measurement.runs import Generated, Runs
from freeu.analysis.measurement.variants import Sweep, Variant, Variants

HIGH = "relative log amplitude of the upper half of frequencies of the images"


def figure_5(runs: Runs, variants: Variants) -> Figure:
    """Images with whole backbone or whole skip scaled."""
    backbone, skip = variants.plain_backbone(), variants.plain_skip()
    gap = minus(*(np.abs(_slopes(runs, sweep)).tolist() for sweep in (backbone, skip)))
    return Figure(
        5,
        "Scaling the whole backbone by b, or the whole skip by s",
        "Every channel and every frequency is scaled by one factor; 1 is plain sampling.",
        "Raising b changes the image for the better; s has hardly any influence.",
        tuple(_grid(runs, sweep.variants, f"{sweep.symbol} varies", _at(sweep)) for sweep in (backbone, skip)),
        (
            Verdict(
                "The backbone's factor matters more than the skip's.",
                f"absolute slope of the {HIGH} over b, minus that over s",
                1,
                gap,
                runs.clusters,
            ),
        ),
    )


def figure_6(runs: Runs, variants: Variants) -> Figure:
    """Relative log amplitude of the images against b."""
    sweep = variants.plain_backbone()
    return Figure(
        6,
        "Relative log amplitude of the images against b",
        "The whole backbone scaled by b; mean over prompts and seeds.",
        "The larger b, the fewer high frequencies: the backbone denoises.",
        (_spectra(runs, sweep.variants, _at(sweep)),),
        (
            Verdict(
                "High frequencies fall as b rises.",
                f"slope of the {HIGH} over b",
                -1,
                _slopes(runs, sweep),
                runs.clusters,
            ),
        ),
    )


def figure_9(runs: Runs, variants: Variants) -> Figure:
    """Scaling none, all or half of the backbone's channels."""
    first, _, _, everything = variants.channels
    return Figure(
        9,
        "Scaling none, all or half of the backbone's channels",
        "b alone, s = 1.",
        "Scaling all channels makes images too smooth; half of them is enough.",
        (_grid(runs, (variants.none, everything, first), "b alone"),),
        (
            Verdict(
                "Half the channels smooth less than all.",
                f"{HIGH}, half minus all",
                1,
                _difference(runs, first, everything),
                runs.clusters,
            ),
        ),
    )


def figure_10(runs: Runs, variants: Variants) -> Figure:
    """Without and with s."""
    return Figure(
        10,
        "Without and with s",
        "The same b; left s = 1, right as configured.",
        "Turning down the skip's low frequencies brings back detail that b alone smooths away.",
        (_grid(runs, (variants.backbone_only, variants.freeu), "s = 1 and s as configured"),),
        (_of_s(runs, variants),),
    )


def figure_15(runs: Runs, variants: Variants) -> Figure:
    """None, b alone, b and s."""
    shown = (variants.none, variants.backbone_only, variants.freeu)
    return Figure(
        15,
        "b alone against b and s",
        "Plain sampling, b alone, and both.",
        "b improves structure; s keeps the texture from being smoothed.",
        (_grid(runs, shown, "b alone, b and s"), _spectra(runs, shown)),
        (
            Verdict(
                "b alone smooths.",
                f"{HIGH}, b alone minus plain",
                -1,
                _difference(runs, shown[1], shown[0]),
                runs.clusters,
            ),
            _of_s(runs, variants),
        ),
    )


def _of_s(runs: Runs, variants: Variants) -> Verdict:
    return Verdict(
        "s brings back high frequencies.",
        f"{HIGH}, b and s minus b alone",
        1,
        _difference(runs, variants.freeu, variants.backbone_only),
        runs.clusters,
    )


def figure_16(runs: Runs, variants: Variants) -> Figure:
    """A constant against a structure-aware factor."""
    shown = sorted((variants.this_version, variants.other_version), key=lambda one: one.label)
    constant, structure = shown
    return Figure(
        16,
        "Constant against structure-aware scaling",
        "The same b and s; every position times b (version 1), or by the channel mean's map (version 2, Eq. 3).",
        "The structure-aware factor avoids the over-smoothing of the constant one.",
        (_grid(runs, (variants.none, constant, structure), "two versions"),),
        (
            Verdict(
                "The structure-aware factor smooths less.",
                f"{HIGH}, structure-aware minus constant",
                1,
                _difference(runs, structure, constant),
                runs.clusters,
            ),
        ),
    )


def figure_17(runs: Runs, variants: Variants) -> Figure:
    """FreeU over b."""
    sweep = variants.backbone()
    return Figure(
        17,
        "FreeU with b from small to too large",
        "The same b at every stage, s as configured.",
        "A moderate b helps; a large one smooths too much.",
        (_grid(runs, sweep.variants, "b varies", _at(sweep)), _spectra(runs, sweep.variants, _at(sweep))),
        (
            Verdict(
                "The largest b smooths.",
                f"{HIGH}, largest b minus smallest",
                -1,
                _difference(runs, sweep.variants[-1], sweep.variants[0]),
                runs.clusters,
            ),
        ),
    )


def figure_18(runs: Runs, variants: Variants) -> Figure:
    """FreeU over s."""
    sweep = variants.skip()
    return Figure(
        18,
        "FreeU with s from small to 1",
        "The same s at every stage, b as configured.",
        "A smaller s keeps more of the high frequencies that b would smooth away.",
        (_grid(runs, sweep.variants, "s varies", _at(sweep)), _spectra(runs, sweep.variants, _at(sweep))),
        (
            Verdict(
                "A smaller s leaves more high frequencies.",
                f"{HIGH}, smallest s minus largest",
                1,
                _difference(runs, sweep.variants[0], sweep.variants[-1]),
                runs.clusters,
            ),
        ),
    )


def figure_19(runs: Runs, variants: Variants) -> Figure:
    """Which half of the channels."""
    first, second, even, _ = variants.channels
    between = _distances(runs, first, second)
    effect = _distances(runs, first, variants.none)
    return Figure(
        19,
        "First half, second half, or every other channel",
        "b alone, s = 1.",
        "It does not matter much which half of the channels is scaled.",
        (_grid(runs, (variants.none, first, second, even), "b alone"),),
        (
            Verdict(
                "Halves differ less from each other than from plain sampling.",
                "log ratio of root-mean-square differences of pixels, first half to second over first half to plain",
                -1,
                tuple(math.log(max(a, 1e-9) / max(b, 1e-9)) for a, b in zip(between, effect, strict=True)),
                runs.clusters,
            ),
        ),
    )


def _at(sweep: Sweep) -> tuple[str, ...]:
    return tuple(f"{sweep.symbol} = {value:g}" for value in sweep.values)


def _grid(runs: Runs, shown: Sequence[Variant], title: str, columns: Sequence[str] | None = None) -> Grid:
    """A row for each prompt (its first seed), a column for each variant."""
    first = [place for place, index in enumerate(runs.clusters) if index not in runs.clusters[:place]]
    rows = tuple(runs.generated(shown[0])[place].planned.prompt for place in first)
    cells = tuple(tuple(_cell(runs.generated(variant)[place]) for variant in shown) for place in first)
    return Grid(title, rows, tuple(columns or (variant.label for variant in shown)), cells)


def _cell(generated: Generated) -> Cell:
    return Cell(
        np.asarray(generated.image), {"relative_log_amplitude_high": generated.spectrum.high, **generated.statistics}
    )


def _spectra(runs: Runs, shown: Sequence[Variant], labels: Sequence[str] | None = None) -> Panel:
    series = []
    for number, variant in enumerate(shown):
        curves = [one.spectrum.curve for one in runs.generated(variant)]
        series.append(
            Series(
                labels[number] if labels else variant.label,
                tuple(curves[0].frequency.tolist()),
                tuple(np.mean([curve.value for curve in curves], axis=0).tolist()),
                shade=number / max(len(shown) - 1, 1) if labels else None,
            )
        )
    return Panel("Images", FREQUENCY, AMPLITUDE, tuple(series))


def _high(runs: Runs, variant: Variant) -> list[float]:
    return [one.spectrum.high for one in runs.generated(variant)]


def _difference(runs: Runs, variant: Variant, baseline: Variant) -> tuple[float, ...]:
    return minus(_high(runs, variant), _high(runs, baseline))


def _slopes(runs: Runs, sweep: Sweep) -> tuple[float, ...]:
    """For each image the slope of its high frequencies over the sweep's values."""
    values = np.array([_high(runs, variant) for variant in sweep.variants])
    return tuple(float(np.polyfit(sweep.values, column, 1)[0]) for column in values.T)


def _distances(runs: Runs, variant: Variant, other: Variant) -> list[float]:
    pairs = zip(runs.generated(variant), runs.generated(other), strict=True)
    return [float(np.sqrt(np.square(_pixels(a) - _pixels(b)).mean())) for a, b in pairs]


def _pixels(generated: Generated) -> NDArray[np.float64]:
    """All frames, (F, H, W, 3)."""
    return np.array([np.asarray(frame, dtype=np.float64) for frame in generated.frames])
