"""How long to wait before the next try: capped exponential backoff with full jitter.

Full jitter does the least work under contention (AWS Architecture Blog, "Exponential Backoff and Jitter"). What a
provider asks for is a floor; the jitter on top of it keeps those who were told the same from coming back together.
"""

from __future__ import annotations

from msgspec import Struct

HINT_JITTER = 0.1
"""The share of a hint, and at most one second, that is added to it by chance."""


class Backoff(Struct, frozen=True, kw_only=True):
    """``U(0, min(cap, base * factor ** n))`` seconds before retry number *n*, counted from 0."""

    base: float = 0.5
    factor: float = 2.0
    cap: float = 30.0

    def ceiling(self, n: int) -> float:
        """Return the longest wait before retry *n*, in seconds."""
        try:
            return min(self.cap, self.base * self.factor**n)
        except OverflowError:
            return self.cap

    def delay(self, n: int, roll: float, hint: float | None = None) -> float:
        """Return the seconds to wait before retry *n*; *roll* is a die in [0, 1), *hint* what the provider asked for.

        With a hint above 0 the wait is never less than the hint, and longer by at most a tenth of it or one second.
        """
        if hint is not None and hint > 0.0:
            return hint + roll * min(1.0, HINT_JITTER * hint)
        return roll * self.ceiling(n)
