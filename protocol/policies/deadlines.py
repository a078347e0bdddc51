"""Who is due when: a heap of instants by key, from which keys may be taken out at any time.

What was taken out stays in the heap until it comes to the top, or until it outnumbers what is in: then it is swept out.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf

SLACK = 64
"""How many outdated entries the heap may hold beside as many as are valid."""


class Deadlines:
    """An instant for each key. Every operation takes logarithmic time, a sweep is paid for by what it sweeps."""

    __slots__ = ("_heap", "_instants")

    def __init__(self) -> None:
        self._instants: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._instants)

    def set(self, key: str, instant: float) -> None:
        """Let *key*, which has none, be due at *instant*."""
        self._instants[key] = instant
        heappush(self._heap, (instant, key))

    def discard(self, key: str) -> None:
        """Let *key* be due no more; does nothing for one that is not."""
        if self._instants.pop(key, None) is None:
            return
        if len(self._heap) > 2 * len(self._instants) + SLACK:
            self._instants = dict(self._instants)  # a dict keeps the room of its largest day
            self._heap = [(instant, key) for key, instant in self._instants.items()]
            heapify(self._heap)

    def next(self) -> float:
        """Return the earliest instant, infinity when nobody is due."""
        heap, instants = self._heap, self._instants
        while heap and instants.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else inf

    def pop(self, now: float) -> str | None:
        """Take out and return a key that is due at *now*, None when there is none."""
        if self.next() > now:
            return None
        key = heappop(self._heap)[1]
        self.discard(key)
        return key
