"""The executor among its team: facts come first, only failures go back, and a cancel ends what runs."""

from __future__ import annotations

from typing import Any

import msgspec

from actors import Coder, Executor, Orchestrator, Reviewer, TeamWorkflow
from actors.team import Running, TeamRules
from actors.testing import ActorTestKit, ScriptedModel
from protocol import AgentRole, ErrorKind
from protocol.chat import CallFailure
from protocol.facts import Checked, Ending, Facts, Job, Ran, TestOutcome
from protocol.models import ModelInfo, Price
from protocol.plan import Plan, Review

GOOD = Review(score=9, approved=True)
RIGHT = "```python\ndef double(x):\n    return 2 * x\n\n\ndef test_double():\n    assert double(2) == 4\n```"
WRONG = RIGHT.replace("2 * x", "3 * x")
ONE = Plan(subtasks=("double a number",))
NAME = "draft.py::test_double"


class Bench:
    """A box that needs no sandbox: it sees in the draft's text what its run would show."""

    def __init__(self, **answer: Any) -> None:
        self.jobs: list[Job] = []
        self.killed: list[str] = []
        self.answer = answer

    def run(self, job: Job) -> Ran:
        self.jobs.append(job)
        text = job.files[0].text
        bad = ("failed", NAME, "", "AssertionError: \0draft.py\x006")
        result = bad if "3 * x" in text else ("passed", NAME, "", "")
        look = (("python", "3.11", "", ""), ("test", NAME, "", ""))
        answer = {
            "ending": Ending.EXITED,
            "status": 0,
            "look": look,
            "proof": (("imported", "draft.py", "", ""), result),
        }
        return Ran(**{**answer, **self.answer})

    def kill(self, id_: str) -> None:
        self.killed.append(id_)


def stage(box: Any, **answers: Any) -> ActorTestKit:
    class Boxed(Executor):
        def __init__(self) -> None:
            super().__init__(box)

    script = {"orchestrator": ONE, "coder": RIGHT, "reviewer": GOOD, **answers}
    kit = ActorTestKit(ScriptedModel(script))
    for agent in (Orchestrator, Coder, Reviewer, Boxed):
        kit.register(agent)
    return kit


def run(kit: ActorTestKit, task: str = "Write double", **rules: Any):
    running = rules.pop("running", Running(on=True))
    return kit.run(lambda start: TeamWorkflow(start, TeamRules(**{"plan": "always", **rules}), running), task)


def asked(kit: ActorTestKit, role: str) -> list[str]:
    return [call.messages[-1].content for call in kit.model.calls if call.role == role]


def test_an_executor_answers_a_draft_with_facts():
    result = stage(Bench()).ask(AgentRole.EXECUTOR, WRONG)
    facts = msgspec.json.decode(result.result, type=Facts)
    assert (facts.parsed, facts.imported, facts.tests[0].outcome) == (True, True, TestOutcome.FAILED)
    assert facts.tests[0].message == "AssertionError (draft.py line 6: assert double(2) == 4)"


def test_an_executor_without_a_box_runs_nothing():
    kit = ActorTestKit(ScriptedModel({}))
    kit.register(Executor)
    facts = msgspec.json.decode(kit.ask(AgentRole.EXECUTOR, RIGHT).result, type=Facts)
    assert (facts.note, facts.parsed) == ("not run: no sandbox (none was given)", None)


def test_a_draft_without_code_runs_nothing():
    box = Bench()
    result = stage(box).ask(AgentRole.EXECUTOR, "I would rather not.")
    assert msgspec.json.decode(result.result, type=Facts).note == "not run: there is no Python in it"
    assert box.jobs == []


def test_a_failing_test_drives_the_revision_that_passes_it():
    kit = stage(Bench(), coder=[WRONG, RIGHT])
    result = run(kit)
    assert (result.success, result.output) == (True, RIGHT)
    accepted = result.accepted[0]
    assert (accepted.accepted, accepted.rounds, accepted.score) == (True, 1, 9)
    assert accepted.facts == Checked(parsed=True, ran=True, tests_passed=1)


def test_only_what_failed_goes_back_with_names_and_messages():
    kit = stage(Bench(), coder=[WRONG, RIGHT])
    run(kit)
    revision = asked(kit, "coder")[1]
    assert f"- {NAME} failed: AssertionError (draft.py line 6: assert double(2) == 4)" in revision
    assert revision.count("\n- ") == 1


def test_what_the_executor_does_is_a_check_and_no_task():
    kit = stage(Bench(), coder=[WRONG, RIGHT])
    result = run(kit)
    assert [each.agent for each in result.results] == ["orchestrator/0", "coder/0", "coder/0", "reviewer/0"]
    assert (result.summary.total_tasks, result.summary.successful) == (4, 4)
    roles = {event.facts["role"] for event in kit.progress if event.event == "task.started"}
    assert roles == {"orchestrator", "coder", "reviewer"}
    checks = [event.event for event in kit.progress if event.event in {"check.started", "draft.checked"}]
    assert checks == ["check.started", "draft.checked"] * 2


