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

from freeu.errors import FreeURuntimeError

T = TypeVar("T")
Job = tuple[Callable[[Connection], Any], "Future[Any]"]

MOST = 64


class Writer:
    """The only writer of the database.

    Args:
        engine: of the database.
        most: maximum number of writes per commit; 1 commits each write alone.
    """

    def __init__(self, engine: Engine, most: int = MOST) -> None:
        self._engine, self._most = engine, most
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="freeu-study-writer", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result after the commit.

        Raises:
            FreeURuntimeError: the writer is closed.
            Exception: raised by ``work`` or the commit; then nothing of it was written.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise FreeURuntimeError("the study's database is closed")
            self._jobs.put((work, future))
        return future.result()

    def close(self) -> None:
        """Finish pending writes, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            jobs = [self._jobs.get()]
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
                    results = [_guarded(connection, work) for work, _ in jobs]
        except BaseException as error:  # nothing was committed: every caller gets the error
            results = [(None, error)] * len(jobs)
        for (_, future), (result, failure) in zip(jobs, results, strict=True):
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)


def _guarded(connection: Connection, work: Callable[[Connection], Any]) -> tuple[Any, BaseException | None]:
    """The result of ``work`` or its error. The savepoint keeps a failure from affecting other writes of the batch."""
    try:
        with connection.begin_nested():
            return work(connection), None
    except Exception as error:
        return None, error
