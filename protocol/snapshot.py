"""What there is to see of a limiter while somebody waits; made only when it is looked at."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

from protocol import ids
from protocol.domain import RATES
from protocol.pace import LearnedLimit
from protocol.policies.quota import Quota

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.domain import Domain
    from protocol.policies.budget import Account

MOST_COUNTED = 10_000
"""How many waiters of a domain are counted by flow and run, so that no look takes longer than some milliseconds."""


class DomainState(Struct, frozen=True, kw_only=True):
    """How one domain stands where somebody waits. Amounts are units of the limit that names them, times are seconds.

    ``waits_for`` is what the first in line waits for: a limit's key, ``concurrency``, ``budget`` or ``blocked``.
    ``classes`` counts who waits by class, the most urgent first; ``flows`` and ``runs`` count the first of them only
    where very many wait. ``blocked`` is the time until a provider's 429 is over; below 0 a level is a debt. ``rates``
    are the units a minute that calls go at now, at most, where that is bounded; ``learned`` is what is known of the
    limits and from where, ``throttled`` the share of all grants that met a 429.
    """

    domain: str
    waits_for: str
    waiting: int
    classes: tuple[int, ...]
    flows: dict[str, int]
    runs: dict[str, int]
    in_flight: int
    blocked: float
    levels: dict[str, float]
    rates: dict[str, float]
    learned: tuple[LearnedLimit, ...]
    throttled: float


class LimitsSnapshot(Struct, frozen=True, kw_only=True, tag=True):
    """What the limiter sees at one instant: each domain in which somebody waits, and the system's money."""

    domains: tuple[DomainState, ...]
    spent: int = 0
    reserved: int = 0
    budget: int | None = None


def snapshot(domains: Mapping[str, Domain], obstacles: Mapping[str, str], money: Account, now: float) -> LimitsSnapshot:
    """Return how each of the domains stands that *obstacles* names, and how *money* does."""
    return LimitsSnapshot(
        domains=tuple(_state(domains[name], what, now) for name, what in obstacles.items()),
        spent=money.spent,
        reserved=money.reserved,
        budget=money.limit,
    )


def _state(domain: Domain, waits_for: str, now: float) -> DomainState:
    line = domain.line
    waiting = len(line)
    counted = [waiter.request for waiter in islice(line, min(waiting, MOST_COUNTED))]
    return DomainState(
        domain=domain.name,
        waits_for=waits_for,
        waiting=waiting,
        classes=line.lengths(),
        flows=dict(Counter(request.flow for request in counted)),
        runs=dict(Counter(ids.run_of(request.lease) for request in counted)),
        in_flight=domain.in_flight,
        blocked=max(0.0, domain.blocked_until - now),
        levels=_levels(domain, now),
        rates={RATES[index]: rate.rate * 60.0 for index, rate in domain.pace.rates.items() if rate.rate < inf},
        learned=domain.pace.learned(),
        throttled=domain.pace.throttled / max(1, domain.granted),
    )


def _levels(domain: Domain, now: float) -> dict[str, float]:
    """Return what could go at once of each limit that is configured or learned."""
    levels: dict[str, float] = {}
    for index, meter in domain.meters:
        if isinstance(meter, Quota):
            levels["requests_per_day"] = meter.left(now)
        else:
            levels[RATES[index]] = meter.level(now)
    for index, rate in domain.pace.rates.items():
        if rate.rate < inf:
            levels[RATES[index]] = min(levels.get(RATES[index], inf), rate.level(now))
    return levels
