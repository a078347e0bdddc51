"""The concurrency limit: one cut per epoch by overload and timeouts, back in a few rounds, never out of its bounds."""

from __future__ import annotations

from math import floor, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.policies.aimd import OVERLOAD_CUT, TIMEOUT_CUT, Aimd, AimdLimits
from tests.protocol.vendor import Client, Loop, Storm, Vendor, drawn


def succeed(aimd, times, in_flight=10**6):
    for _ in range(times):
        aimd.on_success(aimd.epoch, in_flight)


def grown_to(limit):
    return Aimd(AimdLimits(first=limit))


def test_without_a_cut_a_round_of_successes_doubles_the_limit():
    aimd = Aimd(AimdLimits(first=8))
    succeed(aimd, 8)
    assert aimd.limit == 16


def test_above_the_threshold_a_round_of_successes_adds_one():
    aimd = grown_to(100)
    aimd.on_overload(aimd.epoch)
    succeed(aimd, 71)
    assert aimd.limit == 71


@pytest.mark.parametrize(("in_flight", "limit"), [(3, 8), (4, 9)])
def test_only_a_limit_that_is_used_grows(in_flight, limit):
    aimd = Aimd(AimdLimits(first=8))
    aimd.on_success(0, in_flight)
    assert aimd.limit == limit


@pytest.mark.parametrize(("cut", "share"), [(Aimd.on_overload, OVERLOAD_CUT), (Aimd.on_timeout, TIMEOUT_CUT)])
def test_overload_cuts_deep_and_a_timeout_mildly(cut, share):
    aimd = grown_to(100)
    cut(aimd, aimd.epoch)
    assert aimd.limit == floor(100 * share)


def test_twenty_failures_of_one_epoch_are_one_cut():
    aimd = grown_to(100)
    epoch = aimd.epoch
    for _ in range(20):
        aimd.on_overload(epoch)
    assert (aimd.limit, aimd.epoch) == (70, 1)


def test_a_success_from_before_the_cut_says_nothing_of_the_new_limit():
    aimd = grown_to(100)
    aimd.on_overload(0)
    for _ in range(500):
        aimd.on_success(0, 100)
    assert aimd.limit == 70


def test_an_outage_leaves_the_threshold_and_the_way_back_is_short():
    aimd = grown_to(100)
    for _ in range(30):
        aimd.on_overload(aimd.epoch)
    assert (aimd.limit, aimd.threshold) == (1, 70.0)
    succeed(aimd, 69)
    assert aimd.limit == 70


def test_a_smaller_endpoint_brings_the_threshold_down():
    aimd = grown_to(100)
    for _ in range(10):
        aimd.on_overload(aimd.epoch)
        succeed(aimd, 3)
    assert aimd.threshold < 20.0


def test_a_cut_on_the_way_back_after_calls_have_succeeded_brings_the_threshold_down():
    aimd = grown_to(100)
    for _ in range(8):
        aimd.on_overload(aimd.epoch)
    succeed(aimd, 25)
    limit = aimd.limit
    aimd.on_overload(aimd.epoch)
    assert (limit < 40, aimd.threshold) == (True, pytest.approx(0.7 * limit, abs=1.0))


def test_slow_start_stops_at_the_threshold():
    aimd = grown_to(100)
    for _ in range(3):
        aimd.on_overload(aimd.epoch)
    succeed(aimd, 200)
    assert 70 <= aimd.limit <= 73


@pytest.mark.parametrize(("first", "most", "limit"), [(8, 256, 8), (64, 10, 10)])
def test_it_starts_within_what_is_configured(first, most, limit):
    aimd = Aimd(AimdLimits(first=first, most=most))
    assert aimd.limit == limit


class Twin:
    """The dumb twin: the whole story is told again from the start for every question."""

    def __init__(self, rules):
        self.rules, self.story = rules, []

    def read(self):
        limit, threshold, epoch, proved = float(min(self.rules.first, self.rules.most)), inf, 0, False
        for what, when, in_flight in self.story:
            if when != epoch:
                continue
            if what == "success":
                proved = True
                if in_flight >= limit / 2:
                    limit = min(limit + (1 if limit < threshold else 1 / limit), float(self.rules.most))
            else:
                outage = threshold < inf and limit <= threshold and not proved
                limit = max(float(self.rules.least), limit * (0.7 if what == "overload" else 0.9))
                threshold = threshold if outage else limit
                epoch, proved = epoch + 1, False
        return floor(limit), epoch


class Law(RuleBasedStateMachine):
    """Calls are let go up to the limit and end in any order and way."""

    def __init__(self):
        super().__init__()
        self.rules = AimdLimits(first=6, least=2, most=30)
        self.aimd, self.twin, self.out = Aimd(self.rules), Twin(self.rules), []

    @rule()
    def fill(self):
        while len(self.out) < self.aimd.limit:
            self.out.append(self.aimd.epoch)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 40), how=st.sampled_from(["success", "success", "overload", "timeout", "other"]))
    def end(self, which, how):
        in_flight = len(self.out)
        epoch = self.out.pop(which % in_flight)
        if how == "success":
            self.aimd.on_success(epoch, in_flight)
        elif how == "overload":
            self.aimd.on_overload(epoch)
        elif how == "timeout":
            self.aimd.on_timeout(epoch)
        if how != "other":
            self.twin.story.append((how, epoch, in_flight))

    @precondition(lambda self: self.out)
    @rule(how=st.sampled_from(["success", "overload"]))
    def end_all(self, how):
        while self.out:
            self.end(0, how)

    @invariant()
    def it_is_what_the_twin_says_and_within_its_bounds(self):
        assert (self.aimd.limit, self.aimd.epoch) == self.twin.read()
        assert self.rules.least <= self.aimd.limit <= self.rules.most


Law.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestLaw = Law.TestCase


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["success", "overload", "timeout"]), max_size=60))
def test_no_story_takes_it_out_of_its_bounds(story):
    aimd = Aimd(AimdLimits(first=5, least=2, most=20))
    for what in story:
        if what == "success":
            aimd.on_success(aimd.epoch, 20)
        else:
            (aimd.on_overload if what == "overload" else aimd.on_timeout)(aimd.epoch)
        assert 2 <= aimd.limit <= 20


def closed_loop(seed, capacity, *, seconds, storms=()):
    terms = drawn(seed, rate=1e5, burst=1e5, capacity=capacity, service=0.3, storms=storms)
    vendor, client = Vendor(terms), Client(terms, aimd=AimdLimits())
    Loop(client, vendor, seed, calls=10**6, agents=200, until=seconds).run()
    return vendor, client


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", [12, 40])
def test_a_server_of_unknown_capacity_is_used_to_seven_tenths_and_seldom_overrun(seed, capacity):
    vendor, client = closed_loop(seed, capacity, seconds=15.0)
    served, refused = vendor.served(5.0, 15.0), vendor.statuses(5.0, 15.0).count(529)
    most = capacity * 10.0 / (vendor.terms.service * 1.083)
    assert served >= 0.7 * most
    assert refused <= 0.05 * served
    assert client.aimd.limit <= 1.6 * capacity


def test_after_an_outage_of_ten_seconds_the_limit_is_back_within_three():
    vendor, _ = closed_loop(1, 40, seconds=22.0, storms=(Storm(5.0, 15.0, 529),))
    before, after = vendor.served(2.0, 5.0), vendor.served(18.0, 21.0)
    assert after >= 0.75 * before
    assert vendor.statuses(6.0, 15.0).count(529) <= 9.0 / (2 * vendor.terms.way)  # one at a time
