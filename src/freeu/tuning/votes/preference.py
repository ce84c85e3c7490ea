"""From votes between two settings to a preference over all of them.

Every setting x has a utility f(x) with a Gaussian process as its prior, and a is chosen over b with probability
1 / (1 + exp(f(b) - f(a))): the model of Bradley & Terry (1952) with a smooth utility (Chu & Ghahramani 2005). As f
enters by differences alone, this is Gaussian process classification of pairs (a, b) with the covariance of
f(a) - f(b), which scikit-learn computes (Laplace's approximation).

A vote for neither counts as one for each: of the model of ties of Rao & Kupper (1967) this is the limit of a small
threshold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from freeu.extras import load_package
from freeu.tuning.votes.space import Floats

sklearn: Any = load_package("sklearn.gaussian_process", "scikit-learn")
kernels: Any = sklearn.kernels

REFIT = 10
"""Votes between two fits of the prior's scale and length."""
SCALE = kernels.ConstantKernel(4.0, (0.25, 50.0))
"""Prior variance of a utility, in squared logits."""
LENGTH = kernels.RBF(0.7, (0.3, 2.0))
"""How far settings must lie apart for their utilities to differ, in ranges."""


class DifferenceKernel(kernels.Kernel):  # type: ignore[misc]
    """The covariance of f(a) - f(b) and f(c) - f(d), where f has another kernel; rows are (a, b) side by side."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        found = {"kernel": self.kernel}
        if deep:
            found |= {f"kernel__{name}": value for name, value in self.kernel.get_params().items()}
        return found

    @property
    def hyperparameters(self) -> list[Any]:
        return list(self.kernel.hyperparameters)

    @property
    def theta(self) -> Floats:
        return np.asarray(self.kernel.theta)

    @theta.setter
    def theta(self, theta: Floats) -> None:
        self.kernel.theta = theta

    @property
    def bounds(self) -> Floats:
        return np.asarray(self.kernel.bounds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DifferenceKernel) and self.kernel == other.kernel

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Any:
        half = X.shape[1] // 2
        if eval_gradient:
            assert Y is None
            whole, gradient = self.kernel(np.vstack([X[:, :half], X[:, half:]]), eval_gradient=True)
            return _of_blocks(whole, len(X)), _of_blocks(gradient, len(X))
        other = X if Y is None else Y
        stacked = self.kernel(np.vstack([X[:, :half], X[:, half:]]), np.vstack([other[:, :half], other[:, half:]]))
        return _of_blocks(stacked, len(X))

    def diag(self, X: Floats) -> Floats:
        half = X.shape[1] // 2
        first, second = X[:, :half], X[:, half:]
        # Kernels of scikit-learn have no elementwise form: in blocks, so that no large matrix is made.
        mixed = [np.diagonal(self.kernel(first[at : at + 64], second[at : at + 64])) for at in range(0, len(X), 64)]
        return np.asarray(self.kernel.diag(first) + self.kernel.diag(second) - 2.0 * np.concatenate(mixed))

    def is_stationary(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"DifferenceKernel({self.kernel!r})"


def _of_blocks(whole: Floats, rows: int) -> Floats:
    """k(a, c) - k(a, d) - k(b, c) + k(b, d) from the covariances of all of them."""
    columns = whole.shape[1] // 2
    top = whole[:rows, :columns] - whole[:rows, columns:]
    return np.asarray(top - whole[rows:, :columns] + whole[rows:, columns:])


@dataclass(frozen=True)
class Compared:
    """Votes as arrays.

    Args:
        first, second: (n, d), points of the settings.
        outcome: (n,), 1 where the first was chosen, 0 where the second was, 0.5 for neither.
    """

    first: Floats
    second: Floats
    outcome: Floats

    def __len__(self) -> int:
        return len(self.outcome)

    def before(self, count: int) -> Compared:
        """The first votes."""
        return Compared(self.first[:count], self.second[:count], self.outcome[:count])


class Preference:
    """What votes say of all settings.

    Args:
        votes: in the order in which they were given; may be none.
    """

    def __init__(self, votes: Compared) -> None:
        self._model: Any = None
        self._votes = len(votes)
        if len(votes):
            fitted = votes.before(len(votes) // REFIT * REFIT)
            kernel = _fit(fitted, DifferenceKernel(SCALE * LENGTH), "fmin_l_bfgs_b").kernel_ if len(fitted) else None
            self._model = _fit(votes, kernel or DifferenceKernel(SCALE * LENGTH), None)

    def differences(self, several: Floats, others: Floats) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation of f(x) - f(y), in logits.

        Args:
            several, others: (n, d); or others (d,), the same for all.

        Returns:
            (n,) each.
        """
        pairs = np.hstack([several, np.broadcast_to(others, several.shape)])
        if self._model is None:
            kernel = DifferenceKernel(SCALE * LENGTH)
            return np.zeros(len(pairs)), np.sqrt(np.maximum(kernel.diag(pairs), 0.0))
        mean, variance = self._model.latent_mean_and_variance(pairs)
        return np.asarray(mean), np.sqrt(np.maximum(variance, 0.0))


def _fit(votes: Compared, kernel: DifferenceKernel, optimizer: str | None) -> Any:
    """A classifier of the pairs; every other one is turned round, so that there are both classes."""
    first, second, outcome = votes.first, votes.second, votes.outcome
    tied = outcome == 0.5
    rows = np.vstack([np.hstack([first, second]), np.hstack([second, first])[tied]])
    won = np.concatenate([np.where(tied, 1.0, outcome), np.ones(int(tied.sum()))])
    turned = np.arange(len(rows)) % 2 == 1
    half = first.shape[1]
    rows[turned] = np.roll(rows[turned], half, axis=1)
    won[turned] = 1.0 - won[turned]
    if len(set(won.tolist())) < 2:  # one vote, or all alike: the same votes, one of them turned round and back
        rows = np.vstack([rows, np.roll(rows[-1:], half, axis=1)])
        won = np.append(won, 1.0 - won[-1])
    with warnings.catch_warnings():
        # A scale or length at its bound is no fault: the bounds are what few votes may say of them.
        warnings.simplefilter("ignore", load_package("sklearn.exceptions", "scikit-learn").ConvergenceWarning)
        return sklearn.GaussianProcessClassifier(kernel, optimizer=optimizer, random_state=0).fit(rows, won)


def as_compared(rows: Sequence[tuple[Floats, Floats, float]], dimensions: int) -> Compared:
    """Votes from (first, second, outcome)."""
    firsts = np.array([row[0] for row in rows]).reshape(len(rows), dimensions)
    seconds = np.array([row[1] for row in rows]).reshape(len(rows), dimensions)
    return Compared(firsts, seconds, np.array([row[2] for row in rows], dtype=np.float64))
