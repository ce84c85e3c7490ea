"""Sessions of the administrator: signed cookies, of which those that are open are listed on disk."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from freeu.errors import FreeUError
from freeu.json_files import find_json
from freeu.study.web.secrets import Secrets, write_private

FILE = "sessions.json"
KIND, SCHEMA = "freeu-study-sessions", 1
SECONDS = 12 * 3600
MOST = 100
"""Open sessions; the oldest ends where there would be more."""


class Sessions:
    """The administrator's sessions. A cookie is valid while it is listed: what was logged out never returns.

    The list is on disk before a login or logout is answered, so it survives a restart, and an ended session is not in
    it whatever the clock says. It holds hashes only, and is readable by its owner only.

    Args:
        folder: of the study, in which the list is kept.
        keys: for signatures.
        clock: seconds since the epoch.
        steady: seconds that no change of the clock moves.
    """

    def __init__(
        self,
        folder: Path,
        keys: Secrets,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._keys, self._clock, self._steady = folder / FILE, keys, clock, steady
        self._lock = threading.Lock()
        self._ends: dict[str, float] = {}  # by the clock
        self._limits: dict[str, float] = {}  # by the steady clock
        for name, end in _read(self._path).items():
            self._open(name, min(end, clock() + SECONDS))

    def begin(self) -> str:
        """The value of a new cookie.

        Raises:
            FreeURuntimeError: the session cannot be written down.
        """
        end = int(self._clock()) + SECONDS
        text = f"{end}.{secrets.token_hex(16)}"
        value = f"{text}.{self._keys.sign('admin', text)}"
        with self._lock:
            self._expire()
            for oldest in sorted(self._ends, key=lambda name: self._ends[name])[: max(0, len(self._ends) - MOST + 1)]:
                self._close(oldest)
            self._open(_name(value), end)
            try:
                self._write()
            except FreeUError:
                self._close(_name(value))
                raise
        return value

    def valid(self, value: str) -> bool:
        """Whether the cookie is genuine and its session is open."""
        text, _, signature = value.rpartition(".")
        if not self._keys.signed("admin", text, signature):
            return False
        with self._lock:
            self._expire()
            return _name(value) in self._ends

    def end(self, value: str) -> None:
        """Log out: the cookie is invalid from now on, also in other browsers and after a restart.

        Raises:
            FreeURuntimeError: that cannot be written down; then it is invalid until the server is started again only.
        """
        with self._lock:
            self._close(_name(value))
            self._write()

    def _open(self, name: str, end: float) -> None:
        self._ends[name], self._limits[name] = end, self._steady() + end - self._clock()

    def _close(self, name: str) -> None:
        self._ends.pop(name, None)
        self._limits.pop(name, None)

    def _expire(self) -> None:
        now, steady = self._clock(), self._steady()
        for name in [name for name, end in self._ends.items() if end <= now or self._limits[name] <= steady]:
            self._close(name)

    def _write(self) -> None:
        write_private(self._path, {"kind": KIND, "schema": SCHEMA, "sessions": self._ends})


def _name(value: str) -> str:
    return hashlib.sha256(value.encode(errors="replace")).hexdigest()


def _read(path: Path) -> dict[str, float]:
    """The sessions that are open; none of a file that is damaged, which ends them all."""
    try:
        data = find_json(path) or {}
    except FreeUError:
        return {}
    known = data.get("sessions") if (data.get("kind"), data.get("schema")) == (KIND, SCHEMA) else None
    return {
        name: float(end)
        for name, end in (known.items() if isinstance(known, dict) else ())
        if isinstance(end, int | float) and abs(end) < 1e12
    }
