"""Shares: ties, Wilson, the clustered interval, the pigeonhole bootstrap, and what they keep of what they promise."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from freeu.errors import FreeUValueError
from freeu.evaluate import mean_interval
from freeu.study.statistics.ballots import Ballots, select
from freeu.study.statistics.clustering import (
    cell_sums,
    clustered_interval,
    clustered_test,
    effective_size,
    pigeonhole_interval,
    resampled_sums,
    wilson_interval,
)
from freeu.study.statistics.proportions import by_prompt, holm, proportion
from freeu.study.statistics.simulate import Behaviour, bare_plan, simulate_votes, strengths_for_share
from freeu.study.store.votes import answers


def ballots(outcome, raters=None, prompts=None):
    """Ballots of these outcomes; without labels every vote is of a rater of its own, on one prompt."""
    number = len(outcome)
    return Ballots(
        np.array(outcome, dtype=np.float64),
        np.arange(number) if raters is None else np.array(raters),
        np.zeros(number, dtype=np.int64) if prompts is None else np.array(prompts),
        np.zeros(number, dtype=np.bool_),
    )


def random_ballots(seed, raters=7, prompts=5, number=60):
    """Votes scattered over raters and prompts, several in some cells and none in others."""
    rng = np.random.default_rng(seed)
    who, what = rng.integers(0, raters, number), rng.integers(0, prompts, number)
    return ballots(rng.choice([0.0, 0.5, 1.0], number, p=[0.3, 0.1, 0.6]), who, what)


@pytest.mark.parametrize(("wins", "votes"), [(0, 1), (0, 20), (3, 10), (10, 20), (599, 600), (84, 84)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(wins, votes, level):
    found = proportion(ballots([1.0] * wins + [0.0] * (votes - wins)), level=level, draws=0)
    known = binomtest(wins, votes).proportion_ci(level, method="wilson")
    assert found.wilson == pytest.approx((known.low, known.high), abs=1e-12)
    assert found.p_exact == binomtest(wins, votes).pvalue


def test_ties_count_half_or_not_at_all():
    votes = ballots([1.0] * 6 + [0.0] * 2 + [0.5] * 4)
    half, without = proportion(votes), proportion(votes, "without")
    assert (half.share, half.votes, half.ties) == (8 / 12, 12, "half")
    assert (without.share, without.votes) == (6 / 8, 8)
    assert half.p_exact == without.p_exact == binomtest(6, 8).pvalue
    assert half.wilson == pytest.approx(wilson_interval(8 / 12, 12, norm.ppf(0.975)))
    with pytest.raises(FreeUValueError, match="unknown way of counting ties 'halve'"):
        proportion(votes, "halve")


def test_one_vote_a_rater_is_worth_one_vote():
    known = effective_size(np.array([1.0] * 30 + [0.0] * 10), np.arange(40), np.zeros(40, dtype=np.int64))
    assert known.votes == pytest.approx(39.0)  # the unbiased variance
    assert known.freedom == 39


def test_raters_who_never_waver_are_worth_one_vote_each():
    raters, prompts = np.repeat(np.arange(10), 20), np.tile(np.arange(20), 10)
    outcome = np.repeat([1.0] * 7 + [0.0] * 3, 20)
    assert effective_size(outcome, raters, prompts).votes == pytest.approx(9.0, rel=1e-9)
    # The same with the factors exchanged: prompts that everybody judges alike.
    assert effective_size(outcome, prompts, raters).votes == pytest.approx(9.0, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_variance_is_that_of_two_way_clustering(seed):
    votes = random_ballots(seed)
    share, number = votes.outcome.mean(), len(votes)
    deviations = votes.outcome - share

    def variance(alike):
        """Sum over every two votes that are alike, as Cameron, Gelbach and Miller write it; and the groups."""
        groups = len({alike(n) for n in range(number)})
        both = itertools.product(range(number), repeat=2)
        total = sum(deviations[i] * deviations[j] for i, j in both if alike(i) == alike(j))
        return total / number**2 * groups / (groups - 1)

    raters = variance(lambda n: votes.raters[n])
    prompts = variance(lambda n: votes.prompts[n])
    cells = variance(lambda n: (votes.raters[n], votes.prompts[n]))
    expected = max(raters, prompts, raters + prompts - cells, variance(lambda n: n))
    known = effective_size(votes.outcome, votes.raters, votes.prompts)
    assert share * (1 - share) / known.votes == pytest.approx(expected, rel=1e-9)
    assert known.freedom == min(len(set(votes.raters)), len(set(votes.prompts))) - 1


@pytest.mark.parametrize("seed", range(8))
def test_interval_and_test_agree(seed):
    votes = random_ballots(seed)
    known, share = effective_size(votes.outcome, votes.raters, votes.prompts), votes.outcome.mean()
    p_value = clustered_test(share, known)
    for level in (1 - p_value - 0.01, min(0.9999, 1 - p_value + 0.01)):
        if 0 < level < 1:
            low, high = clustered_interval(share, known, level)
            assert (low <= 0.5 <= high) == (p_value >= 1 - level)


def test_unanimous_votes_leave_doubt():
    raters, prompts = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)
    found = proportion(ballots([1.0] * 24, raters, prompts))
    assert found.share == 1.0
    assert found.effective == 4.0
    assert found.clustered[0] < found.wilson[0]
    assert found.clustered[1] == 1.0
    assert found.bootstrap is None


def test_too_few_votes_give_no_interval():
    alone = proportion(ballots([1.0, 0.0], [3, 3], [5, 5]))
    assert (alone.share, alone.clustered, alone.bootstrap, alone.p_clustered) == (0.5, None, None, None)
    nothing = proportion(ballots([]))
    assert (nothing.share, nothing.votes, nothing.wilson, nothing.p_exact) == (None, 0, None, None)
    # One rater whose votes cancel on each prompt: a variance of 0 must not count as certainty.
    cancelling = proportion(ballots([1.0, 0.0, 1.0, 0.0], [0] * 4, [0, 0, 1, 1]))
    assert cancelling.effective < 4.0
    assert cancelling.clustered[0] < 0.1


def test_the_bootstrap_draws_raters_and_prompts_apart():
    votes = random_ballots(0)
    cells = cell_sums(np.stack([votes.outcome, np.ones(len(votes))]), votes.raters, votes.prompts)
    assert cells.sum(axis=(1, 2)).tolist() == [votes.outcome.sum(), len(votes)]
    drawn = resampled_sums(cells, draws=3, seed=4)
    rng = np.random.default_rng(4)
    of_raters = rng.multinomial(7, np.full(7, 1 / 7), size=3)
    of_prompts = rng.multinomial(5, np.full(5, 1 / 5), size=3)
    for number in range(3):
        weights = of_raters[number][votes.raters] * of_prompts[number][votes.prompts]
        assert drawn[number] == pytest.approx([(weights * votes.outcome).sum(), weights.sum()])
    found = pigeonhole_interval(votes.outcome, votes.raters, votes.prompts, seed=1)
    assert found == pigeonhole_interval(votes.outcome, votes.raters, votes.prompts, seed=1)
    assert found != pigeonhole_interval(votes.outcome, votes.raters, votes.prompts, seed=2)


def test_on_one_prompt_the_bootstrap_is_that_over_raters():
    votes = random_ballots(3, raters=30, prompts=1, number=300)
    found = pigeonhole_interval(votes.outcome, votes.raters, votes.prompts, draws=20_000)
    known = mean_interval(votes.outcome.tolist(), votes.raters.tolist(), draws=20_000)
    assert found == pytest.approx((known.low, known.high), abs=0.006)


def test_turning_the_arms_turns_the_numbers():
    plan = bare_plan(12, 8, ties=True)
    behaviour = Behaviour(strengths_for_share("arm 0", "arm 1", 0.8), ties=0.2, rater_spread=0.5)
    given = answers(plan, simulate_votes(plan, behaviour))
    one = select(given, "quality", "arm 0", "arm 1")
    other = select(given, "quality", "arm 1", "arm 0")
    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
    assert one.second_left.tolist() == (~other.second_left).tolist()
    found, turned = proportion(one), proportion(other)
    assert found.share == pytest.approx(1 - turned.share)
    for name in ("wilson", "clustered", "bootstrap"):
        assert getattr(found, name) == pytest.approx([1 - end for end in reversed(getattr(turned, name))])
    assert 0.7 < found.share < 0.9


def test_each_prompt_speaks_for_itself():
    votes = ballots([1.0, 1.0, 0.0, 0.0, 0.0, 0.5], [0, 1, 2, 0, 1, 2], [4, 4, 4, 9, 9, 9])
    found = by_prompt(votes)
    assert {prompt: one.share for prompt, one in found.items()} == {4: 2 / 3, 9: pytest.approx(0.5 / 3)}
    assert all(one.bootstrap is None and one.clustered is not None for one in found.values())


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_a_level_outside_0_to_1_is_refused():
    with pytest.raises(FreeUValueError, match="level must lie between 0 and 1"):
        proportion(random_ballots(0), level=95)


STUDIES = 200


def _rates(spread, truth):
    """Of 200 studies: how often each interval holds the truth, and how often each test rejects one half."""
    plan = bare_plan(24, 12)
    behaviour = Behaviour(
        strengths_for_share("arm 0", "arm 1", truth), rater_spread=spread, prompt_spread=spread, left_bias=0.2
    )
    found = []
    for seed in range(STUDIES // 2):
        given = answers(plan, simulate_votes(plan, behaviour, seed))  # each question is a study of its own
        found += [
            proportion(select(given, question, "arm 0", "arm 1"), draws=400, seed=seed)
            for question in ("alignment", "quality")
        ]

    def covers(name):
        return np.mean([getattr(one, name)[0] <= truth <= getattr(one, name)[1] for one in found])

    rates = {name: covers(name) for name in ("wilson", "clustered", "bootstrap")}
    rates |= {name: np.mean([getattr(one, name) <= 0.05 for one in found]) for name in ("p_exact", "p_clustered")}
    return rates, np.array([one.share for one in found])


ERROR = (0.95 * 0.05 / STUDIES) ** 0.5  # 1.5 %


def test_coverage_and_size_where_raters_and_prompts_differ():
    rates, _ = _rates(0.7, 0.5)
    assert abs(rates["clustered"] - 0.95) <= 3 * ERROR
    assert abs(rates["p_clustered"] - 0.05) <= 3 * ERROR
    assert rates["bootstrap"] >= 0.95 - 2 * ERROR
    # What takes votes as independent promises far too much: that is why it is not the main result.
    assert rates["wilson"] < 0.85
    assert rates["p_exact"] > 0.15


def test_coverage_and_size_where_all_are_alike():
    rates, _ = _rates(0.0, 0.5)
    assert abs(rates["wilson"] - 0.95) <= 3 * ERROR
    assert rates["clustered"] >= 0.95 - 2 * ERROR
    assert rates["p_clustered"] <= 0.05 + 2 * ERROR
    assert rates["bootstrap"] >= 0.97  # safe, and wider than it need be


def test_a_planted_preference_is_recovered():
    rates, shares = _rates(0.7, 0.7)
    assert abs(shares.mean() - 0.7) <= 3 * shares.std() / STUDIES**0.5
    assert abs(rates["clustered"] - 0.95) <= 3 * ERROR
    assert rates["p_clustered"] > 0.8  # found by most studies of this size
