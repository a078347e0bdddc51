"""Law 3 for one rate: in any window the takes stay below rate x window + burst; and the rate is used."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.policies.token_bucket import TICK, TokenBucket, per_minute

EPS = 3 * TICK


class DumbBucket:
    """The twin: keeps the whole history and replays it for every question."""

    def __init__(self, rate, burst):
        self.rate, self.burst = rate, burst
        self.history = []

    def book(self, change, now):
        self.history.append((now, change))

    def level(self, now):
        level, last = self.burst, 0.0
        for at, change in self.history:
            level = min(self.burst, level + self.rate * (at - last))
            level, last = min(self.burst, level + change), at
        return min(self.burst, level + self.rate * (now - last))


COSTS = st.integers(1, 40)
STEPS = st.integers(0, 3_000_000).map(lambda micros: micros / 1e6)


@settings(max_examples=60)
@given(
    rate=st.sampled_from([0.5, 1.0, 7.0, 50.0]),
    burst=st.sampled_from([1.0, 9.0, 30.0]),
    moves=st.lists(st.tuples(STEPS, st.sampled_from(["take", "take", "refund", "drain"]), COSTS), max_size=40),
)
def test_answers_as_the_twin_with_the_full_history_does(rate, burst, moves):
    bucket, twin, now = TokenBucket(rate=rate, burst=burst, limit=35.0), DumbBucket(rate, burst), 0.0
    for step, move, cost in moves:
        now += step
        if move == "refund":
            bucket.refund(cost)
            twin.book(cost, now)
        elif move == "drain":
            bucket.drain(now)
            twin.book(-max(0.0, twin.level(now)), now)
        elif (wait := bucket.try_take(cost, now)) == 0.0:
            assert twin.level(now) >= min(cost, burst) - EPS * rate
            twin.book(-cost, now)
        elif cost <= 35:
            assert twin.level(now + wait) >= min(cost, burst) - EPS * rate
            assert twin.level(now + wait - EPS) < min(cost, burst)
        else:
            assert wait == inf
        assert bucket.level(now) == pytest.approx(twin.level(now), abs=EPS * rate)


class Law(RuleBasedStateMachine):
    """Whoever takes whatever whenever: no window holds more than it may."""

    def __init__(self):
        super().__init__()
        self.bucket = per_minute(120.0, 10)
        self.now = 1000.0
        self.taken = []
        self.wait = 0.0
        self.cost = 0

    @rule(cost=st.integers(1, 120), times=st.integers(1, 12))
    def take(self, cost, times):
        cost = cost if cost % 10 == 0 else 1 + cost % 5
        for _ in range(times):
            self.wait, self.cost = self.bucket.try_take(cost, self.now), cost
            if self.wait == 0.0:
                self.taken.append((self.now, cost))

    @rule(step=STEPS)
    def pass_time(self, step):
        self.now += step
        self.wait = 0.0

    @precondition(lambda self: 0.0 < self.wait < inf)
    @rule()
    def wait_as_told(self):
        self.now += self.wait
        assert self.bucket.try_take(self.cost, self.now) == 0.0
        self.taken.append((self.now, self.cost))
        self.wait = 0.0

    @invariant()
    def no_window_holds_too_much(self):
        for first, (start, _) in enumerate(self.taken):
            total = largest = 0
            for end, cost in self.taken[first:]:
                total, largest = total + cost, max(largest, cost)
                assert total <= max(9, largest) + 2.0 * (end - start) + 1e-3


Law.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestLaw = Law.TestCase


def saturate(bucket, seconds):
    """Take one unit as often as it goes; return the instants."""
    now, instants = 0.0, []
    for _ in range(20_000):
        if now > seconds:
            return instants
        wait = bucket.try_take(1.0, now)
        if wait == 0.0:
            instants.append(now)
        else:
            now += wait
    raise AssertionError("waiting as told does not get on")


@pytest.mark.parametrize(("limit", "burst"), [(60, 10), (600, 2), (3000, 10), (120, 1)])
def test_98_percent_of_the_permitted_rate_is_used_under_saturation(limit, burst):
    assert len(saturate(per_minute(limit, burst), 60.0)) >= 0.98 * limit


@pytest.mark.parametrize(("limit", "burst"), [(60, 10), (600, 2), (300, 5)])
def test_arrivals_at_the_server_stay_below_limit_plus_burst_although_the_way_takes_uneven_time(limit, burst):
    ways = (0.0, 0.9, 0.3, 0.0, 0.6)  # in units of one token's time, by turns
    instants = saturate(per_minute(limit, burst), 62.0)
    arrivals = sorted(at + ways[n % 5] * 60.0 / limit for n, at in enumerate(instants))
    for first, start in enumerate(arrivals):
        for count, end in enumerate(arrivals[first:], 1):
            assert count <= limit / 60.0 * (end - start) + burst


def test_a_cost_above_the_burst_waits_for_a_full_bucket_and_leaves_a_debt():
    bucket = TokenBucket(rate=10.0, burst=20.0, limit=100.0)
    bucket.take(5.0, 0.0)
    assert bucket.try_take(50.0, 0.0) == pytest.approx(0.5, abs=EPS)
    assert bucket.try_take(50.0, 0.6) == 0.0
    assert bucket.level(0.6) == pytest.approx(-30.0)


def test_what_is_above_the_limit_can_never_fit():
    bucket = per_minute(600.0, 20)
    assert (bucket.can_ever_fit(600.0), bucket.can_ever_fit(600.1)) == (True, False)
    assert bucket.try_take(600.1, 0.0) == inf


def test_what_costs_nothing_never_waits():
    bucket = TokenBucket(rate=1.0, burst=1.0)
    bucket.take(50.0, 0.0)
    assert bucket.try_take(0.0, 0.0) == 0.0


def test_a_refund_never_raises_the_level_above_the_burst():
    bucket = TokenBucket(rate=1.0, burst=5.0)
    bucket.take(2.0, 10.0)
    bucket.refund(100.0)
    assert bucket.level(10.0) == 5.0
    assert [bucket.try_take(5.0, 10.0), bucket.level(10.0)] == [0.0, 0.0]


def test_a_drained_bucket_holds_what_it_was_left_at_that_instant():
    bucket = TokenBucket(rate=1.0, burst=5.0)
    bucket.drain(10.0, leave=1.0)
    assert bucket.level(10.0) == 1.0


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1.0), (-1.0, 1.0), (nan, 1.0), (inf, 1.0), (1.0, 0.0), (1.0, nan)])
def test_what_is_no_rate_is_refused(rate, burst):
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(rate=rate, burst=burst)


def test_a_bucket_that_is_retuned_keeps_its_level_and_refills_at_the_new_rate():
    bucket = TokenBucket(rate=10.0, burst=20.0, limit=100.0)
    bucket.take(50.0, 0.0)
    bucket.retune(1.0, 1.0)
    assert (bucket.level(1.0), bucket.level(11.0)) == (pytest.approx(-20.0), pytest.approx(-10.0))


def test_a_full_bucket_that_is_retuned_stays_full():
    bucket = TokenBucket(rate=10.0, burst=20.0)
    bucket.retune(1.0, 5.0)
    assert bucket.level(5.0) == 20.0


@pytest.mark.parametrize("rate", [0.0, -1.0, nan, inf])
def test_no_bucket_is_retuned_to_what_is_no_rate(rate):
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(rate=1.0, burst=1.0).retune(rate, 0.0)
