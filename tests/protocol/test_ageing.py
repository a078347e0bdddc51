"""The urgent go first, the aged get turns between them, and the lowest class waits at most its age and one turn."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.policies.ageing import CLASSES, Ageing, Turn, class_of

SINCE = st.lists(st.sampled_from([inf, 0.0, 5.0, 9.0, 10.0, 19.9, 20.0]), min_size=3, max_size=3).filter(
    lambda since: min(since) < inf
)


class DumbAgeing:
    """The twin: lets each class rise step by step, and keeps all turns there were."""

    def __init__(self, seconds):
        self.seconds, self.turns = seconds, []

    def due(self, since, now):
        strict = next(level for level in range(CLASSES) if since[level] < inf)
        due = []
        for level in range(strict + 1, CLASSES):
            at, rank = since[level], level
            while rank > strict and at + self.seconds <= now:
                at, rank = at + self.seconds, rank - 1
            if rank == strict and since[level] < inf:
                due.append(level)
        return strict, due

    def turn(self, since, now):
        strict, due = self.due(since, now)
        lately = []
        for turn in self.turns:
            lately = [*lately, turn.level] if turn.by_age else []
        may = [level for level in due if level not in lately]
        return Turn(max(may), by_age=True) if may else Turn(strict, by_age=False)

    def took(self, turn):
        self.turns.append(turn)


@given(moves=st.lists(st.tuples(SINCE, st.sampled_from([20.0, 25.0, 30.0, 40.0])), max_size=20))
def test_chooses_as_a_twin_that_lets_classes_rise_step_by_step(moves):
    ageing, twin = Ageing(10.0), DumbAgeing(10.0)
    for since, now in moves:
        turn = ageing.turn(since, now)
        assert turn == twin.turn(since, now)
        ageing.took(turn)
        twin.took(turn)


@given(since=SINCE, now=st.sampled_from([20.0, 25.0, 30.0]))
def test_between_now_and_the_next_rise_nobody_becomes_due(since, now):
    at, twin = Ageing(10.0).next_rise(since, now), DumbAgeing(10.0)
    before = twin.due(since, now)
    if at == inf:
        assert twin.due(since, now + 1e6) == before
    else:
        assert twin.due(since, at - 1e-6) == before != twin.due(since, at)


@pytest.mark.parametrize(("priority", "level"), [(-5, 0), (0, 0), (1, 1), (2, 2), (3, 2), (99, 2)])
def test_every_number_has_a_class(priority, level):
    assert class_of(priority) == level


def test_where_nobody_waits_it_is_nobodys_turn():
    with pytest.raises(ValueError, match="nobody waits"):
        Ageing(10.0).turn([inf, inf, inf], 0.0)


class Overload(RuleBasedStateMachine):
    """Urgent and less urgent waiters without end, now and then one of the lowest class; a turn takes a second."""

    SECONDS = 10.0

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.waiting = [[0.0] * 50, [0.0] * 50, []]
        self.ageing = Ageing(self.SECONDS)
        self.turns, self.lowest_at = [], -inf

    @rule(seconds=st.integers(4, 12))
    def one_of_the_lowest_comes(self, seconds):
        self.serve(seconds)
        if not self.waiting[2]:
            self.waiting[2].append(self.now)

    @rule(count=st.integers(1, 15))
    def serve(self, count):
        for _ in range(count):
            self.now += 1.0
            self.waiting[0].append(self.now)
            self.waiting[1].append(self.now)
            turn = self.ageing.turn([line[0] if line else inf for line in self.waiting], self.now)
            self.ageing.took(turn)
            self.turns.append(turn)
            self.waiting[turn.level].pop(0)

    @invariant()
    def the_urgent_keep_every_third_turn(self):
        for first in range(len(self.turns) - 2):
            assert not all(turn.by_age for turn in self.turns[first : first + 3])

    @invariant()
    def law_5_the_lowest_waits_its_age_and_one_turn(self):
        for since in self.waiting[2]:
            assert self.now <= since + 2 * self.SECONDS + 1.0


Overload.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestOverload = pytest.mark.slow(Overload.TestCase)


def test_of_two_aged_classes_neither_starves_the_other():
    ageing, turns = Ageing(10.0), []
    for now in range(100, 120):
        turn = ageing.turn([0.0, 0.0, 0.0], float(now))
        ageing.took(turn)
        turns.append(turn.level)
    assert turns == [2, 1, 0] * 6 + [2, 1]
