"""The records that the store returns: raters, events and receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from freeu.study.store.faults import fault
from freeu.study.store.progress import RaterProgress
from freeu.study.store.votes import Vote, rater_name


@dataclass(frozen=True)
class Rater:
    """A person who takes part or has a reserved slot.

    Args:
        key: primary key to which events refer; never shown.
        id: random id, which says nothing about the person.
        slot: number of the slot, or None after it was released.
        nickname: chosen by the rater, or None.
        language: of the pages.
        joined: when the rater started, ISO 8601 in UTC; None for an unused personal link and for deleted raters.
        deleted: whether the rater asked for deletion or lost the slot.
    """

    key: int
    id: str
    slot: int | None
    nickname: str | None
    language: str
    joined: str | None
    deleted: bool

    @property
    def name(self) -> str:
        """How tables and files call the rater."""
        return rater_name(self.slot or 0, self.id, self.deleted)


@dataclass(frozen=True)
class Event:
    """One row of the append-only table.

    Args:
        id: ascending.
        rater: id of the rater.
        task: id of the task.
        kind: "vote" or "undo".
        choice: "left", "right" or "tie"; "" of an undo.
        revision: 0 for the first answer to a task, one more after each undo.
        seconds: see ``votes.Vote``; 0 of an undo.
        time: when it was written, ISO 8601 in UTC.
        place: index of the task in its slot, from 0.
        left: id of the item that was shown on the left.
        plan: hash of the plan.
    """

    id: int
    rater: str
    task: str
    kind: str
    choice: str
    revision: int
    seconds: float
    time: str
    place: int
    left: str
    plan: str


@dataclass(frozen=True)
class Receipt:
    """The result of a vote or an undo. What it reports is already on disk.

    Args:
        outcome: "counted" (this answer is recorded), "undone" (the undo is recorded), "conflict" (another answer was
            recorded first and stays) or "stale" (this is not the current task).
        choice: the recorded answer, "" if there is none.
        progress: of the rater afterwards.
    """

    outcome: str
    choice: str
    progress: RaterProgress


def rater_of(row: Row[Any]) -> Rater:
    """A row of the table of raters.

    Raises:
        StoreError: its values cannot have been written by freeu.
    """
    slot, joined, nickname = row.slot, row.joined, row.nickname
    if (
        not (isinstance(row.id, str) and isinstance(row.language, str))
        or not (slot is None or (isinstance(slot, int) and slot >= 0))
        or not all(one is None or isinstance(one, str) for one in (joined, nickname))
    ):
        raise fault("cannot use the study's database", f"it is damaged in the row of rater {row.key}")
    return Rater(row.key, row.id, row.slot, row.nickname, row.language, row.joined, bool(row.deleted))


def vote_of(row: Row[Any]) -> Vote:
    """A row of the table of events, with the id of its rater as ``who``.

    Raises:
        StoreError: its values cannot have been written by freeu.
    """
    words = (row.who, row.task, row.choice, row.time, row.plan)
    if not all(isinstance(one, str) for one in words) or not isinstance(row.seconds, float):
        raise fault("cannot use the study's database", f"it is damaged in the row of event {row.id}")
    return Vote(row.who, row.task, row.choice, row.seconds, row.time, row.plan, bool(row.deleted))
