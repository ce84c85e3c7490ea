"""A ranking of several arms from pairwise votes: Bradley & Terry 1952, with ties after Davidson 1970."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freeu.errors import FreeUValueError
from freeu.extras import need
from freeu.intervals import LEVEL
from freeu.study.statistics.ballots import Floats, select
from freeu.study.statistics.clustering import Interval, cell_sums, percentile_interval, resampled_sums
from freeu.study.store.votes import Answer

DRAWS = 500
"""Number of bootstrap resamples; every resample is fitted separately."""
MOST_LOST = 0.01
"""With a larger share of resamples without a finite estimate, no interval is given."""
_FAR, _STEPS = 10.0, 200


@dataclass(frozen=True)
class Ranking:
    """Bradley-Terry scores of the arms.

    Args:
        arms: names, in the given order.
        scores: log-strengths with mean 0. The probability that arm i is chosen over arm j, ties excluded, is
            1 / (1 + exp(score_j - score_i)).
        strengths: exp(scores), normalized to sum 1.
        intervals: confidence intervals of the scores over raters and prompts; None where nothing can be resampled or
            too many resamples have no finite estimate.
        first_chance: for each arm, the share of resamples in which it ranks first.
        ties: Davidson's nu: two arms of equal strength tie with probability nu / (2 + nu). 0 without ties.
        votes: number of votes.
        lost: number of resamples without a finite estimate, which are discarded.
    """

    arms: tuple[str, ...]
    scores: tuple[float, ...]
    strengths: tuple[float, ...]
    intervals: tuple[Interval, ...] | None
    first_chance: tuple[float, ...] | None
    ties: float
    votes: int
    lost: int

    def chance(self, arm: str, other: str) -> float:
        """Probability that ``arm`` is chosen over ``other``, ties excluded."""
        return float(1.0 / (1.0 + np.exp(self.scores[self.arms.index(other)] - self.scores[self.arms.index(arm)])))


def rank_arms(
    answers: Sequence[Answer],
    question: str,
    arms: Sequence[str],
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Ranking:
    """Fit the votes on a question by maximum likelihood, with intervals over raters and prompts.

    Args:
        answers: of one study; only kind "vote" counts.
        question: name of the question.
        arms: at least 2 names.
        level: confidence level of the intervals.
        draws: number of pigeonhole-bootstrap resamples (``resampled_sums``); 0 skips the bootstrap.
        seed: of the bootstrap.

    Raises:
        FreeUValueError: the votes do not determine a ranking (see ``fit_scores``).
    """
    need("study", "scipy")
    number = len(arms)
    quantities, raters, prompts = [], [], []
    for i in range(number):
        for j in range(i + 1, number):
            ballots = select(answers, question, arms[i], arms[j])
            rows = np.zeros((2 * number * number, len(ballots)))
            for cell, outcome in ((i * number + j, 0.0), (j * number + i, 1.0), (number * (number + i) + j, 0.5)):
                rows[cell] = ballots.outcome == outcome
            rows[number * (number + j) + i] = rows[number * (number + i) + j]
            quantities.append(rows)
            raters.append(ballots.raters)
            prompts.append(ballots.prompts)
    cells = cell_sums(np.concatenate(quantities, axis=1), np.concatenate(raters), np.concatenate(prompts))
    wins, ties = cells.sum(axis=(1, 2)).reshape(2, number, number)
    scores, nu = fit_scores(wins, ties, arms)
    resampled, lost = _resampled_scores(cells, number, draws, seed)
    usable = len(resampled) > 1 and lost <= MOST_LOST * draws
    strengths = np.exp(scores - scores.max())
    return Ranking(
        tuple(arms),
        tuple(scores.tolist()),
        tuple((strengths / strengths.sum()).tolist()),
        tuple(percentile_interval(column, level) for column in resampled.T) if usable else None,
        tuple((np.bincount(resampled.argmax(axis=1), minlength=number) / len(resampled)).tolist()) if usable else None,
        nu,
        int(wins.sum() + ties.sum() / 2),
        lost,
    )


def fit_scores(wins: Floats, ties: Floats, arms: Sequence[str]) -> tuple[Floats, float]:
    """Maximum-likelihood scores.

    Without ties this is the Bradley-Terry model. With ties, the probabilities of "arm i", "arm j" and "tie" are
    proportional to pi_i, pi_j and nu sqrt(pi_i pi_j) (Davidson 1970).

    Args:
        wins: (k, k), number of votes for arm i over arm j.
        ties: (k, k), symmetric, number of ties between arms i and j.
        arms: (k,), names for error messages.

    Returns:
        (k,) scores with mean 0, and nu (0 without ties).

    Raises:
        FreeUValueError: the likelihood has no finite maximum: some arms were never compared with the others, or never
            lost against them (Ford 1957).
    """
    from scipy.sparse.csgraph import connected_components

    groups, labels = connected_components(wins + ties > 0.0, directed=False)
    if groups > 1:
        apart = " and ".join(f"({_names(arms, labels == group)})" for group in range(groups))
        raise FreeUValueError(
            f"no ranking: {apart} were never compared with each other: collect more votes, or rank each group alone"
        )
    scores, log_nu, found = _maximise(wins[None], ties[None])
    if not found[0]:
        if not wins.any():
            raise FreeUValueError("no ranking: every vote is a tie: collect more votes")
        groups, labels = connected_components(wins > 0.0, directed=True, connection="strong")
        unbeaten = next(g for g in range(groups) if not wins[np.ix_(labels != g, labels == g)].any())
        names = _names(arms, labels == unbeaten)
        raise FreeUValueError(
            f"no ranking: {names} never lost to any other arm: collect more votes, or compare fewer arms"
        )
    return scores[0], float(np.exp(log_nu[0])) if ties.any() else 0.0


def _names(arms: Sequence[str], wanted: Floats) -> str:
    return ", ".join(arm for arm, is_in in zip(arms, wanted, strict=True) if is_in)


def _resampled_scores(cells: Floats, number: int, draws: int, seed: int) -> tuple[Floats, int]:
    """Scores of the resamples with finite scores, (n, k), and the number of resamples without."""
    if not draws or max(cells.shape[1:]) < 2:
        return np.zeros((0, number)), 0
    sums = resampled_sums(cells, draws, seed).reshape(draws, 2, number, number)
    scores, _, found = _maximise(sums[:, 0], sums[:, 1])
    return scores[found], int(draws - found.sum())


def _maximise(wins: Floats, ties: Floats) -> tuple[Floats, Floats, Floats]:
    """Newton's method with step halving, for many tables of votes at once; the likelihood is concave.

    Args:
        wins, ties: (b, k, k).

    Returns:
        (b, k) scores with mean 0, (b,) log nu, and (b,) whether the maximum is finite.
    """
    size, number, _ = wins.shape
    has_ties = ties.any(axis=(1, 2))
    values = np.zeros((size, number + 1))
    values[:, -1] = np.where(has_ties, 0.0, -np.inf)
    totals = wins + wins.transpose(0, 2, 1) + ties
    scale = np.maximum(totals.sum(axis=(1, 2)) / 2.0, 1.0)
    level = _likelihood(values, wins, ties)
    for _ in range(_STEPS):
        gradient, information = _derivatives(values, totals, wins, ties)
        # Scores are determined up to a constant, and nu is undetermined without ties: both directions are regularized.
        information[:, :number, :number] += scale[:, None, None]
        information[:, number, number] += np.where(has_ties, 0.0, 1.0)
        information += 1e-12 * scale[:, None, None] * np.eye(number + 1)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        step /= np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True) / 2.0)
        for _ in range(30):
            trial = _likelihood(values + step, wins, ties)
            worse = trial < level - 1e-9 * scale
            if not worse.any():
                break
            step[worse] /= 2.0
        values, level = values + step, trial
        if (np.abs(gradient).max(axis=1) <= 1e-11 * scale).all() or np.abs(step).max() < 1e-13:
            break
    scores = values[:, :-1] - values[:, :-1].mean(axis=1, keepdims=True)
    # The maximum is finite where the graph of wins is strongly connected (Ford 1957). Ties can make it finite
    # elsewhere too; where they do not, the scores diverge.
    finite = _connected(wins) | (has_ties & (np.abs(scores).max(axis=1) < _FAR))
    return scores, values[:, -1], finite & wins.any(axis=(1, 2))


def _connected(wins: Floats) -> Floats:
    """(b,), whether the directed graph of wins is strongly connected."""
    reached = (wins > 0.0) | np.eye(wins.shape[1], dtype=np.bool_)
    for _ in range(wins.shape[1].bit_length()):
        reached = np.matmul(reached, reached)
    return np.asarray(reached.all(axis=(1, 2)))


def _log_chances(values: Floats) -> tuple[Floats, Floats]:
    """log P(i over j) and log P(tie), each (b, k, k)."""
    half = (values[:, :-1, None] - values[:, None, :-1]) / 2.0
    tie = np.broadcast_to(values[:, -1, None, None], half.shape)
    total = np.logaddexp(np.logaddexp(half, -half), tie)
    return half - total, tie - total


def _likelihood(values: Floats, wins: Floats, ties: Floats) -> Floats:
    won, tied = _log_chances(values)
    tied = np.where(ties > 0.0, tied, 0.0)  # 0 times minus infinity
    return np.asarray((wins * won).sum(axis=(1, 2)) + (ties * tied).sum(axis=(1, 2)) / 2.0)


def _derivatives(values: Floats, totals: Floats, wins: Floats, ties: Floats) -> tuple[Floats, Floats]:
    """Gradient (b, k + 1) and information (b, k + 1, k + 1) in the scores and log nu.

    A vote for i over j counts 1 for i, a tie counts 0.5. The gradient is the observed minus the expected count, the
    information is the covariance of the counts.
    """
    number = wins.shape[1]
    won, tied = (np.exp(one) for one in _log_chances(values))
    expected = won + tied / 2.0
    off = 1.0 - np.eye(number)
    spread = totals * (won + tied / 4.0 - expected**2) * off
    mixed = totals * tied * (0.5 - expected) * off
    information = np.zeros((len(values), number + 1, number + 1))
    information[:, :number, :number] = -spread
    information[:, range(number), range(number)] = spread.sum(axis=2)
    information[:, :number, number] = information[:, number, :number] = mixed.sum(axis=2)
    information[:, number, number] = (totals * tied * (1.0 - tied) * off).sum(axis=(1, 2)) / 2.0
    gradient = np.zeros((len(values), number + 1))
    gradient[:, :number] = ((wins + ties / 2.0 - totals * expected) * off).sum(axis=2)
    gradient[:, number] = ((ties - totals * tied) * off).sum(axis=(1, 2)) / 2.0
    return gradient, information
