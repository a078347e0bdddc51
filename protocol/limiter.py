"""The limiter's decisions: who may call a provider now. Partner of ``actors/limiter.py``.

One decision, all or nothing, over every resource of a *domain* (what the vendor counts by): requests, tokens,
concurrency, money. First everything is checked, then everything is taken, so nobody holds one resource while waiting
for another, and what is refused has consumed nothing. Who is next is decided by ``protocol/line.py``: the class, its
age, then fair shares.

=========== =============================================== ================ ==============================
outcome     rate buckets                                     money            besides
=========== =============================================== ================ ==============================
success     corrected to the real usage, up or down          the real cost
rejected    tokens come back, the request counts             comes back
throttled   as rejected                                      comes back       the whole domain waits
overloaded  as rejected                                      comes back
ambiguous   the reservation stays spent                      stays spent      so it is for an expired lease
unsent      everything comes back                            comes back       so it is for a lease cancelled
=========== =============================================== ================ ==============================
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from protocol import ids
from protocol.domain import (
    GRACE,
    NOTHING,
    Domain,
    DomainLimits,
    Effect,
    Ignored,
    Learnt,
    Lease,
    LeaseExpired,
    Reply,
    Wake,
    real_costs,
    real_money,
)
from protocol.errors import ErrorKind
from protocol.line import share, waiter_of
from protocol.policies.budget import FITS, LATER, LATER_IN_RUN, NEVER_IN_RUN, UNPRICED, Budget
from protocol.policies.token_bucket import TICK
from protocol.signals import Acquire, Allow, Cancel, Granted, Reaffirm, Refused, Settle
from protocol.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.domain import Learned
    from protocol.line import Costs
    from protocol.policies.budget import Verdict
    from protocol.snapshot import LimitsSnapshot

__all__ = ["GRACE", "DomainLimits", "Effect", "Ignored", "Learnt", "LeaseExpired", "Limiter", "Reply", "Wake"]

RECOVERY = 1.0
"""Seconds after a restart in which nothing is granted, where nobody knows who holds leases."""
PATIENCE = 120.0
"""A domain blocked for longer than this many seconds, or that long by one 429 after another, refuses who waits."""
MOST_AT_ONCE = 500
"""How many waiters are answered in one turn; the others wait for a timer of a microsecond, so that no turn is long."""
NANO = 1_000_000_000


class Limiter:
    """Hands out leases, each settled exactly once. *flows* gives weights, 1 for a flow that is not in it.

    A restarted limiter is made with ``fresh=False`` and the *budget* of the instance before: its rate buckets start
    empty, and nothing is granted until everybody who holds leases by the books has reaffirmed them, or is gone (where
    the books know nobody: until somebody has, or :data:`RECOVERY` seconds have passed).
    """

    def __init__(
        self,
        limits: Mapping[str, DomainLimits],
        *,
        flows: Mapping[str, float] | None = None,
        budget: Budget | None = None,
        fresh: bool = True,
    ) -> None:
        self._limits = limits
        self._flows = flows or {}
        self._budget = Budget() if budget is None else budget
        self._fresh = fresh
        self._awaited = set() if fresh else self._budget.holders()
        self._recovered_at = -inf if fresh else inf
        self._domains: dict[str, Domain] = {}
        self._leases: dict[str, Lease] = {}
        self._short: set[str] = set()  # domains whose head waits for money that others have reserved

    # --- what comes in

    def on_acquire(self, request: Acquire, now: float) -> list[Effect]:
        """Grant, refuse for good, or let wait. A lease that waits or is held already is not asked for twice."""
        domain = self._domain(request.domain, now)
        if request.lease in self._leases or request.lease in domain.line:
            return []
        waiter = waiter_of(request, now)
        if not domain.fits(waiter.costs):
            reason = f"one call is larger than the limit of {domain.name!r}"
            return [_refuse(request, ErrorKind.NEVER_FITS, reason)]
        if domain.line.push(waiter):
            return self._serve(domain, now)
        effects: list[Effect] = []
        if request.deadline is not None:
            self._set_timer(domain, request.deadline, now, effects)
        return effects

    def on_settle(self, settle: Settle, now: float, roll: float = 0.0) -> list[Effect]:
        """Take the lease back, book what was really used, learn, and serve who waits. *roll* is a die in [0, 1)."""
        booked = self._budget.settle(settle.lease, real_money(settle))
        lease = self._leases.pop(settle.lease, None)
        if lease is None:
            return self._settle_unknown(settle.lease, now, booked=booked)
        domain, real = lease.domain, real_costs(lease.waiter.costs, settle)
        domain.learn(lease.ticket, settle, now, roll)
        self._take_back(lease, real, now)
        effects = self._serve_after(lease.waiter.run, now, domain)
        lessons = domain.pace.lessons()
        return [*(Learnt(domain.name, limit) for limit in lessons), *effects] if lessons else effects

    def on_cancel(self, cancel: Cancel, now: float) -> list[Effect]:
        """Forget the waiting request, or take the lease back unused. A lease nobody knows is as good as cancelled."""
        booked = self._budget.settle(cancel.lease, 0)
        lease = self._leases.pop(cancel.lease, None)
        if lease is not None:
            lease.domain.pace.on_unused(lease.ticket, now)
            self._take_back(lease, NOTHING, now)
            return self._serve_after(lease.waiter.run, now, lease.domain)
        effects = self._leave(cancel.lease, now) or []
        return effects + self._serve_after(ids.run_of(cancel.lease), now) if booked else effects

    def on_reaffirm(self, reaffirm: Reaffirm, now: float) -> list[Effect]:
        """Book the leases that a holder holds, after a restart of either; grants begin when all holders have done so.

        The limiter before has charged them; of a call larger than the burst the debt is charged again.
        """
        if reaffirm.replaced:
            self._write_off(reaffirm.holder, now)
        for request in reaffirm.leases:
            domain = self._domain(request.domain, now)
            if request.lease not in self._leases:
                domain.line.remove(request.lease, now)
                waiter = waiter_of(request, now)
                domain.line.adopt(waiter)
                self._hold(Lease(domain, waiter, domain.adopt(waiter.costs, now)))
        self._heard_of(reaffirm.holder)
        if not self._awaited:
            self._recovered_at = min(self._recovered_at, now)
        return self._serve_all(now)

    def on_wake(self, domain: str, now: float) -> list[Effect]:
        """The timer of *domain* has fired: expire who is late, serve who can be served."""
        known = self._domains.get(domain)
        if known is None:
            return []
        known.wake_at = None
        effects: list[Effect] = []
        while (late := known.expiries.pop(now)) is not None:
            lease = self._leases.pop(late)
            self._budget.settle(late, None)
            self._lose(lease, now)
            effects.append(LeaseExpired(late, lease.waiter.request.holder))
            effects += self._serve_after(lease.waiter.run, now)
        return effects + self._serve(known, now)

    def on_holder_gone(self, holder: str, now: float) -> list[Effect]:
        """Take back what *holder* held, as spent since its calls may have been made, and forget what it waited for."""
        self._write_off(holder, now)
        if self._heard_of(holder) and not self._awaited:
            self._recovered_at = min(self._recovered_at, now)
        return self._serve_all(now)

    def on_lost(self, lease: str) -> None:
        """An earlier instance has failed on the settlement of *lease*: what was reserved for it counts as spent."""
        self._budget.settle(lease, None)

    def on_allow(self, allow: Allow, now: float) -> list[Effect]:
        """A run has bounds of its own, or others than before."""
        self._budget.allow(allow.run, allow.nano_usd, allow.calls)
        return self._serve_after(allow.run, now)

    def on_run_ended(self, run: str) -> None:
        """A run is over, and its bounds with it."""
        self._budget.close(run)

    # --- what can be looked at

    def in_flight(self, domain: str) -> int:
        """Return how many leases of *domain* are held."""
        return self._domains[domain].in_flight if domain in self._domains else 0

    def learned(self, now: float) -> tuple[Learned, ...]:
        """Return how each domain stands with its provider."""
        return tuple(domain.learned(now) for domain in self._domains.values())

    def obstacles(self, now: float) -> dict[str, str]:
        """Return what the first in the line of each domain waits for: a limit's key, ``budget``, or ``blocked``."""
        found = {}
        for name, domain in self._domains.items():
            if domain.line:
                waiter = domain.line.head(domain.line.turn(now))
                short = name in self._short
                found[name] = "budget" if short else domain.obstacle(waiter.costs, now)
        return found

    def snapshot(self, now: float) -> LimitsSnapshot:
        """Return how each domain stands in which somebody waits."""
        return snapshot(self._domains, self.obstacles(now), self._budget.total, now)

    # --- who is served

    def _serve(self, domain: Domain, now: float) -> list[Effect]:
        """Turn away who is late or cannot be served, grant from the head of the line on, and keep the timer right."""
        line = domain.line
        late = line.next_deadline() <= now or domain.blocked_until > now
        effects = self._turn_away(domain, now) if late else []
        wait = self._admit(domain, now, effects)
        due, expiry = line.next_deadline(), domain.expiries.next()
        due = min(due, expiry)
        if wait < inf:
            due = min(due, now + wait, line.next_rise(now))
        self._set_timer(domain, due, now, effects)
        return effects

    def _turn_away(self, domain: Domain, now: float) -> list[Effect]:
        """Refuse who waited past the deadline, and everybody when the provider blocks us for very long."""
        line = domain.line
        effects: list[Effect] = []
        while len(effects) < MOST_AT_ONCE and (late := line.pop_late(now)) is not None:
            effects.append(_refuse(late.request, ErrorKind.DEADLINE, "the deadline passed while it waited in line"))
        blocked = domain.blocked_until - now
        if blocked > PATIENCE:
            reason = f"the provider blocks {domain.name!r} for another {blocked:.0f} s"
        elif blocked > 0.0 and domain.pace.storm > PATIENCE:
            reason = f"the provider has answered every call to {domain.name!r} with 429 for {domain.pace.storm:.0f} s"
        else:
            return effects
        while line and len(effects) < MOST_AT_ONCE:
            request = line.head(line.turn(now)).request
            line.remove(request.lease, now)
            effects.append(_refuse(request, ErrorKind.RATE_LIMITED, reason, blocked))
        return effects

    def _admit(self, domain: Domain, now: float, effects: list[Effect]) -> float:
        """Grant from the head on as long as it can be; return the seconds until it is worth while to look again."""
        line = domain.line
        self._short.discard(domain.name)
        while line:
            if len(effects) >= MOST_AT_ONCE:
                return 0.0
            turn = line.turn(now)
            waiter = line.head(turn)
            request = waiter.request
            verdict = self._budget.judge(waiter.run, request.amount.nano_usd)
            if verdict is FITS:
                wait = domain.wait(waiter.costs, now)
                if wait > 0.0 or self._recovered_at > now:
                    return max(wait, self._recovered_at - now)
                line.pop(turn, now)
                effects.append(self._grant(Lease(domain, waiter, domain.take(waiter.costs, now))))
                if domain.full:
                    return inf  # who is next is looked at when there is room
            elif verdict is LATER_IN_RUN:
                line.step_aside(waiter)
            elif verdict is LATER:
                self._short.add(domain.name)
                return inf
            else:
                line.remove(request.lease, now)
                effects.append(_refuse(request, ErrorKind.BUDGET, self._too_dear(request, verdict)))
        return inf

    def _grant(self, lease: Lease) -> Reply:
        self._hold(lease)
        request = lease.waiter.request
        return Reply(request.reply_to, Granted(lease=request.lease, epoch=lease.ticket.epoch, tokens=request.amount))

    def _serve_after(self, run: str, now: float, domain: Domain | None = None) -> list[Effect]:
        """Serve *domain*, and whoever waited for what a call of *run* has given back, or for the bounds of that."""
        effects: list[Effect] = []
        for each in self._domains.values():
            if each.line.call_in(run, now) or each is domain or each.name in self._short:
                effects += self._serve(each, now)
        return effects

    def _serve_all(self, now: float) -> list[Effect]:
        return [effect for domain in self._domains.values() for effect in self._serve(domain, now)]

    def _set_timer(self, domain: Domain, due: float, now: float, effects: list[Effect]) -> None:
        """Emit a timer when *due* is earlier than the one set; a timer that comes too early does no harm."""
        if due == inf:
            if domain.wake_at is not None:
                domain.wake_at = None
                effects.append(Wake(domain.name, None))
        elif domain.wake_at is None or due < domain.wake_at - TICK:
            domain.wake_at = due
            effects.append(Wake(domain.name, max(TICK, due - now)))

    # --- leases

    def _domain(self, name: str, now: float) -> Domain:
        domain = self._domains.get(name)
        if domain is None:
            if self._recovered_at == inf and not self._awaited:
                self._recovered_at = now + RECOVERY
            limits = self._limits.get(name, _UNLIMITED)
            domain = Domain(name, limits, self._flows, empty_at=None if self._fresh else now)
            self._domains[name] = domain
        return domain

    def _hold(self, lease: Lease) -> None:
        request = lease.waiter.request
        self._budget.reserve(request.lease, request.holder, request.amount.nano_usd or 0)
        self._leases[request.lease] = lease
        if request.deadline is not None:
            lease.domain.expiries.set(request.lease, request.deadline + GRACE)

    def _write_off(self, holder: str, now: float) -> None:
        """Take back all that *holder* held, as spent, forget what it waited for, and call in whom it kept waiting."""
        for key in self._budget.held_by(holder):
            self._budget.settle(key, None)
            lease = self._leases.pop(key, None)
            if lease is not None:
                self._lose(lease, now)
            for domain in self._domains.values():
                domain.line.call_in(ids.run_of(key), now)
        for domain in self._domains.values():
            for waiter in [waiting for waiting in domain.line if waiting.request.holder == holder]:
                domain.line.remove(waiter.key, now)

    def _lose(self, lease: Lease, now: float) -> None:
        """Take back, as spent, what nobody will ever settle."""
        lease.domain.pace.on_gone(lease.ticket, now)
        self._take_back(lease, lease.waiter.costs, now)

    @staticmethod
    def _take_back(lease: Lease, real: Costs, now: float) -> None:
        domain = lease.domain
        domain.in_flight -= 1
        domain.expiries.discard(lease.waiter.key)
        domain.correct(lease.waiter.costs, real, now)
        domain.line.settle(lease.waiter, share(real) - lease.waiter.cost)

    def _settle_unknown(self, lease: str, now: float, *, booked: bool) -> list[Effect]:
        """A lease of an earlier life may be settled while its repeated request waits: then nobody waits any more."""
        effects = self._leave(lease, now)
        if booked:
            return [*(effects or []), *self._serve_after(ids.run_of(lease), now)]
        if effects is None:
            return [Ignored(lease, "settled already, or never granted")]
        return [Ignored(lease, "settled while it waited"), *effects]

    def _leave(self, lease: str, now: float) -> list[Effect] | None:
        for domain in self._domains.values():
            if domain.line.remove(lease, now) is not None:
                return self._serve(domain, now)
        return None

    def _heard_of(self, holder: str) -> bool:
        """Wait no longer for *holder* to reaffirm; tell whether it was waited for."""
        known = holder in self._awaited
        self._awaited.discard(holder)
        return known

    def _too_dear(self, request: Acquire, verdict: Verdict) -> str:
        """Say why there is no money for *request*."""
        run = ids.run_of(request.lease)
        if verdict is UNPRICED:
            return "a budget is set, and this call's model has no price: set the price of its [model.<name>]"
        account, whose = self._budget.total, "the system"
        if verdict is NEVER_IN_RUN:
            account, whose = self._budget.account(run) or account, f"the run {run}"
        return (
            f"the budget of {whose} does not cover this call: {_usd(account.spent)} of {_usd(account.limit or 0)} "
            f"are spent, and it may cost {_usd(request.amount.nano_usd or 0)}"
        )


_UNLIMITED = DomainLimits()


def _refuse(request: Acquire, kind: ErrorKind, reason: str, retry_after: float | None = None) -> Reply:
    return Reply(request.reply_to, Refused(lease=request.lease, kind=kind, reason=reason, retry_after=retry_after))


def _usd(nano: int) -> str:
    return f"${nano / NANO:.6f}"
