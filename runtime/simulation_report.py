"""What a simulation has shown: figures for machines, the same as text for people.

Nothing in it depends on the machine that simulated: the same seed and configuration give the same report.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from runtime.simulated_provider import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runtime.config import Config
    from runtime.simulation import SimulatedSystem

BINDS_FROM = 0.05
"""A limit binds when calls waited for it in this share of the time at least."""
FULL_FROM = 0.9
"""What no call is seen waiting for binds when this share of it is used."""


class QueueTime(Struct, frozen=True, kw_only=True):
    """Seconds that tasks waited for grants and free callers."""

    p50: float = 0.0
    p95: float = 0.0
    max: float = 0.0


class LimitUse(Struct, frozen=True, kw_only=True):
    """One limit of a domain: what we keep to, what the provider enforces, and what was used on average.

    ``allowed`` and ``enforced`` are None where there is none. ``utilisation`` is the share of the smaller of them;
    ``held_up`` the share of the time in which the first call in line waited for this limit before all others.
    """

    domain: str
    limit: str
    allowed: float | None
    enforced: float | None
    used: float
    utilisation: float
    held_up: float


class WhatIf(Struct, frozen=True, kw_only=True):
    """The makespan with a quarter more of one limit; ``change`` is its share of the makespan without, below 0: less."""

    domain: str
    limit: str
    makespan_s: float
    change: float


class Report(Struct, frozen=True, kw_only=True):
    """What came out. ``calls`` are those that reached a provider; ``statuses`` their ends by HTTP status (0: none).

    ``blocked`` is, by domain, the share of the time in which the first in line waited for the end of a 429.
    ``cost_usd`` is None when a price is unknown.
    """

    workflows: int
    succeeded: int
    failed: int
    errors: dict[str, int]
    seed: int
    makespan_s: float
    calls: int
    throttled: int
    retries: int
    statuses: dict[str, int]
    faults: dict[str, int]
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    queue_s: QueueTime
    limits: tuple[LimitUse, ...]
    blocked: dict[str, float]
    binds: str | None
    failures: tuple[str, ...]
    messages: int
    trace_sha256: str | None = None
    what_if: tuple[WhatIf, ...] = ()


def report(system: SimulatedSystem, seed: int, trace_sha256: str | None) -> Report:
    """Return what *system*, which has ended, has shown."""
    sums, vendors = system.sums, system.models.vendors.values()
    makespan = sums.ended - sums.began
    statuses: Counter[int] = sum((vendor.statuses for vendor in vendors), Counter())
    faults: Counter[str] = sum((vendor.faults for vendor in vendors), Counter())
    limits = tuple(_limits(system, makespan))
    blocked = {
        domain: _share(micros / 1e6, makespan) for (domain, what), micros in sums.held_up.items() if what == "blocked"
    }
    return Report(
        workflows=system.workflows,
        succeeded=sums.succeeded,
        failed=sums.failed.total(),
        errors=dict(sorted(sums.failed.items())),
        seed=seed,
        makespan_s=round(makespan, 6),
        calls=sum(statuses.values()),
        throttled=statuses[429],
        retries=sums.retries,
        statuses={str(status): number for status, number in sorted(statuses.items())},
        faults=dict(sorted(faults.items())),
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cost_usd=None if sums.cost_usd is None else round(sums.cost_usd, 6),
        queue_s=_queue_time(sums.queue_ms),
        limits=limits,
        blocked=dict(sorted(blocked.items())),
        binds=_binding(limits, blocked),
        failures=tuple(system.failures[:5]),
        messages=system.dispatcher.turns,
        trace_sha256=trace_sha256,
    )


def _limits(system: SimulatedSystem, makespan: float) -> Iterator[LimitUse]:
    for vendor in system.models.vendors.values():
        for domain, gate in vendor.gates.items():
            used = {name: sum(map(int.__mul__, weights, gate.used)) for name, weights in WEIGHTS.items()}
            averages = {name: 60.0 * amount / makespan if makespan else 0.0 for name, amount in used.items()}
            averages["concurrency"] = gate.flight_seconds / makespan if makespan else 0.0
            for name, average in averages.items():
                allowed, enforced = _allowed(system.config, domain, name), getattr(gate.limits, name)
                both = [float(limit) for limit in (allowed, enforced) if limit is not None]
                if both:
                    yield LimitUse(
                        domain=domain,
                        limit=name,
                        allowed=allowed,
                        enforced=enforced,
                        used=round(average, 3),
                        utilisation=_share(average, min(both)),
                        held_up=_share(system.sums.held_up[domain, name] / 1e6, makespan),
                    )


def _allowed(config: Config, domain: str, name: str) -> float | None:
    table = config.limits.get(domain)
    return None if table is None else getattr(table, name)


def _share(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def _queue_time(waits_ms: Sequence[float]) -> QueueTime:
    waits = sorted(waits_ms) or [0.0]
    last = len(waits) - 1
    p50, p95, most = (round(waits[round(last * q)] / 1000.0, 6) for q in (0.5, 0.95, 1.0))
    return QueueTime(p50=p50, p95=p95, max=most)


def _binding(limits: Sequence[LimitUse], blocked: dict[str, float]) -> str | None:
    """Return what the work waited for most; what is nearly used up where nothing was waited for; None: nothing."""
    waited = {f"{use.domain} {use.limit}": use.held_up for use in limits}
    waited |= {f"{domain} 429s": share for domain, share in blocked.items()}
    full = {f"{use.domain} {use.limit}": use.utilisation for use in limits}
    for shares, least in ((waited, BINDS_FROM), (full, FULL_FROM)):
        most = max(shares, key=shares.__getitem__, default="")
        if most and shares[most] >= least:
            return most
    return None


# --- for people


def lines(shown: Report) -> Iterator[str]:
    """Yield the report as text."""
    failed = "".join(f", {number} {kind}" for kind, number in shown.errors.items())
    yield f"Workflows:   {shown.workflows:,}: {shown.succeeded:,} succeeded, {shown.failed:,} failed{failed}"
    rate = f" ({shown.workflows / shown.makespan_s:.2f} workflows/s)" if shown.makespan_s else ""
    yield f"Makespan:    {duration(shown.makespan_s)}{rate}"
    yield f"Cost:        {_cost(shown)}; {shown.input_tokens:,} tokens in, {shown.output_tokens:,} out"
    yield f"Calls:       {shown.calls:,}; {shown.throttled:,} answered with 429; {shown.retries:,} retries"
    if shown.faults:
        yield f"Faults:      {', '.join(f'{number:,} {name}' for name, number in shown.faults.items())}"
    queue = shown.queue_s
    yield f"Queue time:  p50 {queue.p50:.2f} s, p95 {queue.p95:.2f} s, most {queue.max:.2f} s a task"
    if shown.limits:
        yield f"{'Limits:':<44} {'allowed':>12} {'used':>12} {'share':>7}  waited for"
    for use in shown.limits:
        allowed = min(limit for limit in (use.allowed, use.enforced) if limit is not None)
        name = f"{use.domain} {use.limit}"
        figures = f"{allowed:>12,.0f} {use.used:>12,.1f} {use.utilisation:>7.1%}  {use.held_up:.1%} of the time"
        yield f"  {name:<42} {figures}"
    for domain, share in shown.blocked.items():
        yield f"  {domain} waited for the end of a 429 in {share:.1%} of the time"
    yield f"Binds:       {shown.binds or 'no limit: latency, max_parallel and the order of the work'}"
    for more in shown.what_if:
        name = f"{more.domain} {more.limit}"
        yield f"{'+25 %:':<12} {name:<34} {duration(more.makespan_s):>14} {more.change:>+8.1%}"
    for failure in shown.failures:
        yield f"Failure:     {failure}"


def duration(seconds: float) -> str:
    """Return *seconds* as people say it."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{seconds:.2f} s"


def _cost(shown: Report) -> str:
    if shown.cost_usd is None:
        return "unknown (no price is configured)"
    return f"${shown.cost_usd:,.2f} (${shown.cost_usd / shown.workflows:.4f} a workflow)"
