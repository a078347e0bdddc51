"""The limiter's decisions: who may call a provider now. Partner of ``actors/limiter.py``.

One decision, all or nothing, over every resource of a *domain* (what the vendor counts by): requests, tokens,
concurrency. First everything is checked, then everything is taken, so nobody holds one resource while waiting for
another, and what is refused has consumed nothing.

=========== =============================================== ==================================
outcome     rate buckets                                     besides
=========== =============================================== ==================================
success     corrected to the real usage, up or down
rejected    tokens come back, the request counts
throttled   as rejected                                      the whole domain waits
overloaded  as rejected
ambiguous   the reservation stays spent
unsent      everything comes back                            so it is for a lease cancelled
=========== =============================================== ==================================
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from protocol.errors import ErrorKind
from protocol.policies.backoff import Backoff
from protocol.policies.token_bucket import TICK, TokenBucket, per_minute
from protocol.policies.waiting_line import WaitingLine
from protocol.signals import Acquire, Amount, Cancel, Granted, Outcome, Reaffirm, Refused, Settle

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_BURST = 0.1
"""The share of a minute's tokens that may go at once: vendors enforce within seconds (wire.md 6.1)."""
RECOVERY = 1.0
"""Seconds after a restart in which nothing is granted before a holder has named its leases."""
PATIENCE = 120.0
"""A domain blocked for longer than this many seconds refuses instead of letting wait."""
BLOCK = Backoff(base=1.0, factor=2.0, cap=30.0)
"""How long a domain is blocked by a 429 that says no time: 1 s, twice as long after each block without a success."""


class DomainLimits(Struct, frozen=True, kw_only=True):
    """What a vendor allows; None is unlimited. ``burst`` is how many requests may arrive at once."""

    requests_per_minute: float | None = None
    burst: int = 10
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    concurrency: int | None = None


# --- effects


class Reply(NamedTuple):
    """Send *message* to the address *to*."""

    to: str
    message: Granted | Refused


class Wake(NamedTuple):
    """Set the one timer of *domain*, in place of the old one: ``on_wake`` after *after* seconds. None unsets it."""

    domain: str
    after: float | None


class Ignored(NamedTuple):
    """A settlement of a lease that is not held: settled already, or never granted. Nothing was booked."""

    lease: str
    reason: str


Effect = Reply | Wake | Ignored

# --- state

Costs = tuple[int, int, int, int]
"""Requests, tokens, input tokens, output tokens: what the index of a meter counts in."""
RATES = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
"""The key of each meter's limit, by its index."""


class _Waiter(NamedTuple):
    request: Acquire
    costs: Costs


class _Lease(NamedTuple):
    domain: _Domain
    request: Acquire
    costs: Costs
    epoch: int


class _Domain:
    """One domain: its meters, its line, what is in flight, and until when it is blocked."""

    __slots__ = ("blocked_until", "blocks", "concurrency", "epoch", "in_flight", "line", "meters", "name", "wake_at")

    def __init__(self, name: str, limits: DomainLimits, *, empty_at: float | None) -> None:
        self.name = name
        self.meters = _meters(limits, empty_at)
        self.concurrency = inf if limits.concurrency is None else limits.concurrency
        self.line: WaitingLine[_Waiter] = WaitingLine()
        self.in_flight = 0
        self.blocked_until = -inf
        self.blocks = 0
        self.epoch = 0
        self.wake_at: float | None = None

    def fits(self, costs: Costs) -> bool:
        """Tell whether waiting for *costs* can ever end."""
        return all(bucket.can_ever_fit(costs[index]) for index, bucket in self.meters)

    def wait(self, costs: Costs, now: float) -> float:
        """Return the seconds until *costs* could be taken together; infinity when only a settlement can tell."""
        if self.in_flight >= self.concurrency:
            return inf
        wait = max(0.0, self.blocked_until - now)
        for index, bucket in self.meters:
            wait = max(wait, bucket.wait(costs[index], now))
        return wait

    def obstacle(self, costs: Costs, now: float) -> str:
        """Return the name of what a call with *costs* waits for longest."""
        if self.in_flight >= self.concurrency:
            return "concurrency"
        waits = {"blocked": self.blocked_until - now + 2 * TICK}  # a block drains the requests to the same instant
        waits |= {RATES[index]: bucket.wait(costs[index], now) for index, bucket in self.meters}
        return max(waits, key=waits.__getitem__)

    def take(self, costs: Costs, now: float) -> None:
        """Take *costs* from every meter, and one place in flight."""
        self.in_flight += 1
        for index, bucket in self.meters:
            bucket.take(costs[index], now)

    def correct(self, costs: Costs, real: Costs, now: float) -> None:
        """Turn what was taken for *costs* into what *real* would have taken."""
        for index, bucket in self.meters:
            surplus = costs[index] - real[index]
            if surplus > 0:
                bucket.refund(surplus)
            elif surplus < 0:
                bucket.take(-surplus, now)

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
        for index, bucket in self.meters:
            if index == 0:
                bucket.drain(self.blocked_until, leave=1.0)


