"""Who is due first comes first, whoever was taken out meanwhile; and nothing piles up."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.deadlines import SLACK, Deadlines

KEYS = st.sampled_from("abcde")
MOVES = st.lists(st.tuples(st.sampled_from(["set", "set", "discard", "pop"]), KEYS, st.integers(0, 9)), max_size=60)


@given(MOVES)
def test_answers_as_a_plain_dict_does(moves):
    deadlines, twin = Deadlines(), {}
    for move, key, instant in moves:
        if move == "set" and key not in twin:
            deadlines.set(key, float(instant))
            twin[key] = float(instant)
        elif move == "discard":
            deadlines.discard(key)
            twin.pop(key, None)
        elif move == "pop":
            popped = deadlines.pop(float(instant))
            if popped is None:
                assert all(at > instant for at in twin.values())
            else:
                assert twin.pop(popped) == min([instant, *twin.values()]) or popped not in twin
        assert deadlines.next() == min(twin.values(), default=inf)
        assert len(deadlines) == len(twin)


def test_who_is_due_comes_in_the_order_of_instants():
    deadlines = Deadlines()
    for key, instant in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 9.0)):
        deadlines.set(key, instant)
    assert [deadlines.pop(5.0) for _ in range(4)] == ["a", "b", "c", None]


def test_an_instant_of_an_earlier_stay_means_nothing():
    deadlines = Deadlines()
    deadlines.set("other", 9.0)
    deadlines.set("a", 1.0)
    deadlines.discard("a")
    deadlines.set("a", 5.0)
    assert deadlines.next() == 5.0


def test_what_was_taken_out_does_not_pile_up():
    deadlines = Deadlines()
    deadlines.set("last", 1e9)
    for n in range(10_000):
        deadlines.set(str(n), 1e6 + n)
        deadlines.discard(str(n))
    assert len(deadlines._heap) <= 2 + SLACK
