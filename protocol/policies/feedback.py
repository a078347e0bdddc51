"""Feedback loops, the third pillar: what the rounds so far mean for a draft, and when another round is not worth it.

The rules, in the order in which they are asked; the first that holds ends the loop:

= =============== ========================================================================================
1 ``checked``     an external check (tests, a run) passed: a fact, whatever the reviewer says
2 ``scored``      approved with at least the score that is asked for, and no check failed
3 ``rounds``      as many revisions as are allowed
4 ``plateau``     a round gained less than a repeated review of one draft would move its score
5 ``cycle``       the draft is, or nearly is, an earlier one, and running it shows nothing else
6 ``same_critique`` the reviewer said the very same of the last draft
7 ``dear``        another round would take more money or time than is left
8 ``no_critique`` nothing to mend was named, or the review could not be read
9 ``fell``        the score fell twice in a row (a noise above 0 ends the loop before, by rule 4)
= =============== ========================================================================================

What is handed back is the best draft so far, never simply the last one. Most gain lies in the first rounds, and
rounds without news from outside make drafts worse (arXiv 2303.17651, 2310.01798): so few rounds, and early ends.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

SHINGLE = 3
"""Words in a row that two texts are compared by."""
_WORDS = re.compile(r"\w+|[^\w\s]")


class Next(StrEnum):
    """What happens to a draft."""

    ACCEPT = "accept"
    REVISE = "revise"
    KEEP = "keep"


class Stop(StrEnum):
    """Which rule ended the loop."""

    CHECKED = "checked"
    SCORED = "scored"
    ROUNDS = "rounds"
    PLATEAU = "plateau"
    CYCLE = "cycle"
    SAME_CRITIQUE = "same_critique"
    DEAR = "dear"
    NO_CRITIQUE = "no_critique"
    FELL = "fell"


class Rules(Struct, frozen=True, kw_only=True):
    """When to accept and when to stop.

    ``noise`` is by how many points of 10 reviews of one draft differ (sd): 2.1 were measured of a reviewer who is wrong
    about a fifth of its items, 2.6 of one that tosses coins; 0 switches rule 4 off. Without ``early`` there are rules
    1 to 3.
    """

    accept_score: int = 7
    max_rounds: int = 2
    noise: float = 2.5
    alike: float = 0.95
    early: bool = True


class Round(Struct, frozen=True, kw_only=True):
    """One draft and what was found about it.

    ``passed`` is the word of an external check, None without one, and ``reached`` how far the draft got in it.
    ``score`` (of 10) is None when no review could be read. ``cost_usd`` and ``seconds`` are what the round took, None
    when unknown.
    """

    text: str
    score: int | None = None
    approved: bool = False
    issues: tuple[str, ...] = ()
    passed: bool | None = None
    reached: int = 0
    cost_usd: float | None = None
    seconds: float | None = None


class Left(Struct, frozen=True, kw_only=True):
    """What is left to spend; None is no bound."""

    usd: float | None = None
    seconds: float | None = None


class Judgement(Struct, frozen=True, gc=False):
    """What to do next, which rule said so (None: none ended the loop), and the number of the best round."""

    next: Next
    why: Stop | None
    best: int


def judge(rounds: tuple[Round, ...], rules: Rules, left: Left | None = None, spared: Iterable[Stop] = ()) -> Judgement:
    """Judge the loop after its last round in *rounds*, which holds one round at least.

    The early rules in *spared* are left to somebody else.
    """
    last, best = rounds[-1], best_of(rounds, rules.noise)
    if last.passed:
        return Judgement(Next.ACCEPT, Stop.CHECKED, len(rounds) - 1)
    if _scored(last, rules):
        return Judgement(Next.ACCEPT, Stop.SCORED, len(rounds) - 1)
    why = Stop.ROUNDS if len(rounds) > rules.max_rounds else _early(rounds, rules, left or Left(), spared)
    return Judgement(Next.REVISE if why is None else Next.KEEP, why, best)


def best_of(rounds: tuple[Round, ...], noise: float = 0.0) -> int:
    """Return the number of the best round: facts, then scores, then how far it got, and of equals the first.

    A score that is higher by less than *noise* is no better: drafts that were revised for nothing are worse on average.
    """
    best = 0
    for n, later in enumerate(rounds[1:], 1):
        fact, points = _fact(later) - _fact(rounds[best]), _points(later) - _points(rounds[best])
        further = points == 0 and later.reached > rounds[best].reached
        if fact > 0 or (fact == 0 and (further or points >= max(noise, 1))):
            best = n
    return best


def alike(one: str, other: str, bound: float = 0.95) -> bool:
    """Tell whether two texts are the same but for little: the Jaccard index of their shingles is at least *bound*."""
    a, b = _WORDS.findall(one.lower()), _WORDS.findall(other.lower())
    if a == b:
        return True
    if min(len(a), len(b)) < SHINGLE or not bound <= len(a) / len(b) <= 1 / bound:
        return False
    first, second = _shingles(a), _shingles(b)
    return len(first & second) >= bound * len(first | second)


def _early(rounds: tuple[Round, ...], rules: Rules, left: Left, spared: Iterable[Stop]) -> Stop | None:
    """Return the first of rules 4 to 9 that holds."""
    if not rules.early:
        return None
    last, earlier = rounds[-1], rounds[:-1]
    critique = _critique(last)
    moves = [later - before for before, later in pairwise(r.score for r in rounds if r.score is not None)]
    holds = {
        Stop.PLATEAU: bool(moves) and last.score is not None and moves[-1] < rules.noise and rules.noise > 0.0,
        Stop.CYCLE: any(_same(last, round_, rules.alike) for round_ in earlier),
        Stop.SAME_CRITIQUE: bool(earlier) and bool(critique) and critique == _critique(earlier[-1]),
        Stop.DEAR: _over(last.cost_usd, left.usd) or _over(last.seconds, left.seconds),
        Stop.NO_CRITIQUE: not critique,
        Stop.FELL: len(moves) >= 2 and max(moves[-2:]) < 0,
    }
    return next((stop for stop, held in holds.items() if held and stop not in spared), None)


def _same(one: Round, other: Round, bound: float) -> bool:
    """Tell whether two drafts are the same but for little; what a check finds different is not."""
    return (one.passed, one.reached) == (other.passed, other.reached) and alike(one.text, other.text, bound)


def _scored(round_: Round, rules: Rules) -> bool:
    good = round_.approved and round_.score is not None and round_.score >= rules.accept_score
    return good and round_.passed is None


def _fact(round_: Round) -> int:
    return 0 if round_.passed is None else 1 if round_.passed else -1


def _points(round_: Round) -> int:
    return -1 if round_.score is None else round_.score


def _critique(round_: Round) -> tuple[str, ...]:
    return tuple(sorted(issue.casefold().strip() for issue in round_.issues))


def _over(cost: float | None, left: float | None) -> bool:
    """Tell whether one more of *cost* is more than what is *left*."""
    return cost is not None and left is not None and cost > left


def _shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[n : n + SHINGLE]) for n in range(len(words) - SHINGLE + 1)}
