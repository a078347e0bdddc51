"""How long a call would wait in a domain, as the gateway sees it: what 429s said, and how long the first in line waits.

Who goes when is the limiter's; this is an outlook for who chooses among domains, made of what passes by anyway.
"""

from __future__ import annotations

from math import inf


class HeadRoom:
    """The outlook of each domain."""

    __slots__ = ("_blocked", "_waiting")

    def __init__(self) -> None:
        self._blocked: dict[str, float] = {}
        self._waiting: dict[str, dict[str, float]] = {}

    def on_asked(self, domain: str, step: str, now: float) -> None:
        """*step* has got in line; where it stood there before it keeps its place."""
        self._waiting.setdefault(domain, {}).setdefault(step, now)

    def on_left(self, domain: str, step: str) -> None:
        """*step* is no longer in line."""
        self._waiting.get(domain, {}).pop(step, None)

    def on_throttled(self, domain: str, until: float) -> None:
        """A 429 asks everybody to wait until then."""
        self._blocked[domain] = max(self._blocked.get(domain, -inf), until)

    def wait(self, domain: str, now: float) -> float:
        """Return the seconds that a call would wait at least, by what is known: 0 when nothing is in its way."""
        first = next(iter(self._waiting.get(domain, {}).values()), now)
        return max(0.0, now - first, self._blocked.get(domain, -inf) - now)
