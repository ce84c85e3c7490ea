"""SIGINT and SIGTERM while a model is trained."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopSignals:
    """SIGINT and SIGTERM raise ``KeyboardInterrupt``, but not during a step, when weights are half changed.

    >>> stop = StopSignals()
    >>> with stop.listening():
    ...     for step in range(3):
    ...         with stop.later():  # a signal that comes here interrupts at the end of the block
    ...             pass  # make a step
    """

    def __init__(self) -> None:
        self._waits = self._asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals, for a ``with`` block; only Python's main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """A ``with`` block that is not interrupted."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self._asked:
            raise KeyboardInterrupt

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if not self._waits:
            raise KeyboardInterrupt
