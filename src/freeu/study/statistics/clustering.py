"""Uncertainty when the same raters see the same prompts: two crossed random factors.

Two votes of one rater are alike, and so are two votes on one prompt. A method that takes votes as independent promises
too much, and so does one that resamples raters alone, as soon as prompts differ.
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
class Effective:
    """How much a set of clustered votes knows about a share.

    Args:
        votes: as many independent votes would be as precise; with ties, more than were given.
        freedom: degrees of freedom of that estimate, at least 1.
    """

    votes: float
    freedom: int


def wilson_interval(share: float, votes: float, quantile: float) -> Interval:
    """Wilson's score interval (1927).

    Args:
        share: observed, 0..1.
        votes: their number, above 0; a fraction is legal (an effective number, ties that count half).
        quantile: of the reference distribution, such as 1.96.
    """
    shrink = 1.0 + quantile**2 / votes
    middle = (share + quantile**2 / (2.0 * votes)) / shrink
    half = quantile * math.sqrt(share * (1.0 - share) / votes + quantile**2 / (4.0 * votes**2)) / shrink
    return max(0.0, middle - half), min(1.0, middle + half)


def effective_votes(outcome: Floats, raters: Ints, prompts: Ints) -> Effective | None:
    """Independent votes that would be as precise, from the variance that is robust to both clusterings.

    The variance of the mean is that between raters plus that between prompts less that between their cells (Cameron,
    Gelbach & Miller 2011, two-way clustering), each with its factor G / (G - 1), and never less than that of either
    factor alone or of independent votes (with few levels an estimate may come out too small by chance). A factor of one
    level is left out, and the answer is then about that level only. Degrees of freedom: the smaller number of levels,
    less 1. Where every vote is the same nothing can be estimated: then each level of the
    smaller factor counts as one vote, which errs on the safe side.

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
        return Effective(float(smaller), smaller - 1)
    parts = [_between(deviations, codes) for codes in (rows, columns)]
    if min(levels) > 1:
        parts.append(sum(parts) - _between(deviations, _codes(rows * levels[1] + columns)))
    parts.append(_between(deviations, np.arange(len(deviations))))
    return Effective(share * (1.0 - share) / max(parts), smaller - 1)


def clustered_interval(share: float, known: Effective, level: float = LEVEL) -> Interval:
    """Wilson's interval of the effective number of votes, with Student's quantile for its degrees of freedom."""
    from scipy.stats import t

    _check_level(level)
    return wilson_interval(share, known.votes, float(t.ppf(0.5 + level / 2.0, known.freedom)))


def clustered_test(share: float, known: Effective) -> float:
    """Two-sided p-value of a true share of one half; below 0.05 exactly where the 95 % interval leaves out 0.5."""
    from scipy.stats import t

    return float(2.0 * t.sf(abs(share - 0.5) * 2.0 * math.sqrt(known.votes), known.freedom))


def resampled_sums(cells: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Sums over the cells of pigeonhole-bootstrap draws (Owen 2007, Annals of Applied Statistics 1(2)).

    Raters are drawn with replacement, prompts are drawn with replacement on their own, and a cell counts as often as
    its rater times its prompt. The variance that this gives is close where raters or prompts differ, and up to three
    times too large where neither does: its intervals are safe, and wide. A factor of one level is not resampled.

    Args:
        cells: (m, raters, prompts), m quantities summed within each cell.
        draws: resamples.
        seed: an equal seed gives equal draws.

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
    """Sums of m quantities of each vote in each cell.

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
        level, draws, seed: coverage that is aimed at, resamples, their seed.

    Returns:
        None where neither factor has two levels, or where every vote is the same: no resample could differ.

    Raises:
        FreeUValueError: a level outside 0..1.
    """
    _check_level(level)
    cells = cell_sums(np.stack([outcome, np.ones_like(outcome)]), raters, prompts)
    if max(cells.shape[1:]) < 2 or not len(outcome) or np.ptp(outcome) == 0.0:
        return None
    sums = resampled_sums(cells, draws, seed)
    sums = sums[sums[:, 1] > 0.0]  # a draw of raters who saw none of its prompts
    return percentile_interval(sums[:, 0] / sums[:, 1], level)


def percentile_interval(values: Floats, level: float = LEVEL) -> Interval:
    """The middle ``level`` of the values."""
    low, high = np.percentile(values, [50.0 * (1.0 - level), 50.0 * (1.0 + level)])
    return float(low), float(high)


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise FreeUValueError(f"level must lie between 0 and 1, got {level:g}")


def _codes(labels: Ints) -> NDArray[np.int64]:
    """Labels as 0, 1, 2, ..."""
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _between(deviations: Floats, codes: Ints) -> float:
    """Variance of the mean between clusters; 0 for a single one."""
    sums = np.bincount(codes, deviations)
    number = len(sums)
    return 0.0 if number < 2 else float((sums**2).sum()) / len(deviations) ** 2 * number / (number - 1)
