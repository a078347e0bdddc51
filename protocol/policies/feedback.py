"""Feedback loops, the third pillar: what a review means for a draft. A later policy adds the finer stop rules.

The best draft so far is kept, never simply the last one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.plan import Review


class Next(StrEnum):
    """What happens to a draft."""

    ACCEPT = "accept"
    REVISE = "revise"
    KEEP = "keep"


def judge(review: Review, *, round_: int, accept_score: int, max_rounds: int) -> Next:
    """Accept at *accept_score* of 10 and approval; revise while rounds are left; then keep the best."""
    if review.approved and review.score >= accept_score:
        return Next.ACCEPT
    if round_ >= max_rounds:
        return Next.KEEP
    return Next.REVISE
