"""Bradley-Terry: equal to a second estimator, with ties to a third; undetermined rankings say why."""

import choix
import numpy as np
import pytest
from scipy.optimize import minimize

from freeu.errors import FreeUValueError
from freeu.study.statistics.ballots import select
from freeu.study.statistics.ranking import fit_scores, rank_arms
from freeu.study.statistics.simulate import Behaviour, bare_plan, simulate_votes
from freeu.study.store.votes import answers

ARMS = [f"arm {number}" for number in range(6)]


def random_votes(seed, number=5, ties=False):
    rng = np.random.default_rng(seed)
    wins = rng.integers(1, 30, (number, number)).astype(float)
    wins[rng.random((number, number)) < 0.2] = 0.0
    np.fill_diagonal(wins, 0.0)
    tied = np.triu(rng.integers(0, 12, (number, number)), 1).astype(float) if ties else np.zeros((number, number))
    return wins, tied + tied.T


def _determined(wins):
    """Whether every arm can be reached from every other by wins (Ford 1957)."""
    steps = np.linalg.matrix_power((wins > 0) + np.eye(len(wins)), len(wins))
    return bool((steps > 0).all())


@pytest.mark.parametrize("seed", [n for n in range(20) if _determined(random_votes(n, 2 + n % 5)[0])])
def test_without_ties_it_is_choix(seed):
    wins, ties = random_votes(seed, 2 + seed % 5)
    data = [(i, j) for i in range(len(wins)) for j in range(len(wins)) for _ in range(int(wins[i, j]))]
    known = choix.ilsr_pairwise(len(wins), data, max_iter=1_000, tol=1e-12)
    scores, nu = fit_scores(wins, ties, ARMS[: len(wins)])
    assert nu == 0.0
    assert scores == pytest.approx(known, abs=1e-6)
    assert scores == pytest.approx(choix.opt_pairwise(len(wins), data, alpha=0.0, tol=1e-10), abs=1e-5)
    assert scores.mean() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_with_ties_it_is_davidsons_maximum(seed):
    wins, ties = random_votes(seed, 4, ties=True)

    def cost(values):
        """Davidson 1970, as he writes it."""
        pi, nu = np.exp(values[:4]), np.exp(values[4])
        total = 0.0
        for i in range(4):
            for j in range(4):
                if i != j:
                    tie = nu * np.sqrt(pi[i] * pi[j])
                    whole = pi[i] + pi[j] + tie
                    total -= wins[i, j] * np.log(pi[i] / whole) + ties[i, j] / 2 * np.log(tie / whole)
        return total + values[:4].sum() ** 2  # the scale is free: hold the sum

    known = minimize(cost, np.zeros(5), method="BFGS", options={"gtol": 1e-7})
    scores, nu = fit_scores(wins, ties, ARMS[:4])
    assert scores == pytest.approx(known.x[:4], abs=1e-5)
    assert nu == pytest.approx(np.exp(known.x[4]), abs=1e-5)


def test_a_long_chain_of_near_certain_wins_is_finite():
    wins = np.zeros((6, 6))
    for stronger in range(1, 6):
        wins[stronger, stronger - 1], wins[stronger - 1, stronger] = 1_000.0, 1.0
    scores, _ = fit_scores(wins, np.zeros((6, 6)), ARMS)
    assert np.diff(scores) == pytest.approx(np.full(5, np.log(1_000)), abs=1e-6)


def test_two_arms_by_hand():
    scores, nu = fit_scores(np.array([[0.0, 30.0], [10.0, 0.0]]), np.zeros((2, 2)), ARMS[:2])
    assert (scores[0] - scores[1], nu) == (pytest.approx(np.log(3)), 0.0)
    scores, nu = fit_scores(np.array([[0.0, 30.0], [10.0, 0.0]]), np.array([[0.0, 20.0], [20.0, 0.0]]), ARMS[:2])
    assert scores[0] - scores[1] == pytest.approx(np.log(3))
    assert nu == pytest.approx(20 / np.sqrt(300))


def test_rankings_that_are_not_determined_say_why():
    none = np.zeros((4, 4))
    apart = none.copy()
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = 5.0
    with pytest.raises(FreeUValueError, match=r"\(arm 0, arm 1\) and \(arm 2, arm 3\) were never compared"):
        fit_scores(apart, none, ARMS[:4])
    unbeaten = np.ones((3, 3)) - np.eye(3)
    unbeaten[:, 2] = 0.0
    with pytest.raises(FreeUValueError, match="arm 2 never lost to any other arm"):
        fit_scores(unbeaten, np.zeros((3, 3)), ARMS[:3])
    # Ties alone do not make it finite: with more and more strength the arm that never lost fits better and better.
    with pytest.raises(FreeUValueError, match="arm 0 never lost"):
        fit_scores(np.array([[0.0, 10.0], [0.0, 0.0]]), np.array([[0.0, 5.0], [5.0, 0.0]]), ARMS[:2])
    with pytest.raises(FreeUValueError, match="every vote is a tie"):
        fit_scores(np.zeros((2, 2)), np.array([[0.0, 5.0], [5.0, 0.0]]), ARMS[:2])


def test_a_planted_ranking_is_recovered_with_its_uncertainty():
    plan = bare_plan(60, 20, 4, pairs_per_rater=20, ties=True)
    planted = np.array([-0.75, -0.25, 0.25, 0.75])
    behaviour = Behaviour(
        dict(zip(ARMS[:4], planted.tolist(), strict=True)), rater_spread=0.5, prompt_spread=0.5, ties=0.15
    )
    errors, hits = [], []
    for seed in range(15):
        given = answers(plan, simulate_votes(plan, behaviour, seed))
        for question in ("alignment", "quality"):
            found = rank_arms(given, question, ARMS[:4], draws=150)
            errors.append(np.array(found.scores) - planted)
            hits += [low <= score <= high for score, (low, high) in zip(planted, found.intervals, strict=True)]
    errors = np.array(errors)
    assert (np.abs(errors.mean(axis=0)) <= 4 * errors.std(axis=0) / len(errors) ** 0.5).all()
    assert np.mean(hits) >= 0.9
    assert found.lost == 0
    assert sum(found.strengths) == pytest.approx(1.0)
    assert found.chance("arm 3", "arm 0") == pytest.approx(1 / (1 + np.exp(found.scores[0] - found.scores[3])))
    assert found.first_chance[3] > 0.8
    assert found.ties > 0.0
    assert found.votes == sum(len(select(given, question, a, b)) for a in ARMS[:4] for b in ARMS[:4] if a < b)


def test_draws_without_a_finite_ranking_leave_no_interval():
    plan = bare_plan(4, 2, 3)
    given = answers(plan, simulate_votes(plan, Behaviour({"arm 2": 2.0}), 3))
    found = rank_arms(given, "quality", ARMS[:3], draws=100)
    assert found.lost > 1
    assert (found.intervals, found.first_chance) == (None, None)
