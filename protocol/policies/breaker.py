"""A circuit breaker for one endpoint and model: what fails again and again is left alone for a while.

========== ======================================================= ========== =========================================
state      what happens                                            next       besides
========== ======================================================= ========== =========================================
CLOSED     ``streak`` bad ends in a row                            OPEN       for ``pause``, doubled each time in a row
CLOSED     ``share`` of at least ``least`` ends in ``window`` bad  OPEN       the same
CLOSED     a good end, a neutral one                               CLOSED     a good one ends the streak
any        a fatal end: the key is refused, or its quota is gone   OPEN       for ``fatal_pause``
OPEN       the pause is over                                       HALF_OPEN  one probe may go
HALF_OPEN  the probe ends badly                                    OPEN       for twice as long as before
HALF_OPEN  the probe ends well, ``proofs`` times                   CLOSED     the pauses start small again
HALF_OPEN  the probe ends neutrally, or not within ``patience``    HALF_OPEN  the next probe may go
========== ======================================================= ========== =========================================

Ends of calls that were let go before the breaker last changed its state are old news and say nothing. What counts as
bad is what the endpoint did (:func:`mark_of`): a 429 is not, since the limiter blocks for that, nor is a refusal that
the request itself has earned.

Sources: M. Nygard, *Release It!* ("Circuit Breaker"); wire.md 6.11, which also names the traps: a probe that never
ends must not hold the only slot for ever, and an open breaker without another endpoint must say how long it will be.

How the gateway calls it, one for each endpoint and model::

    wait = breaker.wait(now)                    # 0: let it go; otherwise wait that long, fail over, or fail fast
    passed = breaker.on_sent(now)               # keep it with the attempt
    breaker.on_end(passed, mark_of(failure.kind if failure else None), now, roll)
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from math import inf

from msgspec import Struct

from protocol.errors import ErrorKind

MOST = 1000
"""So many ends are counted at most, whatever the window."""
JITTER = 0.2
"""The share of a pause that is added to it by chance, so that processes do not probe together."""
TICK = 1e-6
"""Waits are rounded up by a microsecond, so that a timer that counts in microseconds never comes too early."""


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


CLOSED, OPEN, HALF_OPEN = State


class Mark(StrEnum):
    """What the end of a call says about the endpoint."""

    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"
    FATAL = "fatal"


GOOD, BAD, NEUTRAL, FATAL = Mark


_MARKS = {
    ErrorKind.CONNECTION: BAD,
    ErrorKind.TIMEOUT: BAD,
    ErrorKind.SERVER_ERROR: BAD,
    ErrorKind.PROVIDER_OVERLOADED: BAD,
    ErrorKind.BAD_RESPONSE: BAD,
    ErrorKind.REDIRECT: BAD,
    ErrorKind.QUOTA: FATAL,
    ErrorKind.AUTHENTICATION: FATAL,
}


def mark_of(kind: ErrorKind | None) -> Mark:
    """Return what a call that failed as *kind* says about its endpoint; None is a success."""
    return GOOD if kind is None else _MARKS.get(kind, NEUTRAL)


class BreakerSettings(Struct, frozen=True, kw_only=True):
    """When it opens and for how long; times in seconds."""

    streak: int = 5
    share: float = 0.5
    least: int = 10
    window: float = 30.0
    pause: float = 5.0
    longest: float = 300.0
    fatal_pause: float = 300.0
    proofs: int = 2
    patience: float = 120.0


class Passed(Struct, frozen=True, gc=False):
    """A call that was let go: in which term of the breaker (it counts changes of state), and as which probe."""

    term: int
    probe: int


class Breaker:
    """The breaker of one endpoint and model; closed at first."""

    __slots__ = ("_bad", "_ends", "_opened", "_probe", "_probe_at", "_proved", "_streak", "_term", "_until", "settings")

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        self.settings = BreakerSettings() if settings is None else settings
        self._term = 0
        self._until = -inf  # while closed; otherwise open until then, and half open after
        self._opened = 0  # how often in a row it has opened without closing
        self._ends: deque[tuple[float, bool]] = deque()
        self._bad = 0
        self._streak = 0
        self._probe = 0
        self._probe_at = -inf
        self._proved = 0

    def state(self, now: float) -> State:
        """Return where it stands at *now*."""
        if not self._opened:
            return CLOSED
        return OPEN if now < self._until else HALF_OPEN

    def wait(self, now: float) -> float:
        """Return 0 when a call may go, otherwise the seconds after which asking again makes sense."""
        if not self._opened:
            return 0.0
        free_at = max(self._until, self._probe_at + self.settings.patience)
        return 0.0 if free_at <= now else free_at - now + TICK

    def on_sent(self, now: float) -> Passed:
        """A call goes, since :meth:`wait` was 0. When half open it is the one probe."""
        if self.state(now) is HALF_OPEN:
            self._probe += 1
            self._probe_at = now
        return Passed(self._term, self._probe)

    def on_end(self, passed: Passed, mark: Mark, now: float, roll: float) -> None:
        """A call that was let go has ended; *roll* is a die in [0, 1)."""
        if passed.term != self._term:
            return
        if mark is FATAL:
            self._open(self.settings.fatal_pause, now)
        elif self._opened:
            self._end_probe(passed, mark, now, roll)
        elif mark is not NEUTRAL:
            self._count(bad=mark is BAD, now=now)
            if self._sick():
                self._open(self._pause(roll), now)

    def _end_probe(self, passed: Passed, mark: Mark, now: float, roll: float) -> None:
        if passed.probe != self._probe:
            return
        self._probe_at = -inf
        if mark is BAD:
            self._open(self._pause(roll), now)
        elif mark is GOOD:
            self._proved += 1
            if self._proved >= self.settings.proofs:
                self._opened = 0
                self._change()

    def _count(self, *, bad: bool, now: float) -> None:
        """Keep the ends of the last window only, and the last thousand of them."""
        self._ends.append((now, bad))
        self._bad += bad
        self._streak = self._streak + 1 if bad else 0
        while self._ends[0][0] <= now - self.settings.window or len(self._ends) > MOST:
            self._bad -= self._ends.popleft()[1]

    def _sick(self) -> bool:
        rules = self.settings
        return self._streak >= rules.streak or (
            len(self._ends) >= rules.least and self._bad >= rules.share * len(self._ends)
        )

    def _pause(self, roll: float) -> float:
        rules = self.settings
        return min(rules.longest, rules.pause * 2.0 ** min(self._opened, 30)) * (1.0 + JITTER * roll)

    def _open(self, pause: float, now: float) -> None:
        self._opened += 1
        self._until = now + pause
        self._change()

    def _change(self) -> None:
        """Begin a new term, with nothing counted."""
        self._term += 1
        self._ends.clear()
        self._bad = self._streak = self._proved = 0
        self._probe_at = -inf
