"""How a running study stands: who came, how much of it is answered, and whom the rules would leave out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from freeu.study.statistics.exclusion import Conduct, conduct
from freeu.study.store.records import Rater
from freeu.study.store.store import Store

RECENT = timedelta(minutes=10)


@dataclass(frozen=True)
class Row:
    """One rater.

    Args:
        rater: who.
        total: tasks of the slot.
        conduct: how they voted, or None before the first vote.
    """

    rater: Rater
    total: int
    conduct: Conduct | None

    @property
    def finished(self) -> bool:
        """Whether every task is answered."""
        return self.conduct is not None and self.conduct.answered == self.total


@dataclass(frozen=True)
class Coverage:
    """How often one question was asked of the pairs of one prompt.

    Args:
        prompt: its text.
        question: name.
        votes: counted answers, checks and repeats left out.
        planned: how many the slots of the plan hold in all.
        least, most: votes of the pair with the fewest and the most.
    """

    prompt: str
    question: str
    votes: int
    planned: int
    least: int
    most: int


@dataclass(frozen=True)
class Overview:
    """A running study.

    Args:
        rows: everybody who has a slot and has begun.
        invited: reserved slots of people who have not come yet.
        slots: of the plan.
        finished: raters with every task answered.
        recent: raters who voted in the last ten minutes.
        votes: counted answers of every kind.
        excluded: raters whom the rules would leave out now.
        coverage: by prompt and question.
        time: of this overview, UTC.
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
    """How the study of a store stands now."""
    votes = store.counted_votes()
    found = conduct(store.plan, votes)
    everybody = [rater for rater in store.raters() if rater.slot is not None]
    begun = [rater for rater in everybody if rater.joined or rater.deleted]
    rows = tuple(Row(rater, len(store.tasks(rater)), found.get(rater.id)) for rater in begun)
    at = datetime.now(timezone.utc)
    limit = (at - RECENT).isoformat(timespec="milliseconds")
    return Overview(
        rows,
        invited=len(everybody) - len(begun),
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
            plan.prompts[prompt],
            question,
            votes=sum(given[prompt, question].values()),
            planned=number,
            least=min(given[prompt, question].values()),
            most=max(given[prompt, question].values()),
        )
        for (prompt, question), number in sorted(planned.items())
    )
