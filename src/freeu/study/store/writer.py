"""Group commit: a single thread writes, and all waiting writes share one commit.

Every commit waits for the disk. With one transaction per vote these waits add up; here all writes that arrive during
one commit go into the next. A write is acknowledged only after its commit.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from freeu.study.store.database import empty_log, require_transaction
from freeu.study.store.faults import StoreBusyError, StoreError, fault

T = TypeVar("T")
Job = tuple[Callable[[Connection], Any], "Future[Any]", bool]

MOST = 64
MOST_WAITING = 24
"""Writes at once. A web server has 40 threads: the others keep answering while the database is held by someone else."""
PATIENCE = 0.25
"""Seconds until a write that finds so many others waiting is refused."""


class Writer:
    """The only writer of the database.

    Args:
        engine: of the database.
        most: maximum number of writes per commit; 1 commits each write alone.
    """

    def __init__(self, engine: Engine, most: int = MOST) -> None:
        self._engine, self._most = engine, most
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._closed = False
        self._untidy = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="freeu-study-writer", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[Connection], T], *, tidy: bool = False) -> T:
        """Run ``work`` in a transaction and return its result after the commit.

        Args:
            work: must not end the transaction.
            tidy: empty the write-ahead log afterwards, since ``work`` deletes personal data: at once, or as soon as
                nobody reads from it.

        Raises:
            StoreError: the writer is closed, or the transaction of the batch was lost.
            StoreBusyError: too many writes are waiting.
            Exception: raised by ``work`` or the commit; then nothing of it was written.
        """
        future: Future[T] = Future()
        if not self._places.acquire(timeout=PATIENCE):
            raise StoreBusyError(f"the database is busy: {MOST_WAITING} writes are waiting for it: try again")
        try:
            with self._lock:
                if self._closed:
                    raise StoreError("the study's database is closed: start the server again")
                self._jobs.put((work, future, tidy))
            return future.result()
        finally:
            self._places.release()

    def close(self) -> None:
        """Finish pending writes, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                jobs = [self._jobs.get(timeout=1.0 if self._untidy else None)]
            except queue.Empty:
                self._tidy()
                continue
            while len(jobs) < self._most and jobs[-1] is not None:
                try:
                    jobs.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            self._commit([job for job in jobs if job is not None])
            if jobs[-1] is None:
                return

    def _commit(self, jobs: list[Job]) -> None:
        results: list[tuple[Any, BaseException | None]] = []
        try:
            if jobs:
                with self._engine.begin() as connection:
                    results = [_guarded(connection, work) for work, *_ in jobs]
        except BaseException as error:  # nothing was committed: every caller gets the error
            results = [(None, error)] * len(jobs)
        self._untidy = self._untidy or any(tidy for *_, tidy in jobs)
        if self._untidy:
            self._tidy()
        for (_, future, _), (result, failure) in zip(jobs, results, strict=True):
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

    def _tidy(self) -> None:
        try:
            self._untidy = not empty_log(self._engine)
        except StoreError:
            self._untidy = True  # tried again in a second; the next write tells what is wrong


def _guarded(connection: Connection, work: Callable[[Connection], Any]) -> tuple[Any, BaseException | None]:
    """The result of ``work`` or its error. The savepoint keeps a failure from affecting other writes of the batch.

    Raises:
        StoreError: the transaction is gone, and with it the writes before this one: none may be acknowledged.
    """
    savepoint = connection.begin_nested()
    result, failure = None, None
    try:
        result = work(connection)
    except Exception as error:
        failure = error
    # The savepoint cannot be ended where it is gone, also if another transaction has begun since.
    try:
        if failure is None:
            require_transaction(connection)
            savepoint.commit()
        else:
            savepoint.rollback()
            require_transaction(connection)
    except (SQLAlchemyError, StoreError) as gone:
        raise fault("the database rolled back what was written, by itself", failure or gone) from gone
    return result, failure
