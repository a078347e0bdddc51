"""One dollar and 64 callers at once: gateway, limiter and callers on the simulation, never a cent too much."""

from __future__ import annotations

from random import Random

import pytest

from protocol import ids
from protocol.chat import ChatReply, Usage
from protocol.errors import ErrorKind
from protocol.policies.budget import Budget, Verdict
from protocol.signals import Allow
from tests.actors.provider import CallStage, Provider, fault

DOLLAR = 1_000_000_000
SEEDS = 200
CALLS, CALLERS, MOST = 128, 64, 1000
PRICES = (1000.0, 25_000.0)
"""Nano-dollars a token: an answer of 1,000 tokens costs 2.5 cents, all of them three times the budget."""


class Bill(Provider):
    """Answers as the seed says, faults among it, and adds up what a provider would charge for it."""

    def __init__(self, seed):
        super().__init__(latency=1.0)
        self.dice = Random(seed)
        self.nano = 0

    def say(self, perform_name):
        self.performed.append(perform_name)
        self.latency = self.dice.choice((0.1, 1.0, 5.0))
        lot = self.dice.random()
        if lot < 0.05:
            return fault(self.dice.choice((ErrorKind.SERVER_ERROR, ErrorKind.PROVIDER_OVERLOADED)), status=503)
        usage = Usage(input_tokens=self.dice.randrange(1, 20), output_tokens=self.dice.randrange(100, MOST + 1))
        self.nano += int(usage.input_tokens * PRICES[0] + usage.output_tokens * PRICES[1])
        if lot < 0.1:
            return fault(ErrorKind.TIMEOUT)  # it was paid all the same
        return ChatReply(text="yes", usage=usage)


class CheckThenAct(Budget):
    """The twin: looks whether there is money left, and adds up afterwards."""

    def judge(self, run, nano):
        del run, nano
        return Verdict.NEVER if self.total.spent >= self.total.limit else Verdict.FITS


def stage_of(seed, books):
    stage = CallStage(Bill(seed), seed=seed, callers=CALLERS, budget=books, prices=PRICES)
    for n in range(CALLS):
        stage.call(f"run/{n}", max_tokens=MOST)
    return stage


def spend(seed, books, *, crashes=0):
    """Let everybody call until all have an answer; return the stage."""
    stage, dice = stage_of(seed, books), Random(seed)
    for _ in range(crashes):
        stage.advance(dice.uniform(0.0, 3.0))
        stage.crash(ids.LIMITER)
    return stage.run(2000.0)


@pytest.mark.slow
@pytest.mark.uncounted
def test_64_callers_never_pass_a_dollar_in_200_seeds():
    bills = []
    for seed in range(SEEDS):
        stage = spend(seed, Budget(DOLLAR))
        assert len(stage.answers) == CALLS
        assert (stage.budget.total.reserved, stage.in_flight()) == (0, 0)
        assert {said for _, said in stage.outcomes()} >= {ErrorKind.BUDGET, "yes"}
        bills.append(stage.provider.nano)
    assert max(bills) <= DOLLAR
    assert sum(bills) / SEEDS > 0.85 * DOLLAR


@pytest.mark.slow
@pytest.mark.uncounted
def test_the_same_callers_pass_it_where_they_check_then_act():
    bills = [spend(seed, CheckThenAct(DOLLAR)).provider.nano for seed in range(SEEDS)]
    assert sum(bill > DOLLAR + DOLLAR // 100 for bill in bills) >= SEEDS / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_the_dollar_holds_although_the_limiter_is_restarted_again_and_again(seed):
    stage = spend(seed, Budget(DOLLAR), crashes=4)
    assert stage.lives == 5
    assert stage.provider.nano <= DOLLAR
    assert (len(stage.answers), stage.budget.total.reserved, stage.in_flight()) == (CALLS, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_the_dollar_holds_although_the_gateway_dies_with_calls_under_way(seed):
    stage = stage_of(seed, Budget(DOLLAR))
    for _ in range(2):
        stage.advance(0.5)
        stage.crash(ids.GATEWAY)
    stage.run(2000.0)
    assert stage.provider.nano <= DOLLAR
    assert (len(stage.answers), stage.budget.total.reserved, stage.in_flight()) == (CALLS, 0, 0)


def busy(stage):
    """Return how many callers are in a call."""
    callers = [box for address, box in stage.directory.mailboxes.items() if address.startswith("caller/")]
    return sum(box.actor.busy is not None for box in callers)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_limiter_that_is_restarted_again_and_again_never_lets_more_calls_go_than_allowed(seed):
    stage, dice, most = CallStage(Bill(seed), seed=seed, callers=CALLERS, concurrency=8), Random(seed), 0
    for n in range(60):
        stage.call(f"run/{n}", max_tokens=MOST)
    for _ in range(400):
        stage.advance(0.05)
        if dice.random() < 0.03 and stage.lives < 5:
            stage.crash(ids.LIMITER)
        most = max(most, busy(stage))
    stage.run(2000.0)
    assert (most, stage.lives, len(stage.answers), stage.in_flight()) == (8, 5, 60, 0)


def test_a_run_that_has_spent_its_budget_stops_and_another_goes_on():
    stage = CallStage(Provider(), prices=(0.0, 1000.0))
    stage.tell(ids.LIMITER, Allow(run="poor", nano_usd=12_000))
    for n in range(3):
        stage.call(f"poor/{n}", max_tokens=10)
        stage.call(f"rich/{n}", max_tokens=10)
    stage.run()
    assert sorted(stage.outcomes()) == [
        ("poor/0", "yes"),
        ("poor/1", ErrorKind.BUDGET),
        ("poor/2", ErrorKind.BUDGET),
        ("rich/0", "yes"),
        ("rich/1", "yes"),
        ("rich/2", "yes"),
    ]
