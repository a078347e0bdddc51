"""What a simulation is told: how the provider behaves, and what the work costs this machine."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, le=1)]
Time = Annotated[float, Meta(ge=0, le=86_400)]
Rate = Annotated[float, Meta(gt=0, le=1e10)]

FAULTS = ("throttled", "throttled_without_hint", "server_error", "timeout", "truncated", "malformed", "slow")
TASK = "Implement an async HTTP client with retries, timeouts, pooling, logging, metrics, caching, tests and docs"


class VendorLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the simulated provider enforces, where that is not what ``[limits]`` says. None is no limit.

    ``burst`` counts requests; of the tokens of a minute a tenth may come at once. ``concurrency`` counts calls in
    flight.
    """

    requests_per_minute: Annotated[float, Meta(gt=0, le=1e7)] | None = None
    burst: Annotated[int, Meta(ge=1, le=100_000)] = 10
    tokens_per_minute: Rate | None = None
    input_tokens_per_minute: Rate | None = None
    output_tokens_per_minute: Rate | None = None
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class FaultShares(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of calls that each fault hits; together at most 1.

    ``throttled`` is a 429 that names a wait of ``hint`` seconds, ``throttled_without_hint`` one that names none,
    ``server_error`` a 500, ``timeout`` a reply that never comes, ``truncated`` a text cut at half its length,
    ``malformed`` half a JSON document, ``slow`` a reply that takes ``slow_factor`` times as long.
    """

    throttled: Share = 0.0
    throttled_without_hint: Share = 0.0
    server_error: Share = 0.0
    timeout: Share = 0.0
    truncated: Share = 0.0
    malformed: Share = 0.0
    slow: Share = 0.0
    hint: Time = 1.0
    slow_factor: Annotated[float, Meta(ge=1, le=1000)] = 10.0

    @property
    def shares(self) -> dict[str, float]:
        """The share of each fault, by its name."""
        return {name: getattr(self, name) for name in FAULTS}

    @property
    def total(self) -> float:
        """The share of calls that any fault hits."""
        return sum(self.shares.values())


class Simulation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How ``python -m runtime simulate`` sees the world; nothing else reads it.

    A call takes ``(latency + per_output_token * tokens) * draw + jitter * roll`` seconds, with a *roll* in 0..1. The
    *draw* has the median 1; ``spread`` says how far it strays, from 0 (not at all) to 1 (5 % of calls take more than
    twice the median). A refusal takes ``round_trip``. ``retry_after`` says that a 429 tells when to come again.

    One simulated processor does all the work of this machine: ``cpu_per_message`` seconds for each message between
    actors, ``cpu_per_call`` for each HTTP call. ``window`` workflows are open at once, each on ``task`` with its number
    behind it; the scripted team makes ``subtasks`` of it and rejects the share ``reject`` of the first drafts.
    """

    latency: Time = 0.8
    per_output_token: Annotated[float, Meta(ge=0, le=10)] = 0.015
    spread: Share = 0.5
    jitter: Time = 0.0
    round_trip: Time = 0.05
    retry_after: bool = True
    cpu_per_message: Annotated[float, Meta(ge=0, le=1)] = 0.000012
    cpu_per_call: Annotated[float, Meta(ge=0, le=1)] = 0.00035
    window: Annotated[int, Meta(ge=1, le=100_000)] = 512
    task: Annotated[str, Meta(min_length=1)] = TASK
    subtasks: Annotated[int, Meta(ge=1, le=64)] = 8
    reject: Share = 0.0
    limits: dict[str, VendorLimits] = {}
    faults: FaultShares = FaultShares()
