"""A domain: what a vendor counts by, a key or one model of it. Its meters, its pace, and who waits.

The meters keep what is configured, whatever comes; the pace (``protocol/pace.py``) is what the provider has taught, and
never faster. ``protocol/limiter.py`` decides over domains.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from protocol.line import Costs, Line, Waiter
from protocol.outcome import AMBIGUOUS, SUCCESS, UNSENT
from protocol.pace import TOKEN_SECONDS, LearnedLimit, Pace, Ticket
from protocol.policies.deadlines import Deadlines
from protocol.policies.quota import Quota
from protocol.policies.token_bucket import TokenBucket, per_minute
from protocol.signals import Granted, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from protocol.signals import Settle

GRACE = 30.0
"""Seconds after its call's deadline that a lease may still be settled; then it counts as ambiguous."""
RATES = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
"""The key of each rate's limit, by its index in :data:`~protocol.line.Costs`."""
NOTHING: Costs = (0, 0, 0, 0)
AGEING = 60.0
"""Seconds in which a waiting class rises by one."""
UNPACED = 1e9
"""A start that holds nobody back, in requests a minute: for a server that is known to have no limit."""


class DomainLimits(Struct, frozen=True, kw_only=True):
    """What a vendor allows; None is unlimited.

    ``burst`` is how many requests may arrive at once, ``ageing`` the seconds in which a waiting class rises by one.
    ``start_per_minute`` is the rate of requests to begin with, more carefully than usual, where none is known; None: as
    ``protocol/pace.py`` says.
    """

    requests_per_minute: float | None = None
    requests_per_day: float | None = None
    burst: int = 10
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    concurrency: int | None = None
    ageing: float = AGEING
    start_per_minute: float | None = None


class Learned(Struct, frozen=True, kw_only=True):
    """How a domain stands with its provider: what is known of its limits, and what that makes of it at this instant.

    ``blocked`` is the seconds until a 429 lets a probe go, 0 for none; ``throttled`` counts 429s, ``concurrency`` is
    None where nothing bounds the calls in flight.
    """

    domain: str
    limits: tuple[LearnedLimit, ...]
    concurrency: int | None
    blocked: float
    throttled: int


class Domain:
    """One domain: its meters, its pace, its line, and what is in flight."""

    __slots__ = ("expiries", "granted", "in_flight", "line", "meters", "name", "pace", "wake_at")

    def __init__(
        self, name: str, limits: DomainLimits, weights: Mapping[str, float], *, empty_at: float | None
    ) -> None:
        """Start with full meters, or after a restart at *empty_at* with none that may be used at once."""
        self.name = name
        self.meters = _meters(limits, empty_at)
        paced = {index: (rate / 60.0, float(burst)) for index, rate, burst in _rates(limits)}
        most = inf if limits.concurrency is None else limits.concurrency
        start = None if limits.start_per_minute is None else limits.start_per_minute / 60.0
        self.pace = Pace(paced, most, start=start, empty_at=empty_at)
        self.line = Line(limits.ageing, weights)
        self.expiries = Deadlines()
        self.granted = 0
        self.in_flight = 0
        self.wake_at: float | None = None

    # --- what the provider has taught

    @property
    def blocked_until(self) -> float:
        """Until when a 429 lets nobody go."""
        return self.pace.blocked_until

    def learned(self, now: float) -> Learned:
        """Say what is known of the limits, and how the domain stands at *now*."""
        most = self.pace.concurrency
        return Learned(
            domain=self.name,
            limits=self.pace.learned(),
            concurrency=None if most == inf else int(most),
            blocked=max(0.0, self.blocked_until - now),
            throttled=self.pace.throttled,
        )

    # --- all or nothing

    @property
    def full(self) -> bool:
        """Whether as many calls are in flight as may be; only a settlement makes room."""
        crowd = self.pace.crowd
        return self.in_flight >= (self.pace.most if crowd is None else crowd.limit)

    def fits(self, costs: Costs) -> bool:
        """Tell whether waiting for *costs* can ever end."""
        return all(meter.can_ever_fit(costs[index]) for index, meter in self.meters)

    def wait(self, costs: Costs, now: float) -> float:
        """Return the seconds until *costs* could be taken together; infinity when only a settlement can tell."""
        if self.full:
            return inf
        wait = self.pace.wait(costs, now)
        for index, meter in self.meters:
            own = meter.wait(costs[index], now)
            wait = max(wait, own)
        return wait

    def obstacle(self, costs: Costs, now: float) -> str:
        """Return the name of what a call with *costs* waits for longest."""
        if self.full:
            return "concurrency"
        waits = {"blocked": self.blocked_until - now}
        charged = self.pace.charged(costs)
        for index, rate in self.pace.rates.items():
            waits["blocked" if rate.probing else RATES[index]] = rate.wait(now, charged[index])
        for index, meter in self.meters:
            name = "requests_per_day" if isinstance(meter, Quota) else RATES[index]
            waits[name] = max(waits.get(name, 0.0), meter.wait(costs[index], now))
        return max(waits, key=waits.__getitem__)

    def take(self, costs: Costs, now: float) -> Ticket:
        """Take *costs* from every meter, and one place in flight."""
        self.granted += 1
        self.in_flight += 1
        for index, meter in self.meters:
            meter.take(costs[index], now)
        return self.pace.on_granted(costs, now)

    def adopt(self, costs: Costs, now: float) -> Ticket:
        """Take over a call under way, which an earlier life has charged.

        What it owes beyond what an empty bucket forgets is charged again.
        """
        self.in_flight += 1
        for index, meter in self.meters:
            if isinstance(meter, TokenBucket) and costs[index] > meter.burst:
                meter.take(costs[index] - meter.burst, now)
        return replace(self.pace.on_granted(NOTHING, now), costs=costs)

    def learn(self, ticket: Ticket, settle: Settle, now: float, roll: float) -> None:
        """A call has ended, before it is taken back: learn from it. *roll* is a die in [0, 1)."""
        surplus = _less(ticket.costs, real_costs(ticket.costs, settle))
        self.pace.on_settled(ticket, settle, surplus, now, roll, self.in_flight)

    def correct(self, costs: Costs, real: Costs, now: float) -> None:
        """Turn what was taken for *costs* into what *real* would have taken."""
        for index, meter in self.meters:
            surplus = costs[index] - real[index]
            if surplus > 0:
                meter.refund(surplus)
            elif surplus < 0:
                meter.take(-surplus, now)


