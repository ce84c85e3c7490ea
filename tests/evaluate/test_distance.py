"""Frechet and kernel distance against the textbook formulas, closed forms and cases worked by hand."""

import numpy as np
import pytest
import scipy.linalg
import tolerances

from freeu.errors import FreeUValueError
from freeu.evaluate import (
    frechet_distance,
    frechet_floor,
    frechet_from_moments,
    frechet_limit,
    kernel_distance,
    kernel_distance_difference,
    kernel_distance_interval,
    kernel_distance_subsets,
)


def sample(n, d, seed, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


def textbook_frechet(x, y):
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T))
    shift = x.mean(0) - y.mean(0)
    return float(shift @ shift + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root.real))


def textbook_kernel(x, y):
    def k(a, b):
        return (float(np.dot(a, b)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize(("n", "m"), [(60, 50), (60, 9), (9, 60)])
def test_frechet_equals_the_textbook(n, m):
    x, y = sample(n, 8, 1), sample(m, 8, 2, 0.5, 1.7)
    want = textbook_frechet(x, y)
    assert frechet_distance(x, y) == pytest.approx(want, rel=tolerances.DISTANCE)
    moments = (x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_from_moments(*moments) == pytest.approx(want, rel=tolerances.DISTANCE)


def test_frechet_with_fewer_pictures_than_dimensions():
    x, y = sample(5, 40, 1), sample(7, 40, 2, 0.3)
    moments = (x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    # Squaring halves the digits of singular covariances.
    assert frechet_distance(x, y) == pytest.approx(frechet_from_moments(*moments), rel=tolerances.SINGULAR)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=tolerances.SINGULAR)
    assert frechet_distance(x + 2.0, x) == pytest.approx(4.0 * 40, rel=tolerances.DISTANCE)


def test_frechet_of_one_dimension_by_hand():
    # Means 1 and 4; unbiased variances 2 and 8: 9 + (sqrt 2 - sqrt 8)^2 = 9 + 2.
    assert frechet_distance([[0.0], [2.0]], [[2.0], [6.0]]) == pytest.approx(11.0)


def test_frechet_of_known_gaussians():
    mu, nu = np.array([1.0, 0.0]), np.zeros(2)
    assert frechet_from_moments(mu, np.diag([4.0, 9.0]), nu, np.diag([1.0, 1.0])) == pytest.approx(1 + 1 + 4)


def test_the_bias_at_small_n_and_what_is_offered_against_it():
    x, y = sample(400, 10, 1), sample(4000, 10, 2)
    small = frechet_distance(x[:40], y)
    assert small > 3 * frechet_distance(x, y) > 0
    assert abs(frechet_limit(x, y)) < 0.5 * frechet_distance(x, y)
    floor = frechet_floor(y, 40)
    assert floor is not None
    assert 0.5 < floor / small < 2.0
    assert frechet_floor(y, 2001) is None


def test_kernel_equals_explicit_loops():
    x, y = sample(11, 6, 1), sample(7, 6, 2, 0.5)
    assert kernel_distance(x, y) == pytest.approx(textbook_kernel(x, y), rel=tolerances.DISTANCE)


def test_kernel_by_hand():
    # One dimension: k(0, 0) = 1, k(1, 1) = 8, k(0, 1) = 1, so 1 + 8 - 2.
    assert kernel_distance([[0.0], [0.0]], [[1.0], [1.0]]) == pytest.approx(7.0)


def test_kernel_is_unbiased():
    values = [kernel_distance(sample(10, 4, 2 * i), sample(10, 4, 2 * i + 1)) for i in range(300)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0


def test_kernel_subsets():
    x, y = sample(30, 4, 1), sample(40, 4, 2, 0.5)
    mean, deviation = kernel_distance_subsets(x, y, subsets=200, size=15)
    assert mean == pytest.approx(kernel_distance(x, y), abs=4 * deviation / np.sqrt(200))
    with pytest.raises(FreeUValueError, match="size of 2 to 30"):
        kernel_distance_subsets(x, y, size=31)


def test_the_interval_covers_as_often_as_it_says():
    # True value of N(0.5, 1) against N(0, 1) in one dimension, from large samples.
    truth = kernel_distance(sample(4000, 1, 91, 0.5), sample(4000, 1, 92))
    hits = 0
    for trial in range(100):
        found = kernel_distance_interval(sample(60, 1, 2 * trial, 0.5), sample(80, 1, 2 * trial + 1), draws=300)
        hits += found.low <= truth <= found.high
    assert hits >= 85  # of 100 at 95 %; 84 or fewer has a chance below 1e-4


def test_paired_differences_are_tighter_than_separate_intervals():
    reference, base = sample(80, 3, 1), sample(60, 3, 2, 0.6)
    moved = base - 0.2
    clusters = [i // 2 for i in range(60)]
    difference = kernel_distance_difference(moved, base, reference, clusters, draws=500)
    alone = kernel_distance_interval(moved, reference, clusters, draws=500)
    assert difference.value == pytest.approx(kernel_distance(moved, reference) - kernel_distance(base, reference))
    assert difference.high < 0
    assert difference.high - difference.low < alone.high - alone.low
    assert (difference.count, difference.clusters) == (60, 30)
    same = kernel_distance_difference(base, base, reference, clusters, draws=50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_bad_features_are_named(measure):
    good = sample(4, 3, 1)
    with pytest.raises(FreeUValueError, match="the first set holds 1 image and at least 2"):
        measure(good[:1], good)
    with pytest.raises(FreeUValueError, match="got 3 and 2 wide"):
        measure(good, good[:, :2])
    with pytest.raises(FreeUValueError, match="shape \\(4,\\)"):
        measure(good, good[:, 0])
    with pytest.raises(FreeUValueError, match="not finite"):
        measure(good, good * np.nan)
    with pytest.raises(FreeUValueError, match="at least 8"):
        frechet_limit(good, good)
