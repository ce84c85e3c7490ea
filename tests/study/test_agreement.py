"""Krippendorff's alpha against another implementation; consistency, checks and the preference for a side."""

import krippendorff
import numpy as np
import pytest

from freeu.study.statistics.agreement import agreement, checks_passed, consistency, nominal_alpha, position_bias
from freeu.study.statistics.simulate import Behaviour, bare_plan, simulate_votes
from freeu.study.store.votes import Answer, answers


def counts_of(ratings):
    """(raters, units) with NaN for missing, as (units, values) counts."""
    values = np.unique(ratings[~np.isnan(ratings)])
    return np.stack([(ratings == value).sum(axis=0) for value in values], axis=1)


@pytest.mark.parametrize("seed", range(20))
def test_alpha_with_missing_ratings(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 25)
    ratings = np.where(rng.random((8, 25)) < 0.6, truth, rng.integers(0, 3, (8, 25))).astype(float)
    ratings[rng.random((8, 25)) < rng.choice([0.1, 0.5, 0.8])] = np.nan
    known = krippendorff.alpha(ratings, level_of_measurement="nominal")
    assert nominal_alpha(counts_of(ratings)) == pytest.approx(known, abs=1e-12)


def test_alpha_by_hand_and_where_it_is_not_defined():
    # Two raters, two values: observed disagreement 2 of 8, expected 2 * 5 * 3 / (8 * 7).
    assert nominal_alpha([[2, 0], [2, 0], [0, 2], [1, 1]]) == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert nominal_alpha([[3, 0], [0, 2]]) == 1.0
    assert nominal_alpha([[3, 0], [2, 0]]) is None
    assert nominal_alpha([[1, 0], [0, 1]]) is None


def answer(rater="r", pair="p", winner="first", *, prompt=0, kind="vote", left="first", arms=("a", "b"), seconds=2.0):
    return Answer(rater, pair, prompt, "quality", kind, *arms, winner, left, seconds)


def test_a_unit_is_a_pair_and_a_value_the_arm():
    given = [
        answer("x", "p1", "first"),
        answer("y", "p1", "first"),
        # The other way round in the plan, yet the same arms: both chose a.
        answer("x", "p2", "second", prompt=1, arms=("b", "a")),
        answer("y", "p2", "second", prompt=1, arms=("b", "a")),
        answer("x", "p3", "tie", prompt=2),
        answer("y", "p3", "second", prompt=2),
        answer("x", "p4", "first", prompt=3),  # nobody to agree with
        answer("y", "p1", "second", kind="repeat"),
    ]
    found = agreement(given, "quality")
    assert (found.units, found.votes) == (3, 6)
    assert found.observed == pytest.approx(2 / 3)
    assert found.alpha == pytest.approx(nominal_alpha([[2, 0, 0], [2, 0, 0], [0, 1, 1]]))
    assert found.interval[0] <= found.alpha <= found.interval[1]
    nothing = agreement(given, "alignment")
    assert (nothing.alpha, nothing.observed, nothing.units) == (None, None, 0)


def test_alpha_sees_whether_prompts_differ_and_not_how_large_the_preference_is():
    plan = bare_plan(30, 20)
    one_sided = answers(plan, simulate_votes(plan, Behaviour({"arm 1": 1.7})))
    split = answers(plan, simulate_votes(plan, Behaviour(prompt_spread=3.0)))
    assert abs(agreement(one_sided, "quality").alpha) < 0.05
    assert agreement(one_sided, "quality").observed > 0.65
    assert agreement(split, "quality").alpha > 0.25


def test_who_always_takes_the_left_one_repeats_nothing():
    given = [answer("x", "p1", "first", left="first"), answer("x", "p1", "second", left="second", kind="repeat")]
    assert consistency(given).value == 0.0
    given += [answer("y", "p1", "first", left="second"), answer("y", "p1", "first", left="first", kind="repeat")]
    found = consistency(given)
    assert (found.value, found.count, found.clusters) == (0.5, 2, 2)
    assert consistency(given[:1]) is None
    assert consistency([given[1]]) is None  # the first answer is not there


def test_in_a_check_the_clean_one_is_right_and_a_tie_is_wrong():
    given = [answer(kind="check", winner=winner) for winner in ("first", "first", "second", "tie")]
    assert (checks_passed(given).value, checks_passed(given).count) == (0.5, 4)
    assert checks_passed([answer()]) is None


def test_a_preference_for_the_left_is_found_and_turns_no_result_round():
    plan = bare_plan(30, 20, ties=True)
    behaviour = {"strengths": {"arm 1": 0.8}, "rater_spread": 0.4, "ties": 0.1}
    biased = position_bias(answers(plan, simulate_votes(plan, Behaviour(left_bias=0.8, **behaviour))))
    fair = position_bias(answers(plan, simulate_votes(plan, Behaviour(**behaviour))))
    assert biased.clustered[0] > 0.55
    assert biased.p_clustered < 1e-4
    assert fair.clustered[0] < 0.5 < fair.clustered[1]
    assert biased.votes < 1200  # ties say nothing of sides
    assert biased.left == round(biased.share * biased.votes)


def test_sides_without_votes():
    assert position_bias([]).share is None
    assert position_bias([answer(winner="tie")]).votes == 0
    one = position_bias([answer()])
    assert (one.share, one.clustered, one.p_clustered) == (1.0, None, None)
