"""Raters and votes in a database: append-only, one counted vote for each task, on disk before it is acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, and_, select

from freeu.errors import FreeUValueError
from freeu.study.plan.plan import StudyPlan, Task
from freeu.study.store import codes
from freeu.study.store.database import open_engine, prepare
from freeu.study.store.records import Event, Rater, Receipt, rater_of
from freeu.study.store.slots import claim, now
from freeu.study.store.standing import UNDO, VOTE, Mark, Standing, decide, standing
from freeu.study.store.tables import events, raters
from freeu.study.store.votes import CHOICES, Vote
from freeu.study.store.writer import MOST, Writer

T = TypeVar("T")


class Store:
    """The database of a study.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``; see ``database.database_url``.
        plan: of the study; its hash is stored in a new database and compared with that of an old one.
        most: how many writes one commit may hold; see ``writer.Writer``.

    Raises:
        FreeUValueError: the database belongs to another plan.
        FreeURuntimeError: it cannot be opened.
    """

    def __init__(self, url: str, plan: StudyPlan, *, most: int = MOST) -> None:
        self.plan = plan
        self.engine = open_engine(url)
        self._reading = self.engine.execution_options(freeu_reading=True)
        try:
            prepare(self.engine, plan.sha256, now())
        except BaseException:
            self.engine.dispose()
            raise
        self._writer = Writer(self.engine, most)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is being written and let go of the database."""
        self._writer.close()
        self.engine.dispose()

    # Reading.

    def find(self, code: str) -> tuple[Rater, Standing] | None:
        """The rater of a personal code and how far they have come, or None."""
        with self._reading.connect() as connection:
            row = connection.execute(select(raters).where(raters.c.token == codes.hashed(code))).one_or_none()
            if row is None:
                return None
            rater = rater_of(row)
            return rater, standing(self.tasks(rater), _marks(connection, rater.key))

    def raters(self) -> list[Rater]:
        """Everybody who ever had a slot, in the order of arrival."""
        return [rater_of(row) for row in self._read(select(raters).order_by(raters.c.key))]

    def standing(self, rater: Rater) -> Standing:
        """How far a rater has come."""
        with self._reading.connect() as connection:
            return standing(self.tasks(rater), _marks(connection, rater.key))

    def tasks(self, rater: Rater) -> Sequence[Task]:
        """The tasks of a rater's slot."""
        return () if rater.slot is None else self.plan.slots[rater.slot]

    def events(self) -> list[Event]:
        """Everything that was ever written, undone votes too, in order."""
        query = select(raters.c.id.label("who"), events).join(raters, raters.c.key == events.c.rater)
        return [
            Event(
                *(row.id, row.who, row.task, row.kind, row.choice, row.revision),
                *(row.seconds, row.time, row.place, row.left, row.plan),
            )
            for row in self._read(query.order_by(events.c.id))
        ]

    def counted_votes(self) -> list[Vote]:
        """The one answer to each task that counts, in the order in which they were given."""
        undo = events.alias("undo")
        same = [undo.c[name] == events.c[name] for name in ("rater", "task", "revision")]
        query = (
            select(raters.c.id.label("who"), events)
            .join(raters, raters.c.key == events.c.rater)
            .outerjoin(undo, and_(undo.c.kind == UNDO, *same))
            .where(events.c.kind == VOTE, undo.c.id.is_(None))
            .order_by(events.c.id)
        )
        return [Vote(row.who, row.task, row.choice, row.seconds, row.time, row.plan) for row in self._read(query)]

    # Writing. Each of these returns when it is on disk.

    def claim_slot(self, language: str, nickname: str | None = None) -> tuple[Rater, str] | None:
        """Take the lowest free slot for a new rater.

        Returns:
            the rater and the personal code, which is not stored and cannot be had again; None if no slot is free.
        """
        code = codes.new_code()
        found = self._writer.do(lambda connection: claim(connection, len(self.plan.slots), code, language, nickname))
        return None if found is None else (found, code)

    def invite(self, count: int) -> list[str]:
        """Reserve slots for raters who get a personal link, and return their codes; all or none.

        Raises:
            FreeUValueError: fewer slots are free.
        """
        fresh = [codes.new_code() for _ in range(count)]

        def work(connection: Connection) -> None:
            for done, code in enumerate(fresh):
                if claim(connection, len(self.plan.slots), code, self.plan.languages[0], invited=True) is None:
                    raise FreeUValueError(
                        f"the plan has {len(self.plan.slots)} slots and only {done} of them free, "
                        f"{count} are wanted: ask for fewer"
                    )

        self._writer.do(work)
        return fresh

    def join(self, rater: Rater, language: str, nickname: str | None = None) -> None:
        """An invited rater begins."""
        values = {"language": language, "nickname": nickname, "joined": now()}
        change = raters.update().where(raters.c.key == rater.key, raters.c.joined.is_(None), ~raters.c.deleted)
        self._writer.do(lambda connection: connection.execute(change.values(values)))

    def vote(self, rater: Rater, task: str, revision: int, choice: str, seconds: float) -> Receipt:
        """Record an answer to the current task.

        The same answer at the same revision is acknowledged again, as often as it comes.

        Args:
            rater: who answers.
            task: id of the task.
            revision: of the answer, from ``standing``.
            choice: "left", "right" or, where the plan has ties, "tie".
            seconds: from the moment both images were shown, finite and at least 0.

        Raises:
            FreeUValueError: no such choice in this study.
        """
        if choice not in CHOICES or (choice == "tie" and not self.plan.ties):
            raise FreeUValueError(f"the choice must be one of {CHOICES}, 'tie' only where the plan has ties")
        return self._write(rater, Mark(task, VOTE, revision, choice), seconds)

    def undo(self, rater: Rater, task: str, revision: int) -> Receipt:
        """Take back the last answer, so that its task is to be answered again at the next revision."""
        return self._write(rater, Mark(task, UNDO, revision, ""), 0.0)

    def forget(self, rater: Rater) -> None:
        """Delete what could tell who a rater is. The votes stay, under a fresh opaque id; the code works no more."""
        values = {"id": codes.new_id(), "token": None, "nickname": None, "joined": None, "deleted": True}
        change = raters.update().where(raters.c.key == rater.key).values(values)
        self._writer.do(lambda connection: connection.execute(change))

    # Inside a transaction.

    def _write(self, rater: Rater, wish: Mark, seconds: float) -> Receipt:
        tasks = self.tasks(rater)
        place = next((number for number, one in enumerate(tasks) if one.id == wish.task), None)

        def work(connection: Connection) -> Receipt:
            # The lock makes votes of one rater queue up on PostgreSQL too; SQLite has one writer anyway.
            lock = select(raters.c.deleted, raters.c.slot).where(raters.c.key == rater.key).with_for_update()
            found = connection.execute(lock).one()
            marks = _marks(connection, rater.key)
            if place is None or found.deleted or found.slot != rater.slot:
                return Receipt("stale", "", standing(tasks, marks))
            outcome, choice, fresh = decide(tasks, marks, wish, place)
            if fresh:
                self._append(connection, rater, place, wish, seconds)
                marks.append(wish)
            return Receipt(outcome, choice, standing(tasks, marks))

        return self._writer.do(work)

    def _append(self, connection: Connection, rater: Rater, place: int, wish: Mark, seconds: float) -> None:
        task = self.tasks(rater)[place]
        pair = self.plan.pair(task.pair)
        values = {"rater": rater.key, **asdict(wish), "seconds": seconds, "time": now(), "place": place}
        values |= {"left": pair.first if task.first_left else pair.second, "plan": self.plan.sha256}
        connection.execute(events.insert().values(values))

    def _read(self, query: Any) -> Sequence[Row[Any]]:
        with self._reading.connect() as connection:
            return connection.execute(query).all()


def _marks(connection: Connection, rater: int) -> list[Mark]:
    columns = (events.c.task, events.c.kind, events.c.revision, events.c.choice)
    return [Mark(*row) for row in connection.execute(select(*columns).where(events.c.rater == rater))]
