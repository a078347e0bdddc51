"""A line of waiters, served in the order of arrival; anyone may leave it, and some have a deadline.

The seam for a fairer order: whoever replaces it keeps these methods.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

W = TypeVar("W")


class WaitingLine(Generic[W]):
    """First come, first served. Every operation takes constant time, the deadlines logarithmic."""

    __slots__ = ("_deadlines", "_waiters")

    def __init__(self) -> None:
        self._waiters: OrderedDict[str, tuple[W, float | None]] = OrderedDict()
        self._deadlines: list[tuple[float, str]] = []

    def __contains__(self, key: str) -> bool:
        return key in self._waiters

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[W]:
        return (waiter for waiter, _ in self._waiters.values())

    def push(self, key: str, waiter: W, deadline: float | None = None) -> None:
        """Join the line under a *key* that is not in it; *deadline* is an instant in seconds."""
        self._waiters[key] = (waiter, deadline)
        if deadline is not None:
            heappush(self._deadlines, (deadline, key))

    def head(self) -> W:
        """Return who is served next. Raises ``StopIteration`` when nobody waits."""
        return next(iter(self._waiters.values()))[0]

    def pop(self) -> W:
        """Serve the head. Raises ``KeyError`` when nobody waits."""
        return self._waiters.popitem(last=False)[1][0]

    def remove(self, key: str) -> W | None:
        """Leave the line, wherever in it; None for who is not in it."""
        found = self._waiters.pop(key, None)
        return None if found is None else found[0]

    def next_deadline(self) -> float:
        """Return the earliest deadline of a waiter, infinity when none has one."""
        deadlines = self._deadlines
        while deadlines and self._left(*deadlines[0]):
            heappop(deadlines)
        return deadlines[0][0] if deadlines else inf

    def pop_late(self) -> W:
        """Remove the waiter that :meth:`next_deadline` has spoken of."""
        _, key = heappop(self._deadlines)
        return self._waiters.pop(key)[0]

    def _left(self, deadline: float, key: str) -> bool:
        found = self._waiters.get(key)
        return found is None or found[1] != deadline
