"""Whose votes are left out by the rules that the plan stated before the first vote, and why."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from freeu.study.plan.plan import Rules, StudyPlan
from freeu.study.statistics.numbers import percent
from freeu.study.store.votes import Answer, Vote, answers


@dataclass(frozen=True)
class Reason:
    """Why a rater is left out.

    Args:
        rule: "checks", "hasty", "consistency" or "no vote".
        found: the rater's figure, a share in 0..1; None for "no vote".
        limit: the figure of the rule; None for "no vote".
        text: both in words.
    """

    rule: str
    found: float | None
    limit: float | None
    text: str


@dataclass(frozen=True)
class Conduct:
    """How a rater voted, as far as the rules ask.

    Args:
        rater: opaque id.
        votes: answers that can enter the results (kind "vote").
        checks, checks_right: attention checks that were answered, and those of them that were right.
        answered, hasty: answers of every kind, and those of them that came too fast.
        repeats, repeats_same: repeats that were answered, and those of them that agree with the first answer.
        seconds: median over answers of every kind.
        reasons: why the rater is left out; empty for one who counts.
    """

    rater: str
    votes: int
    checks: int
    checks_right: int
    answered: int
    hasty: int
    repeats: int
    repeats_same: int
    seconds: float
    reasons: tuple[Reason, ...]

    @property
    def excluded(self) -> bool:
        """Whether none of the rater's votes counts."""
        return bool(self.reasons)


def conduct(plan: StudyPlan, votes: Sequence[Vote]) -> dict[str, Conduct]:
    """How every rater voted, and who is left out, in the order of the raters' first votes.

    A rule looks at what a rater answered: a rater who left before the first check has failed none. In a check the clean
    picture is right, and a tie is wrong. Hasty votes are counted over answers of every kind. A repeat is compared with
    the rater's own answer to the same question of the same pair.

    Args:
        plan: its ``rules`` decide.
        votes: counted ones.

    Raises:
        KeyError: a vote for a task that is not in the plan.
    """
    by_rater: dict[str, list[Answer]] = {}
    for answer in answers(plan, votes):
        by_rater.setdefault(answer.rater, []).append(answer)
    return {rater: _conduct(rater, given, plan.rules) for rater, given in by_rater.items()}


def repeats(given: Iterable[Answer]) -> list[tuple[str, bool]]:
    """For every repeat whose first answer is there: the rater, and whether both answers agree."""
    given = list(given)
    first = {(one.rater, one.pair, one.question): one.winner for one in given if one.kind == "vote"}
    found = [(one, first.get((one.rater, one.pair, one.question))) for one in given if one.kind == "repeat"]
    return [(one.rater, one.winner == before) for one, before in found if before is not None]


def _conduct(rater: str, given: Sequence[Answer], rules: Rules) -> Conduct:
    checks = [answer.winner == "first" for answer in given if answer.kind == "check"]
    again = [same for _, same in repeats(given)]
    hasty = sum(answer.seconds < rules.least_seconds for answer in given)
    votes = sum(answer.kind == "vote" for answer in given)
    return Conduct(
        rater,
        votes=votes,
        checks=len(checks),
        checks_right=sum(checks),
        answered=len(given),
        hasty=hasty,
        repeats=len(again),
        repeats_same=sum(again),
        seconds=statistics.median(answer.seconds for answer in given),
        reasons=tuple(_reasons(rules, votes, checks, again, hasty, len(given))),
    )


def _reasons(
    rules: Rules, votes: int, checks: Sequence[bool], again: Sequence[bool], hasty: int, answered: int
) -> list[Reason]:
    found = []
    if votes == 0:
        found.append(Reason("no vote", None, None, "gave no vote that could count"))
    if checks and sum(checks) / len(checks) < rules.least_checks:
        share = sum(checks) / len(checks)
        text = f"{sum(checks)} of {len(checks)} checks right, at least {percent(rules.least_checks, 0)} are asked"
        found.append(Reason("checks", share, rules.least_checks, text))
    if hasty / answered > rules.most_hasty:
        most = percent(rules.most_hasty, 0)
        text = f"{hasty} of {answered} answers within {rules.least_seconds:g} s, at most {most} may be"
        found.append(Reason("hasty", hasty / answered, rules.most_hasty, text))
    if again and sum(again) / len(again) < rules.least_consistency:
        share = sum(again) / len(again)
        least = percent(rules.least_consistency, 0)
        text = f"{sum(again)} of {len(again)} repeats answered alike, at least {least} are asked"
        found.append(Reason("consistency", share, rules.least_consistency, text))
    return found