def test_a_draft_that_fails_is_not_reviewed_and_one_that_passes_is_reviewed_knowing_that():
    kit = stage(Bench(), coder=[WRONG, RIGHT])
    run(kit)
    assert len(asked(kit, "reviewer")) == 1
    assert "It was run in a sandbox: it parses, it runs, 1 of 1 tests passed." in asked(kit, "reviewer")[0]


def test_a_draft_that_fails_to_the_last_is_kept_and_never_accepted():
    kit = stage(Bench(), coder=WRONG)
    result = run(kit, max_rounds=1)
    assert (result.success, result.output, asked(kit, "reviewer")) == (True, WRONG, [])
    assert (result.accepted[0].accepted, result.accepted[0].score) == (False, None)
    assert result.accepted[0].facts == Checked(
        parsed=True,
        ran=True,
        tests_failed=1,
        failures=(f"{NAME} failed: AssertionError (draft.py line 6: assert double(2) == 4)",),
    )


def test_a_draft_that_passes_is_better_than_a_later_one_that_fails():
    poor = Review(issues=("too short",), score=2, approved=False)
    result = run(stage(Bench(), coder=[RIGHT, WRONG], reviewer=poor), max_rounds=1)
    assert (result.output, result.accepted[0].score) == (RIGHT, 2)
    assert result.accepted[0].facts.tests_passed == 1


def test_events_tell_what_was_found():
    kit = stage(Bench(), coder=[WRONG, RIGHT])
    run(kit)
    found = [event.facts for event in kit.progress if event.event == "draft.checked"]
    assert [(facts["parsed"], facts["ran"], facts["tests_failed"]) for facts in found] == [
        (True, True, 1),
        (True, True, 0),
    ]
    rejected = next(event.facts for event in kit.progress if event.event == "draft.rejected")
    assert (rejected["score"], rejected["issues"]) == (None, 1)


def test_tests_that_a_task_gives_are_run_beside_the_draft():
    box = Bench()
    test = "def test_given():\n    assert double(1) == 2\n"
    run(stage(box), f"Write double. It must pass:\n```python\n{test}```", plan="never")
    assert box.jobs[0].files[-1].name == "test_given.py"
    assert box.jobs[0].files[-1].text == test


def test_a_draft_that_passes_the_given_tests_is_accepted_whatever_the_reviewer_says():
    given = ("passed", "test_given.py::test_given", "", "")
    box = Bench(look=(("test", given[1], "", ""),), proof=(("imported", "draft.py", "", ""), given))
    bad = Review(issues=("no docstring",), score=2, approved=False)
    task = "Write double. It must pass:\n```python\ndef test_given():\n    assert double(1) == 2\n```"
    kit = stage(box, reviewer=bad)
    result = run(kit, task, plan="never")
    assert (result.accepted[0].accepted, result.accepted[0].rounds) == (True, 0)
    assert next(p.facts["why"] for p in kit.progress if p.event == "draft.accepted") == "checked"


def test_tests_that_a_plan_gives_with_a_subtask_are_run_beside_its_draft_alone():
    box = Bench()
    subtask = "double a number:\n```python\ndef test_given():\n    assert double(1) == 2\n```"
    result = run(stage(box, orchestrator=Plan(subtasks=(subtask, "halve a number"))))
    assert sorted(len(job.files) for job in box.jobs) == [1, 2]
    assert "def test_given" in result.accepted[0].subtask
    assert result.output.startswith("## double a number:\n\n```python\ndef double")


def test_where_drafts_are_not_run_nobody_asks_and_nothing_is_said():
    kit = stage(Bench())
    result = run(kit, running=Running())
    assert (result.summary.total_tasks, result.accepted[0].facts) == (3, None)
    assert [event.event for event in kit.progress if "not_run" in event.event] == []


def test_where_there_is_no_sandbox_that_is_shown():
    kit = stage(Bench())
    result = run(kit, running=Running(reason="no sandbox"))
    assert result.accepted[0].facts == Checked(note="not run: no sandbox")
    assert [event.facts for event in kit.progress if event.event == "drafts.not_run"] == [{"reason": "no sandbox"}]


def test_a_sandbox_that_turns_out_not_to_work_lets_the_reviewer_judge():
    kit = stage(Bench(ending=Ending.NO_SANDBOX, reason="namespaces are forbidden"))
    result = run(kit)
    assert result.accepted[0].accepted
    assert result.accepted[0].facts.note == "not run: no sandbox (namespaces are forbidden)"


def test_a_box_that_raises_fails_its_own_task_and_nothing_else():
    class Broken(Bench):
        def run(self, job: Job) -> Ran:
            raise OSError("no descriptors left")

    box = Broken()
    result = run(stage(box))
    assert (result.success, result.accepted[0].accepted) == (True, True)
    assert result.accepted[0].facts.note == "not run: OSError: no descriptors left"
    assert len(box.killed) == 1