class Limiter:
    """Hands out leases in the order of arrival, each settled exactly once.

    A restarted limiter is made with ``fresh=False``: its rate buckets start empty, and until a holder has reaffirmed
    its leases (or :data:`RECOVERY` seconds have passed) nothing is granted.
    """

    def __init__(self, limits: Mapping[str, DomainLimits], *, fresh: bool = True) -> None:
        self._limits = limits
        self._fresh = fresh
        self._recovered_at = -inf if fresh else inf
        self._domains: dict[str, _Domain] = {}
        self._leases: dict[str, _Lease] = {}

    # --- what comes in

    def on_acquire(self, request: Acquire, now: float) -> list[Effect]:
        """Grant, refuse for good, or let wait. A lease that waits or is held already is not asked for twice."""
        domain = self._domain(request.domain, now)
        if request.lease in self._leases or request.lease in domain.line:
            return []
        costs = _costs(request.amount)
        if not domain.fits(costs):
            return [
                _refuse(
                    request, ErrorKind.NEVER_FITS, f"one call is larger than the limit of {domain.name!r} for a minute"
                )
            ]
        domain.line.push(request.lease, _Waiter(request, costs), request.deadline)
        return self._serve(domain, now)

    def on_settle(self, settle: Settle, now: float) -> list[Effect]:
        """Take the lease back, book what was really used, and serve who waits."""
        lease = self._leases.pop(settle.lease, None)
        if lease is None:
            return self._settle_unknown(settle.lease, now)
        domain = lease.domain
        domain.in_flight -= 1
        domain.correct(lease.costs, _real_costs(lease.costs, settle), now)
        if settle.outcome is Outcome.SUCCESS:
            domain.blocks = 0
        elif settle.outcome is Outcome.THROTTLED:
            domain.block(now, settle.retry_after, first=lease.epoch == domain.epoch)
        return self._serve(domain, now)

    def on_cancel(self, cancel: Cancel, now: float) -> list[Effect]:
        """Forget the waiting request, or take the lease back unused. A lease nobody knows is as good as cancelled."""
        lease = self._leases.pop(cancel.lease, None)
        if lease is None:
            return self._leave(cancel.lease, now) or []
        lease.domain.in_flight -= 1
        lease.domain.correct(lease.costs, _NOTHING, now)
        return self._serve(lease.domain, now)

    def on_reaffirm(self, reaffirm: Reaffirm, now: float) -> list[Effect]:
        """Book the leases that a holder holds, after a restart of either; grants begin again.

        What it does not name it does not hold: that was an instance before it. The limiter before has charged them; of
        a call larger than the burst the debt is charged again.
        """
        self._take_back(reaffirm.holder, {request.lease for request in reaffirm.leases})
        for request in reaffirm.leases:
            domain = self._domain(request.domain, now)
            if request.lease not in self._leases:
                domain.line.remove(request.lease)
                domain.in_flight += 1
                costs = _costs(request.amount)
                self._leases[request.lease] = _Lease(domain, request, costs, domain.epoch)
                _charge_debt(domain, costs, now)
        self._recovered_at = min(self._recovered_at, now)
        return [effect for domain in self._domains.values() for effect in self._serve(domain, now)]

    def on_wake(self, domain: str, now: float) -> list[Effect]:
        """The timer of *domain* has fired: expire who waited too long, serve who can be served."""
        known = self._domains.get(domain)
        if known is None:
            return []
        known.wake_at = None
        return self._serve(known, now)

    def on_holder_gone(self, holder: str, now: float) -> list[Effect]:
        """Take back what *holder* held, as spent since its calls may have been made, and forget what it waited for."""
        self._take_back(holder, set())
        for domain in self._domains.values():
            for waiter in [waiting for waiting in domain.line if waiting.request.holder == holder]:
                domain.line.remove(waiter.request.lease)
        return [effect for domain in self._domains.values() for effect in self._serve(domain, now)]

    # --- what can be looked at

    def in_flight(self, domain: str) -> int:
        """Return how many leases of *domain* are held."""
        return self._domains[domain].in_flight if domain in self._domains else 0

    def obstacles(self, now: float) -> dict[str, str]:
        """Return what the first in the line of each domain waits for: the key of a limit, or ``blocked`` by a 429."""
        waiting = [domain for domain in self._domains.values() if domain.line]
        return {domain.name: domain.obstacle(domain.line.head().costs, now) for domain in waiting}

    # --- inside

    def _domain(self, name: str, now: float) -> _Domain:
        domain = self._domains.get(name)
        if domain is None:
            if self._recovered_at == inf:
                self._recovered_at = now + RECOVERY
            domain = _Domain(name, self._limits.get(name, _UNLIMITED), empty_at=None if self._fresh else now)
            self._domains[name] = domain
        return domain

    def _serve(self, domain: _Domain, now: float) -> list[Effect]:
        """Expire, then grant from the head of the line as long as it can be served; keep the timer right."""
        line = domain.line
        effects = self._turn_away(domain, now)
        wait = inf
        while line:
            waiter = line.head()
            wait = max(domain.wait(waiter.costs, now), self._recovered_at - now)
            if wait > 0.0:
                break
            effects.append(self._grant(domain, line.pop(), now))
        self._set_timer(domain, min(now + wait, line.next_deadline()) if line else inf, now, effects)
        return effects

    def _turn_away(self, domain: _Domain, now: float) -> list[Effect]:
        """Refuse who waited past the deadline, and everybody when the provider blocks us for very long."""
        line = domain.line
        effects: list[Effect] = []
        while line.next_deadline() <= now:
            effects.append(
                _refuse(line.pop_late().request, ErrorKind.DEADLINE, "the deadline passed while it waited in line")
            )
        blocked = domain.blocked_until - now
        while blocked > PATIENCE and line:
            reason = f"the provider blocks {domain.name!r} for another {blocked:.0f} s"
            effects.append(_refuse(line.pop().request, ErrorKind.RATE_LIMITED, reason, blocked))
        return effects

    def _grant(self, domain: _Domain, waiter: _Waiter, now: float) -> Reply:
        request, costs = waiter
        domain.take(costs, now)
        self._leases[request.lease] = _Lease(domain, request, costs, domain.epoch)
        return Reply(request.reply_to, Granted(lease=request.lease, epoch=domain.epoch, tokens=request.amount))

    def _set_timer(self, domain: _Domain, due: float, now: float, effects: list[Effect]) -> None:
        """Emit a timer when *due* is earlier than the one set; a timer that comes too early does no harm."""
        if due == inf:
            if domain.wake_at is not None:
                domain.wake_at = None
                effects.append(Wake(domain.name, None))
        elif domain.wake_at is None or due < domain.wake_at - TICK:
            domain.wake_at = due
            effects.append(Wake(domain.name, max(TICK, due - now)))

    def _take_back(self, holder: str, named: set[str]) -> None:
        """Take back all that *holder* held, except what is *named*."""
        held = [lease for lease in self._leases.values() if lease.request.holder == holder]
        for lease in [lease for lease in held if lease.request.lease not in named]:
            del self._leases[lease.request.lease]
            lease.domain.in_flight -= 1

    def _settle_unknown(self, lease: str, now: float) -> list[Effect]:
        """A lease of an earlier life may be settled while its repeated request waits: then nobody waits any more."""
        effects = self._leave(lease, now)
        if effects is None:
            return [Ignored(lease, "settled already, or never granted")]
        return [Ignored(lease, "settled while it waited"), *effects]

    def _leave(self, lease: str, now: float) -> list[Effect] | None:
        for domain in self._domains.values():
            if domain.line.remove(lease) is not None:
                return self._serve(domain, now)
        return None


