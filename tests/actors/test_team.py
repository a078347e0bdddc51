"""The team: plan, drafts in parallel, review without a barrier, rounds, and what becomes of failures."""

from __future__ import annotations

import pytest

from actors import Coder, Orchestrator, Reviewer, TeamWorkflow
from actors.team import TeamRules
from actors.testing import ActorTestKit, ScriptedModel
from protocol import ErrorKind
from protocol.chat import CallFailure
from protocol.plan import Plan, Review

TASK = "Implement an async HTTP client with retries"
GOOD, BAD = Review(score=9, approved=True), Review(issues=("too short",), score=3, approved=False)
BROKEN = CallFailure(kind=ErrorKind.SERVER_ERROR, message="the server is down")


def draft(call) -> str:
    return f"draft of {call.messages[-1].content}"


def kit_with(seed: int | None = None, latency: float = 1.0, **answers) -> ActorTestKit:
    script = {"orchestrator": Plan(subtasks=("a", "b", "c")), "coder": draft, "reviewer": GOOD, **answers}
    kit = ActorTestKit(ScriptedModel(script, latency=latency), seed=seed)
    for agent in (Orchestrator, Coder, Reviewer):
        kit.register(agent)
    return kit


def run(kit: ActorTestKit, task: str = TASK, **rules):
    return kit.run(lambda start: TeamWorkflow(start, TeamRules(**rules)), task)


def test_a_task_is_planned_written_and_reviewed():
    kit = kit_with()
    result = run(kit)
    assert result.success
    assert result.output.startswith("## a\n\ndraft of Implement: a")
    assert result.summary.total_tasks == 7
    assert [a.accepted for a in result.accepted] == [True] * 3
    assert kit.now == 3.0
    kit.expect_idle()


def test_prompts_begin_as_the_guide_says():
    kit = kit_with()
    run(kit)
    begins = {call.role: call.messages[-1].content.split(":")[0] for call in kit.model.calls}
    assert begins == {"orchestrator": "Analyze and break down", "coder": "Implement", "reviewer": "Review"}


def test_a_draft_is_reviewed_as_soon_as_it_is_there():
    def before_the_last_draft(seed: int) -> bool:
        kit = kit_with(seed, latency=0.0)
        run(kit)
        role = {p.facts["step"]: p.facts["role"] for p in kit.progress if p.event == "task.started"}
        seen = [(p.event, role[p.facts["step"]]) for p in kit.progress if p.event.startswith("task.")]
        last_draft = len(seen) - 1 - seen[::-1].index(("task.finished", "coder"))
        return ("task.started", "reviewer") in seen[:last_draft]

    assert any(before_the_last_draft(seed) for seed in range(20))


def test_a_rejected_draft_is_revised_with_its_issues_alone():
    kit = kit_with(orchestrator=Plan(subtasks=("a",)), reviewer=[BAD, GOOD])
    result = run(kit)
    assert (result.success, result.accepted[0].rounds) == (True, 1)
    revision = [call for call in kit.model.calls if call.role == "coder"][1].messages[-1].content
    assert "draft of Implement: a" in revision
    assert "- too short" in revision


def test_after_the_last_round_the_best_draft_is_kept():
    reviews = [Review(issues=("x",), score=5, approved=False), BAD, Review(issues=("y",), score=4, approved=False)]
    kit = kit_with(orchestrator=Plan(subtasks=("a",)), coder=["first", "second", "third"], reviewer=reviews)
    result = run(kit)
    assert (result.success, result.output) == (True, "first")
    assert (result.accepted[0].accepted, result.accepted[0].score, result.accepted[0].rounds) == (False, 5, 2)


def test_a_simple_task_goes_to_one_coder_without_a_plan():
    kit = kit_with()
    assert run(kit, "What is a monad?").summary.total_tasks == 2
    assert [call.role for call in kit.model.calls] == ["coder", "reviewer"]


@pytest.mark.parametrize(("plan", "task", "tasks"), [("never", TASK, 2), ("always", "Hi?", 7)])
def test_planning_can_be_forced_and_forbidden(plan, task, tasks):
    assert run(kit_with(), task, plan=plan).summary.total_tasks == tasks


def test_a_failed_plan_falls_back_to_one_coder_with_the_whole_task():
    result = run(kit_with(orchestrator=BROKEN))
    assert result.success
    assert result.output == f"draft of Implement: {TASK}"
    assert [a.note for a in result.accepted] == ["no plan (the server is down): one coder does the whole task"]
    assert result.error is None
    assert [r.success for r in result.results] == [False, True, True]


def test_a_subtask_whose_coder_fails_for_good_fails_the_run_and_keeps_the_others():
    def coder(call):
        return BROKEN if call.messages[-1].content == "Implement: b" else draft(call)

    result = run(kit_with(coder=coder))
    assert not result.success
    assert result.error == "1 of 3 subtasks has no finished draft: b: the server is down"
    assert "## a" in result.output
    assert "## c" in result.output
    assert "## b" not in result.output


def test_a_review_that_fails_for_the_providers_reasons_is_no_verdict():
    result = run(kit_with(orchestrator=Plan(subtasks=("a",)), reviewer=BROKEN))
    assert (result.success, result.output) == (False, "draft of Implement: a")


def test_a_verdict_nobody_can_read_keeps_the_draft():
    result = run(kit_with(orchestrator=Plan(subtasks=("a",)), reviewer=["hm", "hm hm"]))
    assert (result.success, result.accepted[0].accepted) == (True, False)


def test_a_model_that_knows_no_json_is_read_as_text():
    plan = "Here is my plan:\n\n# Plan\n\n1. Write the\n   client\n2. Write the tests\n\nGood luck!"
    kit = kit_with(orchestrator=plan, reviewer="Score: 8/10\nApproved: yes")
    result = run(kit)
    assert [a.subtask for a in result.accepted] == ["Write the client", "Write the tests"]
    assert result.success
    assert result.summary.llm_calls == 5


def test_subtasks_past_the_cap_are_merged_and_the_result_says_so():
    result = run(kit_with(), max_subtasks=2)
    assert [a.subtask for a in result.accepted] == ["a", "b; c"]
    assert [a.note for a in result.accepted] == [
        "",
        "the plan had more than 2 subtasks: the further ones were merged into this",
    ]
    assert (result.success, result.error) == (True, None)


def test_a_note_on_the_plan_does_not_hide_what_went_wrong():
    result = run(kit_with(orchestrator=BROKEN, coder=BROKEN))
    assert [a.note for a in result.accepted] == [
        "no plan (the server is down): one coder does the whole task; the server is down"
    ]
    assert result.error == f"1 of 1 subtasks has no finished draft: {TASK}: the server is down"


def test_a_cancelled_run_keeps_the_drafts_that_exist():
    kit = kit_with()
    id_ = kit.submit(lambda start: TeamWorkflow(start, TeamRules()), TASK)
    kit.advance(2.5)
    kit.cancel(id_)
    result = kit.result(id_)
    assert (result.success, result.error_kind) == (False, ErrorKind.CANCELLED)
    assert len(result.results) == 4
    assert "draft of Implement: a" in result.output


@pytest.mark.slow
def test_law_6_the_answer_is_the_same_whatever_the_interleaving():
    def reviewer(call):
        return (
            BAD if "Implement: b" in call.messages[-1].content and "issues" not in call.messages[-1].content else GOOD
        )

    outcomes = {
        (result.output, result.success, result.accepted)
        for result in (run(kit_with(seed, latency=0.0, reviewer=reviewer)) for seed in range(300))
    }
    assert len(outcomes) == 1