def test_a_cancelled_run_ends_what_runs():
    kit = stage(Bench())
    box = kit.actor("executor/0")._box
    kit.actor("workers")._hand_out = lambda: None  # the crew is busy
    id_ = kit.submit(lambda start: TeamWorkflow(start, TeamRules(plan="never"), Running(on=True)), "Write double")
    kit.advance(5.0)
    kit.cancel(id_)
    result = kit.result(id_)
    assert (result.success, len(box.killed), box.jobs) == (False, 1, [])
    assert box.killed[0].startswith(id_)


# --- facts and feedback together

LONG = "\n".join(f"# {n}: this line says nothing" for n in range(80))
POOR = Review(issues=("too short",), score=2, approved=False)
DOWN = CallFailure(kind=ErrorKind.BAD_REQUEST, message="the reviewer is out")


def with_lines(draft: str) -> str:
    return draft.replace("```python", f"```python\n{LONG}")


def test_a_draft_that_differs_in_one_character_is_run_and_counts_by_what_that_shows():
    kit = stage(Bench(), coder=[with_lines(WRONG), with_lines(RIGHT)])
    result = run(kit)
    assert (result.accepted[0].accepted, result.output) == (True, with_lines(RIGHT))
    assert [event.facts["tests_failed"] for event in kit.progress if event.event == "draft.checked"] == [1, 0]


def test_a_nearly_same_draft_that_now_runs_is_no_cycle_and_may_be_revised_again():
    better = with_lines(RIGHT) + "\nand a word more"
    kit = stage(Bench(), coder=[with_lines(WRONG), with_lines(RIGHT), better], reviewer=[POOR, GOOD])
    assert (run(kit).accepted[0].accepted, len(asked(kit, "coder"))) == (False, 3)
    kit = stage(Bench(), coder=[with_lines(WRONG), with_lines(RIGHT), "```python\nnew = 1\n```"], reviewer=[POOR, GOOD])
    result = run(kit)
    assert (result.accepted[0].accepted, result.accepted[0].rounds) == (True, 2)


def test_the_very_same_draft_is_not_run_again_and_a_nearly_same_one_not_reviewed_again():
    box = Bench()
    kit = stage(box, coder=RIGHT, reviewer=POOR)
    run(kit)
    assert (len(box.jobs), len(asked(kit, "reviewer"))) == (1, 1)
    box = Bench()
    kit = stage(box, coder=[with_lines(RIGHT), with_lines(RIGHT) + " ", with_lines(RIGHT) + "  "], reviewer=POOR)
    run(kit)
    assert (len(box.jobs) > 1, len(asked(kit, "reviewer"))) == (True, 1)


GIVEN = "Write double. It must pass:\n```python\ndef test_given():\n    assert double(1) == 2\n```"


def test_a_draft_that_passes_the_given_tests_is_accepted_although_its_review_failed():
    given = ("passed", "test_given.py::test_given", "", "")
    box = Bench(look=(("test", given[1], "", ""),), proof=(("imported", "draft.py", "", ""), given))
    result = run(stage(box, reviewer=DOWN), GIVEN, plan="never")
    accepted = result.accepted[0]
    assert (result.success, accepted.accepted, accepted.score, accepted.facts.tests_passed) == (True, True, None, 1)
    assert "the reviewer is out" in accepted.note


def test_where_a_review_failed_the_facts_of_its_draft_still_count():
    result = run(stage(Bench(), coder=[WRONG, RIGHT], reviewer=DOWN))
    accepted = result.accepted[0]
    assert (result.success, result.output, accepted.accepted) == (False, RIGHT, False)
    assert (accepted.facts.tests_passed, accepted.rounds) == (1, 1)


def test_a_reviewer_is_not_told_that_what_was_not_run_was_run():
    kit = stage(Bench(ending=Ending.NO_SANDBOX, reason="namespaces are forbidden"))
    run(kit)
    assert "sandbox" not in asked(kit, "reviewer")[0]


def test_a_draft_that_given_tests_will_judge_may_start_on_a_cheaper_model_where_drafts_are_run():
    models = tuple(
        ModelInfo(key=key, provider="main", name=key, tier=tier, prices=(Price(input=price, output=price),))
        for key, tier, price in (("cheap", 1, 50.0), ("strong", 3, 1000.0))
    )

    def of(running: Running) -> bool:
        kit = ActorTestKit(ScriptedModel({"coder": RIGHT, "reviewer": GOOD}), models=models)
        for agent in (Coder, Reviewer):
            kit.register(agent)
        kit.spawn(Executor, "executor/0")
        run(kit, GIVEN, plan="never", running=running)
        return kit.model.calls[0].asked.occasion.checked

    assert [of(Running(on=True)), of(Running())] == [True, False]
