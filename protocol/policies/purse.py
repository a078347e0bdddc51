"""What may still be spent, for who chooses: the limits of the system and of runs, and what their calls have cost.

It reserves nothing and prevents nothing, which is the limiter's (``protocol/policies/budget.py``); it says what can at
best be had, so that nobody chooses a model that the limiter can only refuse. Money is integer nano-dollars.
"""

from __future__ import annotations


class Purse:
    """*limit* is the system's, None for none. It outlives a gateway that fails."""

    __slots__ = ("_left", "_runs")

    def __init__(self, limit: int | None = None) -> None:
        self._left = limit
        self._runs: dict[str, int] = {}

    def allow(self, run: str, limit: int) -> None:
        """Let *run* spend at most *limit*; what it had before is said anew."""
        self._runs[run] = limit

    def close(self, run: str) -> None:
        """The run is over."""
        self._runs.pop(run, None)

    def spend(self, run: str, nano: int) -> None:
        """A call of *run* has cost *nano*."""
        if self._left is not None:
            self._left -= nano
        if run in self._runs:
            self._runs[run] -= nano

    def left(self, run: str) -> int | None:
        """Return what *run* may still spend, None where nothing bounds it."""
        own = self._runs.get(run)
        bounds = [bound for bound in (self._left, own) if bound is not None]
        return max(0, min(bounds)) if bounds else None
