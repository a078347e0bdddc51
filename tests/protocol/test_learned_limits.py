"""Headers teach the limit and lower the level; nonsense teaches nothing, and one odd reply does not make it flap."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.policies.learned_limits import CONFIRM, MOST, Known, LearnedLimits, Lesson
from protocol.wire.hints import Counted, Window, windows_of


def counted(resource="requests", limit=None, remaining=None, reset=None, period=60.0):
    return Counted(resource, Window(limit=limit, remaining=remaining, reset=reset, period=period))


def taught(*replies):
    learned = LearnedLimits()
    for windows in replies:
        learned.on_headers(windows)
    return learned


def test_the_first_reply_teaches_limit_and_remainder():
    lessons = LearnedLimits().on_headers([counted(limit=3000, remaining=7)])
    assert lessons == (Lesson("requests", 50.0, 7),)


def test_each_resource_gets_its_own_lesson():
    windows = [counted("requests", 600), counted("tokens", 60000, 5), counted("input_tokens", None, 3)]
    assert LearnedLimits().on_headers(windows) == (
        Lesson("requests", 10.0, None),
        Lesson("tokens", 1000.0, 5),
        Lesson("input_tokens", None, 3),
    )


def test_of_several_windows_the_slowest_is_the_rate_and_the_least_is_left():
    windows = [counted(limit=10, remaining=9, period=1.0), counted(limit=300, remaining=4), counted(limit=900)]
    assert LearnedLimits().on_headers(windows) == (Lesson("requests", 5.0, 4),)


def test_of_several_windows_the_slowest_is_the_rate_whatever_their_order():
    windows = [counted(limit=300), counted(limit=10, period=1.0)]
    assert LearnedLimits().on_headers(windows) == (Lesson("requests", 5.0, None),)


def test_of_two_limits_of_one_length_the_lower_is_believed():
    windows = [counted("tokens", 90000, 80000), counted("tokens", 60000, 59000)]
    assert LearnedLimits().on_headers(windows) == (Lesson("tokens", 1000.0, 59000),)


def test_a_day_s_quota_does_not_pace_but_what_is_left_of_it_counts():
    learned = LearnedLimits()
    assert learned.on_headers([counted(limit=1000, remaining=3, period=86400.0)]) == (Lesson("requests", None, 3),)
    assert learned.known() == (Known("requests", 1000, 86400.0),)


@pytest.mark.parametrize(
    ("remaining", "reset", "burst"),
    [
        (200, 0.0, 200.0),
        (150, 1.0, 250.0),
        (5999, 1.0, 6000.0),
        (0, 3.0, None),
        (None, 3.0, None),
        (100, None, None),
        (100, -1.0, None),
        (100, float("nan"), None),
    ],
)
def test_what_is_left_and_what_comes_back_until_the_reset_are_what_may_go_at_once(remaining, reset, burst):
    (lesson,) = LearnedLimits().on_headers([counted(limit=6000, remaining=remaining, reset=reset)])
    assert lesson == Lesson("requests", 100.0, remaining, burst)


def test_the_least_that_may_go_at_once_counts_until_the_limit_changes():
    learned = LearnedLimits()
    bursts = [
        learned.on_headers([counted(limit=limit, remaining=remaining, reset=0.0)])[0].burst
        for limit, remaining in [(6000, 300), (6000, 200), (6000, 400), (60, 9), (60, 9), (60, 9)]
    ]
    assert bursts == [300.0, 200.0, 200.0, 200.0, 200.0, 9.0]


@pytest.mark.parametrize("limit", [0, -5, 10**13, None])
def test_what_is_no_limit_teaches_no_rate(limit):
    assert LearnedLimits().on_headers([counted(limit=limit, remaining=1)])[0].rate is None


@pytest.mark.parametrize("period", [0.0, 1e-9, 1e12, float("inf"), float("nan")])
def test_what_is_no_period_teaches_no_rate(period):
    assert LearnedLimits().on_headers([counted(limit=5, period=period)])[0].rate is None


def test_more_than_the_limit_is_not_left():
    assert LearnedLimits().on_headers([counted(limit=60, remaining=10**9)])[0].remaining == 60


def test_a_new_limit_is_believed_when_it_has_been_said_three_times_in_a_row():
    learned, rates = taught([counted(limit=3000)]), []
    for _ in range(CONFIRM):
        learned.on_headers([counted(limit=600)])
        rates.append(learned.rate("requests"))
    assert rates == [50.0, 50.0, 10.0]


def test_a_limit_that_flaps_is_not_followed():
    learned = taught([counted(limit=3000)], *[[counted(limit=1)], [counted(limit=3000)]] * 20)
    assert learned.rate("requests") == 50.0


@pytest.mark.parametrize(("limit", "period"), [(3000, 60.0), (50, 1.0), (14400, 86400.0), (1000, 3600.0), (600, 10.0)])
def test_a_period_that_is_not_said_is_learned_from_the_refill(limit, period):
    learned, dice = LearnedLimits(), random.Random(4)
    for _ in range(CONFIRM):
        left = dice.randint(0, limit - 1)
        learned.on_headers([counted(limit=limit, remaining=left, reset=period * (limit - left) / limit, period=None)])
    assert learned.known() == (Known("requests", limit, period),)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [(20, 5, 59.0), (20, 20, 60.0), (20, None, 60.0), (20, 5, None), (None, 5, 60.0), (20, 30, 60.0), (20, 19, 1e-9)],
)
def test_a_period_that_fits_nothing_is_not_learned(limit, remaining, reset):
    window = counted(limit=limit, remaining=remaining, reset=reset, period=None)
    assert taught(*[[window]] * 5).known() == ()


def test_the_end_of_a_fixed_window_is_no_refill():
    learned = LearnedLimits()
    for second in range(1, 60):
        learned.on_headers([counted(limit=100, remaining=90 - second, reset=60.0 - second, period=None)])
    assert learned.known() == ()


@pytest.mark.parametrize(
    ("windows", "resource"),
    [
        ([], None),
        ([counted(remaining=1)], None),
        ([counted(remaining=0)], "requests"),
        ([counted(remaining=0, reset=1.0), counted("tokens", remaining=0, reset=9.0)], "tokens"),
        ([counted(remaining=0, reset=1.0), counted("tokens", remaining=0)], "requests"),
    ],
)
def test_what_is_exhausted_is_to_blame(windows, resource):
    assert LearnedLimits.exhausted(windows) == resource


def test_so_many_windows_and_no_more_are_remembered():
    learned = taught([counted(f"kind {n}", limit=60) for n in range(3 * MOST)], [counted("kind 0", limit=60)])
    assert len(learned.known()) == MOST


COUNT = st.one_of(st.none(), st.integers(-(10**20), 10**20))
TIME = st.one_of(st.none(), st.floats())


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(COUNT, COUNT, TIME, TIME), max_size=3), max_size=8))
def test_whatever_is_said_a_taught_rate_is_a_rate(replies):
    learned = LearnedLimits()
    for reply in replies:
        for lesson in learned.on_headers([counted("requests", *said) for said in reply]):
            assert lesson.rate is None or 0.0 < lesson.rate <= 1e15


class Twin:
    """The dumb twin: keeps all replies and reads them from the start."""

    def __init__(self):
        self.said = []

    def rate(self):
        believed = None
        for index, limit in enumerate(self.said):
            if believed is None or self.said[max(0, index - CONFIRM + 1) : index + 1] == [limit] * CONFIRM:
                believed = limit
        return believed and believed / 60.0


@settings(max_examples=60)
@given(st.lists(st.sampled_from([60, 120, 600]), max_size=30))
def test_it_believes_what_the_twin_believes(limits):
    learned, twin = LearnedLimits(), Twin()
    for limit in limits:
        learned.on_headers([counted(limit=limit)])
        twin.said.append(limit)
        assert learned.rate("requests") == twin.rate()


def test_the_reader_of_headers_and_this_fit_together():
    headers = {
        "x-ratelimit-limit-requests": "3000",
        "x-ratelimit-remaining-requests": "12",
        "anthropic-ratelimit-input-tokens-limit": "60000",
    }
    assert LearnedLimits().on_headers(windows_of(headers, 0.0)) == (
        Lesson("requests", 50.0, 12),
        Lesson("input_tokens", 1000.0, None),
    )
