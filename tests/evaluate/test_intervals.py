"""Bootstrap intervals: whole clusters are generated, coverage is what it says, missing values and ties do no harm."""

import numpy as np
import pytest

from freeu.errors import FreeUValueError
from freeu.evaluate import mean_interval, paired_interval


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_coverage_with_pictures_of_one_prompt_alike(method):
    hits = naive = 0
    for trial in range(120):
        generator = np.random.default_rng(trial)
        values = (generator.normal(size=(40, 1)) + 0.1 * generator.normal(size=(40, 4))).ravel()
        clusters = np.repeat(np.arange(40), 4).tolist()
        found = mean_interval(values.tolist(), clusters, draws=400, method=method)
        hits += found.low <= 0.0 <= found.high
        alone = mean_interval(values.tolist(), draws=400, method=method)
        naive += alone.low <= 0.0 <= alone.high
    assert hits >= 103  # of 120 at 95 %
    assert naive < 95  # images taken as independent would promise too much


def test_a_handful_of_clusters_needs_the_expanded_interval():
    hits = {"percentile": 0, "expanded": 0}
    for trial in range(300):
        values = np.random.default_rng(trial).normal(size=6).tolist()
        for method in hits:
            found = mean_interval(values, draws=400, method=method)
            hits[method] += found.low <= 0.0 <= found.high
    assert hits["percentile"] < 270  # of 300: below 90 %, where 95 % is claimed
    assert hits["expanded"] >= 277  # two standard errors below 95 %
    many = np.random.default_rng(0).normal(size=400).tolist()
    plain, expanded = (mean_interval(many, method=method) for method in hits)
    assert expanded.high - expanded.low == pytest.approx(plain.high - plain.low, rel=0.03)


def test_mean_of_clusters_of_different_size():
    found = mean_interval([1.0, 1.0, 4.0, None], ["a", "a", "b", "c"])
    assert (found.value, found.count, found.clusters) == (2.0, 3, 2)
    assert 1.0 <= found.low <= found.high <= 4.0


def test_equal_values_and_single_clusters():
    same = mean_interval([0.5] * 6, method="BCa")
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)
    alone = mean_interval([1.0, 2.0], ["a", "a"])
    assert (alone.value, alone.low, alone.high, alone.clusters) == (1.5, None, None, 1)


def test_paired_differences_leave_broken_pairs_out():
    found = paired_interval([2.0, 3.0, None], [1.0, 1.0, 5.0])
    assert (found.value, found.count) == (1.5, 2)
    assert found == paired_interval([2.0, 3.0, None], [1.0, 1.0, 5.0])  # the seed is fixed


def test_bad_values_are_named():
    with pytest.raises(FreeUValueError, match="all are missing"):
        mean_interval([None])
    with pytest.raises(FreeUValueError, match="finite, got nan"):
        mean_interval([1.0, float("nan")])
    with pytest.raises(FreeUValueError, match="2 values and 1 clusters"):
        mean_interval([1.0, 2.0], ["a"])
    with pytest.raises(FreeUValueError, match="equal lengths, got 2 and 1"):
        paired_interval([1.0, 2.0], [1.0])
    with pytest.raises(FreeUValueError, match="level must lie"):
        mean_interval([1.0, 2.0], level=1.5)
