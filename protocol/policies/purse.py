"""What may still be spent, for who chooses: the limits of the system and of runs, and what their calls have cost.

It reserves nothing and prevents nothing, which is the limiter's (``protocol/policies/budget.py``); it says what can at
best be had, so that nobody chooses a model that the limiter can only refuse. Money is integer nano-dollars.
"""

from __future__ import annotations


class Purse:
    """*limit* is the system's, None for none. It outlives a gateway that fails."""

    __slots__ = ("_left", "_limits", "_spent")

    def __init__(self, limit: int | None = None) -> None:
        self._left = limit
        self._limits: dict[str, int] = {}
        self._spent: dict[str, int] = {}

    def allow(self, run: str, limit: int) -> None:
        """Let *run* spend at most *limit*; what it has spent since it was first bounded counts."""
        self._limits[run] = limit

    def close(self, run: str) -> None:
        """The run is over."""
        self._limits.pop(run, None)
        self._spent.pop(run, None)

    def spend(self, run: str, nano: int) -> None:
        """A call of *run* has cost *nano*."""
        if self._left is not None:
            self._left -= nano
        if run in self._limits:
            self._spent[run] = self._spent.get(run, 0) + nano

    def left(self, run: str) -> int | None:
        """Return what *run* may still spend, None where nothing bounds it."""
        own = self._limits.get(run)
        bounds = [] if own is None else [own - self._spent.get(run, 0)]
        bounds += [] if self._left is None else [self._left]
        return max(0, min(bounds)) if bounds else None
