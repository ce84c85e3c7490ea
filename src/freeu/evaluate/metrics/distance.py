"""Distances between two sets of feature vectors, Frechet (FID) and kernel (KID), and their bias at small n."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError
from freeu.intervals import DRAWS, LEVEL, Estimate
from freeu.wording import counted

Floats = NDArray[np.float64]


def features_of(name: str, values: Any, least: int = 2) -> Floats:
    """Feature vectors as a float64 array of shape (n, d).

    Raises:
        FreeUValueError: another shape, fewer than ``least`` rows, or a value that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 1:
        raise FreeUValueError(f"{name} must be features of shape (images, dimensions), got shape {array.shape}")
    if len(array) < least:
        raise FreeUValueError(f"{name} holds {counted(len(array), 'image')} and at least {least} are needed: add more")
    if not np.isfinite(array).all():
        raise FreeUValueError(f"{name} holds values that are not finite")
    return array


def _pair(x: Any, y: Any, least: int = 2) -> tuple[Floats, Floats]:
    a, b = features_of("the first set", x, least), features_of("the second set", y, least)
    if a.shape[1] != b.shape[1]:
        raise FreeUValueError(f"both sets must come from the same features, got {a.shape[1]} and {b.shape[1]} wide")
    return a, b


# -- Frechet --------------------------------------------------------------------------------------------------------


