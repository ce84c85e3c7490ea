"""Votes as the store keeps them, and the same votes with the arms that they compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from freeu.study.plan.plan import StudyPlan, Task

CHOICES = ("left", "right", "tie")


@dataclass(frozen=True)
class Vote:
    """The counted answer to one task. Each task has at most one.

    Args:
        rater: random id of the rater.
        task: id of the task.
        choice: "left", "right" or "tie".
        seconds: response time since both images were shown.
        time: when the server recorded it, ISO 8601 in UTC.
        plan: hash of the study's plan.
        deleted: whether the rater asked for deletion; tables then give the rater a name without the slot.
    """

    rater: str
    task: str
    choice: str
    seconds: float
    time: str
    plan: str
    deleted: bool = False


def rater_name(slot: int, rater: str, deleted: bool) -> str:
    """The name of a rater in tables and files: the number of the slot, such as "R007".

    Args:
        slot: number of the slot, from 0.
        rater: random id of the rater.
        deleted: whether the rater asked for deletion; the name is then of the new random id, such as "X3f29a1c0",
            which says nothing about the slot and the name of before.
    """
    return f"X{rater[:8]}" if deleted else f"R{slot + 1:03d}"


@dataclass(frozen=True)
class Answer:
    """A vote together with its task.

    Args:
        rater: random id of the rater.
        pair, prompt, question, kind: of the task.
        first, second: names of the arms of the pair's items.
        winner: "first", "second" or "tie".
        left: which of the two was on the left, "first" or "second".
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
        """Whether the left item was chosen; None for a tie."""
        return None if self.winner == "tie" else self.winner == self.left


def answers(plan: StudyPlan, votes: Iterable[Vote]) -> list[Answer]:
    """Every vote together with its task, in the order of the votes.

    Raises:
        KeyError: a vote on a task that is not in the plan.
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