_UNLIMITED = DomainLimits()
_NOTHING: Costs = (0, 0, 0, 0)


def _meters(limits: DomainLimits, empty_at: float | None) -> tuple[tuple[int, TokenBucket], ...]:
    """Return a bucket for every rate that is limited, with its index in :data:`Costs`."""
    rates = (
        (limits.requests_per_minute, limits.burst),
        (limits.tokens_per_minute, TOKEN_BURST),
        (limits.input_tokens_per_minute, TOKEN_BURST),
        (limits.output_tokens_per_minute, TOKEN_BURST),
    )
    meters = []
    for index, (rate, burst) in enumerate(rates):
        if rate is not None:
            bucket = per_minute(rate, burst if index == 0 else max(2.0, rate * burst))
            if empty_at is not None:
                bucket.drain(empty_at)
            meters.append((index, bucket))
    return tuple(meters)


def _costs(amount: Amount) -> Costs:
    return amount.requests, amount.input_tokens + amount.output_tokens, amount.input_tokens, amount.output_tokens


def _real_costs(costs: Costs, settle: Settle) -> Costs:
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
            return _NOTHING
        case _:
            return costs[0], 0, 0, 0


def _charge_debt(domain: _Domain, costs: Costs, now: float) -> None:
    for index, bucket in domain.meters:
        if costs[index] > bucket.burst:
            bucket.take(costs[index] - bucket.burst, now)


def _refuse(request: Acquire, kind: ErrorKind, reason: str, retry_after: float | None = None) -> Reply:
    return Reply(request.reply_to, Refused(lease=request.lease, kind=kind, reason=reason, retry_after=retry_after))
