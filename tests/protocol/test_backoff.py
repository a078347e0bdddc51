"""Waits before a retry: random below a growing, capped ceiling; never less than the provider asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.backoff import Backoff

ROLLS = st.floats(0.0, 1.0, exclude_max=True)


@given(n=st.integers(0, 5000), roll=ROLLS)
def test_a_delay_lies_between_nothing_and_the_capped_exponential(n, roll):
    backoff = Backoff(base=0.5, factor=2.0, cap=30.0)
    assert 0.0 <= backoff.delay(n, roll) <= min(30.0, 0.5 * 2.0 ** min(n, 100))


@given(n=st.integers(0, 20), roll=ROLLS, hint=st.floats(0.001, 1000.0))
def test_a_hint_is_a_floor_with_at_most_a_tenth_or_a_second_on_top(n, roll, hint):
    assert hint <= Backoff().delay(n, roll, hint) <= hint + min(1.0, hint / 10) + 1e-9


def test_jitter_is_full():
    backoff = Backoff(base=1.0, factor=2.0, cap=8.0)
    assert [backoff.delay(n, 0.5) for n in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]


def test_a_hint_is_jittered_too():
    assert Backoff().delay(0, 0.5, 4.0) == pytest.approx(4.2)


def test_a_hint_of_nothing_is_no_hint():
    assert Backoff(base=1.0).delay(0, 0.5, 0.0) == 0.5


def test_any_number_of_tries_has_a_ceiling():
    assert Backoff(cap=30.0).ceiling(100_000) == 30.0
