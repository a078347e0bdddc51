"""The pace of a domain: what its provider has taught of its limits, by refusals, headers, overload and timeouts.

A composition of three policies, which decide: a rate for each resource that is counted (``adaptive_rate.py``), the
limits that headers speak of (``learned_limits.py``), and how many calls may be in flight (``aimd.py``). What is
configured is a ceiling for all of them, kept by the meters of ``protocol/domain.py``.

==================== ============================================ ========================= =======================
news                 the rate that it is about                    the other rates           calls in flight
==================== ============================================ ========================= =======================
success              may grow                                     may grow                  may grow
429                  blocks the domain, is cut once per epoch
503, 529                                                                                    cut once per epoch
timeout                                                                                     cut once per epoch, mildly
headers              lower the level, teach the limit             as their headers say
==================== ============================================ ========================= =======================

A 429 is about the resource of which its headers say that nothing is left, else about requests. Where no limit of
requests is known it starts carefully: ``START`` calls a second, and more with each success of a call that was held
back, until a header or a 429 shows a limit. A server that has none, as one's own, is at its full load within a fifth of
a second if it answers quickly, and within a second or two if it does not; once in the life of a system. After a
restart, which forgets what was learned, it starts more carefully, for then there may be calls under way.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING

from msgspec import Struct

from protocol.errors import ErrorKind
from protocol.line import Costs
from protocol.outcome import OVERLOADED, SUCCESS, THROTTLED, UNSENT
from protocol.policies.adaptive_rate import AdaptiveRate, Pass, RateSettings, Source
from protocol.policies.aimd import Aimd, AimdLimits
from protocol.policies.hidden_bucket import infer
from protocol.policies.learned_limits import LearnedLimits
from protocol.wire.hints import windows_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.chat import Usage
    from protocol.policies.adaptive_rate import Learned
    from protocol.policies.learned_limits import Lesson
    from protocol.signals import Settle

RESOURCES = ("requests", "tokens", "input_tokens", "output_tokens")
"""What providers count, by its index in :data:`~protocol.line.Costs`."""
MOST_IN_FLIGHT = 10**6
"""Where no concurrency is configured it never grows above this."""
MINUTE = 60.0
TOKEN_SECONDS = 6.0
"""So many seconds' worth of tokens may go at once at most: vendors enforce within seconds (wire.md 6.1)."""
USUAL = 0.1
"""The weight of the newest call in what calls usually use, once there are ten."""
START = 60.0
"""Requests a second to begin with where nothing is known."""
CAREFUL = 30.0
"""No more after a restart."""
GAIN = 2.0
"""By so much it grows with a success after a restart, or where a start is configured."""


class Ticket(Struct, frozen=True, gc=False):
    """What to remember of a grant: its pass for each rate, by index, the epoch of the concurrency, its charge."""

    passes: list[tuple[int, Pass]]
    crowd: int
    costs: Costs

    @property
    def epoch(self) -> int:
        """How many storms of 429s the domain had seen."""
        passes = self.passes
        return passes[0][1].epoch if len(passes) == 1 else sum(passed.epoch for _, passed in passes)


class LearnedLimit(Struct, frozen=True, kw_only=True):
    """What is known of one limit of a domain: units a minute and at once (None: unknown), and from where.

    ``source`` is ``configured``, ``headers``, or ``refusals``.
    """

    resource: str
    per_minute: float
    burst: float | None
    source: str


