"""What the store hands out: raters, events and receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from freeu.study.store.standing import Standing


@dataclass(frozen=True)
class Rater:
    """Someone who takes part, or is invited to.

    Args:
        key: the number by which events point to the rater; never shown.
        id: opaque; what exports show.
        slot: number of the slot, or None once it was given back.
        nickname: chosen, or None.
        language: of the pages.
        joined: ISO 8601 in UTC, or None for an invitation that nobody has followed and for the forgotten.
        deleted: whether the rater asked to be forgotten, or gave the slot back.
    """

    key: int
    id: str
    slot: int | None
    nickname: str | None
    language: str
    joined: str | None
    deleted: bool


@dataclass(frozen=True)
class Event:
    """One row of the append-only table.

    Args:
        id: ascending.
        rater: opaque id.
        task: id of the task.
        kind: "vote" or "undo".
        choice: "left", "right" or "tie"; "" of an undo.
        revision: 0 for the first answer to a task, one more after each undo.
        seconds: see ``votes.Vote``; 0 of an undo.
        time: when it was written, ISO 8601 in UTC.
        place: of the task in its slot, from 0.
        left: id of the item that stood on the left.
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
    """What became of a vote or an undo; whatever it says is on disk.

    Args:
        outcome: "counted" (this answer is recorded), "undone" (the undo is), "conflict" (another answer was there
            first and stays) or "stale" (this is not the task to answer now).
        choice: the answer that is recorded, "" if none.
        standing: of the rater after it.
    """

    outcome: str
    choice: str
    standing: Standing


def rater_of(row: Row[Any]) -> Rater:
    """A row of the table of raters."""
    return Rater(row.key, row.id, row.slot, row.nickname, row.language, row.joined, bool(row.deleted))
