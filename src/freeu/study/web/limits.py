"""Rate limits: token buckets in memory, one per client and purpose."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_CALLERS = 20_000


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
    "logins": Rate(40, 0.5),
    "admin": Rate(60, 5),
}


class Limits:
    """The token buckets of all clients.

    Args:
        rates: by purpose.
        clock: monotonic time in seconds.
    """

    def __init__(self, rates: dict[str, Rate] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = RATES | (rates or {})
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, purpose: str, caller: str) -> float:
        """Take a token: 0.0 if it was available, otherwise the seconds until it is."""
        rate, now = self._rates[purpose], self._clock()
        with self._lock:
            left, then = self._buckets.pop((purpose, caller), (rate.burst, now))
            left = min(rate.burst, left + (now - then) * rate.per_second)
            allowed = left >= 1.0
            self._buckets[purpose, caller] = (left - 1.0 if allowed else left, now)
            if len(self._buckets) > MOST_CALLERS:
                self._buckets.popitem(last=False)  # the least recently used
        return 0.0 if allowed else (1.0 - left) / rate.per_second


def caller(address: str) -> str:
    """The client of an address; for IPv6 the whole /64 network, which belongs to one household."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
