"""When a failed actor is restarted, and when it is given up: the intensity of Erlang/OTP's supervisors as a value.

More than ``times`` failures within ``within`` seconds are one too many. Until then each restart of an unhealthy child
waits longer than the one before; only a healthy period, ``within`` seconds without a failure, starts the backoff
afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

FIRST = 0.1
LONGEST = 5.0


class Restart(NamedTuple):
    """Restart the child after *after* seconds."""

    after: float


class GiveUp(NamedTuple):
    """Stop the child and tell whoever is above."""

    reason: str


Verdict = Restart | GiveUp


def at_once_then_doubling(n: int) -> float:
    """Return the seconds before restart *n* (from 0) of an unhealthy child: 0, then 0.1 doubling up to 5."""
    return 0.0 if n == 0 else min(LONGEST, FIRST * 2.0 ** min(n - 1, 10))


class RestartLimit(Struct, frozen=True, kw_only=True):
    """At most *times* restarts within *within* seconds; ``backoff(n)`` is the wait before restart *n* in a row."""

    times: int = 5
    within: float = 30.0
    backoff: Callable[[int], float] = at_once_then_doubling

    def judge(self, history: tuple[float, ...], now: float) -> Verdict:
        """Judge the failure at *now*; *history* holds the instants of the child's failures, this one last.

        The latest ``times + 1`` entries decide between restart and giving up; older ones only let the backoff grow.
        """
        recent = sum(1 for at in history if now - at < self.within)
        if recent > self.times:
            return GiveUp(f"failed {recent} times within {self.within:g} s, {self.times} are allowed")
        return Restart(self.backoff(self._unhealthy(history, now)))

    def _unhealthy(self, history: tuple[float, ...], now: float) -> int:
        """Count the failures before this one that no healthy period separates from it."""
        count, later = 0, now
        for at in reversed(history[:-1]):
            if later - at >= self.within:
                break
            count, later = count + 1, at
        return count
