"""Law 4: reserved and spent together never exceed what may be spent; every lease is settled once."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.policies.budget import Budget, Verdict

LIMIT, OF_RUN, CALLS = 10_000, 3_000, 2


class DumbBudget:
    """The twin: the history of every lease, added up anew for every question."""

    def __init__(self):
        self.leases = {}  # lease: [run, reserved, spent or None]
        self.limits = {}

    def sums(self, run=None):
        entries = [entry for entry in self.leases.values() if run in {None, entry[0]}]
        reserved = sum(entry[1] for entry in entries if entry[2] is None)
        return reserved, sum(entry[2] for entry in entries if entry[2] is not None)

    def judge(self, run, nano):
        if nano is None:
            return Verdict.UNPRICED
        (reserved, spent), limit = self.sums(), LIMIT
        if spent + nano > limit:
            return Verdict.NEVER
        if run in self.limits:
            in_run, spent_in_run = self.sums(run)
            if spent_in_run + nano > self.limits[run]:
                return Verdict.NEVER_IN_RUN
            under_way = sum(entry[0] == run and entry[2] is None for entry in self.leases.values())
            if spent_in_run + in_run + nano > self.limits[run] or (run == "b" and under_way >= CALLS):
                return Verdict.LATER_IN_RUN
        return Verdict.FITS if reserved + spent + nano <= limit else Verdict.LATER


class Twins(RuleBasedStateMachine):
    """Three runs, two with a budget of their own, one of these with a bound of calls; each gets what the twin says."""

    def __init__(self):
        super().__init__()
        self.budget, self.twin, self.serial = Budget(LIMIT), DumbBudget(), 0
        for run in ("a", "b"):
            self.budget.allow(run, OF_RUN, CALLS if run == "b" else None)
            self.twin.limits[run] = OF_RUN

    @rule(run=st.sampled_from("abc"), nano=st.sampled_from([0, 1, 300, 999, 2500, 4000]), holder=st.sampled_from("xy"))
    def ask(self, run, nano, holder):
        verdict = self.budget.judge(run, nano)
        assert verdict is self.twin.judge(run, nano)
        if verdict is Verdict.FITS:
            self.serial += 1
            self.budget.reserve(f"{run}/{self.serial}#{holder}", holder, nano)
            self.twin.leases[f"{run}/{self.serial}#{holder}"] = [run, nano, None]

    @rule(run=st.sampled_from("abc"))
    def ask_without_a_price(self, run):
        assert self.budget.judge(run, None) is self.twin.judge(run, None)

    @rule(index=st.integers(0, 99), part=st.sampled_from([0.0, 0.3, 1.0, None]))
    def settle(self, index, part):
        held = [lease for lease, entry in self.twin.leases.items() if entry[2] is None]
        if held:
            lease = held[index % len(held)]
            reserved = self.twin.leases[lease][1]
            nano = None if part is None else int(reserved * part)
            assert self.budget.settle(lease, nano)
            self.twin.leases[lease][2] = reserved if nano is None else nano

    @rule(index=st.integers(0, 99))
    def settle_again(self, index):
        settled = [lease for lease, entry in self.twin.leases.items() if entry[2] is not None]
        if settled:
            assert not self.budget.settle(settled[index % len(settled)], 1)

    @rule(holder=st.sampled_from("xy"))
    def a_holder_is_gone(self, holder):
        for lease in self.budget.held_by(holder):
            self.budget.settle(lease, None)
        for lease, entry in self.twin.leases.items():
            if lease.endswith(holder) and entry[2] is None:
                entry[2] = entry[1]

    @invariant()
    def law_4(self):
        for run, limit in (("a", OF_RUN), ("b", OF_RUN), (None, LIMIT)):
            account = self.budget.total if run is None else self.budget.account(run)
            assert (account.reserved, account.spent) == self.twin.sums(run)
            assert account.reserved + account.spent <= limit

    @invariant()
    def the_books_know_who_holds_what(self):
        held = {lease[-1] for lease, entry in self.twin.leases.items() if entry[2] is None}
        assert self.budget.holders() == held


Twins.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestTwins = pytest.mark.slow(Twins.TestCase)


def test_without_a_budget_everything_fits_and_is_added_up():
    budget = Budget()
    assert (budget.judge("a", 10**15), budget.judge("a", None)) == (Verdict.FITS, Verdict.FITS)
    budget.reserve("a/0#1", "x", 70)
    budget.settle("a/0#1", 50)
    assert (budget.total.spent, budget.total.reserved) == (50, 0)


def test_a_call_without_a_price_is_refused_where_a_run_has_a_budget_and_only_there():
    budget = Budget()
    budget.allow("a", 1000)
    assert (budget.judge("a", None), budget.judge("b", None)) == (Verdict.UNPRICED, Verdict.FITS)


def test_a_run_with_a_bound_of_calls_and_no_budget_needs_no_price():
    budget = Budget()
    budget.allow("a", None, 1)
    assert budget.judge("a", None) is Verdict.FITS
    budget.reserve("a/0#1", "x", 0)
    assert (budget.judge("a", None), budget.judge("b", None)) == (Verdict.LATER_IN_RUN, Verdict.FITS)
    budget.settle("a/0#1", 0)
    assert budget.judge("a", None) is Verdict.FITS


def test_what_was_spent_before_counts():
    assert Budget(1000, spent=600).judge("a", 401) is Verdict.NEVER


def test_what_costs_more_than_was_reserved_is_booked_all_the_same():
    budget = Budget(1000)
    budget.reserve("a/0#1", "x", 900)
    budget.settle("a/0#1", 1200)
    assert (budget.total.spent, budget.judge("a", 0)) == (1200, Verdict.NEVER)


def test_a_lease_is_reserved_for_once():
    budget = Budget(1000)
    for _ in range(2):
        budget.reserve("a/0#1", "x", 900)
    assert budget.total.reserved == 900


def test_the_account_of_a_run_goes_with_its_last_reservation():
    budget = Budget()
    budget.allow("a", 1000)
    budget.reserve("a/0#1", "x", 900)
    budget.close("a")
    assert budget.account("a").reserved == 900
    budget.settle("a/0#1", 10)
    assert (budget.account("a"), budget.total.spent) == (None, 10)


def test_a_run_that_has_no_account_is_closed_as_well():
    budget = Budget()
    budget.close("a")
    assert budget.account("a") is None


def test_a_new_run_of_an_old_name_has_spent_nothing_yet():
    budget = Budget()
    budget.allow("a", 1000)
    for n in range(2):
        budget.reserve(f"a/{n}#1", "x", 400)
    budget.settle("a/0#1", None)
    budget.close("a")
    budget.allow("a", 500)
    assert (budget.account("a").spent, budget.account("a").reserved) == (0, 400)


def test_what_was_reserved_before_a_run_had_a_budget_is_not_given_back_to_it():
    budget = Budget()
    budget.reserve("a/0#1", "x", 400)
    budget.allow("a", 1000)
    budget.settle("a/0#1", 10)
    assert (budget.account("a").reserved, budget.account("a").spent) == (0, 0)


# --- 64 callers at once, one dollar

DOLLAR = 1_000_000_000
CALLERS, SEEDS = 64, 200


class CheckThenAct:
    """What everybody writes: look whether there is money left, call, add up what it has cost."""

    def __init__(self, limit):
        self.limit, self.spent = limit, 0

    def may_go(self, _lease, _worst):
        return self.spent < self.limit

    def ended(self, _lease, cost):
        self.spent += cost


class Reserving:
    """The same two questions, asked of the budget."""

    def __init__(self, limit):
        self.books = Budget(limit)

    def may_go(self, lease, worst):
        if self.books.judge("run", worst) is not Verdict.FITS:
            return False
        self.books.reserve(lease, "x", worst)
        return True

    def ended(self, lease, cost):
        self.books.settle(lease, cost)

    @property
    def spent(self):
        return self.books.total.spent


def largest_bill(guard, seed):
    """Let 64 callers call in turns that the *seed* chooses until nobody may; return the most that was ever paid."""
    dice, serial, under_way, paid = Random(seed), 0, [], 0
    while True:
        asked = False
        while len(under_way) < CALLERS:
            worst = dice.randrange(1_000_000, 40_000_000)
            serial, lease = serial + 1, f"run/{serial}#1"
            if not guard.may_go(lease, worst):
                break
            asked = True
            under_way.append((lease, int(worst * dice.uniform(0.05, 1.0))))
        if not under_way and not asked:
            return paid
        for _ in range(dice.randrange(1, len(under_way) + 1)):
            lease, cost = under_way.pop(dice.randrange(len(under_way)))
            paid += cost
            guard.ended(lease, cost)


@pytest.mark.slow
def test_64_callers_never_pass_a_dollar_in_200_seeds():
    bills = [largest_bill(Reserving(DOLLAR), seed) for seed in range(SEEDS)]
    assert max(bills) <= DOLLAR
    assert sum(bills) / SEEDS > 0.9 * DOLLAR


@pytest.mark.slow
def test_the_same_callers_pass_it_in_most_seeds_where_they_check_then_act():
    bills = [largest_bill(CheckThenAct(DOLLAR), seed) for seed in range(SEEDS)]
    assert sum(bill > DOLLAR + DOLLAR // 100 for bill in bills) >= SEEDS / 2
