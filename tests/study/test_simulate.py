"""Simulated raters do what was asked of them: shares, spreads, ties, spammers, times; the same for the same seed."""

import math
import statistics
from collections import Counter

import numpy as np
import pytest

from freeu.errors import FreeUValueError
from freeu.study.statistics.simulate import Behaviour, SimulatedRaters, bare_plan, simulate_votes, strengths_for_share
from freeu.study.store.votes import answers


@pytest.fixture(scope="module")
def wide():
    return bare_plan(400, 20)


@pytest.fixture(scope="module")
def long():
    return bare_plan(20, 400)


def shares(plan, behaviour, by, seed=0):
    """The share of votes for the second arm of each rater or prompt, on either question."""
    counts = Counter(), Counter()
    for one in answers(plan, simulate_votes(plan, behaviour, seed)):
        key = getattr(one, by), one.question
        counts[0][key] += one.winner == "second"
        counts[1][key] += 1
    return np.array([counts[0][key] / counts[1][key] for key in counts[1]])


def spread_of(spread):
    """Standard deviation of logistic(spread * normal)."""
    values = 1 / (1 + np.exp(-spread * np.random.default_rng(0).normal(size=400_000)))
    return values.std()


@pytest.mark.parametrize("spread", [0.5, 1.5])
def test_raters_differ_as_much_as_asked(wide, spread):
    found = shares(wide, Behaviour(rater_spread=spread), "rater")
    sampling = (found * (1 - found)).mean() / 19  # the unbiased variance of a share of 20 votes
    assert math.sqrt(found.var() - sampling) == pytest.approx(spread_of(spread), rel=0.1)


@pytest.mark.parametrize("spread", [0.5, 1.5])
def test_prompts_differ_as_much_as_asked(long, spread):
    found = shares(long, Behaviour(prompt_spread=spread), "prompt")
    sampling = (found * (1 - found)).mean() / 19
    assert math.sqrt(found.var() - sampling) == pytest.approx(spread_of(spread), rel=0.1)


@pytest.mark.parametrize("left_bias", [0.0, 1.0])
def test_the_share_over_all_is_the_one_that_was_asked(wide, left_bias):
    behaviour = Behaviour(strengths_for_share("arm 0", "arm 1", 0.8), rater_spread=1.2, left_bias=left_bias)
    found = shares(wide, behaviour, "rater")
    assert found.mean() == pytest.approx(0.8, abs=3 * found.std() / math.sqrt(len(found)))


def test_questions_may_have_strengths_of_their_own(wide):
    votes = answers(wide, simulate_votes(wide, Behaviour({"arm 1": 1.0}, {"quality": {"arm 1": -1.0}})))
    for question, share in (("alignment", 1 / (1 + math.exp(-1))), ("quality", 1 / (1 + math.exp(1)))):
        found = [one.winner == "second" for one in votes if one.question == question]
        assert np.mean(found) == pytest.approx(share, abs=0.015)


def test_ties_checks_spammers_and_times():
    plan = bare_plan(100, 10, checks=2, ties=True)
    behaviour = Behaviour(ties=0.3, spammers=0.25, spammer_seconds=0.5, attention=0.9, seconds=6.0)
    crowd = SimulatedRaters(plan, behaviour)
    assert len(crowd.spammers) == 25
    honest = [one for one in answers(plan, crowd.votes()) if int(one.rater[10:]) not in crowd.spammers]
    votes = [one for one in honest if one.kind == "vote"]
    assert np.mean([one.winner == "tie" for one in votes]) == pytest.approx(0.3, abs=0.03)
    checks = [one for one in honest if one.kind == "check"]
    assert np.mean([one.winner == "first" for one in checks]) == pytest.approx(0.9, abs=0.05)
    assert statistics.median(one.seconds for one in honest) == pytest.approx(6.0, rel=0.1)
    spam = [one for one in answers(plan, crowd.votes()) if int(one.rater[10:]) in crowd.spammers]
    assert statistics.median(one.seconds for one in spam) == pytest.approx(0.5, rel=0.1)
    right = [one.winner == "first" for one in spam if one.kind == "check" and one.winner != "tie"]
    assert np.mean(right) == pytest.approx(0.5, abs=0.2)
    # Where the plan offers no ties nobody says tie.
    plain = bare_plan(5, 10)
    assert {vote.choice for vote in simulate_votes(plain, behaviour)} == {"left", "right"}


def test_an_answer_depends_on_seed_and_slot_alone():
    plan = bare_plan(5, 6)
    behaviour = Behaviour(rater_spread=1.0, prompt_spread=1.0)
    crowd = SimulatedRaters(plan, behaviour, 7)
    late = crowd.answer(3)
    assert SimulatedRaters(plan, behaviour, 7).answer(3) == late
    assert [(vote.task, vote.choice, vote.seconds) for vote in crowd.votes() if vote.rater == "simulated-3"] == [
        (task.id, choice, seconds) for task, choice, seconds in late
    ]
    assert simulate_votes(plan, behaviour, 7) == crowd.votes()
    assert simulate_votes(plan, behaviour, 8) != crowd.votes()
    assert crowd.votes(2) == [vote for vote in crowd.votes() if vote.rater in ("simulated-0", "simulated-1")]
    times = [vote.time for vote in crowd.votes(1)]
    assert times == sorted(times)


def test_what_cannot_be_simulated_is_refused():
    with pytest.raises(FreeUValueError, match="spammers must lie between 0 and 1, got 20"):
        Behaviour(spammers=20)
    with pytest.raises(FreeUValueError, match="rater_spread must be finite and at least 0, got -1"):
        Behaviour(rater_spread=-1)
    with pytest.raises(FreeUValueError, match="between 0 and 1, got 1"):
        strengths_for_share("a", "b", 1.0)
