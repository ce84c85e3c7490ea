"""Votes as the store keeps them, and what they mean: which arm won, and who is left out by the plan's rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from freeu.study.plan.plan import StudyPlan, Task

CHOICES = ("left", "right", "tie")


@dataclass(frozen=True)
class Vote:
    """The counted answer to one task: at most one for each.

    Args:
        rater: opaque id of the rater.
        task: id of the task.
        choice: "left", "right" or "tie".
        seconds: from the moment both images were shown to the answer.
        time: when the server had it on disk, ISO 8601 in UTC.
        plan: hash of the plan under which it was given.
    """

    rater: str
    task: str
    choice: str
    seconds: float
    time: str
    plan: str


@dataclass(frozen=True)
class Answer:
    """A vote with what it was about.

    Args:
        rater: opaque id.
        pair, prompt, question, kind: of the task.
        first, second: names of the arms of the pair's items.
        winner: "first", "second" or "tie".
        left: which of the two stood on the left, "first" or "second".
        seconds: see ``Vote``.
    """

    rater: str
    pair: str
    prompt: int
    question: str
    kind: str
    first: str
    second: str
    winner: str
    left: str
    seconds: float

    @property
    def left_won(self) -> bool | None:
        """Whether the left one was chosen; None after a tie."""
        return None if self.winner == "tie" else self.winner == self.left


def answers(plan: StudyPlan, votes: Iterable[Vote]) -> list[Answer]:
    """Every vote with what it was about, in the order of the votes.

    Raises:
        KeyError: a vote for a task that is not in the plan.
    """
    return [_answer(plan, vote, plan.task(vote.task)[1]) for vote in votes]


def _answer(plan: StudyPlan, vote: Vote, task: Task) -> Answer:
    pair = plan.pair(task.pair)
    sides = ("first", "second") if task.first_left else ("second", "first")
    winner = {"left": sides[0], "right": sides[1], "tie": "tie"}[vote.choice]
    first, second = (plan.item(name).arm for name in (pair.first, pair.second))
    return Answer(
        vote.rater,
        pair.id,
        pair.prompt,
        task.question,
        task.kind,
        first,
        second,
        winner,
        sides[0],
        vote.seconds,
    )
