"""No window of a day holds more than the quota, and all of it may be used at once."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.policies.quota import DAY, PARTS, Quota

WINDOW = 960.0
"""A short day of the tests: parts of ten seconds."""


@settings(max_examples=100)
@given(
    moves=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.5, 9.0, 77.0, 500.0]),
            st.sampled_from(["take", "take", "refund"]),
            st.integers(1, 6),
        ),
        max_size=60,
    )
)
def test_no_window_holds_more_than_the_limit_whatever_is_given_back(moves):
    quota, now, taken = Quota(10.0, WINDOW), 123.4, []
    for step, move, cost in moves:
        now += step
        if move == "take" and quota.wait(cost, now) == 0.0:
            quota.take(cost, now)
            taken += [now] * cost
        elif move == "refund" and taken:
            quota.refund(1.0)
            taken.pop()  # what was taken last reached no server
        for start in taken:
            assert sum(start <= at < start + WINDOW for at in taken) <= 10


@given(takes=st.lists(st.tuples(st.sampled_from([0.0, 3.0, 50.0, 400.0]), st.integers(1, 4)), max_size=30))
def test_the_wait_it_names_is_enough_and_not_a_part_too_long(takes):
    quota, now, taken = Quota(10.0, WINDOW), 0.0, []
    for step, cost in takes:
        now += step
        wait = quota.wait(cost, now)
        if wait > 0.0:
            assert quota.wait(cost, now + wait) == 0.0
            soonest = sorted(taken)[len(taken) - (10 - cost) - 1] + WINDOW
            assert now + wait <= soonest + WINDOW / PARTS + 1e-3
            now += wait
        quota.take(cost, now)
        taken = [at for at in [*taken, *[now] * cost] if at > now - WINDOW - WINDOW / PARTS]


def test_all_of_it_may_be_used_at_once_and_is_there_again_a_day_later():
    quota = Quota(1000.0)
    assert quota.wait(1000.0, 5.0) == 0.0
    quota.take(1000.0, 5.0)
    assert quota.left(5.0) == 0.0
    wait = quota.wait(1.0, 5.0)
    assert DAY <= wait <= DAY + DAY / PARTS
    assert quota.wait(1000.0, 5.0 + wait) == 0.0


def test_what_is_above_the_limit_can_never_fit():
    quota = Quota(10.0)
    assert (quota.can_ever_fit(10.0), quota.can_ever_fit(10.5), quota.wait(11.0, 0.0)) == (True, False, inf)


def test_what_costs_nothing_never_waits():
    quota = Quota(1.0)
    quota.take(1.0, 0.0)
    assert quota.wait(0.0, 0.0) == 0.0


def test_a_refund_of_more_than_was_taken_leaves_a_full_quota():
    quota = Quota(10.0)
    quota.take(3.0, 0.0)
    quota.refund(7.0)
    assert quota.left(0.0) == 10.0


def test_after_a_restart_it_comes_back_part_by_part():
    quota = Quota(960.0, WINDOW)
    quota.spread(5000.0)
    assert quota.wait(1.0, 5000.0) == pytest.approx(10.0, abs=0.001)
    assert quota.left(5010.1) == pytest.approx(10.0)
    assert quota.left(5000.0 + WINDOW + 10.1) == pytest.approx(960.0)
