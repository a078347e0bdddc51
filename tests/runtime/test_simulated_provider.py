"""The simulated provider: a vendor's limits kept by books of its own, latencies by seed, faults as over HTTP."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chat import CallFailure, ChatMessage, ChatReply, ChatRequest
from protocol.errors import ErrorKind
from protocol.wire.profiles import DEFAULT
from runtime.config import Config
from runtime.simulated_provider import LONGEST_DRAW, NEVER, Dice, Gate, Vendor, draw, vendor_limits
from runtime.simulation_settings import VendorLimits

CALL = (1, 10, 20)
TEAM = b"""
[provider.main]
base_url = "http://127.0.0.1:9/v1"
[model.m]
provider = "main"
name = "m"
"""


def configured(text: str = "") -> Config:
    return Config.parse(TEAM + text.encode(), "a test")


def vendor(text: str = "") -> Vendor:
    return Vendor("main", configured(text), seed=1)


def request(text="Implement: a parser", **options) -> ChatRequest:
    return ChatRequest(model="m", messages=(ChatMessage(role="user", content=text),), **options)


def said(text: str = "", rolls=(0.5, 0.5, 0.5), **options):
    return vendor(text).take(request(**options), DEFAULT, 0.0, rolls)


# --- the door


@given(
    st.floats(1.0, 10_000.0),
    st.integers(1, 50),
    st.lists(st.floats(0.0, 5.0), min_size=1, max_size=80),
)
def test_in_any_window_no_more_come_in_than_burst_and_rate_allow(per_minute, burst, gaps):
    gate = Gate(VendorLimits(requests_per_minute=per_minute, burst=burst))
    now, arrivals = 0.0, []
    for gap in gaps:
        now += gap
        if gate.enter((1, 0, 0), now) == 0.0:
            arrivals.append(now)
    assert arrivals
    assert gate.used[0] == len(arrivals)
    for first, start in enumerate(arrivals):
        for last in range(first, len(arrivals)):
            allowed = burst + per_minute / 60.0 * (arrivals[last] - start)
            assert last - first + 1 <= allowed + 1e-3


@given(st.floats(1.0, 10_000.0), st.integers(1, 10))
def test_who_is_turned_away_and_comes_when_told_is_let_in_and_not_a_moment_earlier(per_minute, burst):
    gate = Gate(VendorLimits(requests_per_minute=per_minute, burst=burst))
    while not (wait := gate.enter((1, 0, 0), 0.0)):
        pass
    assert gate.used == (burst, 0, 0)
    assert gate.enter((1, 0, 0), wait * 0.9) > 0.0
    assert gate.enter((1, 0, 0), wait) == 0.0
    assert gate.refused == 2


def test_who_is_turned_away_by_one_limit_counts_for_no_other():
    gate = Gate(VendorLimits(requests_per_minute=60, burst=5, output_tokens_per_minute=200))
    assert gate.enter(CALL, 0.0) == 0.0
    assert gate.enter(CALL, 0.0) > 0.0
    assert gate.used == CALL
    assert gate.enter((1, 10, 0), 0.0) == 0.0


def test_tokens_that_were_counted_at_the_door_and_not_used_are_given_back():
    gate = Gate(VendorLimits(tokens_per_minute=300))
    assert gate.enter(CALL, 0.0) == 0.0
    assert gate.enter(CALL, 0.0) > 0.0
    gate.count((0, -10, -20))
    assert gate.enter(CALL, 0.0) == 0.0


def test_a_call_larger_than_the_burst_waits_for_a_full_level_and_leaves_a_debt():
    gate = Gate(VendorLimits(input_tokens_per_minute=600))
    assert gate.enter((1, 100, 0), 0.0) == 0.0
    assert gate.enter((1, 1, 0), 0.0) == pytest.approx((100 - 60 + 1) / 10.0)


def test_too_many_in_flight_are_turned_away_until_one_has_left():
    gate = Gate(VendorLimits(concurrency=1))
    assert gate.enter(CALL, 0.0) == 0.0
    assert gate.enter(CALL, 1.0) == 1.0
    gate.leave(2.0)
    assert gate.enter(CALL, 2.0) == 0.0
    gate.leave(5.0)
    assert gate.flight_seconds == 5.0


# --- what a vendor enforces


def test_a_vendor_enforces_what_limits_say_save_for_the_concurrency_which_is_our_own_choice():
    config = configured("[limits.main]\nrequests_per_minute = 60\nburst = 3\nconcurrency = 4")
    assert vendor_limits(config, "main") == VendorLimits(requests_per_minute=60, burst=3)


def test_a_vendor_of_which_nothing_is_said_enforces_nothing():
    assert vendor_limits(configured(), "main") == VendorLimits()


def test_what_is_said_of_the_vendor_itself_takes_the_place_of_that():
    config = configured("[limits.main]\nrequests_per_minute = 60\n[simulation.limits.main]\nconcurrency = 2")
    assert vendor_limits(config, "main") == VendorLimits(concurrency=2)


def test_a_model_with_limits_of_its_own_counts_behind_a_door_of_its_own():
    narrow = vendor('[simulation.limits."main/m"]\nrequests_per_minute = 60\nburst = 1')
    assert [narrow.take(request(), DEFAULT, 0.0, (0.5, 0.5, 0.5)).gate for _ in range(2)] == [
        narrow.gates["main/m"],
        None,
    ]
    assert narrow.gates["main"].used == (0, 0, 0)


@pytest.mark.parametrize(("hints", "hint"), [("true", pytest.approx(1.0, abs=1e-3)), ("false", None)])
def test_a_429_says_when_to_come_again_unless_told_not_to(hints, hint):
    limited = vendor(f"[limits.main]\nrequests_per_minute = 60\nburst = 1\n[simulation]\nretry_after = {hints}")
    limited.take(request(), DEFAULT, 0.0, (0.5, 0.5, 0.5))
    outcome, seconds, _ = limited.take(request(), DEFAULT, 0.0, (0.5, 0.5, 0.5))
    assert (outcome.kind, outcome.status, outcome.retry_after) == (ErrorKind.RATE_LIMITED, 429, hint)
    assert seconds == 0.05
    assert limited.statuses == {200: 1, 429: 1}


# --- what it says, and when


def test_the_scripted_team_answers_and_its_tokens_are_counted():
    reply, _, gate = said()
    assert "def do_a_parser" in reply.text
    assert reply.finish_reason == "stop"
    assert gate.used == (1, reply.usage.input_tokens, reply.usage.output_tokens)


def test_a_reply_takes_its_latency_and_the_time_of_its_tokens():
    reply, seconds, _ = said(
        "[simulation]\nlatency = 2.0\nper_output_token = 0.5\njitter = 4.0", rolls=(0.9, 0.5, 0.25)
    )
    assert seconds == pytest.approx(2.0 + 0.5 * reply.usage.output_tokens + 1.0)


FAULT = (
    "[simulation.faults]\n{} = 1.0\nhint = 7.0\nslow_factor = 3.0\n[simulation]\nlatency = 1.0\nper_output_token = 0.0"
)


@pytest.mark.parametrize(
    ("fault", "kind", "status", "hint"),
    [
        ("throttled", ErrorKind.RATE_LIMITED, 429, 7.0),
        ("throttled_without_hint", ErrorKind.RATE_LIMITED, 429, None),
        ("server_error", ErrorKind.SERVER_ERROR, 500, None),
        ("malformed", ErrorKind.BAD_RESPONSE, 200, None),
        ("timeout", ErrorKind.TIMEOUT, None, None),
    ],
)
def test_a_fault_is_the_failure_that_it_would_be_over_http_and_bills_nothing(fault, kind, status, hint):
    faulty = vendor(FAULT.format(fault))
    outcome, _, gate = faulty.take(request(), DEFAULT, 0.0, (0.5, 0.5, 0.5))
    assert isinstance(outcome, CallFailure)
    assert (outcome.kind, outcome.status, outcome.retry_after) == (kind, status, hint)
    assert gate.used == (1, 0, 0)
    assert faulty.faults == {fault: 1}


def test_a_truncated_reply_is_half_a_text():
    reply, _, _ = said(FAULT.format("truncated"))
    assert isinstance(reply, ChatReply)
    assert reply.finish_reason == "length"
    assert said()[0].text.startswith(reply.text)


def test_a_slow_reply_takes_longer_and_a_timeout_for_ever():
    assert said(FAULT.format("slow"))[1] == pytest.approx(3.0)
    assert said(FAULT.format("timeout"))[1] == NEVER


def test_faults_come_in_their_shares():
    faulty = vendor("[simulation.faults]\nserver_error = 0.25\nslow = 0.5")
    for n in range(100):
        faulty.take(request(), DEFAULT, 0.0, (n / 100, 0.5, 0.5))
    assert faulty.faults == {"server_error": 25, "slow": 50}


# --- the dice


def test_a_seed_and_an_address_give_the_same_dice_and_others_other_ones():
    deals = [Dice(seed, address).deal() for seed, address in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))]
    assert deals[0] == deals[1]
    assert len(set(deals)) == 3


def test_what_the_dice_of_seed_1_deal_is_the_same_in_every_version():
    assert Dice(1, "caller/main/0").deal() == (0.7507643030065664, 0.2976436397386266, 0.280487822995925)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0, exclude_max=True))
def test_a_draw_is_a_factor_of_median_one_that_grows_with_the_roll(spread, roll):
    assert draw(spread, 0.5) == 1.0
    assert draw(0.0, roll) == 1.0
    assert 0.0 <= draw(spread, roll) <= LONGEST_DRAW
    assert draw(spread, roll / 2) <= draw(spread, roll)


def test_draws_stray_as_the_docstring_says():
    quantiles = [round(draw(1.0, roll), 2) for roll in (0.25, 0.75, 0.95, 0.99)]
    assert quantiles == [0.76, 1.32, 2.09, 3.15]
    assert draw(0.5, 0.95) == 1.0 + 0.5 * (sqrt(sqrt(0.95 / (1.0 - 0.95))) - 1.0)
    assert Counter(draw(1.0, n / 1000) > 2.0 for n in range(1000))[True] == 58
