"""A review in plain text, read with lenience."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.plan import Review
from protocol.policies.verdict import APPROVED_SCORE, REJECTED_SCORE, read_verdict


def verdict(text):
    review = read_verdict(text)
    return None if review is None else (review.score, review.approved)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Score: 8/10", (8, True)),
        ("8 / 10", (8, True)),
        ("Bewertung: 7/10", (7, True)),
        ("**Score:** 6/10", (6, False)),
        ("Score: 9", (9, True)),
        ("Rating - 85/100", (8, True)),
        ("Overall: 4 out of 5", (8, True)),
        ("7 von 10 Punkten", (7, True)),
        ("Note: 7,5/10", (7, True)),
        ("I rate it 6.5/10.", (6, False)),
        ("10/10", (10, True)),
        ("Security: 3/10, style: 5/10. Overall: 4/10", (4, False)),
        ("Security 3/10, style 9/10", (9, True)),
        ('{"score": 8, "approved": true', (8, True)),
        ('{"score": 8, "approved": false', (8, False)),
        ("Approved", (APPROVED_SCORE, True)),
        ("LGTM!", (APPROVED_SCORE, True)),
        ("The code is approved.", (APPROVED_SCORE, True)),
        ("I approve this change.", (APPROVED_SCORE, True)),
        ("Verdict: **accept**", (APPROVED_SCORE, True)),
        ("Approved: yes", (APPROVED_SCORE, True)),
        ("Approved: no", (REJECTED_SCORE, False)),
        ("Freigegeben.", (APPROVED_SCORE, True)),
        ("Nicht freigegeben.", (REJECTED_SCORE, False)),
        ("rejected", (REJECTED_SCORE, False)),
        ("Status: REJECTED", (REJECTED_SCORE, False)),
        ("This draft must be rejected.", (REJECTED_SCORE, False)),
        ("not approved", (REJECTED_SCORE, False)),
        ("It is not yet approved.", (REJECTED_SCORE, False)),
        ("This cannot be approved.", (REJECTED_SCORE, False)),
        ("I don't approve.", (REJECTED_SCORE, False)),
        ("I would approve once the tests pass.", (REJECTED_SCORE, False)),
        ("Needs changes.", (REJECTED_SCORE, False)),
        ("It needs some more work.", (REJECTED_SCORE, False)),
        ("Changes requested", (REJECTED_SCORE, False)),
        ("Approved, no changes requested.", (APPROVED_SCORE, True)),
        ("Score: 9/10, not approved", (9, False)),
        ("Score: 4/10. Approved.", (4, True)),
    ],
)
def test_a_verdict_is_read(text, expected):
    assert verdict(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The parser handles nested input well.",
        "Invalid input is rejected by the parser, valid input is accepted.",
        "Written on 8/10/2025 by 3 people.",
        "Version 1.8/10.2",
        "12/10",
        "Score: unknown",
        "Half of the 11/100 lines",
        "- a point\n- another",
    ],
)
def test_without_a_sign_there_is_no_verdict(text):
    assert verdict(text) is None


def test_the_issues_are_the_list_items_that_are_no_verdict():
    text = "Issues:\n- no timeout\n* leaks a socket\n1. no timeout\n- Score: 4/10\n- Rejected\n- ---\n\nprose"
    assert read_verdict(text) == Review(issues=("no timeout", "leaks a socket"), score=4, approved=False)


@given(st.text(max_size=60), st.integers(0, 10), st.lists(st.text("ab ", min_size=1, max_size=1500), max_size=30))
def test_whatever_is_read_is_a_valid_review(noise, score, issues):
    lines = "\n".join(f"- {issue}" for issue in issues)
    review = read_verdict(f"{noise}\n{lines}\nFinal score: {score}/10")
    assert review is not None
    assert msgspec.convert(msgspec.to_builtins(review), Review) == review
    assert review.score == score


@given(st.text(alphabet="score :/10approved not\n-7", max_size=60))
def test_any_text_is_a_valid_review_or_none(text):
    review = read_verdict(text)
    assert review is None or msgspec.convert(msgspec.to_builtins(review), Review) == review


def test_issues_are_cut_to_what_a_review_may_hold():
    text = "Score: 3/10\n" + "\n".join(f"- {n} {'x' * 1500}" for n in range(30))
    issues = read_verdict(text).issues
    assert [len(issue) for issue in issues] == [1000] * 20