def frechet_distance(x: Any, y: Any) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets (FID; Heusel et al. 2017, Eq. 6).

    |mu_x - mu_y|^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2)) with unbiased covariances. With centred rows A and B,
    S_x = A^T A / (n-1) and S_y = B^T B / (m-1), the trace of the root is the sum of the singular values of A B^T over
    sqrt((n-1)(m-1)): no covariance is formed and no matrix root taken, so it is exact for fewer images than dimensions.

    The estimate is biased upwards, the more the fewer images (Binkowski et al. 2018, sec. 3.3; Chong & Forsyth
    2020): two halves of one set are not at distance 0. Compare only values of equal n, against ``frechet_floor``, and
    look at ``frechet_limit``.

    Args:
        x, y: features, shapes (n, d) and (m, d); at least 2 rows each. Arithmetic in float64.

    Returns:
        a number of at least 0, in squared units of the features.

    Raises:
        FreeUValueError: other shapes, too few rows, values that are not finite.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> round(frechet_distance(x, x + 1.0), 6)
    2.0
    """
    a, b = _pair(x, y)
    shift = a.mean(axis=0) - b.mean(axis=0)
    roots = [_root(values) for values in (a, b)]
    spread = sum(float((root**2).sum()) for root in roots)
    cross = float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())
    return max(0.0, float(shift @ shift) + spread - 2.0 * cross)


def _root(values: Floats) -> Floats:
    """A matrix R of at most d rows with R^T R the unbiased covariance."""
    centred = (values - values.mean(axis=0)) / np.sqrt(len(values) - 1)
    if len(centred) <= centred.shape[1]:
        return np.asarray(centred)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def frechet_from_moments(mu_x: Any, cov_x: Any, mu_y: Any, cov_y: Any) -> float:
    """``frechet_distance`` from means and covariances, such as published statistics of a reference set.

    Tr (S_x S_y)^(1/2) is the sum of the roots of the eigenvalues of the symmetric R S_y R with R = S_x^(1/2);
    eigenvalues below 0 by rounding count as 0.

    Args:
        mu_x, mu_y: means, shape (d,).
        cov_x, cov_y: covariances, shape (d, d), symmetric.

    Raises:
        FreeUValueError: shapes that do not fit.

    >>> import numpy as np
    >>> frechet_from_moments(np.zeros(2), np.eye(2), np.ones(2), np.eye(2))
    2.0
    """
    means = [np.asarray(mu, dtype=np.float64) for mu in (mu_x, mu_y)]
    covs = [np.asarray(cov, dtype=np.float64) for cov in (cov_x, cov_y)]
    d = means[0].shape[-1] if means[0].ndim == 1 else 0
    if any(mu.shape != (d,) for mu in means) or any(cov.shape != (d, d) for cov in covs):
        shapes = [array.shape for array in (*means, *covs)]
        raise FreeUValueError(f"means must be (d,) and covariances (d, d) with one d, got {shapes}")
    values, vectors = np.linalg.eigh(covs[0])
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covs[1] @ root).clip(0.0)).sum()
    shift = means[0] - means[1]
    return max(0.0, float(shift @ shift + np.trace(covs[0]) + np.trace(covs[1]) - 2.0 * cross))


def frechet_limit(x: Any, reference: Any, points: int = 8, seed: int = 0) -> float:
    """``frechet_distance`` extrapolated to infinitely many images (FID-infinity; Chong & Forsyth 2020).

    The bias is nearly linear in 1/n: distances of random subsets of ``x`` to the whole reference, at ``points`` sizes
    from n/2 to n evenly spaced in 1/n, are fitted by a line whose value at 1/n = 0 is returned. The reference's own
    share of the bias stays, and at small n the result is noisy and may be below 0.

    Args:
        x: features, shape (n, d), n at least 8.
        reference: features, shape (m, d).
        points: sizes to fit, at least 2.
        seed: of the subsets.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> abs(frechet_limit(x + 1.0, x) - 2.0) < 0.2
    True
    """
    a, b = _pair(x, reference)
    features_of("the first set", a, 8)
    if points < 2:
        raise FreeUValueError(f"a line needs at least 2 points, got {points}")
    generator = np.random.default_rng(seed)
    sizes = np.unique(np.round(1.0 / np.linspace(1.0 / len(a), 2.0 / len(a), points)).astype(int))
    values = [frechet_distance(a[generator.choice(len(a), size, replace=False)], b) for size in sizes]
    slope_and_limit: Floats = np.polyfit(1.0 / sizes, values, 1)
    return float(slope_and_limit[1])


def frechet_floor(reference: Any, n: int, seed: int = 0) -> float | None:
    """The distance of real images to real images at the same size: ``n`` random references against all others.

    Returns:
        the distance; None if fewer than ``n`` others would be left.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> frechet_floor(x, 10) > 0.0
    True
    """
    real = features_of("the reference", reference)
    if n < 2 or len(real) - n < n:
        return None
    order = np.random.default_rng(seed).permutation(len(real))
    return frechet_distance(real[order[:n]], real[order[n:]])


# -- kernel ---------------------------------------------------------------------------------------------------------


def _kernel(a: Floats, b: Floats) -> Floats:
    return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3)


def kernel_distance(x: Any, y: Any) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y/d + 1)^3, unbiased (KID; Binkowski et al. 2018, Eq. 4).

    Args:
        x, y: features, shapes (n, d) and (m, d); at least 2 rows each. Arithmetic in float64.

    Returns:
        the estimate on the whole sets; its mean is the true value at every n, so it may fall below 0.

    Raises:
        FreeUValueError: other shapes, too few rows, values that are not finite.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> kernel_distance(x, x + 1.0) > kernel_distance(x, x[::-1])
    True
    """
    a, b = _pair(x, y)
    return _discrepancy(_kernel(a, a), _kernel(b, b), _kernel(a, b))


def _discrepancy(xx: Floats, yy: Floats, xy: Floats) -> float:
    n, m = xy.shape
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(own - 2.0 * xy.mean())


def kernel_distance_subsets(
    x: Any, y: Any, subsets: int = 100, size: int = 1_000, seed: int = 0
) -> tuple[float, float]:
    """The mean and standard deviation of ``kernel_distance`` over random subsets, as KID is often reported.

    Args:
        x, y: as in ``kernel_distance``.
        subsets: how many.
        size: rows of each set in a subset, without replacement; at least 2 and at most the smaller set.

    Raises:
        FreeUValueError: a size out of that range, or what ``kernel_distance`` refuses.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> mean, spread = kernel_distance_subsets(x, x + 1.0, subsets=5, size=20)
    >>> mean > 0.0
    True
    """
    a, b = _pair(x, y)
    if not 2 <= size <= min(len(a), len(b)) or subsets < 1:
        raise FreeUValueError(
            f"subsets need a size of 2 to {min(len(a), len(b))} (the smaller set) and at least one subset, "
            f"got size {size} and {subsets} subsets"
        )
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        parts = [rows[generator.choice(len(rows), size, replace=False)] for rows in (a, b)]
        found.append(kernel_distance(*parts))
    return float(np.mean(found)), float(np.std(found))


