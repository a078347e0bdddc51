"""A domain: what a vendor counts by, a key or one model of it. Its meters, who waits, and until when it is blocked.

The seams for what adapts to a provider: :meth:`Domain.set_rate`, ``concurrency``, ``blocked_until`` with ``epoch``, and
:meth:`Domain.block`. ``protocol/limiter.py`` decides over domains.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from protocol.line import Costs, Line
from protocol.policies.backoff import Backoff
from protocol.policies.deadlines import Deadlines
from protocol.policies.quota import Quota
from protocol.policies.token_bucket import TICK, TokenBucket, per_minute
from protocol.signals import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.signals import Settle

TOKEN_BURST = 0.1
"""The share of a minute's tokens that may go at once: vendors enforce within seconds (wire.md 6.1)."""
BLOCK = Backoff(base=1.0, factor=2.0, cap=30.0)
"""How long a domain is blocked by a 429 that says no time: 1 s, twice as long after each block without a success."""
RATES = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
"""The key of each rate's limit, by its index in :data:`~protocol.line.Costs`."""
AGEING = 60.0
"""Seconds in which a waiting class rises by one."""


class DomainLimits(Struct, frozen=True, kw_only=True):
    """What a vendor allows; None is unlimited.

    ``burst`` is how many requests may arrive at once, ``ageing`` the seconds in which a waiting class rises by one.
    """

    requests_per_minute: float | None = None
    requests_per_day: float | None = None
    burst: int = 10
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    concurrency: int | None = None
    ageing: float = AGEING


class Domain:
    """One domain: its meters, its line, what is in flight, and until when it is blocked."""

    __slots__ = (
        "blocked_until",
        "blocks",
        "concurrency",
        "epoch",
        "expiries",
        "in_flight",
        "line",
        "meters",
        "name",
        "requests",
        "wake_at",
    )

    def __init__(
        self, name: str, limits: DomainLimits, weights: Mapping[str, float], *, empty_at: float | None
    ) -> None:
        """Start with full meters, or after a restart at *empty_at* with none that may be used at once."""
        self.name = name
        self.requests = _request_bucket(limits, empty_at)
        self.meters = _meters(limits, self.requests, empty_at)
        self.concurrency = inf if limits.concurrency is None else limits.concurrency
        self.line = Line(limits.ageing, weights)
        self.expiries = Deadlines()
        self.in_flight = 0
        self.blocked_until = -inf
        self.blocks = 0
        self.epoch = 0
        self.wake_at: float | None = None

    # --- seams

    def set_rate(self, per_second: float, now: float) -> None:
        """Let *per_second* requests go from *now* on; where none were limited, one at a time."""
        if self.requests is None:
            self.requests = TokenBucket(rate=per_second, burst=1.0, limit=inf, tat=now)
            self.meters = ((0, self.requests), *self.meters)
        else:
            self.requests.retune(per_second, now)

    def block(self, now: float, hint: float | None, *, first: bool) -> None:
        """Let the whole domain wait for *hint* seconds, or by backoff; at the end one probe goes, not a burst.

        Only the *first* failure of an epoch starts a new one; a later one of the same storm can but name a later end.
        """
        if hint is None and not first:
            return
        until = now + (BLOCK.ceiling(self.blocks) if hint is None else hint)
        self.blocked_until = max(self.blocked_until, until)
        if first:
            self.blocks += 1
            self.epoch += 1
        if self.requests is not None:
            self.requests.drain(self.blocked_until, leave=1.0)

    # --- all or nothing

    def fits(self, costs: Costs) -> bool:
        """Tell whether waiting for *costs* can ever end."""
        return all(meter.can_ever_fit(costs[index]) for index, meter in self.meters)

    def wait(self, costs: Costs, now: float) -> float:
        """Return the seconds until *costs* could be taken together; infinity when only a settlement can tell."""
        if self.in_flight >= self.concurrency:
            return inf
        wait = max(0.0, self.blocked_until - now)
        for index, meter in self.meters:
            wait = max(wait, meter.wait(costs[index], now))
        return wait

    def obstacle(self, costs: Costs, now: float) -> str:
        """Return the name of what a call with *costs* waits for longest."""
        if self.in_flight >= self.concurrency:
            return "concurrency"
        waits = {"blocked": self.blocked_until - now + 2 * TICK}  # a block drains the requests to the same instant
        for index, meter in self.meters:
            name = "requests_per_day" if isinstance(meter, Quota) else RATES[index]
            waits[name] = meter.wait(costs[index], now)
        return max(waits, key=waits.__getitem__)

    def take(self, costs: Costs, now: float) -> None:
        """Take *costs* from every meter, and one place in flight."""
        self.in_flight += 1
        for index, meter in self.meters:
            meter.take(costs[index], now)

    def correct(self, costs: Costs, real: Costs, now: float) -> None:
        """Turn what was taken for *costs* into what *real* would have taken."""
        for index, meter in self.meters:
            surplus = costs[index] - real[index]
            if surplus > 0:
                meter.refund(surplus)
            elif surplus < 0:
                meter.take(-surplus, now)

    def charge_debt(self, costs: Costs, now: float) -> None:
        """Charge what a call under way owes beyond what an empty bucket forgets."""
        for index, meter in self.meters:
            if isinstance(meter, TokenBucket) and costs[index] > meter.burst:
                meter.take(costs[index] - meter.burst, now)


def _request_bucket(limits: DomainLimits, empty_at: float | None) -> TokenBucket | None:
    if limits.requests_per_minute is None:
        return None
    bucket = per_minute(limits.requests_per_minute, limits.burst)
    if empty_at is not None:
        bucket.drain(empty_at)
    return bucket


def _meters(
    limits: DomainLimits, requests: TokenBucket | None, empty_at: float | None
) -> tuple[tuple[int, TokenBucket | Quota], ...]:
    """Return a meter for everything that is limited, with its index in :data:`~protocol.line.Costs`."""
    meters: list[tuple[int, TokenBucket | Quota]] = [] if requests is None else [(0, requests)]
    if limits.requests_per_day is not None:
        quota = Quota(limits.requests_per_day)
        if empty_at is not None:
            quota.spread(empty_at)
        meters.append((0, quota))
    rates = (limits.tokens_per_minute, limits.input_tokens_per_minute, limits.output_tokens_per_minute)
    for index, rate in enumerate(rates, 1):
        if rate is not None:
            bucket = per_minute(rate, max(2.0, rate * TOKEN_BURST))
            if empty_at is not None:
                bucket.drain(empty_at)
            meters.append((index, bucket))
    return tuple(meters)


# --- what a call takes

NOTHING: Costs = (0, 0, 0, 0)


def real_costs(costs: Costs, settle: Settle) -> Costs:
    """Return what a settled lease has really taken."""
    match settle.outcome:
        case Outcome.SUCCESS:
            usage = settle.usage
            if usage is None:
                return costs
            return costs[0], usage.input_tokens + usage.output_tokens, usage.input_tokens, usage.output_tokens
        case Outcome.AMBIGUOUS:
            return costs
        case Outcome.UNSENT:
            return NOTHING
        case _:
            return costs[0], 0, 0, 0


def real_money(settle: Settle) -> int | None:
    """Return what a settled lease has cost, in nano-dollars; None: all that was reserved for it."""
    match settle.outcome:
        case Outcome.SUCCESS:
            return None if settle.usage is None else settle.nano_usd
        case Outcome.AMBIGUOUS:
            return None
        case _:
            return 0
