"""Raters and votes in a database: append-only, one counted vote per task, on disk before it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection, and_, select

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.study.plan.plan import StudyPlan, Task
from freeu.study.store import codes
from freeu.study.store.database import Access, open_engine, reading
from freeu.study.store.faults import fault, translated
from freeu.study.store.prepare import prepare
from freeu.study.store.progress import UNDO, VOTE, LogEntry, RaterProgress, decide, progress_of
from freeu.study.store.records import Event, Rater, Receipt, rater_of, vote_of
from freeu.study.store.slots import claim, now
from freeu.study.store.tables import events, raters
from freeu.study.store.votes import CHOICES, Vote
from freeu.study.store.writer import MOST, Writer
from freeu.wording import counted

T = TypeVar("T")


class Store:
    """The database of a study.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``; see ``database.database_url``.
        plan: of the study; its hash is stored in a new database and compared with that of an existing one.
        access: "create" makes a database where there is none and tries to write; "write" and "read" need one that is
            there, and "read" changes nothing in it or beside it.
        most: maximum number of writes per commit; see ``writer.Writer``.

    Every method raises ``StoreError`` where the database cannot be used.

    Raises:
        FreeUValueError: the database belongs to another plan, or there is none.
        StoreError: it cannot be opened, is damaged, or cannot be written.
    """

    def __init__(self, url: str, plan: StudyPlan, *, access: Access = "create", most: int = MOST) -> None:
        self.plan = plan
        self._resources = ExitStack()
        with translated("cannot open the study's database"):
            try:
                self.engine = open_engine(url, access, self._resources)
                self._resources.callback(self.engine.dispose)
                self._reading = reading(self.engine)
                self.created = prepare(self.engine, plan.sha256, now(), access)
            except BaseException:
                self._resources.close()
                raise
        self._writer = None if access == "read" else Writer(self.engine, most)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish pending writes and close the database."""
        if self._writer is not None:
            self._writer.close()
        with translated():
            self._resources.close()

    # Reading.

    def find(self, code: str) -> tuple[Rater, RaterProgress] | None:
        """The rater of a personal code and their progress, or None."""
        with translated(), self._reading.connect() as connection:
            row = connection.execute(select(raters).where(raters.c.token == codes.hashed(code))).one_or_none()
            if row is None:
                return None
            rater = rater_of(row)
            return rater, progress_of(self.tasks(rater), _entries(connection, rater.key))

    def raters(self) -> list[Rater]:
        """Every rater who ever had a slot, in the order in which the slots were taken."""
        with translated(), self._reading.connect() as connection:
            return _raters(connection)

    def progress(self, rater: Rater) -> RaterProgress:
        """The progress of a rater."""
        with translated(), self._reading.connect() as connection:
            return progress_of(self.tasks(rater), _entries(connection, rater.key))

    def tasks(self, rater: Rater) -> Sequence[Task]:
        """The tasks of a rater's slot."""
        if rater.slot is None:
            return ()
        if rater.slot >= len(self.plan.slots):
            raise fault("cannot use the study's database", f"it is damaged: the plan has no slot {rater.slot}")
        return self.plan.slots[rater.slot]

    def events(self) -> list[Event]:
        """The whole event log in order, undone votes included."""
        query = select(raters.c.id.label("who"), events).join(raters, raters.c.key == events.c.rater)
        with translated(), self._reading.connect() as connection:
            return [
                Event(
                    *(row.id, row.who, row.task, row.kind, row.choice, row.revision),
                    *(row.seconds, row.time, row.place, row.left, row.plan),
                )
                for row in connection.execute(query.order_by(events.c.id))
            ]

    def counted_votes(self) -> list[Vote]:
        """The counted answer to each task, in the order in which the answers were given."""
        with translated(), self._reading.connect() as connection:
            return _counted(connection)

    def snapshot(self) -> tuple[list[Rater], list[Vote]]:
        """``raters`` and ``counted_votes`` of one moment."""
        with translated(), self._reading.connect() as connection:
            return _raters(connection), _counted(connection)

    # Writing. Each method returns after its commit is on disk.

    def claim_slot(self, language: str, nickname: str | None = None) -> tuple[Rater, str] | None:
        """Take the lowest free slot for a new rater.

        Returns:
            the rater and the personal code, which is not stored and cannot be shown again; None if no slot is free.
        """
        code = codes.new_code()
        found = self._do(lambda connection: claim(connection, len(self.plan.slots), code, language, nickname))
        return None if found is None else (found, code)

    def invite(self, count: int) -> list[str]:
        """Reserve slots for raters who get a personal link, and return their codes. Either all are reserved or none.

        Raises:
            FreeUValueError: fewer than ``count`` slots are free.
        """
        fresh = [codes.new_code() for _ in range(count)]

        def work(connection: Connection) -> None:
            for done, code in enumerate(fresh):
                if claim(connection, len(self.plan.slots), code, self.plan.languages[0], invited=True) is None:
                    free = counted(done, "free slot")
                    raise FreeUValueError(
                        f"the plan has {free} of {len(self.plan.slots)}, but {count} were requested: request fewer"
                    )

        self._do(work)
        return fresh

    def join(self, rater: Rater, language: str, nickname: str | None = None) -> None:
        """Start an invited rater."""
        values = {"language": language, "nickname": nickname, "joined": now()}
        change = raters.update().where(raters.c.key == rater.key, raters.c.joined.is_(None), ~raters.c.deleted)
        self._do(lambda connection: connection.execute(change.values(values)))

    def vote(self, rater: Rater, task: str, revision: int, choice: str, seconds: float) -> Receipt:
        """Record an answer to the current task.

        The same answer at the same revision may be sent repeatedly; it is acknowledged each time and counted once.

        Args:
            rater: who votes.
            task: id of the task.
            revision: of the answer, from ``progress``.
            choice: "left", "right" or, where the plan has ties, "tie".
            seconds: response time since both images were shown, finite and at least 0.

        Raises:
            FreeUValueError: the study does not offer this choice.
        """
        if choice not in CHOICES or (choice == "tie" and not self.plan.ties):
            raise FreeUValueError(f"the choice must be one of {CHOICES}, 'tie' only where the plan has ties")
        return self._write(rater, LogEntry(task, VOTE, revision, choice), seconds)

    def undo(self, rater: Rater, task: str, revision: int) -> Receipt:
        """Undo the last answer, so that its task can be answered again at the next revision."""
        return self._write(rater, LogEntry(task, UNDO, revision, ""), 0.0)

    def forget(self, rater: Rater) -> None:
        """Delete a rater's personal data. The votes stay under a new random id; the personal code stops working.

        With SQLite the write-ahead log is emptied too, at once or as soon as nobody reads from it.
        """
        values = {"id": codes.new_id(), "token": None, "nickname": None, "joined": None, "deleted": True}
        change = raters.update().where(raters.c.key == rater.key).values(values)
        self._do(lambda connection: connection.execute(change), tidy=True)

    def _do(self, work: Callable[[Connection], T], *, tidy: bool = False) -> T:
        if self._writer is None:
            raise FreeURuntimeError("the study's database is open for reading only: nothing can be written")
        with translated("cannot write to the study's database"):
            return self._writer.do(work, tidy=tidy)

    # Inside a transaction.

    def _write(self, rater: Rater, new: LogEntry, seconds: float) -> Receipt:
        tasks = self.tasks(rater)
        index = next((number for number, one in enumerate(tasks) if one.id == new.task), None)

        def work(connection: Connection) -> Receipt:
            # On PostgreSQL the lock serializes the votes of one rater; SQLite has a single writer anyway.
            lock = select(raters.c.deleted, raters.c.slot).where(raters.c.key == rater.key).with_for_update()
            found = connection.execute(lock).one()
            entries = _entries(connection, rater.key)
            if index is None or found.deleted or found.slot != rater.slot:
                return Receipt("stale", "", progress_of(tasks, entries))
            outcome, choice, fresh = decide(tasks, entries, new, index)
            if fresh:
                self._append(connection, rater, index, new, seconds)
                entries.append(new)
            return Receipt(outcome, choice, progress_of(tasks, entries))

        return self._do(work)

    def _append(self, connection: Connection, rater: Rater, index: int, new: LogEntry, seconds: float) -> None:
        task = self.tasks(rater)[index]
        pair = self.plan.pair(task.pair)
        values = {"rater": rater.key, **asdict(new), "seconds": seconds, "time": now(), "place": index}
        values |= {"left": pair.first if task.first_left else pair.second, "plan": self.plan.sha256}
        connection.execute(events.insert().values(values))


def _raters(connection: Connection) -> list[Rater]:
    return [rater_of(row) for row in connection.execute(select(raters).order_by(raters.c.key))]


def _counted(connection: Connection) -> list[Vote]:
    undo = events.alias("undo")
    same = [undo.c[name] == events.c[name] for name in ("rater", "task", "revision")]
    query = (
        select(raters.c.id.label("who"), raters.c.deleted, events)
        .join(raters, raters.c.key == events.c.rater)
        .outerjoin(undo, and_(undo.c.kind == UNDO, *same))
        .where(events.c.kind == VOTE, undo.c.id.is_(None))
        .order_by(events.c.id)
    )
    return [vote_of(row) for row in connection.execute(query)]


def _entries(connection: Connection, rater: int) -> list[LogEntry]:
    columns = (events.c.task, events.c.kind, events.c.revision, events.c.choice)
    return [LogEntry(*row) for row in connection.execute(select(*columns).where(events.c.rater == rater))]
