"""A quota: at most so many in any window of a day. It may be used up at once, and is free again a day later.

A token bucket does not fit: with a burst of a day's requests it lets twice as many go in a day, with a small one it
spreads them over the day, which nobody asked for. Kept is a count for each of :data:`PARTS` parts of the window, and a
part is free again when its last instant is a window old.

Law: in any window no more than *limit* are taken (and not given back); of a limit that was used up at once all of it
can be taken again one window and one part later.
"""

from __future__ import annotations

from collections import deque
from math import floor, inf

DAY = 86_400.0
TICK = 1e-6
"""Waits are rounded up by a microsecond, so that a timer that counts in microseconds never comes too early."""
PARTS = 96
"""Into how many parts a window is cut: quarters of an hour for a day."""


class Quota:
    """At most *limit* in any *window* of seconds."""

    __slots__ = ("_counts", "_part", "_used", "limit", "window")

    def __init__(self, limit: float, window: float = DAY) -> None:
        self.limit = limit
        self.window = window
        self._part = window / PARTS
        self._counts: deque[list[float]] = deque()  # [number of the part, how many], oldest first
        self._used = 0.0

    def can_ever_fit(self, cost: float) -> bool:
        """Tell whether waiting for *cost* can ever end."""
        return cost <= self.limit

    def left(self, now: float) -> float:
        """Return what can be taken at once."""
        self._expire(now)
        return self.limit - self._used

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until *cost* could be taken, 0 for at once, infinity for never; take nothing."""
        if cost > self.limit:
            return inf
        self._expire(now)
        lacking = self._used + cost - self.limit
        free_at = now
        for part, count in self._counts:
            if lacking <= 0.0:
                break
            lacking -= count
            free_at = self._free_at(part) + TICK
        return free_at - now if cost > 0.0 else 0.0

    def take(self, cost: float, now: float) -> None:
        """Take *cost* whatever is left: the caller has asked :meth:`wait`, or owes it."""
        part = floor(now / self._part)
        if not self._counts or self._counts[-1][0] < part:
            self._counts.append([part, 0.0])
        self._counts[-1][1] += cost
        self._used += cost

    def refund(self, amount: float) -> None:
        """Give *amount* back: from the oldest part, so that what was really used counts longer and never shorter."""
        self._used = max(0.0, self._used - amount)
        while amount > 0.0 and self._counts:
            back = min(amount, self._counts[0][1])
            self._counts[0][1] -= back
            amount -= back
            if self._counts[0][1] <= 0.0:
                self._counts.popleft()

    def spread(self, now: float) -> None:
        """Begin as if the limit had been used up evenly in the window that ends *now*: nobody knows how it was."""
        last = floor(now / self._part)
        self._counts = deque([part, self.limit / PARTS] for part in range(last - PARTS, last))
        self._used = self.limit

    def _expire(self, now: float) -> None:
        counts = self._counts
        while counts and self._free_at(counts[0][0]) <= now:
            self._used -= counts.popleft()[1]
        if not counts:
            self._used = 0.0

    def _free_at(self, part: float) -> float:
        """Return when what was taken in *part* is a window old, however late in it that was."""
        return (part + 1) * self._part + self.window
