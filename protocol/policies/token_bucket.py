"""A token bucket in one float: GCRA, the generic cell rate algorithm (reference: wire.md 6.1).

``tat`` is the theoretical arrival time: the instant at which the bucket would be full again. The level at *now* is
``burst - max(0, tat - now) * rate``, so nothing has to tick, and the whole state is one number.

Law: in any window of *w* seconds at most ``burst + rate * w`` units are taken (plus what was refunded in it). A cost
larger than ``burst`` but not than ``limit`` waits for a full bucket and leaves a debt: the bound is then
``cost + rate * w``.
"""

from __future__ import annotations

from math import inf, isfinite

TICK = 1e-6
"""Waits are rounded up by a microsecond, so that a timer that counts in microseconds never comes too early."""


class TokenBucket:
    """*rate* units per second, at most *burst* at once; *limit* is the largest cost that can ever be taken."""

    __slots__ = ("burst", "limit", "rate", "tat")

    def __init__(self, *, rate: float, burst: float, limit: float | None = None, tat: float = -inf) -> None:
        """Start full; ``tat = now + burst / rate`` starts empty. Raises ``ValueError`` for what is no rate."""
        if not (isfinite(rate) and rate > 0.0 and isfinite(burst) and burst > 0.0):
            raise ValueError(f"a token bucket needs a rate and a burst above 0, not rate={rate!r}, burst={burst!r}")
        self.rate = rate
        self.burst = burst
        self.limit = burst if limit is None else max(limit, burst)
        self.tat = tat

    def level(self, now: float) -> float:
        """Return what could be taken at once; below 0 it is a debt."""
        return self.burst - max(0.0, self.tat - now) * self.rate

    def can_ever_fit(self, cost: float) -> bool:
        """Tell whether waiting for *cost* can ever end."""
        return cost <= self.limit

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until *cost* could be taken, 0 for at once, infinity for never; take nothing."""
        if cost > self.limit:
            return inf
        free = min(cost, self.burst) / self.rate
        wait = self.tat - now + free - self.burst / self.rate
        return wait + TICK if wait > 0.0 and cost > 0.0 else 0.0

    def take(self, cost: float, now: float) -> None:
        """Take *cost* whatever the level: the caller has asked :meth:`wait`, or owes it. A level below 0 is a debt."""
        self.tat = max(self.tat, now) + cost / self.rate

    def try_take(self, cost: float, now: float) -> float:
        """Take *cost* and return 0, or take nothing and return the wait in seconds (infinity: it can never fit)."""
        wait = self.wait(cost, now)
        if wait == 0.0:
            self.take(cost, now)
        return wait

    def refund(self, amount: float) -> None:
        """Give *amount* back; the level never rises above ``burst``, since an instant that is past means full."""
        self.tat -= amount / self.rate

    def retune(self, rate: float, now: float) -> None:
        """Refill at *rate* units per second from *now* on; the level stays what it is. Raises as the constructor."""
        if not (isfinite(rate) and rate > 0.0):
            raise ValueError(f"a token bucket needs a rate above 0, not {rate!r}")
        if self.tat > now:
            self.tat = now + (self.tat - now) * self.rate / rate
        self.rate = rate

    def drain(self, until: float, leave: float = 0.0) -> None:
        """Let the level be at most *leave* at the instant *until*: no burst after a pause."""
        self.tat = max(self.tat, until + (self.burst - min(leave, self.burst)) / self.rate)


def per_minute(limit: float, burst: float, *, tat: float = -inf) -> TokenBucket:
    """Return the bucket that keeps arrivals at a server below *limit* a minute plus the stated *burst*.

    It refills at ``limit / 60`` a second and is paced at ``burst - 1``: one unit of slack for what reaches the server
    late and is followed by one in time. Below a burst of 2 there is no slack to keep.
    """
    return TokenBucket(rate=limit / 60.0, burst=max(1.0, burst - 1.0), limit=limit, tat=tat)