class Pace:
    """The pace of one domain. *limits* are the configured ones by index: units per second, and at once.

    *start* is the rate of requests to begin with where none is known, in requests per second; None: :data:`START`.
    """

    __slots__ = (
        "_announced",
        "_calls",
        "_listening",
        "_storm",
        "_used",
        "_usual",
        "crowd",
        "headers",
        "most",
        "rates",
        "throttled",
    )

    def __init__(
        self,
        limits: Mapping[int, tuple[float, float]],
        concurrency: float,
        *,
        start: float | None = None,
        empty_at: float | None = None,
    ) -> None:
        self.most = concurrency
        self.headers = LearnedLimits()
        self.rates: dict[int, AdaptiveRate] = {}
        self.crowd: Aimd | None = None
        self._storm: tuple[float, float] | None = None
        self.throttled = 0
        self._listening = False
        self._announced: set[tuple[int, Source]] = set()
        self._calls = 0
        self._used = 0.0, 0.0
        self._usual: Costs | None = None
        settings = RateSettings(start=START, gain=START)
        if start is not None or empty_at is not None:
            first = START if start is None else start
            settings = RateSettings(start=first if empty_at is None else min(first, CAREFUL), gain=GAIN)
        for index in {0, *limits}:
            rate, burst = limits.get(index, (None, None))
            self.rates[index] = AdaptiveRate(infer, limit=rate, burst=burst, settings=settings)
            if empty_at is not None:  # where no limit is known one may go at once, as ever, but not many
                self.rates[index].drain(empty_at if index in limits else empty_at - 1.0 / CAREFUL)

    # --- what can be asked

    @property
    def concurrency(self) -> float:
        """How many calls may be in flight now."""
        return self.most if self.crowd is None else self.crowd.limit

    @property
    def blocked_until(self) -> float:
        """Until when a 429 lets nobody go."""
        if len(self.rates) == 1:
            return self.rates[0].blocked_until
        return max(rate.blocked_until for rate in self.rates.values())

    @property
    def storm(self) -> float:
        """Return the seconds from the first 429 to the last, since anything has succeeded."""
        return 0.0 if self._storm is None else self._storm[1] - self._storm[0]

    def wait(self, costs: Costs, now: float) -> float:
        """Return the seconds until *costs* may go; a block and the probe after it are part of that."""
        wait = 0.0
        costs = self.charged(costs)
        for index, rate in self.rates.items():
            own = rate.wait(now, costs[index])
            wait = max(wait, own)
        return wait

    def charged(self, costs: Costs) -> Costs:
        """Return what a call is charged: where nobody has estimated its tokens, what calls usually use."""
        usual = self._usual
        return costs if usual is None or costs[1] or not costs[0] else (costs[0], *usual[1:])

    def learned(self) -> tuple[LearnedLimit, ...]:
        """Say what is known of the limits, one of each resource that is known at all."""
        known = ((index, rate.learned()) for index, rate in self.rates.items())
        return tuple(_limit(index, learned) for index, learned in known if learned.rate is not None)

    def lessons(self) -> tuple[LearnedLimit, ...]:
        """Say what was learned since this was asked last: each limit once from each source."""
        if not self._listening:
            return ()
        self._listening = any(rate.probing for rate in self.rates.values())
        news = []
        for index, rate in self.rates.items():
            learned = rate.learned()
            key = index, learned.source
            if learned.source in _TAUGHT and key not in self._announced:
                self._announced.add(key)
                news.append(_limit(index, learned))
        return tuple(news)

    # --- what happens

    def on_granted(self, costs: Costs, now: float) -> Ticket:
        """Let a call go; keep the ticket for its end. One that went in an earlier life costs nothing."""
        costs = self.charged(costs)
        passes = [(index, rate.on_granted(now, costs[index])) for index, rate in self.rates.items()]
        return Ticket(passes, 0 if self.crowd is None else self.crowd.epoch, costs)

    def on_settled(
        self, ticket: Ticket, settle: Settle, surplus: Costs, now: float, roll: float, in_flight: int
    ) -> None:
        """A call has ended, one of *in_flight*; it took *surplus* less than was thought. *roll* is a die in [0, 1)."""
        if settle.usage is not None and (settle.headers or len(self.rates) > 1):
            self._use(settle.usage)
        hit, outcome = self._hear(ticket, settle, now, in_flight) if settle.headers else 0, settle.outcome
        for index, passed in ticket.passes:
            rate = self.rates[index]
            if outcome is UNSENT:
                rate.on_unsent(passed, now)
                continue
            if surplus[index]:
                rate.correct(surplus[index], now)
            if outcome is SUCCESS:
                rate.on_success(passed, now)
            elif outcome is THROTTLED and index == hit:
                rate.on_throttled(passed, now, settle.retry_after, roll)
            else:
                rate.on_other(passed, now)
        if outcome is SUCCESS:
            self._storm = None
            if self.crowd is not None:
                self.crowd.on_success(ticket.crowd, in_flight)
        elif outcome is THROTTLED:
            self._count(now)
        else:
            self._crowd(ticket.crowd, settle, in_flight)

    def on_unused(self, ticket: Ticket, now: float) -> None:
        """A call was never made."""
        for index, passed in ticket.passes:
            self.rates[index].on_unsent(passed, now)

    def on_gone(self, ticket: Ticket, now: float) -> None:
        """Nobody will ever say how a call has ended."""
        for index, passed in ticket.passes:
            self.rates[index].on_other(passed, now)

    # --- inside

    def _use(self, usage: Usage) -> None:
        """Learn what calls usually use; it matters where headers have shown a limit of tokens that none configured."""
        self._calls += 1
        weight = max(USUAL, 1.0 / self._calls)
        before = self._used
        self._used = (
            before[0] + weight * (usage.input_tokens - before[0]),
            before[1] + weight * (usage.output_tokens - before[1]),
        )
        given, made = ceil(self._used[0]), ceil(self._used[1])
        self._usual = 1, given + made, given, made

    def _hear(self, ticket: Ticket, settle: Settle, now: float, in_flight: int) -> int:
        """Learn from the headers of a reply; return the index of the resource that a 429 of these is about."""
        self._listening = True
        windows = windows_of(settle.headers, 0.0)  # what they say of time is relative, or to the date beside it
        passes = dict(ticket.passes)
        for lesson in self.headers.on_headers(windows):
            index = RESOURCES.index(lesson.resource)
            if lesson.rate is not None:
                self._teach(index, lesson, now, in_flight)
            if lesson.remaining is not None and index in passes:
                self.rates[index].on_remaining(passes[index], lesson.remaining, now)
        hit = RESOURCES.index(self.headers.exhausted(windows) or RESOURCES[0])
        return hit if hit in passes else 0

    def _teach(self, index: int, lesson: Lesson, now: float, in_flight: int) -> None:
        """Pace a resource at the rate that headers speak of, of tokens with a burst: what calls use is known late.

        A rate that is new begins with what was left when this call was let in, and as much under way as can be now.
        """
        assert lesson.rate is not None
        burst = min(lesson.burst or 0.0, TOKEN_SECONDS * lesson.rate) if index else 0.0
        rate = self.rates.get(index)
        if rate is not None:
            rate.teach(lesson.rate, burst)
            return
        rate = self.rates[index] = AdaptiveRate(infer)
        rate.teach(lesson.rate, burst)
        usual = 0 if self._usual is None else self._usual[index]
        rate.lower((lesson.remaining or 0) - (in_flight - 1) * usual, now)

    def _count(self, now: float) -> None:
        """Keep when the first and the last 429 came of the storm that is not over."""
        self.throttled += 1
        self._listening = True
        self._storm = (now, now) if self._storm is None else (self._storm[0], now)

    def _crowd(self, epoch: int, settle: Settle, in_flight: int) -> None:
        """Cut how many calls may be in flight; the first trouble tells how many were too many."""
        overload = settle.outcome is OVERLOADED
        if overload or settle.kind is ErrorKind.TIMEOUT:
            if self.crowd is None:
                most = MOST_IN_FLIGHT if self.most == inf else int(self.most)
                self.crowd = Aimd(AimdLimits(first=in_flight, most=most))
            (self.crowd.on_overload if overload else self.crowd.on_timeout)(epoch)


_TAUGHT = (Source.HEADERS, Source.REFUSALS)


def _limit(index: int, learned: Learned) -> LearnedLimit:
    return LearnedLimit(
        resource=RESOURCES[index],
        per_minute=(learned.rate or 0.0) * MINUTE,
        burst=learned.burst,
        source=str(learned.source),
    )
