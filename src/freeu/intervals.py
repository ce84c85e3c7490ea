"""Means with bootstrap intervals that resample whole prompts, because images of one prompt are not independent."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.extras import need

DRAWS = 2_000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Args:
        value: the estimate.
        low, high: bootstrap interval; None where one cluster alone leaves nothing to resample.
        count: values that it was made from.
        clusters: independent groups (prompts) among them.
    """

    value: float
    low: float | None
    high: float | None
    count: int
    clusters: int


def mean_interval(
    values: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    method: str = "percentile",
    seed: int = 0,
) -> Estimate:
    """The mean with a bootstrap interval (Efron & Tibshirani 1993; cluster bootstrap, Davison & Hinkley 1997, 3.8).

    Whole clusters are drawn with replacement, and the statistic is the sum of all values over their number, so
    clusters may differ in size.

    Args:
        values: finite numbers; None is left out together with its cluster's label.
        clusters: a label for each value, such as the prompt; None makes each value its own cluster.
        level: coverage, above 0 and below 1.
        draws: resamples.
        method: "percentile", "basic" or "BCa", as in ``scipy.stats.bootstrap``, or "expanded": percentiles further out,
            so that a mean of few clusters gets an interval as wide as Student's (Hesterberg 2015, Am. Statistician 69,
            5.3). Equal values give an interval of length 0 under each.
        seed: of the resampling: equal values give an equal interval.

    Raises:
        FreeUValueError: no value, a value that is not finite, or labels of another number.

    >>> mean_interval([1.0, 2.0, 3.0, 4.0], clusters=["a", "a", "b", "b"]).value
    2.5
    """
    need("eval", "scipy")
    sums = _sums(values, clusters)
    totals, numbers = (np.array(column, dtype=np.float64) for column in zip(*sums.values(), strict=True))
    low, high = ratio_interval(totals, numbers, level=level, draws=draws, method=method, seed=seed)
    return Estimate(float(totals.sum() / numbers.sum()), low, high, int(numbers.sum()), len(totals))


def paired_interval(
    values: Sequence[float | None],
    baseline: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    method: str = "percentile",
    seed: int = 0,
) -> Estimate:
    """The mean of ``values - baseline``, pair by pair, with the interval of ``mean_interval``.

    Args:
        values, baseline: the same prompts and seeds in the same order; a pair with a None is left out.

    Raises:
        FreeUValueError: different lengths, no whole pair, or what ``mean_interval`` refuses.

    >>> paired_interval([2.0, 3.0], [1.0, 1.0]).value
    1.5
    """
    if len(values) != len(baseline):
        raise FreeUValueError(f"a paired difference needs equal lengths, got {len(values)} and {len(baseline)}")
    pairs = zip(values, baseline, strict=True)
    differences = [None if a is None or b is None else a - b for a, b in pairs]
    return mean_interval(differences, clusters, level=level, draws=draws, method=method, seed=seed)


def share_interval(
    values: Sequence[float | None],
    whole: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    whole_clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The mean of ``values`` over the mean of ``whole``, with a percentile bootstrap over the clusters of both.

    A cluster (prompt) that is drawn brings its values and its whole along, so what makes both low does not widen the
    interval. A draw in which either has no value, or the whole is 0, is left out.

    Args:
        values, whole: finite numbers, of any lengths; None is left out.
        clusters, whole_clusters: a label for each; the same label is the same prompt. None numbers them.
        level, draws, seed: as in ``mean_interval``.

    Returns:
        the share; ``count`` is that of ``values``, ``clusters`` those that either has a value in.

    Raises:
        FreeUValueError: what ``mean_interval`` refuses, or a whole whose mean is 0.

    >>> share_interval([1.0, 1.0], [2.0, 2.0]).value
    0.5
    """
    parts = _sums(values, clusters), _sums(whole, whole_clusters)
    labels = list(dict.fromkeys([*parts[0], *parts[1]]))
    size = len(labels)
    sums, counts = (np.array([[part.get(x, (0.0, 0))[i] for part in parts] for x in labels]) for i in (0, 1))
    count = int(counts[:, 0].sum())
    top, bottom = sums.sum(axis=0) / counts.sum(axis=0)
    if bottom == 0.0:
        raise FreeUValueError("a share needs a whole whose mean is not 0")
    share = float(top / bottom)
    weights = np.random.default_rng(seed).multinomial(size, np.full(size, 1.0 / size), size=draws).astype(np.float64)
    tops, numbers_of = weights @ sums, weights @ counts
    kept = (numbers_of > 0.0).all(axis=1) & (tops[:, 1] != 0.0)
    if size < 2 or not kept.any():
        return Estimate(share, None, None, count, size)
    means = tops[kept] / numbers_of[kept]
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means[:, 0] / means[:, 1], [tail, 100.0 - tail])
    return Estimate(share, float(low), float(high), count, size)


def _sums(values: Sequence[float | None], clusters: Sequence[Hashable] | None) -> dict[Hashable, tuple[float, int]]:
    """The sum and the number of the values of each cluster that has any."""
    labels: Sequence[Hashable] = range(len(values)) if clusters is None else clusters
    if len(labels) != len(values):
        raise FreeUValueError(f"every value needs a cluster, got {len(values)} values and {len(labels)} clusters")
    found: dict[Hashable, tuple[float, int]] = {}
    for value, label in zip(values, labels, strict=True):
        if value is None:
            continue
        if not math.isfinite(value):
            raise FreeUValueError(f"values must be finite, got {value}")
        total, number = found.get(label, (0.0, 0))
        found[label] = total + value, number + 1
    if not found:
        raise FreeUValueError("there is no value to average: all are missing")
    return found


def ratio_interval(
    tops: Floats,
    bottoms: Floats,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    method: str = "percentile",
    seed: int = 0,
) -> tuple[float | None, float | None]:
    """Bootstrap interval of ``sum(tops) / sum(bottoms)`` over pairs drawn together; (None, None) for a single pair."""
    from scipy.stats import bootstrap

    if not 0.0 < level < 1.0:
        raise FreeUValueError(f"level must lie between 0 and 1, got {level:g}")
    if len(tops) < 2:
        return None, None
    if method == "expanded":
        # Percentiles this far out are set by few draws, so there are more of them.
        level, draws, method = _expanded(level, len(tops)), 5 * draws, "percentile"
    value = float(tops.sum() / bottoms.sum())
    if np.ptp(tops / bottoms) <= 1e-14 * abs(value):  # BCa is not defined where nothing varies
        return value, value

    def ratio(top: Floats, bottom: Floats, axis: int = -1) -> Floats:
        return np.asarray(top.sum(axis=axis) / bottom.sum(axis=axis))

    found = bootstrap(
        (tops, bottoms),
        ratio,
        paired=True,
        vectorized=True,
        confidence_level=level,
        n_resamples=draws,
        batch=max(1, 2_000_000 // len(tops)),
        method=method,
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _expanded(level: float, clusters: int) -> float:
    """The level at which percentiles of a bootstrapped mean reach as far as Student's interval does at ``level``."""
    from scipy.stats import norm, t

    reach = math.sqrt(clusters / (clusters - 1)) * t.ppf(0.5 + level / 2.0, clusters - 1)
    return float(2.0 * norm.cdf(reach) - 1.0)
