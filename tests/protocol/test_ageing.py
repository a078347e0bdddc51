"""The urgent go first, the aged get every second turn, and the lowest class waits at most its age and one turn."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.policies.ageing import CLASSES, Turn, choose, class_of, next_rise

SINCE = st.lists(st.sampled_from([inf, 0.0, 5.0, 9.0, 10.0, 19.9, 20.0]), min_size=3, max_size=3).filter(
    lambda since: min(since) < inf
)


def risen(since, seconds, now):
    """The twin: let each class rise step by step; return (when it had risen to the most urgent one, class)."""
    strict = next(level for level in range(CLASSES) if since[level] < inf)
    due = []
    for level in range(strict + 1, CLASSES):
        at, rank = since[level], level
        while rank > strict and at + seconds <= now:
            at, rank = at + seconds, rank - 1
        if rank == strict and since[level] < inf:
            due.append((at, level))
    return strict, due


@given(since=SINCE, now=st.sampled_from([20.0, 25.0, 30.0, 40.0]), aged_last=st.booleans())
def test_chooses_as_a_twin_that_lets_classes_rise_step_by_step(since, now, aged_last):
    strict, due = risen(since, 10.0, now)
    expected = Turn(strict, by_age=False) if aged_last or not due else Turn(min(due)[1], by_age=True)
    assert choose(since, 10.0, now, aged_last=aged_last) == expected


@given(since=SINCE, now=st.sampled_from([20.0, 25.0, 30.0]))
def test_between_now_and_the_next_rise_nobody_becomes_due(since, now):
    at = next_rise(since, 10.0, now)
    before = len(risen(since, 10.0, now)[1])
    if at == inf:
        assert len(risen(since, 10.0, now + 1e6)[1]) == before
    else:
        assert len(risen(since, 10.0, at - 1e-6)[1]) == before < len(risen(since, 10.0, at)[1])


@pytest.mark.parametrize(("priority", "level"), [(-5, 0), (0, 0), (1, 1), (2, 2), (3, 2), (99, 2)])
def test_every_number_has_a_class(priority, level):
    assert class_of(priority) == level


def test_nobody_who_waits_has_no_turn():
    with pytest.raises(ValueError, match="nobody waits"):
        choose([inf, inf, inf], 10.0, 0.0, aged_last=False)


class Overload(RuleBasedStateMachine):
    """Urgent waiters without end, now and then one of a lower class; a turn takes a second."""

    SECONDS = 10.0

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.waiting = [[0.0] * 50, [], []]
        self.turns = []

    @rule(level=st.sampled_from([1, 2]), count=st.integers(1, 3))
    def somebody_comes(self, level, count):
        self.waiting[level] += [self.now] * count

    @rule(count=st.integers(1, 15))
    def serve(self, count):
        for _ in range(count):
            self.now += 1.0
            self.waiting[0].append(self.now)
            since = [line[0] if line else inf for line in self.waiting]
            aged_last = bool(self.turns) and self.turns[-1].by_age
            turn = choose(since, self.SECONDS, self.now, aged_last=aged_last)
            overdue = [level for level in (1, 2) if since[level] + level * self.SECONDS <= self.now]
            if overdue and not aged_last:
                assert turn.by_age
                assert turn.level in overdue
            if not overdue:
                assert turn == Turn(0, by_age=False)
            self.turns.append(turn)
            self.waiting[turn.level].pop(0)

    @invariant()
    def the_urgent_keep_every_second_turn(self):
        for one, other in zip(self.turns, self.turns[1:], strict=False):
            assert not (one.by_age and other.by_age)


Overload.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestOverload = pytest.mark.slow(Overload.TestCase)


def test_one_of_the_lowest_class_waits_its_age_and_one_turn_whatever_the_overload():
    for came in range(30):
        now, aged = float(came), False
        while True:
            turn = choose([0.0, inf, float(came)], 10.0, now, aged_last=aged)
            if turn.level == 2:
                break
            aged, now = turn.by_age, now + 1.0
        assert now - came <= 2 * 10.0 + 1.0
