"""What a provider's rate-limit headers teach: the true limit, and how much of it is left.

Headers are hearsay. A limit is adopted at once when it is the first of its kind, later only when ``CONFIRM`` replies
in a row say the same: a relay that serves two keys, or one reply of nonsense, must not make the rate flap. What is no
limit (0, negative, absurdly large; the reader of headers has dropped what is no number) is passed over.

*Rates.* Of several windows of one resource the slowest is the rate. A window longer than ``LONGEST_PACED`` does not
pace: a day's quota may be used in an hour, and when it is gone the refusal says for how long. Where a header does not
say its period, the refill may tell it: of a limit that refills continuously ``limit / period`` comes back each second,
so the time until it is full again is ``period * used / limit``. A period that fits ``CONFIRM`` replies in a row is
adopted; until then such a window only lowers the level.

*How much at once.* A limit that refills continuously is full when what is left and what comes back until the reset are
together: ``remaining + reset * limit / period``, and never more than the limit. The least of what was said so counts.

*What is left* is a snapshot of the moment a request was let in; with several in flight the headers come out of order.
It is passed on with the pass of that request, to lower a local level and never to raise it (``adaptive_rate.py``).

Sources: wire.md 3.4; drafts of the IETF HTTPAPI group on RateLimit fields.

How the limiter calls it, one for each domain, with ``windows_of(headers, ..)`` of ``protocol/wire/hints.py``::

    on each reply:  for lesson in learned.on_headers(windows):
                        if lesson.rate is not None:      rates[lesson.resource].teach(lesson.rate)
                        if lesson.remaining is not None: rates[lesson.resource].on_remaining(passed, ..., now)
    on a 429:       rates[learned.exhausted(windows) or "requests"].on_throttled(...)
    to show:        learned.known()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.wire.hints import Counted, Window

CONFIRM = 3
"""So many replies in a row must say the same before a limit changes."""
LONGEST_PACED = 3600.0
"""Windows of more seconds do not pace."""
LARGEST = 1e12
"""No limit is larger."""
SHORTEST, LONGEST = 0.001, 366 * 86400.0
"""No period is shorter or longer, in seconds."""
PERIODS = (1.0, 10.0, 60.0, 3600.0, 86400.0)
FIT = 0.05
"""A period fits that is off by less than this share."""
MOST = 32
"""So many windows are remembered at most."""


class Lesson(Struct, frozen=True, gc=False):
    """What one reply teaches about one resource; None where it teaches nothing.

    Units per second, units left, and how many there are when all are there.
    """

    resource: str
    rate: float | None
    remaining: int | None
    burst: float | None = None


class Known(NamedTuple):
    """A limit that is believed: *limit* units of *resource* in *period* seconds."""

    resource: str
    limit: int
    period: float


class _Belief:
    """One window's limit: what is believed, what has been said of late, and the least that it was said to hold."""

    __slots__ = ("believed", "room", "said", "times")

    def __init__(self) -> None:
        self.believed: tuple[int, float] | None = None
        self.room: float | None = None
        self.said: tuple[int, float] | None = None
        self.times = 0

    def hear(self, said: tuple[int, float], room: float | None, *, at_once: bool) -> None:
        """Count how often in a row *said* was said, and believe it when that is enough; it holds *room*."""
        self.times = self.times + 1 if said == self.said else 1
        self.said = said
        if (self.times >= CONFIRM or (at_once and self.believed is None)) and self.believed != said:
            self.believed, self.room = said, None
        if room is not None and said == self.believed:
            self.room = room if self.room is None else min(self.room, room)


class LearnedLimits:
    """What the headers of one domain have taught so far."""

    __slots__ = ("_beliefs",)

    def __init__(self) -> None:
        self._beliefs: dict[tuple[str, float | None], _Belief] = {}

    def on_headers(self, windows: Iterable[Counted]) -> tuple[Lesson, ...]:
        """Learn from the windows of one reply; return what they teach, a lesson for each resource."""
        left: dict[str, int | None] = {}
        said: dict[tuple[str, float | None], tuple[int, float]] = {}
        rooms: dict[tuple[str, float | None], float | None] = {}
        for resource, window in windows:
            _tighten(left, resource, window)
            limit, period = window.limit, _refill_period(window) if window.period is None else window.period
            if limit is None or period is None or not (0 < limit <= LARGEST and SHORTEST <= period <= LONGEST):
                continue
            key = (resource, window.period)
            if key not in said or (limit, period) < said[key]:
                said[key], rooms[key] = (limit, period), _room(window, limit / period)
        for key, limited in said.items():
            if key in self._beliefs or len(self._beliefs) < MOST:
                self._beliefs.setdefault(key, _Belief()).hear(limited, rooms[key], at_once=key[1] is not None)
        return tuple(self._lesson(resource, remaining) for resource, remaining in left.items())

    def rate(self, resource: str) -> float | None:
        """Return the units per second that are believed to be allowed, None when nothing paces *resource*."""
        return self._lesson(resource, None).rate

    def known(self) -> tuple[Known, ...]:
        """Return all limits that are believed."""
        return tuple(
            Known(resource, *belief.believed)
            for (resource, _), belief in self._beliefs.items()
            if belief.believed is not None
        )

    def _lesson(self, resource: str, remaining: int | None) -> Lesson:
        """Return what is known of *resource* by its slowest window."""
        slowest: tuple[float | None, float | None] = None, None
        for (name, _), belief in self._beliefs.items():
            if name == resource and belief.believed is not None and belief.believed[1] <= LONGEST_PACED:
                rate = belief.believed[0] / belief.believed[1]
                if slowest[0] is None or rate < slowest[0]:
                    slowest = rate, belief.room
        return Lesson(resource, slowest[0], remaining, slowest[1])

    @staticmethod
    def exhausted(windows: Iterable[Counted]) -> str | None:
        """Return the resource of which nothing is left, the one that takes longest to come back; None for no such."""
        empty = [(window.reset or 0.0, resource) for resource, window in windows if window.remaining == 0]
        return max(empty)[1] if empty else None


def _tighten(left: dict[str, int | None], resource: str, window: Window) -> None:
    """Keep the least that is left of *resource*; more than the limit cannot be."""
    before, remaining = left.setdefault(resource, None), window.remaining
    if remaining is not None:
        least = remaining if window.limit is None else min(remaining, window.limit)
        left[resource] = least if before is None else min(before, least)


def _room(window: Window, rate: float) -> float | None:
    """Return how much there is of *window* when all is there, None where it is not said or cannot be told."""
    limit, remaining, reset = window.limit, window.remaining, window.reset
    if limit is None or remaining is None or reset is None or remaining <= 0 or not 0.0 <= reset <= LONGEST:
        return None
    return min(float(limit), remaining + reset * rate)


def _refill_period(window: Window) -> float | None:
    """Return the period that the time until the window is full speaks of; None when it fits none."""
    limit, remaining, reset = window.limit, window.remaining, window.reset
    if limit is None or remaining is None or reset is None or not 0 <= remaining < limit:
        return None
    implied = reset * limit / (limit - remaining)
    return next((period for period in PERIODS if abs(implied - period) <= FIT * period), None)
