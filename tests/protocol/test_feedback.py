"""What a review means for a draft."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.plan import Review
from protocol.policies.feedback import Next, judge


@pytest.mark.parametrize(
    ("score", "approved", "round_", "expected"),
    [
        (7, True, 0, Next.ACCEPT),
        (7, True, 2, Next.ACCEPT),
        (6, True, 0, Next.REVISE),
        (9, False, 0, Next.REVISE),
        (6, True, 2, Next.KEEP),
        (0, False, 3, Next.KEEP),
    ],
)
def test_a_draft_is_accepted_revised_or_kept(score, approved, round_, expected):
    review = Review(score=score, approved=approved)
    assert judge(review, round_=round_, accept_score=7, max_rounds=2) is expected


def test_no_rounds_means_one_review_and_no_revision():
    assert judge(Review(score=0, approved=False), round_=0, accept_score=7, max_rounds=0) is Next.KEEP


@given(st.integers(0, 10), st.booleans(), st.integers(0, 9), st.integers(0, 10), st.integers(0, 9))
def test_rounds_end_and_nothing_is_accepted_that_was_not_approved(score, approved, round_, accept_score, max_rounds):
    verdict = judge(
        Review(score=score, approved=approved), round_=round_, accept_score=accept_score, max_rounds=max_rounds
    )
    assert (verdict is Next.ACCEPT) == (approved and score >= accept_score)
    assert verdict is not Next.REVISE or round_ < max_rounds
