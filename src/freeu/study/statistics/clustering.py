"""Uncertainty with two crossed random factors: raters and prompts.

Votes of one rater are correlated, and so are votes on one prompt. Intervals that assume independent votes are too
narrow. So are intervals that resample raters alone, as soon as prompts differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.intervals import DRAWS, LEVEL
from freeu.study.statistics.ballots import Floats, Ints

Interval = tuple[float, float]


@dataclass(frozen=True)
class EffectiveSize:
    """Effective sample size of a share from clustered votes.

    Args:
        votes: number of independent votes with the same precision; with ties it can exceed the number of votes.
        freedom: degrees of freedom of that estimate, at least 1.
    """

    votes: float
    freedom: int


def wilson_interval(share: float, votes: float, quantile: float) -> Interval:
    """Wilson's score interval (1927).

    Args:
        share: observed share, 0..1.
        votes: number of votes, above 0; may be fractional (effective sample size).
        quantile: of the reference distribution, such as 1.96.
    """
    shrink = 1.0 + quantile**2 / votes
    middle = (share + quantile**2 / (2.0 * votes)) / shrink
    half = quantile * math.sqrt(share * (1.0 - share) / votes + quantile**2 / (4.0 * votes**2)) / shrink
    return max(0.0, middle - half), min(1.0, middle + half)


def effective_size(outcome: Floats, raters: Ints, prompts: Ints) -> EffectiveSize | None:
    """Effective sample size from the two-way cluster-robust variance.

    The variance of the mean is the variance between raters plus that between prompts minus that between their cells
    (Cameron, Gelbach & Miller 2011, two-way clustering), each with its factor G / (G - 1). It is never taken as smaller
    than the variance of either factor alone or of independent votes, since with few levels an estimate can be too small
    by chance. A factor with a single level is ignored; the result then holds for that level only. The degrees of
    freedom are the smaller number of levels minus 1. Where all votes are equal nothing can be estimated: each level of
    the smaller factor then counts as one vote, which is conservative.

    Args:
        outcome: (n,), 0..1.
        raters, prompts: (n,), labels.

    Returns:
        None where neither factor has two levels.
    """
    rows, columns = _codes(raters), _codes(prompts)
    levels = [int(codes.max(initial=-1)) + 1 for codes in (rows, columns)]
    smaller = min((number for number in levels if number > 1), default=0)
    if not smaller:
        return None
    share = float(outcome.mean())
    deviations = outcome - share
    if not deviations.any():
        return EffectiveSize(float(smaller), smaller - 1)
    parts = [_between(deviations, codes) for codes in (rows, columns)]
    if min(levels) > 1:
        parts.append(sum(parts) - _between(deviations, _codes(rows * levels[1] + columns)))
    parts.append(_between(deviations, np.arange(len(deviations))))
    return EffectiveSize(share * (1.0 - share) / max(parts), smaller - 1)


def clustered_interval(share: float, size: EffectiveSize, level: float = LEVEL) -> Interval:
    """Wilson interval for the effective sample size, with Student's t quantile for its degrees of freedom."""
    from scipy.stats import t

    _check_level(level)
    return wilson_interval(share, size.votes, float(t.ppf(0.5 + level / 2.0, size.freedom)))


def clustered_test(share: float, size: EffectiveSize) -> float:
    """Two-sided p-value for a true share of 0.5; below 0.05 exactly where the 95 % interval excludes 0.5."""
    from scipy.stats import t

    return float(2.0 * t.sf(abs(share - 0.5) * 2.0 * math.sqrt(size.votes), size.freedom))


def resampled_sums(cells: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Cell sums of pigeonhole-bootstrap resamples (Owen 2007, Annals of Applied Statistics 1(2)).

    Raters and prompts are resampled independently with replacement; a cell is weighted by the product of the two
    counts. The bootstrap variance is accurate where raters or prompts differ, and up to three times too large where
    neither does, so its intervals are conservative. A factor with a single level is not resampled.

    Args:
        cells: (m, raters, prompts), m quantities summed within each cell.
        draws: number of resamples.
        seed: equal seeds give equal resamples.

    Returns:
        (draws, m).
    """
    generator = np.random.default_rng(seed)
    weights = [
        generator.multinomial(size, np.full(size, 1.0 / size), size=draws).astype(np.float64)
        if size > 1
        else np.ones((draws, 1))
        for size in cells.shape[1:]
    ]
    return np.stack([((weights[0] @ quantity) * weights[1]).sum(axis=1) for quantity in cells], axis=1)


def cell_sums(values: Floats, raters: Ints, prompts: Ints) -> Floats:
    """Sums of m per-vote quantities in each cell.

    Args:
        values: (m, n).
        raters, prompts: (n,), labels.

    Returns:
        (m, raters, prompts); levels in the order of their labels.
    """
    rows, columns = _codes(raters), _codes(prompts)
    sums = np.zeros((len(values), rows.max(initial=0) + 1, columns.max(initial=0) + 1))
    for quantity, one in zip(sums, values, strict=True):
        np.add.at(quantity, (rows, columns), one)
    return sums


def pigeonhole_interval(
    outcome: Floats,
    raters: Ints,
    prompts: Ints,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Percentile interval of the mean outcome over the draws of ``resampled_sums``.

    Args:
        outcome: (n,), 0..1.
        raters, prompts: (n,), labels.
        level, draws, seed: confidence level, number of resamples, their seed.

    Returns:
        None where neither factor has two levels, or where all votes are equal: all resamples would be equal too.

    Raises:
        FreeUValueError: ``level`` is not between 0 and 1.
    """
    _check_level(level)
    cells = cell_sums(np.stack([outcome, np.ones_like(outcome)]), raters, prompts)
    if max(cells.shape[1:]) < 2 or not len(outcome) or np.ptp(outcome) == 0.0:
        return None
    sums = resampled_sums(cells, draws, seed)
    sums = sums[sums[:, 1] > 0.0]  # a resample in which no rater saw any of the prompts
    return percentile_interval(sums[:, 0] / sums[:, 1], level)


def percentile_interval(values: Floats, level: float = LEVEL) -> Interval:
    """The central ``level`` of the values."""
    low, high = np.percentile(values, [50.0 * (1.0 - level), 50.0 * (1.0 + level)])
    return float(low), float(high)


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise FreeUValueError(f"level must lie between 0 and 1, got {level:g}")


def _codes(labels: Ints) -> NDArray[np.int64]:
    """Labels as 0, 1, 2 and so on."""
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _between(deviations: Floats, codes: Ints) -> float:
    """Between-cluster variance of the mean; 0 for a single cluster."""
    sums = np.bincount(codes, deviations)
    number = len(sums)
    return 0.0 if number < 2 else float((sums**2).sum()) / len(deviations) ** 2 * number / (number - 1)
