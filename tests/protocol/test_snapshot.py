"""What can be seen of a limiter while somebody waits."""

from __future__ import annotations

import pytest

from protocol import snapshot as module
from protocol.limiter import DomainLimits, Limiter
from protocol.policies.budget import Budget
from protocol.signals import Acquire, Amount, Outcome, Settle


def acquire(lease, *, domain="main", priority=1, flow="", **amount):
    usual = {"requests": 1, "input_tokens": 10, "output_tokens": 10}
    return Acquire(
        lease=lease,
        domain=domain,
        amount=Amount(**usual | amount),
        priority=priority,
        flow=flow,
        holder="gateway",
        reply_to="gateway",
    )


def limiter(budget=None, **limits):
    return Limiter({"main": DomainLimits(**limits)}, budget=budget)


def test_nothing_is_seen_where_nobody_waits():
    machine = limiter(concurrency=1)
    machine.on_acquire(acquire("a/0#1"), 0.0)
    assert machine.snapshot(0.0).domains == ()


def test_who_waits_is_counted_by_class_flow_and_run():
    machine = limiter(concurrency=1, requests_per_minute=60.0, requests_per_day=10.0, burst=3)
    for lease, priority, flow in (("a/0#1", 1, "x"), ("a/1#1", 2, "x"), ("b/0#1", 0, "y"), ("b/1#1", 2, "x")):
        machine.on_acquire(acquire(lease, priority=priority, flow=flow), 0.0)
    (seen,) = machine.snapshot(0.0).domains
    assert (seen.domain, seen.waits_for, seen.waiting, seen.in_flight) == ("main", "concurrency", 3, 1)
    assert (seen.classes, seen.flows, seen.runs) == ((1, 0, 2), {"x": 2, "y": 1}, {"a": 1, "b": 2})
    assert seen.levels == {"requests_per_minute": 1.0, "requests_per_day": 9.0}
    assert seen.rates == {"requests_per_minute": 60.0}


def test_a_block_is_seen_with_the_seconds_that_are_left_of_it():
    machine = limiter(concurrency=4)
    machine.on_acquire(acquire("a/0#1"), 0.0)
    machine.on_settle(Settle(lease="a/0#1", outcome=Outcome.THROTTLED, retry_after=7.0), 0.0, 0.5)
    machine.on_acquire(acquire("a/1#1"), 2.0)
    (seen,) = machine.snapshot(2.0).domains
    assert (seen.waits_for, seen.throttled) == ("blocked", 1.0)
    assert seen.rates.keys() == {"requests_per_minute"}
    assert seen.blocked == pytest.approx(5.0, abs=1.0)


def test_money_is_seen_as_it_is_reserved_and_spent():
    machine = limiter(budget=Budget(100))
    machine.on_acquire(acquire("a/0#1", nano_usd=60), 0.0)
    machine.on_acquire(acquire("a/1#1", nano_usd=60), 0.0)
    seen = machine.snapshot(0.0)
    assert (seen.spent, seen.reserved, seen.budget, seen.domains[0].waits_for) == (0, 60, 100, "budget")


def test_of_very_many_only_the_first_are_counted_by_run(monkeypatch):
    monkeypatch.setattr(module, "MOST_COUNTED", 2)
    machine = limiter(concurrency=1)
    for number in range(5):
        machine.on_acquire(acquire(f"r{number}/0#1"), 0.0)
    (seen,) = machine.snapshot(0.0).domains
    assert (seen.waiting, seen.runs) == (4, {"r1": 1, "r2": 1})


def test_what_is_known_of_the_limits_is_seen_with_where_it_is_known_from():
    machine = limiter(concurrency=1, requests_per_minute=60.0, burst=3)
    for lease in ("a/0#1", "a/1#1"):
        machine.on_acquire(acquire(lease), 0.0)
    (learned,) = machine.snapshot(0.0).domains[0].learned
    assert (learned.resource, learned.per_minute, learned.source) == ("requests", 60.0, "configured")


def test_of_a_limit_that_was_learned_the_level_is_seen_although_nothing_is_configured():
    machine = limiter(concurrency=2)
    machine.on_acquire(acquire("a/0#1"), 0.0)
    machine.on_settle(Settle(lease="a/0#1", headers={"x-ratelimit-limit-requests": "60"}), 0.0, 0.5)
    for lease in ("a/1#1", "a/2#1", "a/3#1"):
        machine.on_acquire(acquire(lease), 0.0)
    (seen,) = machine.snapshot(0.0).domains
    assert seen.levels.keys() == {"requests_per_minute"}
    assert [limit.source for limit in seen.learned] == ["headers"]
