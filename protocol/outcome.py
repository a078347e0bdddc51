"""How a leased call ended; decides what is refunded (wire.md 4.4)."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a leased call ended."""

    SUCCESS = "success"  # settle with the real usage
    REJECTED = "rejected"  # the provider refused it: tokens come back, the request counts
    THROTTLED = "throttled"  # as rejected, and the whole domain waits
    OVERLOADED = "overloaded"  # as rejected, and concurrency is cut
    AMBIGUOUS = "ambiguous"  # it may be billed: the reservation stays spent
    UNSENT = "unsent"  # never reached the provider: everything comes back


SUCCESS, REJECTED, THROTTLED, OVERLOADED, AMBIGUOUS, UNSENT = Outcome
