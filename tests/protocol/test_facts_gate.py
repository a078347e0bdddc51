"""What goes back to the coder is what failed, and nothing else."""

from __future__ import annotations

import pytest

from protocol.facts import Checked, Facts, TestFact, TestOutcome
from protocol.policies.facts_gate import MOST_ISSUES, failures, in_words, proven, reached, shorten


def fact(name: str, outcome: TestOutcome, message: str = "") -> TestFact:
    return TestFact(name=name, outcome=outcome, message=message)


LACKING = "needs x, which the sandbox does not have"
MIXED = Facts(
    parsed=True,
    imported=True,
    tests=(
        fact("a", TestOutcome.PASSED),
        fact("b", TestOutcome.FAILED, "no"),
        fact("c", TestOutcome.SKIPPED, "later"),
        fact("d", TestOutcome.NOT_RUN),
    ),
)


def test_only_failures_go_back_with_their_messages():
    assert failures(MIXED) == ("b failed: no",)


def test_what_is_not_known_is_no_failure():
    assert failures(None) == ()
    assert failures(Facts(note="not run: no sandbox")) == ()
    assert failures(Facts(parsed=True, missing=("aiohttp",))) == ()


def test_problems_come_first_and_the_list_is_bounded():
    facts = Facts(problems=("p",), tests=tuple(fact(str(n), TestOutcome.FAILED, "m") for n in range(50)))
    assert failures(facts)[:2] == ("p", "0 failed: m")
    assert len(failures(facts)) == MOST_ISSUES


def test_a_draft_that_runs_got_further_than_one_that_parses_and_each_test_that_passes_is_further_still():
    stages = [None, Facts(parsed=True), Facts(parsed=True, imported=True), MIXED]
    assert [reached(facts) for facts in stages] == [0, 1, 2, 3]


def test_in_short_a_draft_is_parsed_ran_and_passed():
    assert shorten(MIXED) == Checked(parsed=True, ran=True, tests_passed=1, tests_failed=1, failures=("b failed: no",))


@pytest.mark.parametrize(
    ("checked", "words"),
    [
        (shorten(MIXED), "it parses, it runs, 1 of 2 tests passed"),
        (Checked(parsed=False), "it does not parse"),
        (Checked(parsed=True, ran=False), "it parses, it does not run"),
        (Checked(parsed=True, ran=True), "it parses, it runs, no tests"),
        (Checked(parsed=True, note=LACKING), f"it parses, {LACKING}"),
        (Checked(note="not run: no sandbox"), "not run: no sandbox"),
        (Checked(), "not run"),
    ],
)  # fmt: skip
def test_it_is_said_in_one_line(checked, words):
    assert in_words(checked) == words


def test_only_tests_that_its_author_did_not_write_prove_a_draft():
    own, given = fact("test_own.py::a", TestOutcome.PASSED), fact("test_given.py::a", TestOutcome.PASSED)
    assert [proven(facts) for facts in (None, Facts(), Facts(tests=(own,)))] == [None, None, None]
    assert proven(Facts(tests=(own, given))) is True
    assert proven(Facts(tests=(given, fact("test_given.py::b", TestOutcome.SKIPPED)))) is None
    assert proven(Facts(tests=(given, fact("test_own.py::b", TestOutcome.FAILED)))) is False
