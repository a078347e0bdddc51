"""Planted bugs are found, each by the check that is there for it, and their seeds replay. So every check can fail."""

from __future__ import annotations

import pytest

from tests.explorer.explore import Finding, explore
from tests.explorer.plants import PLANTS, planted

MOST = 2000
FOUR = ("lost-reply", "lost-lease", "wrong-conversation", "early-answer")
LAWS = {
    "lost-reply": {"no end"},
    "lost-lease": {"no end", "left over", "law 4"},
    "wrong-conversation": {"nonces", "no end"},
    "early-answer": {"record"},
    "loses-mail": {"law 1"},
    "doubles-mail": {"law 1"},
    "last-first": {"law 2"},
    "grants-too-much": {"law 4"},
    "settles-twice": {"law 4"},
    "dice-by-the-clock": {"law 6"},
    "any-order": {"law 9"},
    "forgets-no-task": {"left over", "no end"},
    "pays-again": {"paid twice"},
}


def search(plant: str) -> Finding:
    for seed in range(MOST):
        finding = planted(plant, seed)
        if finding is not None:
            return finding
    pytest.fail(f"{plant} is not found in {MOST} seeds")


@pytest.mark.slow
@pytest.mark.uncounted
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found_by_its_check_and_its_seed_replays(plant, record_property):
    finding = search(plant)
    record_property("seed", finding.seed)
    assert finding.law in LAWS[plant]
    again = planted(plant, finding.seed)
    assert again is not None
    assert again.law == finding.law
    if plant != "any-order":
        assert again._replace(messages="") == finding._replace(messages="")
    assert explore(finding.seed) is None


def test_the_four_bugs_that_the_explorer_was_built_for_can_be_planted():
    assert set(FOUR) <= set(PLANTS) == set(LAWS)
