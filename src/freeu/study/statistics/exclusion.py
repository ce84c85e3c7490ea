"""Exclusion of raters by the rules of the plan, which are fixed before the first vote."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from freeu.study.plan.plan import Rules, StudyPlan
from freeu.study.statistics.numbers import percent
from freeu.study.store.votes import Answer, Vote, answers


@dataclass(frozen=True)
class Reason:
    """Why a rater is excluded.

    Args:
        rule: "checks", "hasty", "consistency" or "no vote".
        found: the rater's value, a share in 0..1; None for "no vote".
        limit: the limit of the rule, 0..1; None for "no vote".
        text: the reason as a sentence for pages and the terminal.
    """

    rule: str
    found: float | None
    limit: float | None
    text: str


@dataclass(frozen=True)
class RaterSummary:
    """Statistics of one rater, as the exclusion rules need them.

    Args:
        rater: random id.
        votes: answers that can enter the results (kind "vote").
        checks, checks_right: attention checks answered, and passed.
        answered, hasty: answers of every kind, and those that were too fast.
        repeats, repeats_same: repeats answered, and those with the same answer as before.
        seconds: median response time over answers of every kind.
        reasons: why the rater is excluded; empty for an included rater.
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
        """Whether the rater's votes are excluded from the main results."""
        return bool(self.reasons)


def summarize_raters(plan: StudyPlan, votes: Sequence[Vote]) -> dict[str, RaterSummary]:
    """Statistics and exclusion of every rater, in the order of the raters' first votes.

    The rules apply to the answers that a rater gave: a rater who left before the first check has failed none. In a
    check the clean image is the right answer; a tie is wrong. Answers of every kind can be too fast. A repeat is
    compared with the rater's first answer to the same question about the same pair.

    Args:
        plan: with the exclusion rules.
        votes: the counted votes.

    Raises:
        KeyError: a vote on a task that is not in the plan.
    """
    by_rater: dict[str, list[Answer]] = {}
    for answer in answers(plan, votes):
        by_rater.setdefault(answer.rater, []).append(answer)
    return {rater: _summarize(rater, given, plan.rules) for rater, given in by_rater.items()}


def repeats(given: Iterable[Answer]) -> list[tuple[str, bool]]:
    """For every repeat with a known first answer: the rater, and whether both answers are equal."""
    given = list(given)
    first = {(one.rater, one.pair, one.question): one.winner for one in given if one.kind == "vote"}
    found = [(one, first.get((one.rater, one.pair, one.question))) for one in given if one.kind == "repeat"]
    return [(one.rater, one.winner == before) for one, before in found if before is not None]


def _summarize(rater: str, given: Sequence[Answer], rules: Rules) -> RaterSummary:
    checks = [answer.winner == "first" for answer in given if answer.kind == "check"]
    again = [same for _, same in repeats(given)]
    hasty = sum(answer.seconds < rules.least_seconds for answer in given)
    votes = sum(answer.kind == "vote" for answer in given)
    return RaterSummary(
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
        found.append(Reason("no vote", None, None, "gave no vote that enters the results"))
    if checks and sum(checks) / len(checks) < rules.least_checks:
        share = sum(checks) / len(checks)
        text = f"{sum(checks)} of {len(checks)} attention checks passed, {percent(rules.least_checks, 0)} required"
        found.append(Reason("checks", share, rules.least_checks, text))
    if hasty / answered > rules.most_hasty:
        most = percent(rules.most_hasty, 0)
        text = f"{hasty} of {answered} answers faster than {rules.least_seconds:g} s, at most {most} allowed"
        found.append(Reason("hasty", hasty / answered, rules.most_hasty, text))
    if again and sum(again) / len(again) < rules.least_consistency:
        share = sum(again) / len(again)
        least = percent(rules.least_consistency, 0)
        text = f"{sum(again)} of {len(again)} repeats answered as before, {least} required"
        found.append(Reason("consistency", share, rules.least_consistency, text))
    return found
