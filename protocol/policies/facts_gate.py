"""The facts gate: what must be mended before an opinion is asked. Facts come first, always.

Only what failed goes back to the coder, by name and with its message; what could not be tried is no failure.
"""

from __future__ import annotations

from protocol.facts import Checked, Facts, TestOutcome

MOST_ISSUES = 20
LONGEST_ISSUE = 1000

Standing = tuple[int, int, int]


def failures(facts: Facts | None) -> tuple[str, ...]:
    """Return what must be mended, an issue each; none when nothing failed, or nothing is known."""
    if facts is None:
        return ()
    failed = [f"{test.name} failed: {test.message}" for test in facts.tests if test.outcome is TestOutcome.FAILED]
    return tuple(issue[:LONGEST_ISSUE] for issue in (*facts.problems, *failed)[:MOST_ISSUES])


def standing(facts: Facts | None, score: int | None) -> Standing:
    """Return how good a draft is, to be compared with another's of the same subtask.

    One that fails stands below one that does not, whatever a reviewer said of either; then the score counts, then how
    far it got.
    """
    short = shorten(facts or Facts())
    reached = bool(short.parsed) + bool(short.ran) + short.tests_passed
    return int(not failures(facts)), -1 if score is None else score, reached


def shorten(facts: Facts) -> Checked:
    """Return the facts in short."""
    outcomes = [test.outcome for test in facts.tests]
    return Checked(
        parsed=facts.parsed,
        ran=facts.imported,
        tests_passed=outcomes.count(TestOutcome.PASSED),
        tests_failed=outcomes.count(TestOutcome.FAILED),
        failures=failures(facts),
        note=facts.note,
    )


def in_words(checked: Checked) -> str:
    """Say in one line: did it parse, did it run, did its tests pass."""
    if checked.parsed is None:
        return checked.note or "not run"
    said = ["it parses" if checked.parsed else "it does not parse"]
    if checked.ran is not None:
        said.append("it runs" if checked.ran else "it does not run")
    tests = checked.tests_passed + checked.tests_failed
    if tests:
        said.append(f"{checked.tests_passed} of {tests} tests passed")
    elif checked.ran:
        said.append("no tests")
    return ", ".join([*said, checked.note] if checked.note else said)
