"""Results as data: complete, equal for equal votes, with and without those left out, and nothing but this plan's."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from freeu.errors import FreeUValueError
from freeu.study.plan.plan import Arm
from freeu.study.results.conclusions import conclusions, verdict
from freeu.study.results.results import results
from freeu.study.statistics.ballots import rater_names
from freeu.study.statistics.simulate import Behaviour, SimulatedRaters, bare_plan, simulate_votes, strengths_for_share

BEHAVIOUR = Behaviour(
    strengths_for_share("arm 0", "arm 1", 0.8),
    rater_spread=0.4,
    prompt_spread=0.4,
    ties=0.1,
    spammers=0.2,
    spammer_seconds=0.2,
)


@pytest.fixture(scope="module")
def study():
    plan = bare_plan(20, 10, checks=2, repeats=2, ties=True)
    crowd = SimulatedRaters(plan, BEHAVIOUR, 1)
    votes = crowd.votes()
    return plan, votes, results(plan, votes, draws=500), crowd


def comparison(found, question="quality", analysis="main"):
    return next(one for one in found[analysis]["comparisons"] if one["question"] == question)


def test_it_is_plain_json_and_repeats(study):
    plan, votes, found, _ = study
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert results(plan, votes, draws=500) == found
    assert found["plan"] == plan.sha256
    assert found["demonstration"] is True


def test_with_and_without_those_who_are_left_out(study):
    _, votes, found, crowd = study
    assert found["raters"] == {"planned": 20, "voted": 20, "counted": 16, "excluded": 4}
    out = {one["rater"] for one in found["conduct"] if one["excluded"]}
    assert out == {f"R{slot + 1:03d}" for slot in crowd.spammers}
    assert all(one["reasons"] for one in found["conduct"] if one["excluded"])
    assert (found["main"]["votes"], found["everyone"]["votes"]) == (16 * 20, 20 * 20)
    assert comparison(found)["preference"]["share"] > comparison(found, analysis="everyone")["preference"]["share"]
    assert found["main"]["checks"]["value"] > found["everyone"]["checks"]["value"]
    assert not any(vote.rater in json.dumps(found) for vote in votes)  # ids stay in the database


def test_only_votes_count_and_each_once(study):
    plan, votes, found, crowd = study
    for question in ("alignment", "quality"):
        one = comparison(found, question)
        wanted = [
            vote
            for vote in votes
            if (task := plan.task(vote.task)[1]).kind == "vote"
            and task.question == question
            and plan.task(vote.task)[0] not in crowd.spammers
        ]
        assert one["for_first"] + one["for_second"] + one["tied"] == len(wanted) == 160
        chosen = on_left = 0
        for vote in wanted:
            task = plan.task(vote.task)[1]
            pair = plan.pair(task.pair)
            left, right = (pair.first, pair.second) if task.first_left else (pair.second, pair.first)
            picked = {"left": left, "right": right}.get(vote.choice)
            chosen += picked is not None and plan.item(picked).arm == "arm 1"
            on_left += picked == left and plan.item(picked).arm == "arm 1"
        assert one["for_second"] == chosen
        assert one["second_on_left"]["for_second"] == on_left
        assert one["tied"] == sum(vote.choice == "tie" for vote in wanted)
        for name in ("for_first", "for_second", "tied"):
            assert sum(row[name] for row in one["prompts"]) == one[name]
            assert one["second_on_left"][name] + one["second_on_right"][name] == one[name]
        share = (one["for_second"] + one["tied"] / 2) / 160
        assert one["preference"]["share"] == pytest.approx(share)
        assert one["without_ties"]["votes"] == 160 - one["tied"]


def test_the_paper_stands_beside(study):
    first, second = study[2]["paper"]["tables"]
    assert first["shares"] == {"alignment": [0.1542, 0.8458], "quality": [0.1373, 0.8627]}
    assert second["shares"] == {"alignment": [0.1532, 0.8468], "quality": [0.1425, 0.8575]}
    assert first["first_version"]["shares"] == {"alignment": [0.1412, 0.8588], "quality": [0.1466, 0.8534]}
    assert second["first_version"]["shares"] == {"alignment": [0.1529, 0.8471], "quality": [0.1433, 0.8567]}
    for table in (first, second):
        for shares in (*table["shares"].values(), *table["first_version"]["shares"].values()):
            assert sum(shares) == pytest.approx(1.0)


def test_several_arms_are_ranked_and_their_tests_adjusted():
    plan = bare_plan(30, 10, 3, pairs_per_rater=15)
    found = results(plan, simulate_votes(plan, Behaviour({"arm 1": 0.3, "arm 2": 1.5})), draws=200)
    assert len(found["main"]["comparisons"]) == 6
    ranking = found["main"]["ranking"]["quality"]
    assert ranking["error"] is None
    assert max(ranking["scores"]) == ranking["scores"][2]
    assert ranking["chances"][2][0] == pytest.approx(1 - ranking["chances"][0][2])
    values = sorted(one["preference"]["p_clustered"] for one in found["main"]["comparisons"])
    adjusted = sorted(one["preference"]["p_holm"] for one in found["main"]["comparisons"])
    assert adjusted[0] == pytest.approx(6 * values[0])
    assert adjusted[-1] >= values[-1]
    assert found["everyone"] == found["main"]  # no rater is excluded


def test_too_few_votes_for_a_ranking_are_told():
    plan = bare_plan(30, 10, 3, pairs_per_rater=15)
    found = results(plan, simulate_votes(plan, Behaviour())[:2])
    error = found["main"]["ranking"]["quality"]["error"]
    assert error.startswith("no ranking: (")
    assert "were never compared with each other: collect more votes" in error


def test_a_study_without_votes(study):
    plan = study[0]
    found = results(plan, [])
    assert found["raters"] == {"planned": 20, "voted": 0, "counted": 0, "excluded": 0}
    one = comparison(found)
    assert (one["preference"]["share"], one["preference"]["p_holm"], one["prompts"]) == (None, None, [])
    assert verdict(one, 0.95) == "inconclusive"
    assert conclusions(found)["conclusions"] == ["None yet: there are no votes in the results."]


def test_votes_of_something_else_are_refused(study):
    plan, votes, _, _ = study
    for changed, words in (
        (replace(votes[0], plan="0" * 64), "belongs to another plan"),
        (replace(votes[0], task="elsewhere"), "'elsewhere', which the plan does not have"),
        (replace(votes[0], choice="both"), "unknown choice in a vote 'both'"),
        (replace(votes[0], seconds=float("nan")), "finite and at least 0, got nan"),
        (replace(votes[0], seconds=-1.0), "finite and at least 0, got -1"),
        (votes[1], "has two counted votes"),
    ):
        with pytest.raises(FreeUValueError, match=words):
            results(plan, [changed, *votes[1:]])


def test_two_raters_of_one_slot_have_two_names(study):
    plan, votes, _, _ = study
    again = [replace(votes[0], rater="other"), *votes[1:]]
    names = rater_names(plan, again)
    assert sorted(names.values())[:2] == ["R001", "R001b"]
    assert len(set(names.values())) == 21


def test_verdicts_need_the_interval_and_the_adjusted_test(study):
    one = comparison(study[2])
    assert verdict(one, 0.95) == "preferred"
    low = {**one, "preference": {**one["preference"], "clustered": [0.2, 0.4]}}
    assert verdict(low, 0.95) == "not preferred"
    wide = {**one, "preference": {**one["preference"], "clustered": [0.4, 0.7]}}
    assert verdict(wide, 0.95) == "inconclusive"
    many = {**one, "preference": {**one["preference"], "p_holm": 0.2}}
    assert verdict(many, 0.95) == "inconclusive"


def test_conclusions_say_what_the_numbers_say(study):
    plan, votes, found, _ = study
    plan = replace(plan, arms=(Arm("arm 0", "plain"), Arm("arm 1", "with FreeU")), demonstration=False)
    told = conclusions(
        {**found, "arms": [{"name": "arm 0", "label": "plain"}, {"name": "arm 1", "label": "with FreeU"}]}
    )
    assert "No conclusions about people" in told["conclusions"][0]
    assert told["conclusions"][2].startswith("Quality: “with FreeU” is preferred to “plain” (“with FreeU”: ")
    early = [replace(vote, plan=plan.sha256) for vote in votes[:90]]
    told = conclusions(results(plan, early, draws=100))
    assert not any("people" in line for line in told["conclusions"])
    assert told["limits"][0].startswith("The study is not complete: ")
    assert told["limits"][1].startswith("The sample is small: ")


def test_for_whom_the_intervals_hold():
    plan = bare_plan(2, 3)
    votes = simulate_votes(plan, Behaviour())

    def told(votes):
        return conclusions(results(plan, votes, draws=50))["conclusions"][-1]

    assert told(votes) == (
        "The confidence intervals hold for raters like these 2 and for prompts like these 3: they account for "
        "differences between raters and between prompts."
    )
    alone = [vote for vote in votes if vote.rater == votes[0].rater]
    assert told(alone) == "The confidence intervals hold for this one rater and for prompts like these 3."
    on_one = [vote for vote in votes if plan.pair(plan.task(vote.task)[1].pair).prompt == 1]
    assert told(on_one) == "The confidence intervals hold for this one prompt and for raters like these 2."
    assert told(alone[:1]) == "One rater on one prompt does not generalize: there are no confidence intervals."


def test_torch_and_the_web_stay_out():
    code = (
        "import sys; import freeu.study.results.report, freeu.study.results.exporting; "
        "from freeu.study.statistics.simulate import *; from freeu.study.results.results import results; "
        "plan = bare_plan(3, 3, 3); results(plan, simulate_votes(plan, Behaviour())); "
        "print(sorted({'torch', 'diffusers', 'fastapi', 'sqlalchemy', 'krippendorff', 'choix'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
