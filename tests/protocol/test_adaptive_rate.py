"""The rate adapts: blocks, probes, one cut per epoch, growth back, and what was learned; alone and in closed loops."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.policies.adaptive_rate import (
    BLIND_CUT,
    LONGEST,
    PAUSES,
    SHORTEST,
    TICK,
    AdaptiveRate,
    Learned,
    Phase,
    RateSettings,
    Source,
)
from protocol.policies.hidden_bucket import Inferred, infer
from tests.protocol.vendor import Client, Loop, Vendor, drawn, judge, weather

NOW = 100.0


def blind(history, **options):
    """Infer nothing."""


def finds(rate, burst=10.0, *, explained=True, spread=1.0):
    return lambda history, **options: Inferred(rate, burst, explained=explained, spread=spread)


def run_for(rate, seconds, now=NOW, *, answer=True):
    """Let go whatever may go for so long, each with a success at once; return how many went."""
    went, end = 0, now + seconds
    while now <= end:
        wait = rate.wait(now)
        if wait == 0.0:
            went += 1
            passed = rate.on_granted(now)
            if answer:
                rate.on_success(passed, now)
        else:
            now += wait
    return went


def refused(rate, now=NOW, hint=1.0, roll=0.0, took=0.01):
    rate.on_throttled(rate.on_granted(now), now + took, hint, roll)
    return now + took


def recovered(rate, now=NOW, hint=1.0):
    """Refuse a call, and let the probe after the block succeed; return when."""
    now = refused(rate, now, hint) + hint
    rate.on_success(rate.on_granted(now), now)
    return now


# --- the start


def test_what_is_configured_is_used_at_once_and_in_full():
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    assert run_for(rate, 10.0) == pytest.approx(509, abs=1)
    assert rate.learned() == Learned(50.0, 10.0, Source.CONFIGURED)


def test_without_knowledge_it_starts_carefully_and_each_success_adds_to_the_rate():
    rate = AdaptiveRate(infer)
    assert (rate.rate, rate.learned()) == (30.0, Learned(None, None, Source.NOTHING))
    first = rate.on_granted(NOW)
    second = rate.on_granted(NOW)
    rate.on_success(first, NOW)
    assert rate.rate == 30.0  # nobody was held back
    rate.on_success(second, NOW)
    assert rate.rate == 32.0


def test_without_knowledge_a_second_holds_few_more_calls_than_the_start_when_no_answer_comes():
    assert run_for(AdaptiveRate(infer), 1.0, answer=False) <= 32


def test_a_rate_that_nobody_needs_does_not_grow():
    rate = AdaptiveRate(infer)
    for second in range(100):
        rate.on_success(rate.on_granted(NOW + second), NOW + second + 0.5)
    assert rate.rate == 30.0


# --- what headers teach


def test_a_taught_limit_is_used_at_once():
    rate = AdaptiveRate(infer)
    rate.teach(200.0)
    assert (rate.rate, rate.learned()) == (198.0, Learned(200.0, None, Source.HEADERS))


@pytest.mark.parametrize("limit", [0.0, -1.0, nan, inf])
def test_what_is_no_rate_teaches_nothing(limit):
    rate = AdaptiveRate(infer)
    rate.teach(limit)
    assert rate.learned().source is Source.NOTHING


@pytest.mark.parametrize(("taught", "used", "source"), [(20.0, 19.8, "headers"), (500.0, 50.0, "configured")])
def test_headers_bring_a_configured_limit_down_and_never_up(taught, used, source):
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    rate.teach(taught)
    assert (rate.rate, rate.learned().source) == (used, source)


def test_headers_do_not_call_off_a_slow_start_after_an_outage():
    rate = AdaptiveRate(finds(50.0))
    now = refused(rate)
    for hint in (1.0, 5.0):
        now = refused(rate, rate.blocked_until + TICK, hint)
    now = rate.blocked_until
    rate.on_success(rate.on_granted(now), now)
    rate.teach(60.0)
    assert rate.phase is Phase.SLOW


def test_what_is_left_lowers_the_level():
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    passed = rate.on_granted(NOW)
    rate.on_remaining(passed, 2.0, NOW)
    assert rate.level(NOW) == 2.0


def test_what_is_left_never_raises_the_level():
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    passed = [rate.on_granted(NOW) for _ in range(9)]
    rate.on_remaining(passed[-1], 1000.0, NOW)
    assert rate.level(NOW) == 0.0


def test_what_went_since_is_taken_off_and_what_came_back_since_is_added():
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    first, *_ = [rate.on_granted(NOW) for _ in range(4)]
    rate.on_remaining(first, 5.0, NOW)
    assert rate.level(NOW) == 2.0
    rate.on_remaining(first, 0.0, NOW + 0.1)
    assert rate.level(NOW + 0.1) == pytest.approx(0.0 + 5.0 - 3.0)


def test_an_absurd_remainder_costs_no_more_than_a_burst():
    rate = AdaptiveRate(infer)
    rate.on_remaining(rate.on_granted(NOW), -1e9, NOW)
    assert rate.wait(NOW) < 0.1


# --- blocks and probes


def test_a_refusal_blocks_everybody_until_its_hint():
    rate = AdaptiveRate(infer)
    now = refused(rate, hint=5.0)
    assert rate.wait(now) == pytest.approx(5.0 + TICK)
    assert rate.wait(now + 5.0 + TICK) == 0.0


@pytest.mark.parametrize(
    ("hint", "roll", "pause"),
    [
        (None, 0.0, PAUSES[0]),
        (None, 1.0, 1.1 * PAUSES[0]),
        (5.0, 1.0, 5.5),
        (40.0, 1.0, 41.0),
        (0.0, 0.0, SHORTEST),
        (-3.0, 0.0, SHORTEST),
        (1e18, 0.5, LONGEST),
    ],
)
def test_a_block_is_the_hint_and_a_little_chance_or_a_short_pause_and_within_bounds(hint, roll, pause):
    rate = AdaptiveRate(infer)
    now = refused(rate, hint=hint, roll=roll)
    assert rate.blocked_until - now == pytest.approx(pause)


def test_a_refusal_of_the_same_storm_can_but_name_a_later_end():
    rate = AdaptiveRate(infer)
    passed = [rate.on_granted(NOW) for _ in range(4)]
    for one, hint in zip(passed, (1.0, 3.0, 0.5, None), strict=True):
        rate.on_throttled(one, NOW, hint, 0.0)
    assert (rate.cuts, rate.epoch, rate.blocked_until) == (1, 1, NOW + 3.0)


def test_a_straggler_that_comes_after_the_block_changes_nothing():
    rate = AdaptiveRate(finds(50.0))
    late = rate.on_granted(NOW)
    now = recovered(rate)
    before = (rate.epoch, rate.rate, rate.wait(now))
    rate.on_throttled(late, now, 9.0, 0.0)
    assert (rate.epoch, rate.rate, rate.wait(now)) == before


def test_after_the_block_one_probe_goes_and_the_others_wait_for_it():
    rate = AdaptiveRate(infer)
    now = refused(rate, hint=2.0) + 2.0
    probe = rate.on_granted(now)
    assert probe.probe
    assert rate.wait(now) == pytest.approx(SHORTEST + TICK)
    rate.on_success(probe, now + 0.05)
    assert rate.wait(now + 0.2) == 0.0


def test_a_probe_that_is_not_turned_away_in_time_has_passed():
    rate = AdaptiveRate(infer)
    now = refused(rate, hint=2.0, took=0.2) + 2.0
    rate.on_granted(now)
    wait = rate.wait(now)
    assert wait == pytest.approx(3 * 0.2 + TICK)
    assert rate.wait(now + wait) == 0.0
    rate.on_granted(now + wait)
    assert rate.phase is Phase.CUBIC


def test_a_probe_that_is_turned_away_after_it_seemed_to_have_passed_blocks_again_and_cuts_nothing():
    rate = AdaptiveRate(finds(50.0))
    now = refused(rate, hint=2.0) + 2.0
    probe = rate.on_granted(now)
    rate.on_granted(now + 0.5)
    rate.on_throttled(probe, now + 0.6, 2.0, 0.0)
    assert (rate.cuts, rate.wait(now + 0.6)) == (1, pytest.approx(2.0 + TICK))
    rate.on_success(rate.on_granted(now + 2.7), now + 2.7)
    assert rate.learned().rate == 50.0


def test_a_failing_probe_cuts_nothing_and_the_next_comes_later_each_time():
    rate = AdaptiveRate(finds(50.0))
    now, pauses = refused(rate, hint=None), []
    for _ in range(6):
        now = refused(rate, rate.blocked_until, hint=None)
        pauses.append(rate.blocked_until - now)
    assert pauses == pytest.approx([*PAUSES[1:], PAUSES[-1], PAUSES[-1]])
    assert rate.cuts == 1


def test_a_success_from_before_the_storm_does_not_hasten_the_probes():
    rate = AdaptiveRate(finds(50.0))
    early = rate.on_granted(NOW)
    refused(rate)
    for _ in range(2):
        now = refused(rate, rate.blocked_until, hint=None)
    rate.on_success(early, now)
    now = refused(rate, rate.blocked_until, hint=None)
    assert rate.blocked_until - now == pytest.approx(PAUSES[3])


def test_after_the_probe_calls_go_at_their_pace_and_in_no_burst():
    rate = AdaptiveRate(finds(50.0), limit=50.0, burst=10.0)
    now = recovered(rate)
    assert rate.wait(now) == pytest.approx(1.0 / 45.0, abs=0.001)


def test_a_failing_probe_is_told_when_to_come_back():
    rate = AdaptiveRate(finds(50.0))
    refused(rate)
    now = refused(rate, rate.blocked_until, hint=40.0)
    assert rate.blocked_until == now + 40.0


def test_a_probe_that_ends_otherwise_is_followed_by_another_in_a_second():
    rate = AdaptiveRate(infer)
    now = refused(rate) + 1.0
    rate.on_other(rate.on_granted(now), now)
    assert rate.wait(now) == pytest.approx(PAUSES[1] + TICK)
    assert rate.on_granted(now + 1.1).probe


def test_the_end_of_what_was_no_probe_moves_no_probe():
    rate = AdaptiveRate(infer)
    early = rate.on_granted(NOW)
    now = refused(rate) + 1.0
    rate.on_granted(now)
    rate.on_other(early, now)
    assert rate.wait(now) == pytest.approx(SHORTEST + TICK)


# --- the cut, and the way back


def test_the_cut_goes_a_little_below_what_explains_the_refusal_and_grows_to_it():
    rate = AdaptiveRate(finds(50.0))
    now = recovered(rate)
    assert (rate.rate, rate.learned()) == (45.0, Learned(50.0, 10.0, Source.REFUSALS))
    run_for(rate, 2.0, now)
    assert rate.rate == pytest.approx(50.0, abs=0.5)


def test_beyond_the_goal_it_goes_with_more_and_more_courage():
    rate, rates = AdaptiveRate(finds(50.0)), []
    now = recovered(rate)
    for _ in range(4):
        run_for(rate, 2.0, now)
        rates.append(rate.rate)
        now += 2.0
    steps = [later - earlier for earlier, later in pairwise(rates)]
    assert steps == sorted(steps)
    assert steps[0] > 3.0


def test_in_idleness_it_does_not_grow():
    rate = AdaptiveRate(finds(50.0))
    now = recovered(rate)
    for second in range(50):
        rate.on_success(rate.on_granted(now + second), now + second)
    assert rate.rate == 45.0


def test_what_was_let_go_before_the_cut_does_not_cut_again():
    rate = AdaptiveRate(finds(50.0))
    early = [rate.on_granted(NOW) for _ in range(20)]
    for one in early:
        rate.on_throttled(one, NOW, 1.0, 0.0)
    assert rate.cuts == 1


def test_a_refusal_that_confirms_the_goal_makes_the_next_try_beyond_it_twice_as_late():
    rate, plateaus = AdaptiveRate(finds(50.0)), []
    now = NOW
    for _ in range(4):
        now = recovered(rate, now) + 1.0
        beyond = 0.0
        while rate.rate < 50.5:
            run_for(rate, 1.0, now)
            now, beyond = now + 1.0, beyond + 1.0
        plateaus.append(beyond)
    assert plateaus[1] > plateaus[0]
    assert plateaus[2:] == [pytest.approx(2 * plateau, rel=0.2) for plateau in plateaus[1:-1]]


def test_a_refusal_that_nothing_explains_leaves_the_goal():
    rate = AdaptiveRate(finds(50.0))
    now = recovered(rate) + 1.0
    rate._infer = finds(20.0, explained=False)
    recovered(rate, now)
    assert rate.learned().rate == 50.0


def test_two_that_nothing_explains_on_end_are_a_lower_limit():
    rate = AdaptiveRate(finds(50.0))
    now = recovered(rate) + 1.0
    rate._infer = finds(20.0, explained=False)
    for _ in range(2):
        now = recovered(rate, now) + 0.1
    assert rate.learned().rate == pytest.approx(BLIND_CUT * 45.0, rel=0.02)
    assert rate.rate == pytest.approx(0.9 * BLIND_CUT * 45.0, rel=0.02)


def test_two_with_a_way_back_to_the_goal_between_them_are_two_outages():
    rate = AdaptiveRate(finds(50.0))
    now = recovered(rate) + 1.0
    rate._infer = finds(20.0, explained=False)
    for _ in range(3):
        now = recovered(rate, now)
        run_for(rate, 4.0, now)
        now += 5.0
    assert rate.learned().rate >= 50.0


def test_without_evidence_the_first_cut_is_blind():
    rate = AdaptiveRate(blind)
    recovered(rate)
    assert rate.learned().rate == pytest.approx(BLIND_CUT * 30.0)


def test_a_given_limit_outlives_a_refusal_that_nothing_explains():
    rate = AdaptiveRate(blind, limit=50.0, burst=10.0)
    recovered(rate)
    assert (rate.rate, rate.learned()) == (45.0, Learned(50.0, 10.0, Source.CONFIGURED))


def test_a_given_limit_that_is_reached_again_is_used_in_full():
    rate = AdaptiveRate(finds(48.0, burst=6.0), limit=50.0, burst=10.0)
    now = recovered(rate)
    run_for(rate, 3.0, now)
    assert (rate.phase, rate.rate, rate.burst) == (Phase.FREE, 50.0, 5.0)


def test_a_given_limit_that_is_too_high_is_unlearned():
    rate = AdaptiveRate(finds(20.0), limit=50.0, burst=10.0)
    recovered(rate)
    assert (rate.rate, rate.learned().source) == (18.0, Source.REFUSALS)


def test_a_rate_that_is_not_refused_is_learned_too():
    rate = AdaptiveRate(finds(50.0))
    now = recovered(rate)
    rate._infer = blind
    run_for(rate, 8.0, now)
    assert rate.learned().rate > 55.0


def test_on_the_way_beyond_the_goal_the_evidence_is_asked_again():
    rate = AdaptiveRate(finds(50.0))
    now = recovered(rate)
    rate._infer = finds(60.0, burst=7.0)
    run_for(rate, 6.0, now)
    assert rate.learned() == Learned(60.0, 7.0, Source.REFUSALS)


def test_a_goal_that_was_sure_is_given_up_once_the_rate_has_left_it_behind_unrefused():
    rate, now = AdaptiveRate(finds(50.0)), NOW
    for _ in range(3):
        now = recovered(rate, now) + 0.1  # confirmed twice: twelve seconds to the goal
    rate._infer = blind
    run_for(rate, 29.0, now)
    assert 53.0 < rate.rate < 55.0
    run_for(rate, 3.0, now + 29.0)
    assert rate.rate > 75.0


def test_after_an_outage_the_rate_comes_back_by_a_slow_start():
    rate = AdaptiveRate(finds(80.0))
    now = refused(rate)
    for _ in range(2):
        now = refused(rate, rate.blocked_until)
    now = rate.blocked_until
    rate.on_success(rate.on_granted(now), now)
    assert (rate.phase, rate.rate) == (Phase.SLOW, 12.0)
    run_for(rate, 2.5, now + 0.01)
    assert (rate.phase, rate.rate) == (Phase.CUBIC, pytest.approx(74.0, abs=7.0))


# --- what else can happen


def test_what_never_went_comes_back():
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    passed = rate.on_granted(NOW)
    rate.on_unsent(passed, NOW)
    assert rate.level(NOW) == 9.0


def test_what_never_went_and_what_failed_as_a_probe_are_no_evidence():
    seen = []
    rate = AdaptiveRate(lambda history, **options: seen.append([storm for _, _, storm in history]))
    rate.on_unsent(rate.on_granted(NOW), NOW)
    refused(rate)
    refused(rate, rate.blocked_until)
    rate.on_success(rate.on_granted(rate.blocked_until), rate.blocked_until)
    assert seen == [[None, 1, None, 0]]


def test_a_refusal_older_than_the_memory_is_forgotten():
    rate = AdaptiveRate(finds(50.0), settings=RateSettings(memory=4))
    old = rate.on_granted(NOW)
    for _ in range(9):
        rate.on_granted(NOW)
    rate.on_throttled(old, NOW, 1.0, 0.0)
    assert [storm for _, _, storm in rate._sent] == [0, 0, 0, 0]


def test_an_earlier_life_leaves_an_empty_bucket():
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    rate.drain(NOW)
    assert rate.wait(NOW) == pytest.approx(1 / 50.0 + TICK)


def test_a_cost_above_the_burst_goes_when_the_bucket_is_full_and_leaves_a_debt():
    rate = AdaptiveRate(infer, limit=100.0, burst=11.0)
    assert rate.wait(NOW, 50.0) == 0.0
    rate.on_granted(NOW, 50.0)
    assert rate.wait(NOW, 50.0) == pytest.approx(0.5 + TICK)


def test_a_clock_that_steps_back_fills_no_bucket():
    rate = AdaptiveRate(infer, limit=50.0, burst=10.0)
    rate.on_granted(NOW)
    assert rate.level(NOW - 50.0) == 8.0


class Law(RuleBasedStateMachine):
    """Calls go and end in any order and way: blocks hold, ceilings hold, waits are honest, probes are few."""

    def __init__(self):
        super().__init__()
        self.now, self.ceiling = 10.0, 1e9
        self.out, self.went = [], []

    @initialize(limit=st.sampled_from([None, 5.0, 50.0]))
    def begin(self, limit):
        self.ceiling = 1e9 if limit is None else limit
        self.rate = AdaptiveRate(infer, limit=limit, burst=None if limit is None else 10.0)

    @rule(times=st.integers(1, 25))
    def let_go(self, times):
        for _ in range(times):
            if self.rate.wait(self.now) == 0.0:
                assert self.now >= self.rate.blocked_until
                passed = self.rate.on_granted(self.now)
                self.out.append(passed)
                self.went.append(self.now)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 30), how=st.sampled_from(["success", "success", "refused", "told", "unsent", "other"]))
    def end(self, which, how):
        passed, rate = self.out.pop(which % len(self.out)), self.rate
        cuts, known = rate.cuts, rate.epoch
        match how:
            case "success":
                rate.on_success(passed, self.now)
            case "refused" | "told":
                rate.on_throttled(passed, self.now, 2.0 if how == "told" else None, 0.5)
                assert rate.cuts - cuts <= (passed.epoch == known and not passed.probe)
                assert passed.epoch != known or rate.wait(self.now) > 0.0
            case "unsent":
                rate.on_unsent(passed, self.now)
                self.went.remove(passed.at)
            case _:
                rate.on_other(passed, self.now)

    @rule(limit=st.sampled_from([2.0, 40.0, 1000.0]))
    def teach(self, limit):
        self.rate.teach(limit)

    @rule(micros=st.integers(0, 3_000_000))
    def pass_time(self, micros):
        self.now += micros / 1e6

    @rule()
    def wait_as_told(self):
        for _ in range(4):  # a block may be followed by a probe, and that by the pace
            wait = self.rate.wait(self.now)
            if wait == 0.0:
                break
            self.now += wait
        assert self.rate.wait(self.now) == 0.0

    @invariant()
    def nothing_goes_above_what_is_given_and_every_number_is_one(self):
        if hasattr(self, "rate"):
            assert 0.0 < self.rate.rate <= self.ceiling
            assert self.rate.level(self.now) <= self.rate.burst + 1e-9
            assert self.rate.burst < inf

    @invariant()
    def no_window_holds_more_than_the_ceiling_allows(self):
        for first, start in enumerate(self.went):
            assert len(self.went) - first <= 11.0 + 0.02 * self.ceiling + self.ceiling * (self.went[-1] - start) + 1e-3


Law.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestLaw = Law.TestCase


def used(rate, calls, *, refuse=(), now=NOW, gap=0.05):
    """Let so many calls go, one after the other, and refuse some of them; return when."""
    for number in range(calls):
        now = max(now + gap, rate.blocked_until + TICK)
        passed = rate.on_granted(now)
        if number in refuse:
            rate.on_throttled(passed, now + 0.01, 1.0, 0.0)
        else:
            rate.on_success(passed, now + 0.01)
    return now


def test_the_odd_refusal_where_less_than_half_of_a_known_limit_is_in_use_blocks_and_cuts_nothing():
    rate = AdaptiveRate(finds(5.0), limit=50.0, burst=10.0)
    now = used(rate, 41, refuse={40})
    assert rate.wait(now + 0.02) == pytest.approx(0.99, abs=0.01)
    used(rate, 2, now=now + 1.0)
    assert (rate.rate, rate.cuts, rate.phase) == (50.0, 0, Phase.FREE)


@pytest.mark.parametrize(
    ("limit", "refuse", "gap"),
    [(50.0, {10, 20, 30, 36, 38, 40}, 0.05), (50.0, {40}, 0.025), (None, {40}, 0.05)],
    ids=["too many", "more than half in use", "no limit known"],
)
def test_otherwise_a_refusal_is_news(limit, refuse, gap):
    rate = AdaptiveRate(finds(5.0), limit=limit, burst=limit and 10.0)
    now = used(rate, 41, refuse=refuse, gap=gap)
    used(rate, 2, now=now + 1.0)
    assert rate.cuts > 0


def test_a_rate_with_more_calls_in_a_second_than_are_remembered_is_in_use():
    rate = AdaptiveRate(finds(5.0), limit=5000.0, burst=10.0)
    used(rate, 600, refuse={599}, gap=0.001)
    assert rate.cuts == 1


def test_an_outage_at_a_limit_that_is_hardly_used_ends_in_a_slow_start():
    rate = AdaptiveRate(finds(50.0), limit=50.0, burst=10.0)
    now = used(rate, 41, refuse={40})
    for _ in range(2):
        now = rate.blocked_until + TICK
        rate.on_throttled(rate.on_granted(now), now + 0.01, 1.0, 0.0)
    used(rate, 1, now=now)
    assert (rate.phase, rate.rate) == (Phase.SLOW, 50.0 / 8.0 + 2.0)


# --- closed loops against the simulated vendor


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("mode", "time", "share"), [("configured", 1.03, 0.005), ("headers", 1.10, 0.02)])
def test_a_known_limit_is_used_in_full_and_hardly_ever_overrun(mode, time, share, seed):
    verdict = judge(seed, mode)
    assert verdict.time <= time
    assert verdict.refused <= share
    assert verdict.off <= 0.1


@pytest.mark.slow
@pytest.mark.uncounted
@pytest.mark.parametrize("hints", ["exact", "none"])
def test_an_unknown_limit_is_learned_from_refusals_alone(hints):
    verdicts = [judge(seed, "refusals", hints=hints) for seed in range(20)]
    assert max(verdict.time for verdict in verdicts) <= 1.30
    assert max(verdict.refused for verdict in verdicts) <= 0.05
    assert sum(verdict.off <= 0.1 for verdict in verdicts) >= 15


@pytest.mark.slow
@pytest.mark.uncounted
@pytest.mark.parametrize("mode", ["configured", "headers", "refusals"])
@pytest.mark.parametrize("hint", [None, 1.0])
def test_a_storm_of_thirty_seconds_sees_few_probes_and_is_soon_over(mode, hint):
    for seed in range(3):
        result = weather(seed, mode, hint)
        assert result.gap >= 1.0
        assert result.in_ten_seconds <= 3
        assert result.back <= 60.0


@pytest.mark.slow
@pytest.mark.uncounted
@pytest.mark.parametrize(("before", "after"), [(50.0, 20.0), (25.0, 60.0)])
def test_a_limit_that_changes_is_found_again(before, after):
    for seed in range(3):
        terms = drawn(seed, rate=before, hints="exact", steps=((20.0, after),))
        vendor, client = Vendor(terms), Client()
        Loop(client, vendor, seed, calls=10**6, until=60.0).run()
        assert vendor.served(45.0, 60.0) >= 0.85 * 15.0 * after
        assert vendor.statuses(45.0, 60.0).count(429) <= 0.05 * 15.0 * after
        assert client.rate.learned().rate == pytest.approx(after, rel=0.15)


@pytest.mark.slow
@pytest.mark.uncounted
def test_a_configured_limit_that_is_twice_too_high_does_no_lasting_harm():
    for seed in range(3):
        vendor, client = Vendor(drawn(seed, rate=30.0, hints="exact")), Client(drawn(seed, rate=60.0))
        Loop(client, vendor, seed, calls=10**6, until=40.0).run()
        assert vendor.served(20.0, 40.0) >= 0.85 * 20.0 * 30.0
        assert vendor.statuses(20.0, 40.0).count(429) <= 0.05 * 20.0 * 30.0
