"""The circuit breaker follows its table of transitions, and no probe can hold it for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.errors import ErrorKind
from protocol.policies.breaker import JITTER, TICK, Breaker, BreakerSettings, Mark, State, mark_of

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
GOOD, BAD, NEUTRAL, FATAL = Mark.GOOD, Mark.BAD, Mark.NEUTRAL, Mark.FATAL


def end(breaker, mark, now, roll=0.0):
    breaker.on_end(breaker.on_sent(now), mark, now, roll)


def opened(at=0.0):
    breaker = Breaker()
    for _ in range(5):
        end(breaker, BAD, at)
    return breaker


def half_open():
    """Return a breaker that opened at 0 and is half open from 5 on."""
    return opened()


@pytest.mark.parametrize(
    ("marks", "state"),
    [
        ([], CLOSED),
        ([BAD] * 4, CLOSED),
        ([BAD] * 5, OPEN),
        ([BAD] * 4 + [NEUTRAL, BAD], OPEN),
        ([BAD] * 4 + [GOOD] + [BAD] * 3, CLOSED),
        ([BAD, GOOD] * 4, CLOSED),
        ([GOOD, BAD] * 5, OPEN),
        ([GOOD] * 11 + [BAD] * 4 + [GOOD, BAD] * 6, CLOSED),
        ([NEUTRAL] * 50, CLOSED),
        ([GOOD] * 50 + [FATAL], OPEN),
    ],
)
def test_closed_it_opens_by_a_streak_by_a_share_and_by_a_fatal_end(marks, state):
    breaker = Breaker()
    for mark in marks:
        end(breaker, mark, 1.0)
    assert breaker.state(1.0) is state


@pytest.mark.parametrize(
    ("marks", "state"),
    [
        ([NEUTRAL], HALF_OPEN),
        ([GOOD], HALF_OPEN),
        ([GOOD, GOOD], CLOSED),
        ([GOOD, NEUTRAL, GOOD], CLOSED),
        ([BAD], OPEN),
        ([GOOD, BAD], OPEN),
        ([FATAL], OPEN),
    ],
)
def test_half_open_it_follows_its_probes(marks, state):
    breaker = half_open()
    for mark in marks:
        end(breaker, mark, 6.0)
    assert breaker.state(6.0) is state


@pytest.mark.parametrize(("now", "state"), [(4.999, OPEN), (5.0, HALF_OPEN), (1e6, HALF_OPEN)])
def test_open_it_waits_for_the_end_of_its_pause(now, state):
    assert opened().state(now) is state


def test_the_wait_it_names_is_the_wait_until_a_probe_may_go():
    breaker = opened()
    wait = breaker.wait(1.0)
    assert wait == pytest.approx(4.0 + TICK)
    assert breaker.wait(1.0 + wait) == 0.0


def test_half_open_one_probe_goes_and_the_next_when_it_has_ended():
    breaker = half_open()
    probe = breaker.on_sent(5.0)
    assert breaker.wait(6.0) == pytest.approx(119.0 + TICK)
    breaker.on_end(probe, GOOD, 7.0, 0.0)
    assert breaker.wait(7.0) == 0.0


def test_a_probe_that_never_ends_makes_room_and_its_late_end_says_nothing():
    breaker = half_open()
    lost = breaker.on_sent(5.0)
    assert (breaker.wait(124.9) > 0.0, breaker.wait(125.1)) == (True, 0.0)
    second = breaker.on_sent(125.1)
    breaker.on_end(lost, BAD, 126.0, 0.0)
    assert breaker.state(126.0) is HALF_OPEN
    breaker.on_end(second, BAD, 127.0, 0.0)
    assert breaker.state(127.0) is OPEN


def test_each_pause_in_a_row_is_twice_as_long_up_to_the_longest_and_jittered():
    breaker, now, pauses = Breaker(), 0.0, []
    for _ in range(5):
        end(breaker, BAD, now)
    for _ in range(9):
        pauses.append(breaker.wait(now) - TICK)
        now += breaker.wait(now)
        end(breaker, BAD, now, roll=0.5)
    assert pauses[0] == pytest.approx(5.0)
    assert pauses[1:] == pytest.approx([(1 + JITTER / 2) * min(300.0, 5.0 * 2**n) for n in range(1, 9)])


def test_once_closed_the_pauses_start_small_again():
    breaker = half_open()
    end(breaker, BAD, 5.0)
    for _ in range(2):
        end(breaker, GOOD, 20.0)
    for _ in range(5):
        end(breaker, BAD, 21.0)
    assert breaker.wait(21.0) == pytest.approx(5.0 + TICK)


def test_a_fatal_end_opens_for_long_whatever_the_pauses_were():
    breaker = Breaker()
    end(breaker, FATAL, 0.0)
    assert breaker.wait(0.0) == pytest.approx(300.0 + TICK)


def test_what_was_sent_before_it_opened_neither_lengthens_the_pause_nor_closes_it():
    breaker = Breaker()
    early = [breaker.on_sent(0.0) for _ in range(9)]
    for passed in early[:5]:
        breaker.on_end(passed, BAD, 1.0, 0.0)
    for passed, mark in zip(early[5:], (BAD, GOOD, GOOD, FATAL), strict=True):
        breaker.on_end(passed, mark, 5.5, 0.0)
    assert (breaker.state(5.9), breaker.state(6.0)) == (OPEN, HALF_OPEN)
    end(breaker, GOOD, 6.0)
    assert breaker.state(6.0) is HALF_OPEN


def test_a_streak_may_take_its_time():
    breaker = Breaker()
    for minute in range(5):
        end(breaker, BAD, 60.0 * minute)
    assert breaker.state(240.0) is OPEN


def test_bad_ends_older_than_the_window_are_forgotten():
    breaker = Breaker(BreakerSettings(streak=99))
    for now in (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 20.0, 20.0, 20.0, 31.0, 31.0, 31.0, 31.0):
        end(breaker, BAD if now < 30.0 else GOOD, now)
    assert breaker.state(31.0) is CLOSED
    for _ in range(3):
        end(breaker, BAD, 31.0)
    assert breaker.state(31.0) is OPEN


def test_of_many_ends_only_the_last_thousand_are_kept():
    breaker = Breaker(BreakerSettings(streak=10**6))
    for _ in range(5000):
        end(breaker, GOOD, 0.0)
    for _ in range(500):
        end(breaker, BAD, 1.0)
    assert breaker.state(1.0) is OPEN


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_only_what_the_endpoint_did_is_held_against_it(kind):
    bad = {"connection", "timeout", "server_error", "provider_overloaded", "bad_response", "redirect"}
    fatal = {"quota_exhausted", "authentication"}
    assert mark_of(kind) is (BAD if kind in bad else FATAL if kind in fatal else NEUTRAL)


def test_a_success_is_good():
    assert mark_of(None) is GOOD


class Twin:
    """The dumb twin: the list of all that happened, read from the start for every question."""

    def __init__(self, rules):
        self.rules = rules
        self.history = []  # (now, mark, number of the call), in the order of the ends; sent: (now, None, number)

    def read(self, now):
        state, until, opened, ends, term, proved, probe, probe_at = CLOSED, 0.0, 0, [], {}, 0, None, None
        changes = streak = 0
        for at, mark, call in [*self.history, (now, None, None)]:
            if state is OPEN and at >= until:
                state = HALF_OPEN
            if call is None:
                continue
            if mark is None:
                term[call] = changes
                if state is HALF_OPEN:
                    probe, probe_at = call, at
                continue
            if term[call] != changes:
                continue
            pause = None
            if mark is FATAL:
                pause = self.rules.fatal_pause
            elif state is CLOSED and mark is not NEUTRAL:
                ends = [(t, m) for t, m in [*ends, (at, mark)] if t > at - self.rules.window]
                streak = streak + 1 if mark is BAD else 0
                bad = sum(m is BAD for _, m in ends)
                if streak == self.rules.streak or (len(ends) >= 10 and 2 * bad >= len(ends)):
                    pause = 5.0 * 2**opened
            elif state is not CLOSED and call == probe:
                probe = probe_at = None
                proved += mark is GOOD
                if mark is BAD:
                    pause = min(300.0, 5.0 * 2**opened)
                elif proved == self.rules.proofs:
                    state, opened, ends, streak, proved, changes = CLOSED, 0, [], 0, 0, changes + 1
            if pause is not None:
                state, until, opened = OPEN, at + pause, opened + 1
                ends, streak, proved, changes, probe, probe_at = [], 0, 0, changes + 1, None, None
        return state, probe_at


class Law(RuleBasedStateMachine):
    """Calls go when it lets them and end in any order: breaker and twin agree on the state and on who may go."""

    def __init__(self):
        super().__init__()
        self.rules = BreakerSettings(streak=4)
        self.breaker, self.twin = Breaker(self.rules), Twin(self.rules)
        self.now, self.calls, self.out = 0.0, 0, []

    @rule(times=st.integers(1, 6))
    def send(self, times):
        for _ in range(times):
            if self.breaker.wait(self.now) == 0.0:
                self.calls += 1
                self.out.append((self.calls, self.breaker.on_sent(self.now)))
                self.twin.history.append((self.now, None, self.calls))

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 5), mark=st.sampled_from([GOOD, BAD, BAD, BAD, NEUTRAL, FATAL]))
    def end(self, which, mark):
        call, passed = self.out.pop(which % len(self.out))
        self.breaker.on_end(passed, mark, self.now, 0.0)
        self.twin.history.append((self.now, mark, call))

    @precondition(lambda self: self.out)
    @rule(mark=st.sampled_from([GOOD, BAD]))
    def end_all(self, mark):
        while self.out:
            self.end(0, mark)

    @rule(seconds=st.sampled_from([1, 3, 6, 12, 40, 130, 301]))
    def pass_time(self, seconds):
        self.now += seconds

    @invariant()
    def the_twin_agrees(self):
        state, probe_at = self.twin.read(self.now)
        assert self.breaker.state(self.now) is state
        busy = state is OPEN or (probe_at is not None and self.now < probe_at + self.rules.patience)
        assert (self.breaker.wait(self.now) > 0.0) is (busy and state is not CLOSED)


Law.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestLaw = Law.TestCase


@given(st.lists(st.tuples(st.sampled_from(list(Mark)), st.floats(0.0, 400.0)), max_size=60))
@settings(max_examples=50)
def test_who_waits_as_told_may_go(moves):
    breaker, now = Breaker(), 0.0
    for mark, step in moves:
        now += step
        now += breaker.wait(now)
        assert breaker.wait(now) == 0.0
        end(breaker, mark, now, roll=0.3)
