"""The design: balance within raters and over them, for every number of raters who come."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freeu.errors import FreeUValueError
from freeu.study.plan.design import GAP, make_design, spare_slots

PAPER = {"prompts": list(range(35)), "arms": 2, "raters": 35, "pairs_per_rater": 20}
SEEDS = {"prompts": [number // 3 for number in range(60)], "arms": 2, "raters": 17, "pairs_per_rater": 13}
FOUR = {"prompts": list(range(12)), "arms": 4, "raters": 30, "pairs_per_rater": 20}
SPARSE = {"prompts": list(range(9)), "arms": 6, "raters": 40, "pairs_per_rater": 9}
CASES = pytest.mark.parametrize("case", [PAPER, SEEDS, FOUR, SPARSE], ids=["paper", "seeds", "four", "sparse"])


def votes(slot):
    return [trial for trial in slot if trial.kind == "vote"]


def lean(trials):
    """Lefts less rights."""
    return sum(1 if trial.first_left else -1 for trial in trials)


def spread(counts, keys):
    found = [counts[key] for key in keys]
    return max(found) - min(found)


@CASES
def test_every_pair_is_asked_equally_often_by_any_number_of_raters(case):
    design = make_design(**case, seed=1)
    asked, arms = Counter(), Counter()
    kinds = list(itertools.combinations(range(case["arms"]), 2))
    for slot in design.slots:
        assert len(votes(slot)) == len({trial.number for trial in votes(slot)}) == case["pairs_per_rater"]
        asked.update(trial.number for trial in votes(slot))
        arms.update((design.pairs[trial.number].first, design.pairs[trial.number].second) for trial in votes(slot))
        assert spread(asked, range(len(design.pairs))) <= 1
        assert spread(arms, kinds) <= 1


@CASES
def test_sides_are_balanced_within_raters_and_over_them(case):
    design = make_design(**case, seed=2)
    over: Counter[int] = Counter()
    for slot in design.slots:
        assert abs(lean(votes(slot))) <= 1
        for kind in itertools.combinations(range(case["arms"]), 2):
            own = [
                trial
                for trial in votes(slot)
                if (design.pairs[trial.number].first, design.pairs[trial.number].second) == kind
            ]
            assert abs(lean(own)) <= 1
        assert abs(lean(trial for trial in slot if trial.kind == "check")) <= 1
        for trial in votes(slot):
            over[trial.number] += 1 if trial.first_left else -1
            assert abs(over[trial.number]) <= 1


@CASES
def test_prompts_are_spread(case):
    design = make_design(**case, seed=3)
    fair = -(-case["pairs_per_rater"] // len(set(case["prompts"])))
    for slot in design.slots:
        order = [case["prompts"][design.pairs[trial.number].group] for trial in votes(slot)]
        # With more arms, being asked equally often and being balanced over pairs of arms come first.
        assert max(Counter(order).values()) <= fair + (0 if case["arms"] == 2 else 2)


def test_a_prompt_comes_once_before_any_comes_again():
    prompts = [number // 4 for number in range(40)]
    design = make_design(prompts, 2, raters=5, pairs_per_rater=20, checks=0, repeats=0, seed=4)
    for slot in design.slots:
        order = [prompts[design.pairs[trial.number].group] for trial in slot]
        assert len(set(order[:10])) == len(set(order[10:])) == 10


@pytest.mark.parametrize(("arms", "pairs"), [(3, 2), (5, 4), (6, 9), (4, 6), (4, 7)])
def test_each_rater_connects_all_arms(arms, pairs):
    design = make_design(list(range(7)), arms, raters=20, pairs_per_rater=pairs, checks=1, repeats=0, seed=5)
    for slot in design.slots:
        group = {arm: {arm} for arm in range(arms)}
        for trial in votes(slot):
            pair = design.pairs[trial.number]
            merged = group[pair.first] | group[pair.second]
            for arm in merged:
                group[arm] = merged
        assert len(group[0]) == arms


@CASES
def test_checks_and_repeats(case):
    design = make_design(**case, checks=3, repeats=2, seed=6)
    uses = Counter()
    for slot in design.slots:
        kinds = [trial.kind for trial in slot]
        assert kinds[0] == "vote"
        places = [place for place, kind in enumerate(kinds) if kind == "check"]
        assert len(places) == 3
        third = len(slot) / 3
        for part, place in enumerate(places):
            assert part * third - 2 <= place <= (part + 1) * third + 1
        assert all(later - earlier > 1 for earlier, later in itertools.pairwise(places))
        checks = [trial.number for trial in slot if trial.kind == "check"]
        assert len(set(checks)) == 3
        uses.update(checks)
        repeats = [(place, trial) for place, trial in enumerate(slot) if trial.kind == "repeat"]
        assert len({trial.number for _, trial in repeats}) == 2
        for place, trial in repeats:
            before = next(p for p, one in enumerate(slot) if one.kind == "vote" and one.number == trial.number)
            assert slot[before].first_left is not trial.first_left
            assert place - before > GAP
    assert spread(uses, range(len(design.checks))) <= 1
    assert len(set(design.checks)) == len(design.checks) == 12


def test_seed_and_only_the_seed_decides():
    assert make_design(**PAPER, seed=7) == make_design(**PAPER, seed=7)
    one, other = make_design(**PAPER, seed=7), make_design(**PAPER, seed=8)
    assert one.slots != other.slots


def test_order_and_sides_are_random():
    """Over seeds, each pair stands at each place, and on each side, as often as chance gives."""
    runs, first, left, outer = 400, Counter(), 0, 0
    for seed in range(runs):
        design = make_design(list(range(8)), 2, raters=3, spare=0, pairs_per_rater=8, checks=0, repeats=0, seed=seed)
        first[design.slots[0][0].number] += 1
        left += sum(trial.first_left for slot in design.slots for trial in slot if trial.number == 0)
        outer += design.slots[0][0].first_left
    # Six standard deviations of 400 throws of 1/8 (6.6) and of 1/2 (10); sides of three raters are 1 or 2 lefts.
    assert all(abs(first[number] - runs / 8) < 40 for number in range(8))
    assert abs(left - 1.5 * runs) < 60
    assert abs(outer - runs / 2) < 60


def test_what_nobody_is_asked_is_left_out():
    design = make_design(list(range(100)), 2, raters=2, spare=0, pairs_per_rater=7, repeats=0, seed=9)
    assert len(design.pairs) == 14
    assert {trial.number for slot in design.slots for trial in votes(slot)} == set(range(14))


def test_spare_slots():
    assert [spare_slots(raters) for raters in (1, 10, 11, 35, 120)] == [2, 2, 3, 7, 24]
    assert len(make_design(**PAPER).slots) == 42
    assert len(make_design(**PAPER, spare=0).slots) == 35


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": []}, "at least one prompt"),
        ({"arms": 1}, "at least 2 arms, got 1"),
        ({"raters": 0}, "raters must be at least 1, got 0"),
        ({"spare": -1}, "spare slots must be at least 0"),
        ({"pairs_per_rater": 36}, "at most 35"),
        ({"pairs_per_rater": 0}, "at least 1"),
        ({"arms": 5, "pairs_per_rater": 3}, "at least 4 to connect all 5 arms"),
        ({"repeats": 11}, "repeats must be at most 10"),
        ({"pairs_per_rater": 4, "repeats": 1}, "repeats must be at most 0"),
        ({"checks": 23}, "checks must be at most 22"),
        ({"checks": -1}, "checks must be at least 0"),
        ({"repeats": -1}, "repeats must be at least 0"),
    ],
)
def test_bad_numbers(changes, words):
    with pytest.raises(FreeUValueError, match=words):
        make_design(**(PAPER | changes))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_balance_holds_for_any_sizes(data):
    arms = data.draw(st.integers(2, 5))
    prompts = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    pairs = len(prompts) * arms * (arms - 1) // 2
    each = data.draw(st.integers(min(arms - 1, pairs), min(pairs, 12)))
    design = make_design(
        prompts, arms, raters=data.draw(st.integers(1, 12)), pairs_per_rater=each, checks=1, repeats=0, seed=1
    )
    asked, over = Counter(), Counter()
    for slot in design.slots:
        assert len({trial.number for trial in votes(slot)}) == each
        assert abs(lean(votes(slot))) <= 1
        asked.update(trial.number for trial in votes(slot))
        for trial in votes(slot):
            over[trial.number] += 1 if trial.first_left else -1
    assert all(abs(value) <= 1 for value in over.values())
    if arms == 2:
        assert spread(asked, range(len(design.pairs))) <= 1
