"""How long a call would wait in a domain, as the gateway sees it: what 429s said, and how the lines move.

Who goes when is the limiter's; this is an outlook for who chooses among domains, made of what passes by anyway. A line
is judged by how long the last of it that went had waited, and by how long none has gone: the age of its first alone
would mislead, since a call may wait for its own run and hold up nobody. Lines are kept by class: who is urgent does not
wait for who is not.
"""

from __future__ import annotations

from math import inf


class Lines:
    """The lines of one domain, by class: who waits and since when, how long the last that went had waited."""

    __slots__ = ("blocked_until", "last_went", "waited", "waiting")

    def __init__(self) -> None:
        self.blocked_until = self.last_went = -inf
        self.waiting: dict[int, dict[str, float]] = {}
        self.waited: dict[int, float] = {}


class HeadRoom:
    """The outlook of each domain."""

    __slots__ = ("_domains",)

    def __init__(self) -> None:
        self._domains: dict[str, Lines] = {}

    def __len__(self) -> int:
        return sum(len(line) for domain in self._domains.values() for line in domain.waiting.values())

    def on_asked(self, domain: str, step: str, priority: int, now: float) -> None:
        """*step* has got in line; where it stood there before it keeps its place."""
        self._lines(domain).waiting.setdefault(priority, {}).setdefault(step, now)

    def on_granted(self, domain: str, step: str, now: float) -> None:
        """*step* may go."""
        lines = self._lines(domain)
        lines.last_went = now
        for priority, line in lines.waiting.items():
            since = line.pop(step, None)
            if since is not None:
                lines.waited[priority] = now - since

    def on_left(self, domain: str, step: str) -> None:
        """*step* has left the line without going."""
        for line in self._lines(domain).waiting.values():
            line.pop(step, None)

    def on_throttled(self, domain: str, until: float) -> None:
        """A 429 asks everybody to wait until then."""
        lines = self._lines(domain)
        lines.blocked_until = max(lines.blocked_until, until)

    def wait(self, domain: str, priority: int, now: float) -> float:
        """Return the seconds that a call of this class would wait, by what is known: 0 when nothing is in its way."""
        lines = self._lines(domain)
        wait = max(0.0, lines.blocked_until - now)
        for urgency, line in lines.waiting.items():
            if line and urgency <= priority:
                still = now - max(lines.last_went, next(iter(line.values())))
                wait = max(wait, lines.waited.get(urgency, 0.0), still)
        return wait

    def _lines(self, domain: str) -> Lines:
        return self._domains.get(domain) or self._domains.setdefault(domain, Lines())
