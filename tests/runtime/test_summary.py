"""The closing summary: the guide's four labels, and sums that can be checked by hand."""

from __future__ import annotations

import pytest

from protocol.facts import Checked
from protocol.messages import Accepted, Summary, WorkflowResult
from runtime.summary import Tally, lines, total

ONE = Summary(
    total_tasks=3, successful=2, failed=1, llm_calls=4, retries=1, input_tokens=10, output_tokens=20, cost_usd=0.25,
    wall_ms=1000.0, llm_ms=2500.0,
)  # fmt: skip
TWO = Summary(
    total_tasks=1, successful=1, failed=0, llm_calls=1, retries=0, input_tokens=1, output_tokens=2, cost_usd=0.5,
    wall_ms=700.0, llm_ms=500.0,
)  # fmt: skip


def result(summary: Summary, *, success: bool = True) -> WorkflowResult:
    return WorkflowResult(correlation_id="x", success=success, summary=summary)


def test_the_lines_begin_with_the_guides_four_labels():
    assert lines(ONE) == [
        "Total Tasks: 3",
        "Successful: 2",
        "Failed: 1",
        "Total Execution Time: 2500.00 ms",
        "Wall time: 1.00 s",
        "Model time: 2.50 s in 4 calls, 1 of them retries",
        "Tokens: 10 in, 20 out",
        "Cost: $0.250000",
        "Speed-up over one after another: 2.5 x",
    ]


def test_an_unknown_price_is_never_shown_as_nothing():
    unknown = Summary(llm_calls=1, cost_usd=None)
    assert "Cost: unknown (no price is configured)" in lines(unknown)
    assert total([result(ONE), result(unknown)], 1.0).cost_usd is None


def test_what_took_no_time_has_no_speed_up():
    assert not any("Speed-up" in line for line in lines(Summary()))


def test_notes_come_last():
    assert lines(ONE, ["Workflows: 2, failed: 0"])[-1] == "Workflows: 2, failed: 0"


def test_sums_add_up_and_the_wall_time_is_that_of_the_batch():
    sums = total([result(ONE), result(TWO, success=False)], 1234.56789)
    assert (sums.total_tasks, sums.successful, sums.failed, sums.llm_calls, sums.retries) == (4, 3, 1, 5, 1)
    assert (sums.input_tokens, sums.output_tokens) == (11, 22)
    assert (sums.cost_usd, sums.wall_ms, sums.llm_ms) == (0.75, 1234.568, 3000.0)
    assert (sums.workflows, sums.workflows_failed) == (2, 1)


@pytest.mark.parametrize("field", [name for name in Summary.__struct_fields__ if name not in {"wall_ms", "cost_usd"}])
def test_every_field_of_a_runs_summary_is_summed(field):
    assert getattr(total([result(ONE), result(ONE)], 0.0), field) == 2 * getattr(ONE, field)


def test_the_sums_of_nothing_are_nothing():
    assert total([], 5.0).workflows == total([], 5.0).total_tasks == 0


def tally(*facts: Checked | None) -> list[str]:
    counted = Tally()
    for each in facts:
        accepted = (Accepted(subtask="a", accepted=True, facts=each),)
        counted.add(WorkflowResult(correlation_id="x", success=True, accepted=accepted))
    return counted.lines()


def test_the_drafts_are_counted_by_what_running_them_showed():
    good, bad = Checked(parsed=True, ran=True, tests_passed=2, tests_failed=1), Checked(parsed=False)
    assert tally(good, bad) == ["Drafts: parsed 1 of 2, ran 1 of 2, 2 of 3 tests passed"]
    assert tally(Checked(parsed=True, ran=True)) == ["Drafts: parsed 1 of 1, ran 1 of 1, no tests"]


def test_drafts_that_were_not_run_say_why():
    none = Checked(note="not run: no sandbox")
    assert tally(none, none) == ["Drafts: 2 of 2 not run: no sandbox"]
    assert tally(none, Checked(parsed=True)) == [
        "Drafts: parsed 1 of 2, ran 0 of 2, no tests",
        "Drafts: 1 of 2 not run: no sandbox",
    ]


def test_where_nothing_was_to_be_run_nothing_is_said():
    assert tally(None, None) == []
