"""Retries are a share of successes: in any window at most ``most + share * successes + floor * seconds``."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.policies.retry_budget import TICK, RetryBudget, RetryShare


class DumbAccount:
    """The twin: keeps the history and adds it up for every question."""

    def __init__(self, share):
        self.share = share
        self.history = []

    def saved(self, now):
        saved, last = self.share.most, None
        for at, change in [*self.history, (now, 0.0)]:
            if last is not None:
                saved = min(self.share.most, saved + self.share.floor * (at - last))
            saved, last = min(self.share.most, saved + change), at
        return saved


MOVES = st.lists(st.tuples(st.integers(0, 8_000_000), st.sampled_from(["success", "retry", "retry"])), max_size=60)


@settings(max_examples=60)
@given(share=st.sampled_from([0.0, 0.2, 1.5]), floor=st.sampled_from([0.0, 0.1, 2.0]), moves=MOVES)
def test_answers_as_the_twin_with_the_full_history_does(share, floor, moves):
    rules = RetryShare(share=share, floor=floor, most=4.0)
    budget, twin, now = RetryBudget(rules), DumbAccount(rules), 0.0
    for micros, move in moves:
        now += micros / 1e6
        if move == "success":
            budget.on_success(now)
            twin.history.append((now, share))
        elif budget.try_take(now) == 0.0:
            assert twin.saved(now) >= 1.0 - 1e-9
            twin.history.append((now, -1.0))
        else:
            assert twin.saved(now) < 1.0 + 1e-9
        assert budget.saved(now) == pytest.approx(twin.saved(now))


class Law(RuleBasedStateMachine):
    """Whatever happens: no window holds more retries than it may, and who waits as told is served."""

    def __init__(self):
        super().__init__()
        self.budget = RetryBudget()
        self.now = 100.0
        self.events = []

    @rule(times=st.integers(1, 15))
    def succeed(self, times):
        for _ in range(times):
            self.budget.on_success(self.now)
            self.events.append((self.now, "success"))

    @rule(times=st.integers(1, 15))
    def retry(self, times):
        for _ in range(times):
            if self.budget.try_take(self.now) == 0.0:
                self.events.append((self.now, "retry"))

    @rule(seconds=st.integers(0, 30))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def wait_as_told(self):
        wait = self.budget.try_take(self.now)
        if wait > 0.0:
            self.now += wait
            assert self.budget.try_take(self.now) == 0.0
        self.events.append((self.now, "retry"))

    @invariant()
    def no_window_holds_too_many_retries(self):
        rules = self.budget.settings
        for first, (start, _) in enumerate(self.events):
            successes = retries = 0
            for at, what in self.events[first:]:
                successes, retries = successes + (what == "success"), retries + (what == "retry")
                assert retries <= rules.most + rules.share * successes + rules.floor * (at - start) + 1e-6


Law.TestCase.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
TestLaw = Law.TestCase


def test_an_outage_of_a_minute_is_not_amplified():
    budget, retries = RetryBudget(), 0
    for tenth in range(600):  # a first try fails ten times a second, and each would like to try again
        retries += budget.try_take(tenth / 10) == 0.0
    assert retries == 15  # ten saved up and one each ten seconds, of 600


def test_in_health_one_retry_is_there_for_five_successes():
    budget = RetryBudget(RetryShare(floor=0.0))
    spent = sum(budget.try_take(0.0) == 0.0 for _ in range(20))
    for _ in range(100):
        budget.on_success(1.0)
        spent += budget.try_take(1.0) == 0.0
    assert spent == 10 + 100 / 5


def test_the_wait_that_is_named_suffices():
    budget = RetryBudget(RetryShare(most=1.0, floor=0.5))
    budget.try_take(3.0)
    wait = budget.try_take(3.0)
    assert wait == pytest.approx(2.0 + TICK)
    assert budget.try_take(3.0 + wait) == 0.0


@pytest.mark.parametrize("floor", [0.1, 0.3, 0.7])
def test_the_wait_suffices_at_any_hour(floor):
    for hour in range(300):
        budget, now = RetryBudget(RetryShare(most=1.0, floor=floor)), 1e5 + 3600.1 * hour
        budget.try_take(now)
        assert budget.try_take(now + budget.try_take(now)) == 0.0


def test_without_a_floor_only_a_success_helps():
    budget = RetryBudget(RetryShare(share=1.0, most=1.0, floor=0.0))
    budget.try_take(0.0)
    assert budget.try_take(1e9) == inf
    budget.on_success(1e9)
    assert budget.try_take(1e9) == 0.0


def test_a_clock_that_steps_back_pays_nothing_in():
    budget = RetryBudget()
    budget.try_take(50.0)
    assert budget.saved(40.0) == 9.0
