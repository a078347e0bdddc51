"""From one seed to a finding or to silence; and from a finding to the shortest plan that still leads there."""

from __future__ import annotations

from typing import NamedTuple

from tests.explorer.books import Violation
from tests.explorer.play import Play
from tests.explorer.scenario import Plan, draw, draw_plan

OFTEN = 10
"""Every so many-th seed is played twice and its traces compared (law 9)."""
OTHER = 1_000_003
"""What is added to a seed for another order of events."""


class Finding(NamedTuple):
    """A law was broken in the play of *seed* with *plan*."""

    seed: int
    plan: Plan
    law: str
    text: str
    messages: str


def explore(seed: int, plan: Plan | None = None) -> Finding | None:
    """Play the scenario of *seed* with *plan* (the seed's own when None); None when every law holds."""
    scenario = draw(seed)
    plan = draw_plan(scenario) if plan is None else plan
    traced = seed % OFTEN == 0
    plays: list[Play] = []

    def play(with_: Plan, order: int) -> Play:
        plays.append(Play(scenario, with_, order, traced=traced))
        return plays[-1].go()

    try:
        played = play(plan, seed)
        if traced and play(plan, seed).hash.digest() != played.hash.digest():
            raise Violation("law 9", "the same seed gave another trace")
        if played.comparable():
            _compare(played, play(Plan(), seed + OTHER))
    except Violation as violation:
        return Finding(seed, plan, violation.law, str(violation), plays[-1].kit.sequence())
    return None


def _compare(played: Play, plain: Play) -> None:
    if plain.books.turned_away:
        return
    answers = played.answers()
    for run, expected in plain.answers().items():
        if answers[run] != expected:
            raise Violation("law 6", f"{run} came to\n  {answers[run]}\nwithout a fault it comes to\n  {expected}")
