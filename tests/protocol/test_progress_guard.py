"""Work without progress is noticed, and pulled out of harder and harder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.progress_guard import (
    HINTS,
    MOST_ASKED,
    MOST_NESTED,
    Advice,
    Output,
    Patience,
    ProgressGuard,
    Reaction,
    Signal,
    circles,
)


def same(one: str, other: str) -> bool:
    return one == other


def watched(*outputs, stronger=False, **patience):
    """Return the advice on each output, a text or (text, score, cost)."""
    guard = ProgressGuard(same, Patience(**patience), stronger=stronger)
    made = [(output, None, 0.0) if isinstance(output, str) else output for output in outputs]
    return [guard.on_output(Output(text=text, score=score, cost=cost)) for text, score, cost in made]


def test_new_drafts_that_get_better_are_let_alone():
    assert {a.reaction for a in watched(("a", 1, 1.0), ("b", 3, 1.0), ("c", 5, 1.0))} == {Reaction.GO_ON}


@pytest.mark.parametrize(
    ("outputs", "signal"),
    [
        (("a", "a"), Signal.REPEATED),
        (("a", "b", "c", "a"), Signal.REPEATED),
        (("a", "b", "a"), Signal.PING_PONG),
        ((("a", 5, 0.0), ("b", 5, 0.0), ("c", 4, 0.0)), Signal.PLATEAU),
        ((("a", 5, 1.0), ("b", None, 2.0), ("c", None, 2.5)), Signal.SPENDING),
    ],
)
def test_each_signal_is_noticed_and_gives_its_hint_first(outputs, signal):
    *earlier, last = watched(*outputs)
    assert {advice.signal for advice in earlier} == {None}
    assert last == Advice(Reaction.HINT, signal, HINTS[signal])


def test_the_reactions_are_graduated():
    assert [a.reaction.name for a in watched(*"aaaaa", stronger=True)] == ["GO_ON", "HINT", "STRONGER", "STOP", "STOP"]


def test_where_no_model_is_stronger_the_second_signal_ends_the_work():
    assert [a.reaction.name for a in watched(*"aaa")] == ["GO_ON", "HINT", "STOP"]


def test_a_better_draft_ends_a_plateau_and_a_gain_within_the_noise_does_not():
    better = [("a", 5, 1.0), ("b", 5, 1.0), ("c", 8, 1.0), ("d", 8, 1.0)]
    assert watched(*better)[-1].reaction is Reaction.GO_ON
    assert watched(*better, noise=4.0)[-1].signal is Signal.PLATEAU


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 10), st.floats(0, 9)), max_size=12))
def test_the_reactions_never_soften_and_each_names_its_signal(outputs):
    advice = [a for a in watched(*outputs, stronger=True) if a.signal is not None]
    assert [a.reaction for a in advice] == sorted(a.reaction for a in advice)
    assert all(a.hint == HINTS[a.signal] and a.reaction >= Reaction.HINT for a in advice)


def test_the_same_request_inside_itself_is_a_circle():
    chain = [("coder", "x"), ("reviewer", "y")] * MOST_ASKED
    assert circles("coder", "x", chain) is not None
    assert circles("coder", "x", chain[:-2]) is None
    assert circles("coder", "z", chain) is None
    assert circles("reviewer", "x", chain) is None


def test_requests_that_nest_without_an_end_are_noticed_though_each_is_new():
    chain = [("coder", str(n)) for n in range(MOST_NESTED)]
    assert circles("coder", "new", chain) is not None
    assert circles("coder", "new", chain[1:]) is None


def test_outputs_that_are_marked_as_different_are_no_repetition():
    guard = ProgressGuard(lambda one, other: one == other)
    assert guard.on_output(Output(text="a", mark="fails")).reaction is Reaction.GO_ON
    assert guard.on_output(Output(text="a", mark="runs")).reaction is Reaction.GO_ON
    assert guard.on_output(Output(text="a", mark="runs")).reaction is Reaction.HINT