def kernel_distance_interval(
    x: Any,
    reference: Any,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """``kernel_distance`` with a percentile bootstrap interval over prompts and references.

    Prompts (clusters of ``x``) and references are sampled with replacement. An image sampled twice is never compared
    with itself: that would count it as a near duplicate and raise the estimate.

    Args:
        x: features, shape (n, d).
        reference: features, shape (m, d).
        clusters: a label for each row of ``x``; None makes each its own.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> found = kernel_distance_interval(x, x + 1.0)
    >>> found.low < found.value < found.high
    True
    """
    a, b = _pair(x, reference)
    rows, columns, labels = _weights(len(a), len(b), clusters, draws, seed)
    values = _weighted(a, b, rows, columns)
    return _estimate(kernel_distance(a, b), values, len(a), labels, level)


def kernel_distance_difference(
    x: Any,
    baseline: Any,
    reference: Any,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """``kernel_distance`` of ``x`` minus that of ``baseline``, resampled together; below 0 means that ``x`` is nearer.

    Args:
        x, baseline: features of the same prompts and seeds in the same order, shape (n, d).
        reference, clusters, level, draws, seed: as in ``kernel_distance_interval``.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> kernel_distance_difference(x + 1.0, x, x).value > 0.0
    True
    """
    a, b = _pair(x, reference)
    base, _ = _pair(baseline, reference)
    if len(a) != len(base):
        raise FreeUValueError(f"a paired difference needs equal numbers of images, got {len(a)} and {len(base)}")
    rows, columns, labels = _weights(len(a), len(b), clusters, draws, seed)
    values = _weighted(a, b, rows, columns) - _weighted(base, b, rows, columns)
    return _estimate(kernel_distance(a, b) - kernel_distance(base, b), values, len(a), labels, level)


def _weights(n: int, m: int, clusters: Sequence[Hashable] | None, draws: int, seed: int) -> tuple[Floats, Floats, int]:
    """How often each row and each reference is sampled, shapes (draws, n) and (draws, m); the number of clusters."""
    labels = list(range(n)) if clusters is None else list(clusters)
    if len(labels) != n:
        raise FreeUValueError(f"every image needs a cluster, got {n} images and {len(labels)} clusters")
    numbers: dict[Hashable, int] = {}
    member = np.array([numbers.setdefault(label, len(numbers)) for label in labels])
    generator = np.random.default_rng(seed)
    size = len(numbers)
    rows = generator.multinomial(size, np.full(size, 1.0 / size), size=draws)[:, member]
    columns = generator.multinomial(m, np.full(m, 1.0 / m), size=draws)
    return rows.astype(np.float64), columns.astype(np.float64), size


def _weighted(a: Floats, b: Floats, rows: Floats, columns: Floats) -> Floats:
    """The discrepancy under the weights of each resample; NaN for a resample that holds only one row."""
    xx, yy = _kernel(a, a), _kernel(b, b)
    np.fill_diagonal(xx, 0.0)
    np.fill_diagonal(yy, 0.0)

    def own(kernel: Floats, weights: Floats) -> Floats:
        pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
        pairs[pairs == 0.0] = np.nan
        return np.asarray(((weights @ kernel) * weights).sum(axis=1) / pairs)

    cross = ((rows @ _kernel(a, b)) * columns).sum(axis=1) / (rows.sum(axis=1) * columns.sum(axis=1))
    return np.asarray(own(xx, rows) + own(yy, columns) - 2.0 * cross)


def _estimate(value: float, values: Floats, count: int, clusters: int, level: float) -> Estimate:
    values = values[np.isfinite(values)]
    if clusters < 2 or len(values) == 0:
        return Estimate(value, None, None, count, clusters)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return Estimate(value, float(low), float(high), count, clusters)
