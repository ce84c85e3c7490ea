"""A ranking of several arms from votes on pairs of them: Bradley & Terry 1952, with ties after Davidson 1970."""

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
"""Of the bootstrap: each draw is a fit of its own."""
MOST_LOST = 0.01
"""A larger share of draws without a finite estimate leaves no interval."""
_FAR, _STEPS = 10.0, 200


@dataclass(frozen=True)
class Ranking:
    """Arms on one scale.

    Args:
        arms: names, as they were given.
        scores: log-strengths with mean 0. The chance that arm i is chosen over arm j, ties aside, is
            1 / (1 + exp(score_j - score_i)).
        strengths: exp(scores), with sum 1.
        intervals: of the scores, over raters and prompts; None where nothing could be resampled or too many draws had
            no finite estimate.
        first_chance: for each arm, the share of draws in which it is first.
        ties: Davidson's nu: two arms of equal strength tie with the chance nu / (2 + nu). 0 without ties.
        votes: that it was made from.
        lost: draws without a finite estimate; they are left out.
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
        """That ``arm`` is chosen over ``other``, ties aside."""
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
        question: its name.
        arms: at least 2 names.
        level: coverage of the intervals.
        draws: of the pigeonhole bootstrap (``resampled_sums``); 0 leaves it out.
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
    drawn, lost = _drawn_scores(cells, number, draws, seed)
    usable = len(drawn) > 1 and lost <= MOST_LOST * draws
    strengths = np.exp(scores - scores.max())
    return Ranking(
        tuple(arms),
        tuple(scores.tolist()),
        tuple((strengths / strengths.sum()).tolist()),
        tuple(percentile_interval(column, level) for column in drawn.T) if usable else None,
        tuple((np.bincount(drawn.argmax(axis=1), minlength=number) / len(drawn)).tolist()) if usable else None,
        nu,
        int(wins.sum() + ties.sum() / 2),
        lost,
    )


def fit_scores(wins: Floats, ties: Floats, arms: Sequence[str]) -> tuple[Floats, float]:
    """Scores of maximum likelihood.

    Without ties this is Bradley & Terry's model. With ties, arm i is chosen over arm j with a chance in proportion to
    pi_i, j to pi_j, neither to nu sqrt(pi_i pi_j) (Davidson 1970).

    Args:
        wins: (k, k), how often arm i was chosen over arm j.
        ties: (k, k), symmetric, how often neither of them was.
        arms: (k,), names for messages.

    Returns:
        (k,) scores with mean 0, and nu (0 without ties).

    Raises:
        FreeUValueError: no finite scores are most likely: some arms were never compared with the others, or never lost
            against them (Ford 1957).
    """
    from scipy.sparse.csgraph import connected_components

    groups, labels = connected_components(wins + ties > 0.0, directed=False)
    if groups > 1:
        apart = " with ".join(f"({_names(arms, labels == group)})" for group in range(groups))
        raise FreeUValueError(f"no ranking: nobody compared {apart}: more votes are needed, or a ranking of each alone")
    scores, log_nu, found = _maximise(wins[None], ties[None])
    if not found[0]:
        if not wins.any():
            raise FreeUValueError("no ranking: every vote is a tie: more votes are needed")
        groups, labels = connected_components(wins > 0.0, directed=True, connection="strong")
        unbeaten = next(g for g in range(groups) if not wins[np.ix_(labels != g, labels == g)].any())
        names = _names(arms, labels == unbeaten)
        raise FreeUValueError(f"no ranking: {names} never lost to any other arm: more votes are needed, or fewer arms")
    return scores[0], float(np.exp(log_nu[0])) if ties.any() else 0.0


def _names(arms: Sequence[str], wanted: Floats) -> str:
    return ", ".join(arm for arm, is_in in zip(arms, wanted, strict=True) if is_in)


def _drawn_scores(cells: Floats, number: int, draws: int, seed: int) -> tuple[Floats, int]:
    """Scores of the draws that have finite ones, (draws, k), and how many have not."""
    if not draws or max(cells.shape[1:]) < 2:
        return np.zeros((0, number)), 0
    sums = resampled_sums(cells, draws, seed).reshape(draws, 2, number, number)
    scores, _, found = _maximise(sums[:, 0], sums[:, 1])
    return scores[found], int(draws - found.sum())


def _maximise(wins: Floats, ties: Floats) -> tuple[Floats, Floats, Floats]:
    """Newton's method with halved steps for many tables of votes at once; the likelihood is concave.

    Args:
        wins, ties: (b, k, k).

    Returns:
        (b, k) scores with mean 0, (b,) log nu, and (b,) whether the maximum is a finite one.
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
        # Scores are determined up to a constant, and nu not at all without ties: both directions are held.
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
    # Where wins lead from every arm to every other the maximum is finite (Ford 1957). Without that it is not, unless
    # ties make up for it: then it shows in scores that run away.
    finite = _connected(wins) | (has_ties & (np.abs(scores).max(axis=1) < _FAR))
    return scores, values[:, -1], finite & wins.any(axis=(1, 2))


def _connected(wins: Floats) -> Floats:
    """(b,), whether wins lead from every arm to every other."""
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

    A choice of i over j counts 1 for i, a tie one half: the gradient is what was counted less what is expected, the
    information the covariance of the counts.
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
