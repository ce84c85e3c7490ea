"""Votes between two arms on one question as arrays: the input of all statistics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeUValueError, unknown_name
from freeu.study.plan.plan import StudyPlan
from freeu.study.store.votes import CHOICES, Answer, Vote, rater_name

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TIES = ("half", "without")
"""How ties enter a share: as half a vote for each arm, or not at all."""


@dataclass(frozen=True)
class Ballots:
    """All votes between two arms on one question.

    Args:
        outcome: (n,), 1 where the second arm was chosen, 0 where the first was, 0.5 for a tie.
        raters: (n,), raters as integer labels.
        prompts: (n,), numbers of the prompts.
        second_left: (n,), whether the second arm was on the left.
    """

    outcome: Floats
    raters: Ints
    prompts: Ints
    second_left: Bools

    def __len__(self) -> int:
        return len(self.outcome)

    def where(self, wanted: Bools) -> Ballots:
        """The votes for which ``wanted`` (n,) is True."""
        return Ballots(self.outcome[wanted], self.raters[wanted], self.prompts[wanted], self.second_left[wanted])

    def with_ties(self, ties: str) -> Ballots:
        """All votes for "half", the votes without ties for "without".

        Raises:
            FreeUValueError: another value of ``ties``.
        """
        if ties not in TIES:
            raise unknown_name("way of counting ties", ties, TIES)
        return self if ties == "half" else self.where(self.outcome != 0.5)

    @property
    def wins(self) -> int:
        """Votes for the second arm."""
        return int((self.outcome == 1.0).sum())

    @property
    def losses(self) -> int:
        """Votes for the first arm."""
        return int((self.outcome == 0.0).sum())

    @property
    def ties(self) -> int:
        """Ties."""
        return int((self.outcome == 0.5).sum())


def select(answers: Sequence[Answer], question: str, first: str, second: str) -> Ballots:
    """The votes between two arms on a question, without checks and repeats.

    Args:
        answers: of one study.
        question: name of the question.
        first, second: names of the arms. A pair in the opposite order is swapped.

    Returns:
        votes in the order of the answers; raters are numbered in the order of their first answer of any kind.
    """
    numbers: dict[str, int] = {}
    rows = []
    for answer in answers:
        number = numbers.setdefault(answer.rater, len(numbers))
        if answer.kind != "vote" or answer.question != question or {answer.first, answer.second} != {first, second}:
            continue
        ours = "second" if answer.second == second else "first"
        outcome = 0.5 if answer.winner == "tie" else float(answer.winner == ours)
        rows.append((outcome, number, answer.prompt, answer.left == ours))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return Ballots(
        np.array(columns[0], dtype=np.float64),
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.int64),
        np.array(columns[3], dtype=np.bool_),
    )


def arm_pairs(plan: StudyPlan) -> list[tuple[str, str]]:
    """The pairs of arms that are compared, each in the plan's order of arms."""
    order = {arm.name: number for number, arm in enumerate(plan.arms)}
    voted = {task.pair for task in plan.tasks() if task.kind == "vote"}
    found = {
        tuple(sorted((plan.item(pair.first).arm, plan.item(pair.second).arm), key=order.__getitem__))
        for pair in plan.pairs
        if pair.id in voted
    }
    return [both for both in itertools.combinations(order, 2) if both in found]


def check_votes(plan: StudyPlan, votes: Sequence[Vote]) -> None:
    """Check that the votes are counted votes of this plan.

    Raises:
        FreeUValueError: a vote of another plan, on an unknown task, with an unknown choice, or with seconds that are
            negative or not finite; or two votes on one task.
    """
    seen: set[str] = set()
    for vote in votes:
        if vote.plan != plan.sha256:
            raise FreeUValueError(
                f"a vote belongs to another plan ({vote.plan[:12]}, this one is {plan.sha256[:12]}): "
                "use the folder and the database of the same study"
            )
        try:
            plan.task(vote.task)
        except KeyError:
            raise FreeUValueError(f"a vote is on the task {vote.task!r}, which the plan does not have") from None
        if vote.choice not in CHOICES:
            raise unknown_name("choice in a vote", vote.choice, CHOICES)
        if not (math.isfinite(vote.seconds) and vote.seconds >= 0.0):
            raise FreeUValueError(f"the seconds of a vote must be finite and at least 0, got {vote.seconds}")
        if vote.task in seen:
            raise FreeUValueError(f"the task {vote.task!r} has two counted votes, but only one is allowed")
        seen.add(vote.task)


def rater_names(plan: StudyPlan, votes: Sequence[Vote]) -> dict[str, str]:
    """A name for each rater in tables and files; see ``votes.rater_name``.

    The random ids of raters who did not ask for deletion stay in the database. Two raters of one slot become "R007" and
    "R007b".

    Args:
        plan: of the study.
        votes: the counted votes; raters are named in the order of their first vote.
    """
    names: dict[str, str] = {}
    taken: dict[str, int] = {}
    for vote in votes:
        if vote.rater not in names:
            name = rater_name(plan.task(vote.task)[0], vote.rater, vote.deleted)
            taken[name] = taken.get(name, 0) + 1
            names[vote.rater] = name + ("" if taken[name] == 1 else chr(ord("a") + taken[name] - 1))
    return names
