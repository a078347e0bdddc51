"""The facts gate: what must be mended before an opinion is asked. Facts come first, always.

Only what failed goes back to the coder, by name and with its message; what could not be tried is no failure.
"""

from __future__ import annotations

from protocol.facts import GIVEN, Checked, Facts, TestOutcome

MOST_ISSUES = 20
LONGEST_ISSUE = 1000


def failures(facts: Facts | None) -> tuple[str, ...]:
    """Return what must be mended, an issue each; none when nothing failed, or nothing is known."""
    if facts is None:
        return ()
    failed = [f"{test.name} failed: {test.message}" for test in facts.tests if test.outcome is TestOutcome.FAILED]
    return tuple(issue[:LONGEST_ISSUE] for issue in (*facts.problems, *failed)[:MOST_ISSUES])


def reached(facts: Facts | None) -> int:
    """Return how far a draft got, to be compared with another's of the same subtask."""
    if facts is None:
        return 0
    short = shorten(facts)
    return bool(short.parsed) + bool(short.ran) + short.tests_passed


def proven(facts: Facts | None) -> bool | None:
    """Tell what an external check says: False when something failed, True when the given tests have all passed.

    None otherwise: that a draft passes the tests of its own author proves little.
    """
    if facts is None:
        return None
    if failures(facts):
        return False
    given = {test.outcome for test in facts.tests if test.name.partition("::")[0] == GIVEN}
    return True if given == {TestOutcome.PASSED} else None


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
