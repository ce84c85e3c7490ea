"""Progress of a running study: raters, coverage of the design, and exclusions so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from freeu.study.statistics.exclusion import RaterSummary, summarize_raters
from freeu.study.store.records import Rater
from freeu.study.store.slots import timestamp
from freeu.study.store.store import Store

RECENT = timedelta(minutes=10)


@dataclass(frozen=True)
class Row:
    """One rater.

    Args:
        rater: the rater.
        total: number of tasks in the slot.
        summary: statistics of their answers, or None before the first vote.
    """

    rater: Rater
    total: int
    summary: RaterSummary | None

    @property
    def finished(self) -> bool:
        """Whether every task is answered."""
        return self.summary is not None and self.summary.answered == self.total


@dataclass(frozen=True)
class Coverage:
    """How often a question was answered about the pairs of a prompt.

    Args:
        prompt: text of the prompt, or its number where the text is unknown.
        question: name of the question.
        votes: counted answers, without checks and repeats.
        planned: number of such answers in all slots of the plan.
        least, most: votes on the pair with the fewest and with the most votes.
    """

    prompt: str
    question: str
    votes: int
    planned: int
    least: int
    most: int


@dataclass(frozen=True)
class Overview:
    """Progress of a running study.

    Args:
        rows: raters who have a slot and have started.
        invited: reserved slots whose raters have not started yet.
        slots: number of slots in the plan.
        finished: number of raters who answered every task.
        recent: number of raters who voted in the last ten minutes.
        votes: counted answers of every kind.
        excluded: number of raters whom the rules exclude so far.
        coverage: by prompt and question.
        time: of this overview, HH:MM:SS in UTC.
    """

    rows: tuple[Row, ...]
    invited: int
    slots: int
    finished: int
    recent: int
    votes: int
    excluded: int
    coverage: tuple[Coverage, ...]
    time: str


def overview(store: Store) -> Overview:
    """The current progress of the study of a store."""
    raters, votes = store.snapshot()
    found = summarize_raters(store.plan, votes)
    assigned = [rater for rater in raters if rater.slot is not None]
    started = [rater for rater in assigned if rater.joined or rater.deleted]
    rows = tuple(Row(rater, len(store.tasks(rater)), found.get(rater.id)) for rater in started)
    at = datetime.now(timezone.utc)
    limit = timestamp(at - RECENT)
    return Overview(
        rows,
        invited=len(assigned) - len(started),
        slots=len(store.plan.slots),
        finished=sum(row.finished for row in rows),
        recent=len({vote.rater for vote in votes if vote.time >= limit}),
        votes=len(votes),
        excluded=sum(one.excluded for one in found.values()),
        coverage=_coverage(store, Counter(vote.task for vote in votes)),
        time=at.strftime("%H:%M:%S"),
    )


def _coverage(store: Store, answered: Counter[str]) -> tuple[Coverage, ...]:
    plan = store.plan
    planned: Counter[tuple[int, str]] = Counter()
    given: dict[tuple[int, str], Counter[str]] = {}
    for task in plan.tasks():
        if task.kind == "vote":
            cell = plan.pair(task.pair).prompt, task.question
            planned[cell] += 1
            given.setdefault(cell, Counter())[task.pair] += answered[task.id]
    return tuple(
        Coverage(
            plan.prompts[prompt] or f"unknown prompt {prompt + 1}",
            question,
            votes=sum(given[prompt, question].values()),
            planned=number,
            least=min(given[prompt, question].values()),
            most=max(given[prompt, question].values()),
        )
        for (prompt, question), number in sorted(planned.items())
    )
