"""How far a rater has come, from the events alone.

A rater answers the tasks of a slot one after the other, so what is answered is always a beginning of the slot. Each
undo raises the revision of its task by one; a vote counts unless an undo of the same revision follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from freeu.study.plan.plan import Task

VOTE, UNDO = "vote", "undo"
MOST_REVISIONS = 1_000


@dataclass(frozen=True)
class Mark:
    """What of an event decides the standing.

    Args:
        task: id of the task.
        kind: "vote" or "undo".
        revision: from 0.
        choice: of a vote; "" of an undo.
    """

    task: str
    kind: str
    revision: int
    choice: str


@dataclass(frozen=True)
class Standing:
    """How far a rater has come.

    Args:
        done: number of answered tasks; the current one has this place in the slot.
        revision: the revision at which the current task may be answered (0 after the last).
        undoable: place and revision of the answer that an undo would take back, or None.
    """

    done: int
    revision: int
    undoable: tuple[int, int] | None


def standing(tasks: Sequence[Task], marks: Iterable[Mark]) -> Standing:
    """The standing of a rater with these tasks after these events, in any order."""
    undone: dict[str, int] = {}
    voted: set[tuple[str, int]] = set()
    for mark in marks:
        if mark.kind == UNDO:
            undone[mark.task] = undone.get(mark.task, 0) + 1
        else:
            voted.add((mark.task, mark.revision))
    done = 0
    while done < len(tasks) and (tasks[done].id, undone.get(tasks[done].id, 0)) in voted:
        done += 1
    revision = undone.get(tasks[done].id, 0) if done < len(tasks) else 0
    undoable = (done - 1, undone.get(tasks[done - 1].id, 0)) if done else None
    return Standing(done, revision, undoable)


def decide(tasks: Sequence[Task], marks: Sequence[Mark], wish: Mark, place: int) -> tuple[str, str, bool]:
    """What becomes of a vote or an undo.

    Args:
        tasks: of the slot.
        marks: the rater's events so far.
        wish: what is asked for.
        place: of its task in the slot.

    Returns:
        the outcome and the recorded choice of ``records.Receipt``, and whether the wish is to be written.
    """
    for mark in marks:
        if (mark.task, mark.kind, mark.revision) == (wish.task, wish.kind, wish.revision):
            if wish.kind == UNDO:
                return "undone", "", False
            return ("counted" if mark.choice == wish.choice else "conflict"), mark.choice, False
    at = standing(tasks, marks)
    expected = at.undoable if wish.kind == UNDO else (at.done, at.revision)
    if expected != (place, wish.revision) or wish.revision + (wish.kind == UNDO) > MOST_REVISIONS:
        return "stale", "", False
    return ("undone" if wish.kind == UNDO else "counted"), wish.choice, True
