"""Restart intensity: five in thirty seconds, then stop; the backoff forgets only after a healthy period."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.restarts import GiveUp, Restart, RestartLimit, at_once_then_doubling


def fail_at(limit, *instants):
    """Return the verdicts on failures at these instants."""
    return [limit.judge(instants[: n + 1], at) for n, at in enumerate(instants)]


def test_so_many_restarts_are_allowed_and_not_one_more():
    verdicts = fail_at(RestartLimit(times=3, within=30.0), 1.0, 2.0, 3.0, 4.0)
    assert [type(v) for v in verdicts] == [Restart, Restart, Restart, GiveUp]


def test_failures_before_the_window_do_not_count():
    assert all(isinstance(v, Restart) for v in fail_at(RestartLimit(times=2, within=10.0), *range(0, 200, 6)))


def test_the_backoff_grows_while_no_healthy_period_lies_between():
    verdicts = fail_at(RestartLimit(times=9, within=30.0), 0.0, 1.0, 2.0, 3.0)
    assert verdicts == [Restart(0.0), Restart(0.1), Restart(0.2), Restart(0.4)]


def test_the_backoff_starts_afresh_after_a_healthy_period_only():
    verdicts = fail_at(RestartLimit(times=9, within=30.0), 0.0, 1.0, 30.9, 60.9, 61.0)
    assert verdicts == [Restart(0.0), Restart(0.1), Restart(0.2), Restart(0.0), Restart(0.1)]


def test_the_reason_says_how_often_and_what_is_allowed():
    assert fail_at(RestartLimit(times=1, within=30.0), 1.0, 2.0)[-1] == GiveUp(
        "failed 2 times within 30 s, 1 are allowed"
    )


def test_a_backoff_of_ones_own_is_asked():
    assert fail_at(RestartLimit(backoff=lambda n: 7.0 + n), 0.0, 1.0) == [Restart(7.0), Restart(8.0)]


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=30), st.integers(0, 4))
def test_no_window_ever_sees_more_restarts_than_allowed(gaps, times):
    limit, now, failures, restarts = RestartLimit(times=times, within=30.0), 0.0, (), []
    for gap in gaps:
        now += gap
        failures = (*failures, now)
        if isinstance(limit.judge(failures, now), GiveUp):
            break
        restarts.append(now)
    assert all(sum(start <= at < start + 30.0 for at in restarts) <= times for start in restarts)


def test_a_limit_is_a_value():
    assert RestartLimit() == RestartLimit(times=5, within=30.0)
    with pytest.raises(AttributeError):
        RestartLimit().times = 6


@pytest.mark.parametrize(("n", "seconds"), [(0, 0.0), (1, 0.1), (4, 0.8), (7, 5.0), (5000, 5.0)])
def test_the_built_in_backoff_is_at_once_then_doubling_up_to_five_seconds(n, seconds):
    assert at_once_then_doubling(n) == pytest.approx(seconds)
