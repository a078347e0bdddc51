"""Costs by role, model and round: the same sums from every side, in any order; an unknown price is never nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.costs import Costs, Line, Place, Sums, book, costs_of, in_order, together

MONEY = st.none() | st.integers(-(10**9), 10**9)
SUMS = st.builds(
    Sums, calls=st.integers(0, 9), served=st.integers(0, 9), input_tokens=st.integers(0, 99), nano_usd=MONEY,
    routing=MONEY, serving=MONEY,
)  # fmt: skip
PLACES = st.builds(Place, st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from([None, 0, 1, 10]))
BOOKED = st.lists(st.tuples(PLACES, SUMS), max_size=8)


def kept(booked) -> tuple[Line, ...]:
    sums_of: dict[Place, Sums] = {}
    for place, sums in booked:
        book(sums_of, place, sums)
    return in_order(sums_of)


def added(sums) -> Sums:
    return sum(sums, Sums())


@given(BOOKED, st.randoms(use_true_random=False))
def test_the_order_of_booking_changes_nothing(booked, dice):
    assert kept(dice.sample(booked, len(booked))) == kept(booked)


@given(BOOKED)
def test_each_side_adds_up_to_the_total(booked):
    costs = costs_of(kept(booked))
    assert costs.total == added(sums for _, sums in booked)
    for table in (costs.roles, costs.models, costs.rounds):
        assert added(table.values()) == costs.total


@given(BOOKED, BOOKED)
def test_two_runs_together_cost_what_both_cost(one, other):
    apart = together([costs_of(kept(one), 3), costs_of(kept(other), 4)])
    assert apart == costs_of(kept(one + other), 7)


def test_what_belongs_to_no_round_stands_beside_the_rounds():
    costs = costs_of(kept([(Place("orchestrator", "m"), Sums(calls=1)), (Place("coder", "m", 0), Sums(calls=2))]))
    assert {key: sums.calls for key, sums in costs.rounds.items()} == {"0": 2, "none": 1}


def test_one_unknown_price_makes_its_sums_unknown_and_leaves_the_others():
    costs = costs_of(kept([(Place("a", "x"), Sums(nano_usd=None)), (Place("b", "y"), Sums(nano_usd=5))]))
    assert (costs.total.nano_usd, costs.roles["a"].nano_usd, costs.roles["b"].nano_usd) == (None, None, 5)
    assert together([costs, costs_of((), None)]).planning is None


def test_of_a_run_that_was_ended_from_outside_nothing_is_known():
    assert together([Costs(), costs_of(())]).total.nano_usd is None
