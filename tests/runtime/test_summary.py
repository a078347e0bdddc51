"""The closing summary: the guide's four labels, and sums that can be checked by hand."""

from __future__ import annotations

import pytest

from protocol.costs import Costs, Line, Sums, costs_of, together
from protocol.facts import Checked
from protocol.messages import Accepted, Summary, WorkflowResult
from runtime.summary import HOW, Tally, cost_lines, costs_document, lines, total

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


def test_a_sum_of_dollars_is_that_of_its_nano_dollars():
    tenths = [result(Summary(cost_usd=cost)) for cost in (0.1, 0.2)]
    assert total(tenths, 1.0).cost_usd == 0.3


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


# --- costs

CODER = Sums(calls=2, input_tokens=10, output_tokens=4, nano_usd=1_500_000, routing=3_000_000)
PLANNER = Sums(calls=1, input_tokens=5, cached_tokens=3, nano_usd=500_000)
COSTS = costs_of(
    [Line(role="orchestrator", model="big", sums=PLANNER), Line(role="coder", model="m", round=0, sums=CODER)]
)


def test_costs_are_dollars_by_role_model_and_round_with_what_was_saved_as_estimates():
    document = costs_document(COSTS)
    assert (document["cost_usd"], document["calls"], document["cached_tokens"]) == (0.002, 3, 3)
    assert [document[side] for side in ("roles", "models", "rounds")] == [
        {"orchestrator": document["roles"]["orchestrator"], "coder": document["models"]["m"]},
        {"big": document["roles"]["orchestrator"], "m": document["rounds"]["0"]},
        {"none": document["roles"]["orchestrator"], "0": document["roles"]["coder"]},
    ]
    assert document["roles"]["coder"]["cost_usd"] == 0.0015
    assert document["saved_estimates"] == {"routing_usd": 0.003, "planning_usd": 0.0, "serving_usd": 0.0, "how": HOW}


def test_an_unknown_price_is_null_in_the_document_and_not_said_in_the_summary():
    unknown = costs_of([Line(role="coder", model="m", sums=Sums(calls=1, nano_usd=None, routing=None))], None)
    document = costs_document(unknown)
    assert (document["cost_usd"], document["models"]["m"]["cost_usd"]) == (None, None)
    assert (document["saved_estimates"]["routing_usd"], document["saved_estimates"]["planning_usd"]) == (None, None)
    assert cost_lines(unknown) == []
    assert cost_lines(Costs()) == []


def test_the_summary_says_in_two_lines_who_caused_the_cost_and_what_was_saved():
    shared = costs_of([Line(role="coder", model="m", round=1, sums=Sums(served=2, serving=250_000))], 40_000)
    role, saved = cost_lines(together([COSTS, shared]))
    assert role == "Cost by role: orchestrator $0.000500, coder $0.001500"
    assert saved.removeprefix("Saved (estimates): ").split(", ") == [
        "$0.003000 by choosing models",
        "$0.000040 by skipping plans",
        "$0.000250 by 2 answers without a call",
    ]
    assert cost_lines(costs_of([], 40_000)) == ["Saved (estimates): $0.000040 by skipping plans"]


def test_a_choice_that_cost_more_is_said_so():
    dearer = costs_of([Line(role="coder", model="m", sums=Sums(calls=1, nano_usd=5, routing=-1_000))])
    assert cost_lines(dearer) == ["Saved (estimates): -$0.000001 by choosing models"]


def test_an_answer_without_a_known_price_saved_an_unknown_sum():
    served = costs_of([Line(role="coder", model="m", sums=Sums(served=1, serving=None))])
    assert cost_lines(served) == ["Saved (estimates): an unknown sum by 1 answer without a call"]
