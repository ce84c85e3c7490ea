"""Rate limits: token buckets in memory, one per client and purpose."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_CALLERS = 20_000
"""Buckets of one purpose."""
SWEEP_SECONDS = 1.0
"""Time between searches for buckets that are full again."""


@dataclass(frozen=True)
class Rate:
    """A rate limit.

    Args:
        burst: maximum number at once.
        per_second: sustained rate.
    """

    burst: float
    per_second: float


RATES = {
    # A whole laboratory can share one address: 120 raters with a vote every 3 s make 120 requests per second.
    "address": Rate(2_000, 500),
    "session": Rate(120, 20),
    "vote": Rate(12, 4),
    "start": Rate(150, 1),
    "resume": Rate(60, 0.5),
    "login": Rate(5, 1 / 20),
    # Wrong passwords of all callers together. Where they use it up, each caller has one try in the time that "login"
    # takes to fill: whoever has not guessed is not shut out by those who do.
    "guesses": Rate(40, 0.5),
    "admin": Rate(60, 5),
}


class Limits:
    """The token buckets of all clients, of each purpose apart from those of the others.

    A bucket is forgotten only when it is full again, which is what a new one is: nobody gets more by making others
    appear. Callers for whom there is no room share one bucket.

    Args:
        rates: by purpose.
        clock: monotonic time in seconds.
    """

    def __init__(self, rates: dict[str, Rate] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = RATES | (rates or {})
        self._clock = clock
        self._buckets: dict[str, dict[str, tuple[float, float]]] = {purpose: {} for purpose in self._rates}
        self._swept = dict.fromkeys(self._rates, -math.inf)
        self._lock = threading.Lock()

    def wait(self, purpose: str, caller: str) -> float:
        """Take a token: 0.0 if it was available, otherwise the seconds until it is."""
        rate = self._rates[purpose]
        with self._lock:
            place = self._place(purpose, caller)
            left = self._left(purpose, place)
            allowed = left >= 1.0
            self._buckets[purpose][place] = (left - 1.0 if allowed else left), self._clock()
        return 0.0 if allowed else (1.0 - left) / rate.per_second

    def empty(self, purpose: str, caller: str) -> bool:
        """Whether no token is available; none is taken."""
        with self._lock:
            return self._left(purpose, self._place(purpose, caller)) < 1.0

    def until_full(self, purpose: str, caller: str) -> float:
        """Seconds until the bucket is full; 0.0 for a caller who has taken no token lately."""
        rate = self._rates[purpose]
        with self._lock:
            return (rate.burst - self._left(purpose, self._place(purpose, caller))) / rate.per_second

    def _left(self, purpose: str, place: str) -> float:
        rate, now = self._rates[purpose], self._clock()
        left, then = self._buckets[purpose].get(place, (rate.burst, now))
        return min(rate.burst, left + (now - then) * rate.per_second)

    def _place(self, purpose: str, caller: str) -> str:
        return caller if caller in self._buckets[purpose] or self._has_room(purpose) else ""

    def _has_room(self, purpose: str) -> bool:
        buckets, rate, now = self._buckets[purpose], self._rates[purpose], self._clock()
        if len(buckets) >= MOST_CALLERS and now - self._swept[purpose] >= SWEEP_SECONDS:
            self._swept[purpose] = now
            self._buckets[purpose] = buckets = {
                one: (left, then)
                for one, (left, then) in buckets.items()
                if left + (now - then) * rate.per_second < rate.burst
            }
        return len(buckets) < MOST_CALLERS


def caller(address: str) -> str:
    """The client of an address; for IPv6 the whole /64 network, which belongs to one household."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


def site_of(caller: str) -> str:
    """The client for guesses of the password: for IPv6 the /48 network, of which one site has 65,536 /64 networks."""
    return str(ipaddress.ip_network(caller).supernet(new_prefix=48)) if caller.endswith("::/64") else caller
