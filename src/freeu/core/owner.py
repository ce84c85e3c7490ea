"""Who is within a ``with`` block: a thread, and in it a task of asyncio."""

from __future__ import annotations

import sys
import threading
from typing import Any


class Owner:
    """The thread and task in which this was made."""

    def __init__(self) -> None:
        self._thread = threading.current_thread()
        self._task = _task()

    @property
    def elsewhere(self) -> bool:
        """True if that is another one than now, and goes on."""
        if not self._thread.is_alive() or (self._task is not None and self._task.done()):
            return False
        return self._thread is not threading.current_thread() or self._task is not _task()


def _task() -> Any:
    if "asyncio" not in sys.modules:
        return None
    try:
        return sys.modules["asyncio"].current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
