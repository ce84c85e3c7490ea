"""The results of a study as plain data, with and without excluded raters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from freeu.errors import FreeUValueError
from freeu.intervals import DRAWS, LEVEL, Estimate
from freeu.study.plan.paper import PAPER
from freeu.study.plan.plan import StudyPlan
from freeu.study.statistics.agreement import agreement, checks_passed, consistency, position_bias
from freeu.study.statistics.ballots import Ballots, arm_pairs, check_votes, rater_names, select
from freeu.study.statistics.exclusion import summarize_raters
from freeu.study.statistics.proportions import DEFAULT_TIES, by_prompt, holm, proportion
from freeu.study.statistics.ranking import DRAWS as RANKING_DRAWS
from freeu.study.statistics.ranking import rank_arms
from freeu.study.store.votes import Answer, Vote, answers

KIND, SCHEMA = "freeu-study-results", 1


def results(
    plan: StudyPlan, votes: Sequence[Vote], *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """All results of a study as plain JSON data; equal votes give equal results.

    Args:
        plan: of the study.
        votes: the counted votes; may be incomplete or empty.
        level: confidence level of every interval, above 0 and below 1.
        draws: number of resamples of every bootstrap except that of the ranking, which takes at most
            ``ranking.DRAWS``.
        seed: of every bootstrap.

    Returns:
        title, hash, rules and counts of the study; ``conduct``, the statistics of every rater with the reasons of an
        exclusion; ``main``, the results without excluded raters, and ``everyone``, the results with them; ``paper``,
        the paper's numbers. Shares are those of the second arm of a comparison, 0..1; values that cannot be computed
        are None.

    Raises:
        FreeUValueError: the votes are not counted votes of this plan (``ballots.check_votes``).
    """
    check_votes(plan, votes)
    found, names = summarize_raters(plan, votes), rater_names(plan, votes)
    given = answers(plan, votes)
    kept = [answer for answer in given if not found[answer.rater].excluded]
    counted = sum(not one.excluded for one in found.values())
    main = _analysis(plan, kept, level, draws, seed)
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "title": plan.title,
        "plan": plan.sha256,
        "demonstration": plan.demonstration,
        "media": plan.items[0].media,
        "source": list(plan.source),
        "questions": [{"name": one.name, "text": dict(one.text)} for one in plan.questions],
        "arms": [{"name": arm.name, "label": arm.label, "freeu": arm.settings is not None} for arm in plan.arms],
        "prompts": list(plan.prompts),
        "ties_offered": plan.ties,
        "ties": DEFAULT_TIES,
        "level": level,
        "rules": asdict(plan.rules),
        "raters": {"planned": plan.raters, "voted": len(found), "counted": counted, "excluded": len(found) - counted},
        "conduct": [
            {
                **{name: value for name, value in asdict(one).items() if name != "rater"},
                "reasons": [asdict(reason) for reason in one.reasons],
                "rater": names[one.rater],
                "excluded": one.excluded,
            }
            for one in found.values()
        ],
        "main": main,
        "everyone": main if len(kept) == len(given) else _analysis(plan, given, level, draws, seed),
        "paper": PAPER,
    }


def _analysis(plan: StudyPlan, given: Sequence[Answer], level: float, draws: int, seed: int) -> dict[str, Any]:
    chance: dict[str, Any] = {"level": level, "draws": draws, "seed": seed}
    counted = [answer for answer in given if answer.kind == "vote"]
    questions = [question.name for question in plan.questions]
    comparisons = [
        _comparison(select(given, question, *both), question, both, **chance)
        for question in questions
        for both in arm_pairs(plan)
    ]
    tests = {n: p for n, one in enumerate(comparisons) if (p := one["preference"]["p_clustered"]) is not None}
    for number, p_value in holm(tests).items():
        comparisons[number]["preference"]["p_holm"] = p_value
    arms = [arm.name for arm in plan.arms]
    return {
        "raters": len({answer.rater for answer in counted}),
        "votes": len(counted),
        "comparisons": comparisons,
        "ranking": {question: _ranking(given, question, arms, **chance) for question in questions}
        if len(arms) > 2
        else None,
        "position": _plain(asdict(position_bias(given, level=level))),
        "agreement": {question: _plain(asdict(agreement(given, question, **chance))) for question in questions},
        "consistency": _estimate(consistency(given, **chance)),
        "checks": _estimate(checks_passed(given, **chance)),
        "seconds": np.percentile([one.seconds for one in counted], [25, 50, 75]).tolist() if counted else None,
    }


def _comparison(
    ballots: Ballots, question: str, both: tuple[str, str], level: float, draws: int, seed: int
) -> dict[str, Any]:
    """One question about two arms: counts, the share with its statistics, and the same by prompt."""
    left = ballots.where(ballots.second_left)
    right = ballots.where(~ballots.second_left)
    return {
        "question": question,
        "first": both[0],
        "second": both[1],
        **_counts(ballots),
        "preference": {
            **proportion(ballots, level=level, draws=draws, seed=seed).to_dict(),
            "p_holm": None,
        },
        "without_ties": proportion(ballots, "without", level=level, draws=draws, seed=seed).to_dict(),
        "second_on_left": {**_counts(left), "share": float(left.outcome.mean()) if len(left) else None},
        "second_on_right": {**_counts(right), "share": float(right.outcome.mean()) if len(right) else None},
        "prompts": [
            {"prompt": prompt, **_counts(ballots.where(ballots.prompts == prompt)), **one.to_dict()}
            for prompt, one in by_prompt(ballots, level=level).items()
        ],
    }


def _counts(ballots: Ballots) -> dict[str, int]:
    return {"for_first": ballots.losses, "for_second": ballots.wins, "tied": ballots.ties}


def _ranking(
    given: Sequence[Answer], question: str, arms: Sequence[str], level: float, draws: int, seed: int
) -> dict[str, Any]:
    """The ranking, or the reason why there is none."""
    try:
        found = rank_arms(given, question, arms, level=level, draws=min(draws, RANKING_DRAWS), seed=seed)
    except FreeUValueError as error:
        return {"error": str(error)}
    chances = [[found.chance(arm, other) if arm != other else None for other in arms] for arm in arms]
    return {**_plain(asdict(found)), "chances": chances, "error": None}


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON returns them."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
