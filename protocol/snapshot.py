"""What there is to see of a limiter while somebody waits; made only when it is looked at."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from protocol import ids
from protocol.domain import RATES
from protocol.policies.quota import Quota
from protocol.signals import DomainState, LimitsSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.domain import Domain
    from protocol.policies.budget import Account

MOST_COUNTED = 10_000
"""How many waiters of a domain are counted by flow and run, so that no look takes longer than some milliseconds."""


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
    levels = {
        "requests_per_day" if isinstance(meter, Quota) else RATES[index]: (
            meter.left(now) if isinstance(meter, Quota) else meter.level(now)
        )
        for index, meter in domain.meters
    }
    return DomainState(
        domain=domain.name,
        waits_for=waits_for,
        waiting=waiting,
        classes=line.lengths(),
        flows=dict(Counter(request.flow for request in counted)),
        runs=dict(Counter(ids.run_of(request.lease) for request in counted)),
        in_flight=domain.in_flight,
        blocked=max(0.0, domain.blocked_until - now),
        levels=levels,
    )
