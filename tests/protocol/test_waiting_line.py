"""First come, first served; anyone may leave, and who is late can be told."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.waiting_line import WaitingLine

KEYS = st.sampled_from("abc")
MOVES = st.lists(st.tuples(st.sampled_from(["push", "pop", "remove", "late"]), KEYS, st.none() | st.integers(0, 9)))


@given(MOVES)
def test_answers_as_a_plain_list_does(moves):
    line, twin = WaitingLine(), []
    for move, key, deadline in moves:
        if move == "push" and key not in line:
            line.push(key, key.upper(), deadline)
            twin.append((key, deadline))
        elif move == "pop" and twin:
            assert line.head() == line.pop() == twin.pop(0)[0].upper()
        elif move == "remove":
            known = any(k == key for k, _ in twin)
            assert line.remove(key) == (key.upper() if known else None)
            twin = [entry for entry in twin if entry[0] != key]
        elif move == "late" and line.next_deadline() < inf:
            at = line.next_deadline()
            late = line.pop_late().lower()
            assert (late, at) in twin
            twin = [entry for entry in twin if entry[0] != late]
        assert list(line) == [k.upper() for k, _ in twin]
        assert len(line) == len(twin)
        assert line.next_deadline() == min((d for _, d in twin if d is not None), default=inf)


def test_a_deadline_of_an_earlier_stay_in_the_line_means_nothing():
    line = WaitingLine()
    line.push("a", "A", 1.0)
    line.remove("a")
    line.push("a", "A", 5.0)
    assert line.next_deadline() == 5.0


def test_who_is_not_in_line_cannot_be_served():
    with pytest.raises(KeyError):
        WaitingLine().pop()
