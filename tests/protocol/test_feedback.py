"""When a draft is accepted, when it is revised, and which of nine rules ends the rounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.feedback import Judgement, Left, Next, Round, Rules, Stop, alike, best_of, judge

RULES = Rules()
WORDS = ("one", "two", "three", "four")


def rounds(*scores: int | None, **last) -> tuple[Round, ...]:
    """Return rounds with texts and issues of their own, none of them approved; *last* changes the last one."""
    made = [Round(text=f"draft {WORDS[n] * 5}", score=score, issues=(f"issue {n}",)) for n, score in enumerate(scores)]
    *earlier, final = made
    return (*earlier, Round(**{**{name: getattr(final, name) for name in Round.__struct_fields__}, **last}))


@pytest.mark.parametrize(
    ("history", "left", "expected"),
    [
        (rounds(0, passed=True), Left(), (Next.ACCEPT, Stop.CHECKED)),
        (rounds(7, approved=True), Left(), (Next.ACCEPT, Stop.SCORED)),
        (rounds(7), Left(), (Next.REVISE, None)),
        (rounds(6, approved=True), Left(), (Next.REVISE, None)),
        (rounds(9, approved=True, passed=False), Left(), (Next.REVISE, None)),
        (rounds(1, 3, 5), Left(), (Next.KEEP, Stop.ROUNDS)),
        (rounds(3, 3), Left(), (Next.KEEP, Stop.PLATEAU)),
        (rounds(3, 5), Left(), (Next.KEEP, Stop.PLATEAU)),
        (rounds(5, 3), Left(), (Next.KEEP, Stop.PLATEAU)),
        (rounds(3, 6), Left(), (Next.REVISE, None)),
        (rounds(3, 6, text=rounds(3)[0].text), Left(), (Next.KEEP, Stop.CYCLE)),
        (rounds(3, 6, issues=("ISSUE 0 ",)), Left(), (Next.KEEP, Stop.SAME_CRITIQUE)),
        (rounds(3, cost_usd=0.2), Left(usd=0.1), (Next.KEEP, Stop.DEAR)),
        (rounds(3, seconds=9.0), Left(seconds=8.0), (Next.KEEP, Stop.DEAR)),
        (rounds(3, cost_usd=0.1, seconds=8.0), Left(usd=0.1, seconds=8.0), (Next.REVISE, None)),
        (rounds(3, issues=()), Left(), (Next.KEEP, Stop.NO_CRITIQUE)),
        (rounds(None, issues=()), Left(), (Next.KEEP, Stop.NO_CRITIQUE)),
    ],
)
def test_each_rule_ends_the_loop_in_its_own_case(history, left, expected):
    judgement = judge(history, RULES, left)
    assert (judgement.next, judgement.why) == expected


def test_a_score_that_fell_twice_ends_the_loop():
    exact = Rules(max_rounds=5, noise=0.0)
    assert judge(rounds(8, 6, 4), exact).why is Stop.FELL
    assert judge(rounds(8, 6, 7), exact).why is None
    assert judge(rounds(8, 8), exact).why is None


def test_the_rules_are_asked_in_their_order():
    """A last round in which all but the first two hold; rule by rule is taken away, and the next one answers."""
    text = rounds(6)[0].text
    last = {"text": text, "issues": ("issue 1",), "cost_usd": 1.0}
    assert judge(rounds(6, 5, 4, **last, passed=True), RULES).why is Stop.CHECKED
    assert judge(rounds(6, 5, 9, **last, approved=True), RULES).why is Stop.SCORED
    assert judge(rounds(6, 4, 4, **last), RULES, Left(usd=0.0)).why is Stop.ROUNDS
    assert judge(rounds(6, 5, 4, **last), Rules(max_rounds=9), Left(usd=0.0)).why is Stop.PLATEAU
    many = Rules(max_rounds=9, noise=0.0)
    assert judge(rounds(6, 5, 4, **last), many, Left(usd=0.0)).why is Stop.CYCLE
    last["text"] = "another text"
    assert judge(rounds(6, 5, 4, **last), many, Left(usd=0.0)).why is Stop.SAME_CRITIQUE
    last["issues"] = ()
    assert judge(rounds(6, 5, 4, **last), many, Left(usd=0.0)).why is Stop.DEAR
    assert judge(rounds(6, 5, 4, **last), many).why is Stop.NO_CRITIQUE
    last["issues"] = ("new",)
    assert judge(rounds(6, 5, 4, **last), many).why is Stop.FELL


def test_rules_may_be_left_to_somebody_else_and_the_early_ones_switched_off():
    again = rounds(3, 6, text=rounds(3)[0].text)
    assert judge(again, RULES, spared=(Stop.CYCLE,)).next is Next.REVISE
    assert judge(rounds(3, 3), Rules(early=False)).next is Next.REVISE
    assert judge(rounds(3, 3), Rules(early=False, max_rounds=1)).why is Stop.ROUNDS


def test_no_rounds_means_one_review_and_no_revision():
    assert judge(rounds(0), Rules(max_rounds=0)) == Judgement(Next.KEEP, Stop.ROUNDS, 0)


def test_the_best_draft_is_kept_facts_before_scores_and_of_equals_the_first():
    assert best_of(rounds(5, 7, 7)) == 1
    assert best_of(rounds(5, 7, 2, passed=True)) == 2
    assert best_of(rounds(5, 7, 9, passed=False)) == 1
    assert best_of(rounds(None, 0)) == 1


def test_a_score_that_is_higher_within_the_noise_makes_no_better_draft():
    assert [best_of(rounds(5, score), 2.5) for score in (7, 8)] == [0, 1]
    assert best_of(rounds(5, 0, passed=True), 2.5) == 1
    assert judge(rounds(5, 7), RULES).best == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("def f():\n    return 1", "DEF f():   return 1", True),
        ("a b", "a c", False),
        ("a b c d", "a", False),
        ("a b", "", False),
        (" ".join(map(str, range(200))), " ".join(map(str, range(199))), True),
        (" ".join(map(str, range(200))), " ".join(map(str, range(150))), False),
        (" ".join(map(str, range(200))), " ".join(map(str, range(1, 401, 2))), False),
    ],
)
def test_texts_are_alike_when_little_differs(one, other, expected):
    assert alike(one, other) is expected
    assert alike(other, one) is expected


FACTS = {False: -1, None: 0, True: 1}
made = st.builds(
    Round,
    text=st.sampled_from(["a b c d", "e f g h", "i j k l", "m n o p"]),
    score=st.none() | st.integers(0, 10),
    approved=st.booleans(),
    issues=st.sampled_from([(), ("x",), ("y",)]),
    passed=st.none() | st.booleans(),
    cost_usd=st.none() | st.floats(0, 1),
)


@given(st.lists(made, min_size=1, max_size=6), st.integers(0, 10), st.integers(0, 4), st.floats(0, 1))
def test_rounds_end_and_what_is_kept_is_never_worse_than_the_first(history, accept_score, max_rounds, usd):
    judgement = judge(tuple(history), Rules(accept_score=accept_score, max_rounds=max_rounds), Left(usd=usd))
    last, best = history[-1], history[judgement.best]
    if judgement.next is Next.ACCEPT:
        assert last.passed or (last.passed is None and last.approved and last.score >= accept_score)
        assert best == last
        return
    assert judgement.next is Next.KEEP or len(history) <= max_rounds
    assert (FACTS[best.passed], best.score or 0) >= (FACTS[history[0].passed], history[0].score or 0)
