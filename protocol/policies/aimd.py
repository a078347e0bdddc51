"""How many calls may be in flight at an endpoint that says no number: additive increase, multiplicative decrease.

A call that is turned away for load (529, 503), or that times out, cuts the limit: by ``OVERLOAD_CUT``, or by the
milder ``TIMEOUT_CUT`` since one slow answer proves little. A round of successes at the limit raises it by one. The
duration of an answer is no signal at all: it depends on how much the model wrote. A 429 is none either: it speaks of
a rate.

*One cut per epoch.* A cut begins an epoch, and what was granted before it and fails later does not cut again: twenty
failures of one burst are one piece of news. A single call of the new epoch that fails is the next piece.

*The way back.* ``threshold`` is the limit that was good before the trouble. Below it the limit doubles each round (slow
start), above it grows by one. A cut above the threshold means that the threshold itself was too high: it comes
down with the limit. A cut at or below it, before anything has succeeded in this epoch, is the same outage: the
limit falls on to ``least``, the threshold stays, and once calls succeed again the limit is back within a few rounds.
If calls have succeeded meanwhile, the endpoint has become smaller: the threshold comes down as well.

Only a limit that is used grows: a success counts while at least half of the limit is in flight.

Sources: D. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance" (1989);
RFC 5681 (slow start, threshold); Netflix's concurrency-limits (AIMDLimit; wire.md 6.6). ``tests/protocol/vendor.py``
has the server that the closed-loop tests run against.

How the limiter calls it, one for each domain::

    room:        len(leases in flight) < aimd.limit
    on a grant:  lease.epoch = aimd.epoch
    on a settle: aimd.on_success(lease.epoch, in_flight)     # in_flight with this one
                 aimd.on_overload(lease.epoch)               # Outcome.OVERLOADED
                 aimd.on_timeout(lease.epoch)                # a timeout; other ends say nothing
"""

from __future__ import annotations

from math import floor, inf

from msgspec import Struct

OVERLOAD_CUT = 0.7
TIMEOUT_CUT = 0.9


class AimdLimits(Struct, frozen=True, kw_only=True):
    """Start with ``first`` in flight and stay between ``least`` and ``most``; a configured concurrency is ``most``."""

    first: int = 8
    least: int = 1
    most: int = 256


class Aimd:
    """The concurrency limit of one endpoint."""

    __slots__ = ("_limit", "_proved", "epoch", "settings", "threshold")

    def __init__(self, settings: AimdLimits | None = None) -> None:
        self.settings = AimdLimits() if settings is None else settings
        self._limit = float(min(self.settings.first, self.settings.most))
        self._proved = False
        self.threshold = inf
        """The limit from which on it grows by one a round; infinity as long as nothing was cut."""
        self.epoch = 0
        """How often it was cut."""

    @property
    def limit(self) -> int:
        """How many calls may be in flight."""
        return floor(self._limit)

    def on_success(self, epoch: int, in_flight: int) -> None:
        """A call granted in *epoch* has succeeded, one of *in_flight*."""
        if epoch != self.epoch:
            return
        self._proved = True
        if 2 * in_flight < self._limit:
            return
        grown = self._limit + (1.0 if self._limit < self.threshold else 1.0 / self._limit)
        self._limit = min(grown, float(self.settings.most))

    def on_overload(self, epoch: int) -> None:
        """A call granted in *epoch* was turned away for load."""
        self._cut(epoch, OVERLOAD_CUT)

    def on_timeout(self, epoch: int) -> None:
        """A call granted in *epoch* has timed out."""
        self._cut(epoch, TIMEOUT_CUT)

    def _cut(self, epoch: int, share: float) -> None:
        if epoch != self.epoch:
            return
        same_outage = self._limit <= self.threshold < inf and not self._proved
        self._limit = max(float(self.settings.least), self._limit * share)
        if not same_outage:
            self.threshold = self._limit
        self._proved = False
        self.epoch += 1
