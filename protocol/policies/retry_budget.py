"""How many retries an endpoint is worth: a share of what succeeds, so that retries cannot amplify an outage.

Every success pays ``share`` of a retry into an account that holds at most ``most``; a retry costs one. Where nothing
succeeds a trickle of ``floor`` retries a second is all that goes. Law: in any window of *w* seconds that sees *s*
successes there are at most ``most + share * s + floor * w`` retries; the load on a sick endpoint is bounded by
``1 + share`` times the first tries, however many layers and callers would like to try again.

Source: wire.md 6.9; the retry budgets of Finagle and of Google's *Site Reliability Engineering*, "Handling Overload".

How the gateway calls it, one budget for each endpoint::

    on a success:                 budget.on_success(now)
    before retry number 1, 2, ..: wait = budget.try_take(now)      # 0: go; otherwise wait that long, or give up

A retry of a 429 does not ask: the limiter blocks the whole domain for that, and lets single probes out.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

TICK = 1e-6
"""Waits are rounded up by a microsecond, so that a timer that counts in microseconds never comes too early."""


class RetryShare(Struct, frozen=True, kw_only=True):
    """``share`` retries for each success, ``floor`` for each second, at most ``most`` saved up; it starts with all."""

    share: float = 0.2
    floor: float = 0.1
    most: float = 10.0


class RetryBudget:
    """The account of one endpoint."""

    __slots__ = ("_at", "_saved", "settings")

    def __init__(self, settings: RetryShare | None = None) -> None:
        self.settings = RetryShare() if settings is None else settings
        self._saved = self.settings.most
        self._at = -inf

    def on_success(self, now: float) -> None:
        """Pay in the share of one success; what is above the most is lost."""
        self._saved = self.saved(now) + self.settings.share
        self._at = now

    def try_take(self, now: float) -> float:
        """Take one retry and return 0, or take nothing and return the seconds until the floor alone pays for one."""
        saved = self.saved(now)
        if saved >= 1.0:
            self._saved, self._at = saved - 1.0, now
            return 0.0
        return (1.0 - saved) / self.settings.floor + TICK if self.settings.floor > 0.0 else inf

    def saved(self, now: float) -> float:
        """Return how many retries are saved up."""
        if self._at == -inf:
            return self._saved
        return min(self.settings.most, self._saved + self.settings.floor * max(0.0, now - self._at))