def _rates(limits: DomainLimits) -> Iterator[tuple[int, float, float]]:
    """Yield each limit by the minute: its index in :data:`~protocol.line.Costs`, units per minute, and at once."""
    if limits.requests_per_minute is not None:
        yield 0, limits.requests_per_minute, limits.burst
    tokens = (limits.tokens_per_minute, limits.input_tokens_per_minute, limits.output_tokens_per_minute)
    for index, rate in enumerate(tokens, 1):
        if rate is not None:
            yield index, rate, max(2.0, rate / 60.0 * TOKEN_SECONDS)


def _meters(limits: DomainLimits, empty_at: float | None) -> tuple[tuple[int, TokenBucket | Quota], ...]:
    """Return a meter for everything that is limited, with its index in :data:`~protocol.line.Costs`."""
    meters: list[tuple[int, TokenBucket | Quota]] = []
    for index, rate, burst in _rates(limits):
        bucket = per_minute(rate, burst)
        if empty_at is not None:
            bucket.drain(empty_at)
        meters.append((index, bucket))
    if limits.requests_per_day is not None:
        quota = Quota(limits.requests_per_day)
        if empty_at is not None:
            quota.spread(empty_at)
        meters.append((0, quota))
    return tuple(meters)


# --- what a call takes


def real_costs(costs: Costs, settle: Settle) -> Costs:
    """Return what a settled lease has really taken."""
    outcome, usage = settle.outcome, settle.usage
    if outcome is SUCCESS and usage is not None:
        return costs[0], usage.input_tokens + usage.output_tokens, usage.input_tokens, usage.output_tokens
    if outcome is SUCCESS or outcome is AMBIGUOUS:
        return costs
    return NOTHING if outcome is UNSENT else (costs[0], 0, 0, 0)


def real_money(settle: Settle) -> int | None:
    """Return what a settled lease has cost, in nano-dollars; None: all that was reserved for it."""
    if settle.outcome is SUCCESS:
        return None if settle.usage is None else settle.nano_usd
    return None if settle.outcome is AMBIGUOUS else 0


def _less(costs: Costs, real: Costs) -> Costs:
    """Return how much less than *costs* the *real* ones are."""
    return costs[0] - real[0], costs[1] - real[1], costs[2] - real[2], costs[3] - real[3]


# --- effects of the limiter


class Reply(Struct, frozen=True):
    """Send *message* to the address *to*."""

    to: str
    message: Granted | Refused


class Wake(Struct, frozen=True, gc=False):
    """Set the one timer of *domain*, in place of the old one: ``on_wake`` after *after* seconds. None unsets it."""

    domain: str
    after: float | None


class Ignored(Struct, frozen=True, gc=False):
    """A settlement of a lease that is not held: settled already, or never granted. Nothing was booked."""

    lease: str
    reason: str


class LeaseExpired(Struct, frozen=True, gc=False):
    """*holder* has not settled a lease :data:`GRACE` seconds after its deadline; what it reserved counts as spent."""

    lease: str
    holder: str


class Learnt(Struct, frozen=True, gc=False):
    """The provider of *domain* has taught a limit that was not known, or was thought higher."""

    domain: str
    limit: LearnedLimit


Effect = Reply | Wake | Ignored | LeaseExpired | Learnt


class Lease(Struct, frozen=True):
    """A lease that is held: in which domain, and by whom; the costs of *waiter* were taken for it."""

    domain: Domain
    waiter: Waiter
    ticket: Ticket
