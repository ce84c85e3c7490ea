"""Who is left out: each rule at its border, and a planted preference behind a fifth of spammers."""

import numpy as np
import pytest

from freeu.study.plan.plan import Rules
from freeu.study.statistics.ballots import select
from freeu.study.statistics.exclusion import repeats, summarize_raters
from freeu.study.statistics.proportions import proportion
from freeu.study.statistics.simulate import Behaviour, SimulatedRaters, bare_plan, strengths_for_share
from freeu.study.store.votes import Vote, answers

RULES = Rules(least_checks=0.75, least_seconds=1.0, most_hasty=0.25, least_consistency=0.5)


def kept(plan, votes):
    """The votes of the raters who count."""
    found = summarize_raters(plan, votes)
    return [vote for vote in votes if not found[vote.rater].excluded]


@pytest.fixture(scope="module")
def plan():
    """One slot of 8 pairs, 2 checks and 2 repeats, each under 2 questions."""
    return bare_plan(1, 8, checks=2, repeats=2, rules=RULES)


def vote_all(plan, *, wrong_checks=0, hasty=0, other_repeats=0, kinds=("vote", "check", "repeat"), tie=False):
    """One rater's votes: the first item always, but for what is asked for."""
    votes = []
    for task in plan.slots[0]:
        if task.kind not in kinds:
            continue
        first = True
        choice = ""
        if task.kind == "check" and wrong_checks > 0:
            wrong_checks -= 1
            first, choice = False, "tie" if tie else ""
        if task.kind == "repeat" and other_repeats > 0:
            other_repeats -= 1
            first = False
        seconds = 0.999 if hasty > 0 else 1.0
        hasty -= 1
        choice = choice or ("left" if first == task.first_left else "right")
        votes.append(Vote("someone", task.id, choice, seconds, "2024-01-01T09:00:00.000+00:00", plan.sha256))
    return votes


def rules_broken(plan, votes):
    return [reason.rule for reason in summarize_raters(plan, votes)["someone"].reasons]


def test_each_rule_at_its_border(plan):
    assert rules_broken(plan, vote_all(plan)) == []
    assert rules_broken(plan, vote_all(plan, wrong_checks=1)) == []  # 3 of 4
    assert rules_broken(plan, vote_all(plan, wrong_checks=2)) == ["checks"]
    assert rules_broken(plan, vote_all(plan, wrong_checks=2, tie=True)) == ["checks"]
    assert rules_broken(plan, vote_all(plan, hasty=6)) == []  # 6 of 24
    assert rules_broken(plan, vote_all(plan, hasty=7)) == ["hasty"]
    assert rules_broken(plan, vote_all(plan, other_repeats=2)) == []  # 2 of 4
    assert rules_broken(plan, vote_all(plan, other_repeats=3)) == ["consistency"]
    assert rules_broken(plan, vote_all(plan, other_repeats=3, hasty=9, wrong_checks=4)) == [
        "checks",
        "hasty",
        "consistency",
    ]


def test_the_figures_stand_beside_the_reasons(plan):
    found = summarize_raters(plan, vote_all(plan, wrong_checks=2, hasty=7))["someone"]
    assert (found.votes, found.checks, found.checks_right, found.answered, found.hasty) == (16, 4, 2, 24, 7)
    assert (found.repeats, found.repeats_same, found.seconds) == (4, 4, 1.0)
    assert [(one.found, one.limit) for one in found.reasons] == [(0.5, 0.75), (7 / 24, 0.25)]
    assert "2 of 4 attention checks passed, 75 % required" in found.reasons[0].text
    assert "7 of 24 answers faster than 1 s, at most 25 % allowed" in found.reasons[1].text
    assert found.excluded


def test_who_left_early_has_failed_nothing_but_must_have_voted(plan):
    first = vote_all(plan, kinds=("vote",))[:1]
    assert rules_broken(plan, first) == []
    assert rules_broken(plan, vote_all(plan, kinds=("check",))) == ["no vote"]
    assert summarize_raters(plan, []) == {}


def test_a_repeat_is_compared_with_the_same_question_of_the_same_pair(plan):
    votes = vote_all(plan, other_repeats=1)
    assert [same for _, same in repeats(answers(plan, votes))].count(False) == 1
    turned = [vote for vote in votes if plan.task(vote.task)[1].question == "quality"]
    assert len(repeats(answers(plan, turned))) == 2


def test_votes_of_others_stay_as_they_are():
    plan = bare_plan(10, 8, checks=2, repeats=2)
    crowd = SimulatedRaters(plan, Behaviour(spammers=0.3, spammer_seconds=0.2), 2)
    votes = crowd.votes()
    left = kept(plan, votes)
    out = {vote.rater for vote in votes} - {vote.rater for vote in left}
    assert out == {f"simulated-{slot}" for slot in crowd.spammers}
    assert left == [vote for vote in votes if vote.rater not in out]


def test_a_planted_preference_is_found_behind_spammers():
    plan = bare_plan(30, 20, checks=4, repeats=2)
    behaviour = Behaviour(strengths_for_share("arm 0", "arm 1", 0.7), rater_spread=0.5, prompt_spread=0.5, spammers=0.2)
    everyone, counted, caught, innocent = [], [], 0, 0
    for seed in range(25):
        crowd = SimulatedRaters(plan, behaviour, seed)
        votes = crowd.votes()
        left = kept(plan, votes)
        out = {vote.rater for vote in votes} - {vote.rater for vote in left}
        guilty = {f"simulated-{slot}" for slot in crowd.spammers}
        caught, innocent = caught + len(out & guilty), innocent + len(out - guilty)
        for question in ("alignment", "quality"):
            for shares, of in ((everyone, votes), (counted, left)):
                shares.append(proportion(select(answers(plan, of), question, "arm 0", "arm 1"), draws=0).share)
    error = np.std(counted) / len(counted) ** 0.5
    assert abs(np.mean(counted) - 0.7) <= 3 * error
    assert np.mean(everyone) == pytest.approx(0.8 * 0.7 + 0.2 * 0.5, abs=3 * error)  # a fifth of them voted by chance
    assert caught >= 0.99 * 25 * 6
    assert innocent <= 0.02 * 25 * 24
