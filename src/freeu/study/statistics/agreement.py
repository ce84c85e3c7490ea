"""Inter-rater agreement, consistency of raters, attention checks and position bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freeu.extras import need
from freeu.intervals import DRAWS, LEVEL, Estimate, mean_interval
from freeu.study.statistics.ballots import Floats
from freeu.study.statistics.clustering import (
    Interval,
    clustered_interval,
    clustered_test,
    effective_size,
    percentile_interval,
    wilson_interval,
)
from freeu.study.statistics.exclusion import repeats
from freeu.study.store.votes import Answer


@dataclass(frozen=True)
class Agreement:
    """Inter-rater agreement on one question.

    Args:
        alpha: Krippendorff's alpha (nominal): 1 for perfect agreement, 0 for chance level; None where it is undefined
            (all answers equal, or no pair with two votes).
        interval: confidence interval of alpha over prompts; None where alpha is None, or with a single prompt.
        observed: observed agreement: share of equal answers among all pairs of votes on the same pair of images, 0..1;
            None without such votes.
        units: number of pairs of images with at least two votes.
        votes: number of votes on those pairs.
    """

    alpha: float | None
    interval: Interval | None
    observed: float | None
    units: int
    votes: int


def agreement(
    answers: Sequence[Answer], question: str, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Agreement:
    """Krippendorff's alpha of a question. A unit is a pair of images; its values are the chosen arms, or a tie.

    Args:
        answers: of one study; only kind "vote" counts.
        question: name of the question.
        level, draws, seed: of the interval, which resamples prompts.
    """
    given = [one for one in answers if one.kind == "vote" and one.question == question]
    values = [*sorted({name for one in given for name in (one.first, one.second)}), ""]
    units = {pair: number for number, pair in enumerate(dict.fromkeys(one.pair for one in given))}
    counts = np.zeros((len(units), len(values)))
    prompts = np.zeros(len(units), dtype=np.int64)
    for one in given:
        chosen = {"first": one.first, "second": one.second, "tie": ""}[one.winner]
        counts[units[one.pair], values.index(chosen)] += 1.0
        prompts[units[one.pair]] = one.prompt
    paired = counts.sum(axis=1) >= 2.0
    tables = coincidences(counts)
    total = tables.sum(axis=0)
    alpha = _alpha(total[None])[0] if paired.any() else np.nan
    return Agreement(
        alpha=None if np.isnan(alpha) else float(alpha),
        interval=None if np.isnan(alpha) else _interval(tables[paired], prompts[paired], level, draws, seed),
        observed=float(np.trace(total) / total.sum()) if paired.any() else None,
        units=int(paired.sum()),
        votes=int(counts[paired].sum()),
    )


def coincidences(counts: Floats) -> Floats:
    """Contribution of each unit to the coincidence matrix (Krippendorff 2011, "Computing Krippendorff's alpha").

    Args:
        counts: (units, values), number of raters who gave each value to each unit.

    Returns:
        (units, values, values): pairs of values from different raters, weighted by 1 / (raters - 1) within each unit;
        0 for a unit with fewer than two raters.
    """
    numbers = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs[:, range(counts.shape[1]), range(counts.shape[1])] -= counts
    weights = np.divide(1.0, numbers - 1.0, out=np.zeros_like(numbers), where=numbers >= 2.0)
    return np.asarray(pairs * weights[:, None, None])


def nominal_alpha(counts: Floats) -> float | None:
    """Krippendorff's alpha for nominal values.

    Args:
        counts: (units, values), number of raters who gave each value to each unit; missing ratings are not counted.

    Returns:
        at most 1; None where it is undefined: fewer than two different values among units with two ratings.
    """
    alpha = float(_alpha(coincidences(np.asarray(counts, dtype=np.float64)).sum(axis=0)[None])[0])
    return None if np.isnan(alpha) else alpha


def _alpha(tables: Floats) -> Floats:
    """1 - observed / expected disagreement of coincidence matrices (b, values, values); NaN where undefined."""
    margins = tables.sum(axis=2)
    total = margins.sum(axis=1)
    observed = total - np.trace(tables, axis1=1, axis2=2)
    expected = total**2 - (margins**2).sum(axis=1)
    ratio = np.divide(observed * (total - 1.0), expected, out=np.full_like(total, np.nan), where=expected > 1e-9)
    return np.asarray(1.0 - ratio)


def _interval(tables: Floats, prompts: Floats, level: float, draws: int, seed: int) -> Interval | None:
    names, codes = np.unique(prompts, return_inverse=True)
    size = len(names)
    if size < 2 or not draws:
        return None
    sums = np.zeros((size, *tables.shape[1:]))
    np.add.at(sums, codes.reshape(-1), tables)
    weights = np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=draws).astype(np.float64)
    resampled = _alpha(np.tensordot(weights, sums, axes=1))
    resampled = resampled[~np.isnan(resampled)]
    return percentile_interval(resampled, level) if len(resampled) > 1 else None


def consistency(
    answers: Sequence[Answer], *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Estimate | None:
    """Share of repeated pairs with the same answer as before, with a bootstrap interval over raters.

    A repeat has left and right swapped, so a rater who always chooses the left side is never consistent.

    Returns:
        None without an answered repeat.
    """
    found = repeats(answers)
    if not found:
        return None
    raters, same = zip(*found, strict=True)
    return mean_interval([float(one) for one in same], raters, level=level, draws=draws, seed=seed)


def checks_passed(
    answers: Sequence[Answer], *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Estimate | None:
    """Share of attention checks that were passed, with a bootstrap interval over raters.

    Returns:
        None without an answered check.
    """
    found = [(one.rater, float(one.winner == "first")) for one in answers if one.kind == "check"]
    if not found:
        return None
    raters, right = zip(*found, strict=True)
    return mean_interval(right, raters, level=level, draws=draws, seed=seed)


@dataclass(frozen=True)
class PositionBias:
    """Whether raters prefer one side.

    Args:
        share: share of votes for the left side, ties excluded, 0..1; None without such votes.
        votes: number of votes, ties excluded.
        left: number of votes for the left side.
        wilson: confidence interval for independent votes.
        clustered: confidence interval that accounts for raters and prompts; use this one.
        p_exact, p_clustered: two-sided tests of a share of 0.5, for independent and for clustered votes.
    """

    share: float | None
    votes: int
    left: int
    wilson: Interval | None
    clustered: Interval | None
    p_exact: float | None
    p_clustered: float | None


def position_bias(answers: Sequence[Answer], *, level: float = LEVEL) -> PositionBias:
    """Share of votes for the left side, ties excluded.

    The plan balances left and right, so position bias adds noise to a preference but does not reverse it.

    Args:
        answers: of one study; only kind "vote" counts.
        level: confidence level of the intervals.
    """
    need("study", "scipy")
    from scipy.stats import binomtest, norm

    given = [one for one in answers if one.kind == "vote" and one.left_won is not None]
    if not given:
        return PositionBias(None, 0, 0, None, None, None, None)
    left = np.array([one.left_won for one in given], dtype=np.float64)
    raters = np.unique([one.rater for one in given], return_inverse=True)[1]
    prompts = np.array([one.prompt for one in given], dtype=np.int64)
    share, wins = float(left.mean()), int(left.sum())
    size = effective_size(left, raters, prompts)
    return PositionBias(
        share,
        len(given),
        wins,
        wilson_interval(share, len(given), float(norm.ppf(0.5 + level / 2.0))),
        clustered_interval(share, size, level) if size else None,
        float(binomtest(wins, len(given)).pvalue),
        clustered_test(share, size) if size else None,
    )
