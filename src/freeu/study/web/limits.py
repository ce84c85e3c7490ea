"""Rate limits: token buckets in memory, one for each caller and purpose."""

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
    """How often something may happen.

    Args:
        burst: at once, after a rest.
        per_second: in the long run.
    """

    burst: float
    per_second: float


RATES = {
    # A whole laboratory may sit behind one address: 120 raters with a vote every 3 s make 120 requests a second.
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
    """The buckets of everybody.

    Args:
        rates: by purpose.
        clock: seconds, never going back.
    """

    def __init__(self, rates: dict[str, Rate] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = RATES | (rates or {})
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, purpose: str, caller: str) -> float:
        """Take one; 0.0 if that was allowed, otherwise the seconds after which it will be."""
        rate, now = self._rates[purpose], self._clock()
        with self._lock:
            left, then = self._buckets.pop((purpose, caller), (rate.burst, now))
            left = min(rate.burst, left + (now - then) * rate.per_second)
            allowed = left >= 1.0
            self._buckets[purpose, caller] = (left - 1.0 if allowed else left, now)
            if len(self._buckets) > MOST_CALLERS:
                self._buckets.popitem(last=False)  # the one that was quiet for longest
        return 0.0 if allowed else (1.0 - left) / rate.per_second


def caller(address: str) -> str:
    """The caller that an address stands for: a whole /64 of IPv6, which one household holds."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
