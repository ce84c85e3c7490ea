"""The progress of a rater, computed from the event log alone.

A rater answers the tasks of a slot in order, so the answered tasks are always the first ones of the slot. Each undo
raises the revision of its task by one. A vote counts unless there is an undo of the same task and revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from freeu.study.plan.plan import Task

VOTE, UNDO = "vote", "undo"
MOST_REVISIONS = 1_000


@dataclass(frozen=True)
class LogEntry:
    """The part of an event that decides the progress.

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
class RaterProgress:
    """How many tasks a rater has answered, and what may be answered or undone next.

    Args:
        done: number of answered tasks, which is also the index of the current task in the slot.
        revision: the revision at which the current task may be answered (0 after the last).
        undoable: index and revision of the answer that an undo would remove, or None.
    """

    done: int
    revision: int
    undoable: tuple[int, int] | None


def progress_of(tasks: Sequence[Task], entries: Iterable[LogEntry]) -> RaterProgress:
    """The progress of a rater with these tasks and these events. The order of the events does not matter."""
    undone: dict[str, int] = {}
    voted: set[tuple[str, int]] = set()
    for entry in entries:
        if entry.kind == UNDO:
            undone[entry.task] = undone.get(entry.task, 0) + 1
        else:
            voted.add((entry.task, entry.revision))
    done = 0
    while done < len(tasks) and (tasks[done].id, undone.get(tasks[done].id, 0)) in voted:
        done += 1
    revision = undone.get(tasks[done].id, 0) if done < len(tasks) else 0
    undoable = (done - 1, undone.get(tasks[done - 1].id, 0)) if done else None
    return RaterProgress(done, revision, undoable)


def decide(tasks: Sequence[Task], entries: Sequence[LogEntry], new: LogEntry, index: int) -> tuple[str, str, bool]:
    """Decide whether a vote or an undo is recorded.

    Args:
        tasks: of the slot.
        entries: the rater's events so far.
        new: the requested vote or undo.
        index: of its task in the slot.

    Returns:
        the outcome and the recorded choice of ``records.Receipt``, and whether ``new`` must be written.
    """
    for entry in entries:
        if (entry.task, entry.kind, entry.revision) == (new.task, new.kind, new.revision):
            if new.kind == UNDO:
                return "undone", "", False
            return ("counted" if entry.choice == new.choice else "conflict"), entry.choice, False
    now = progress_of(tasks, entries)
    expected = now.undoable if new.kind == UNDO else (now.done, now.revision)
    if expected != (index, new.revision) or new.revision + (new.kind == UNDO) > MOST_REVISIONS:
        return "stale", "", False
    return ("undone" if new.kind == UNDO else "counted"), new.choice, True
