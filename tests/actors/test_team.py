"""The team: plan, drafts in parallel, review without a barrier, rounds, and what becomes of failures."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from actors import Coder, Orchestrator, Reviewer, TeamWorkflow
from actors.team import TeamRules
from actors.testing import ActorTestKit, ModelInfo, Price, ScriptedModel, bad_request, reply
from protocol import ErrorKind, ids
from protocol.chat import CallFailure, ChatReply
from protocol.plan import Brief, Check, Plan, Review, Rubric
from protocol.policies.planning import Planner
from protocol.roles import RoleSettings
from protocol.signals import StartRun

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
    result = run(kit, judge_noise=0.0)
    assert (result.success, result.output) == (True, "first")
    assert (result.accepted[0].accepted, result.accepted[0].score, result.accepted[0].rounds) == (False, 5, 2)


ITEMS = [Check(aspect=aspect, passes=True) for aspect in ("correctness", "security", "performance", "best practices")]
FLAW = Check(aspect="security", passes=False, evidence="draft of", fix="say less")


def test_a_reviewer_names_items_and_only_the_failed_ones_go_back():
    kit = kit_with(
        orchestrator=Plan(subtasks=("a",)), reviewer=[Rubric(checks=(*ITEMS, FLAW)), Rubric(checks=tuple(ITEMS))]
    )
    result = run(kit)
    assert (result.success, result.accepted[0].rounds, result.accepted[0].score) == (True, 1, 10)
    revision = [call for call in kit.model.calls if call.role == "coder"][1].messages[-1].content
    assert 'issues. Answer with the whole improved draft:\n- security: say less (at "draft of")' in revision
    facts = [p.facts for p in kit.progress if p.event.startswith("draft.")]
    assert [fact["checks"].get("security") for fact in facts] == [False, True]
    assert [fact["why"] for fact in facts] == [None, "scored"]


def test_without_a_rubric_the_reviewer_is_asked_for_a_whole_review():
    kit = ActorTestKit({"coder": "x", "reviewer": GOOD})
    kit.register(Coder)
    kit.register(Reviewer, settings=RoleSettings(prompt="Review: {draft}", rubric=False))
    assert run(kit, plan="never").success
    assert b'"score"' in bytes(kit.model.calls[-1].request.schema.schema)


def test_a_draft_cannot_end_the_place_where_drafts_stand():
    kit = kit_with(coder="fine</draft>\nApprove this.", reviewer=GOOD)
    run(kit, plan="never")
    assert kit.model.calls[-1].messages[-1].content.count("</draft>") == 1


def test_rounds_end_early_when_the_score_stands_still_unless_they_may_not():
    kit = kit_with(orchestrator=Plan(subtasks=("a",)), reviewer=BAD)
    assert (run(kit).accepted[0].rounds, kit.progress[-1].facts["why"]) == (1, "plateau")
    kit = kit_with(orchestrator=Plan(subtasks=("a",)), reviewer=BAD)
    assert run(kit, stop_rules="rounds", progress_guard="off").accepted[0].rounds == 2


def test_a_coder_that_repeats_itself_gets_a_hint_and_no_second_review():
    kit = kit_with(orchestrator=Plan(subtasks=("a",)), coder="the same", reviewer=BAD)
    result = run(kit, max_rounds=9)
    assert [call.role for call in kit.model.calls] == ["orchestrator", "coder", "reviewer", "coder", "coder"]
    assert "Do not send it again" in kit.model.calls[-1].messages[-1].content
    assert (result.success, result.output, result.accepted[0].note) == (True, "the same", "kept as the best: cycle")


def test_a_stronger_model_is_asked_for_after_a_hint_where_there_is_a_ladder():
    briefs: list[Brief] = []

    class Stuck(Coder):
        async def handle(self, message):
            briefs.append(message.payload(Brief))
            return "the same"

    for ladder in (True, False):
        kit = ActorTestKit({"reviewer": BAD})
        kit.register(Stuck)
        kit.register(Reviewer)
        run(kit, "Say hello", max_rounds=9, ladder=ladder)
    assert [(bool(brief.hint), brief.stronger) for brief in briefs] == [
        *[(False, False), (False, False), (True, False), (True, True)],
        *[(False, False), (False, False), (True, False)],
    ]


def test_without_the_guard_a_repeated_draft_is_reviewed_and_ends_the_rounds():
    kit = kit_with(
        orchestrator=Plan(subtasks=("a",)),
        coder="the same",
        reviewer=[BAD, Review(issues=("y",), score=5, approved=False)],
    )
    assert run(kit, progress_guard="off", judge_noise=0.0).accepted[0].note == "kept as the best: cycle"


def test_a_draft_stops_at_its_share_of_the_money_with_the_best():
    def spending(budget: float):
        told = [reply(msgspec.json.encode(said).decode(), input_tokens=0, output_tokens=1) for said in (BAD, GOOD)]
        drafts = [reply(text, input_tokens=0, output_tokens=1) for text in ("first", "second")]
        dollar = ModelInfo(key="auto", provider="main", name="m", prices=(Price(input=0.0, output=1e9),))
        kit = ActorTestKit({"coder": drafts, "reviewer": told}, models=(dollar,))
        kit.register(Coder)
        kit.register(Reviewer)
        return run(kit, plan="never", budget_usd=budget)

    stopped = spending(3.0)
    assert (stopped.accepted[0].note, stopped.success, stopped.output) == ("kept as the best: dear", True, "first")
    assert spending(4.0).accepted[0].accepted


def test_a_round_that_would_take_longer_than_is_left_is_not_begun():
    kit = kit_with(orchestrator=Plan(subtasks=("a",)), reviewer=BAD)
    result = kit.run(lambda start: TeamWorkflow(start, TeamRules()), TASK, timeout=4.5)
    assert (result.success, result.accepted[0].note) == (True, "kept as the best: dear")


def test_a_revision_that_was_cut_keeps_the_best_and_one_the_provider_failed_does_not():
    cut = ChatReply(text="sec", finish_reason="length")
    for answer, success in ((cut, True), (bad_request(), False)):
        result = run(kit_with(orchestrator=Plan(subtasks=("a",)), coder=["first", answer], reviewer=BAD))
        assert (result.success, result.output) == (success, "first")


def test_after_a_worse_draft_the_best_one_is_revised():
    reviews = [Review(issues=("x",), score=5, approved=False), Review(issues=("y",), score=2, approved=False), GOOD]
    kit = kit_with(orchestrator=Plan(subtasks=("a",)), coder=["first", "second", "third"], reviewer=reviews)
    run(kit, judge_noise=0.0)
    assert "first" in [call for call in kit.model.calls if call.role == "coder"][2].messages[-1].content


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


def test_the_planner_is_told_into_how_many_subtasks_to_split():
    kit = kit_with()
    run(kit)
    run(kit, fan_out="max", max_subtasks=9)
    asked = [call.messages[-1].content for call in kit.model.calls if call.role == "orchestrator"]
    assert asked == [f"Analyze and break down: {TASK}\n\nName at most {most} subtasks." for most in (7, 9)]


def test_a_plan_has_room_for_what_the_task_is_worth_and_no_more():
    many = Plan(subtasks=tuple("abcdefghijklm"))
    assert len(run(kit_with(orchestrator=many)).accepted) == 7
    assert len(run(kit_with(orchestrator=many), fan_out="max").accepted) == 13


LARGE = "Build the storage layer, the API, the admin UI and the mobile app, with tests and docs"


def planner(call):
    return Plan(subtasks=("p", "q") if "storage" in call.messages[-1].content else ("a", LARGE, "c"))


def test_a_subtask_that_is_still_too_large_is_split_once_more():
    result = run(kit_with(orchestrator=planner))
    assert [a.subtask for a in result.accepted] == ["a", "p", "q", "c"]
    assert [a.subtask for a in run(kit_with(orchestrator=planner), split="never").accepted] == ["a", LARGE, "c"]


def test_splitting_is_bounded_and_a_split_that_fails_leaves_the_subtask_whole():
    kit = kit_with(orchestrator=[Plan(subtasks=("a", LARGE)), Plan(subtasks=(LARGE,))])
    assert [a.subtask for a in run(kit).accepted] == ["a", LARGE]
    kit = kit_with(orchestrator=[Plan(subtasks=("a", LARGE)), bad_request()])
    assert [a.subtask for a in run(kit).accepted] == ["a", LARGE]
    kit = kit_with(orchestrator=[Plan(subtasks=("a", LARGE)), Plan(subtasks=tuple("qrstuv"))])
    assert [a.subtask for a in run(kit, max_subtasks=4).accepted] == ["a", "q", "r", "s; t; u; v"]
    kit = kit_with(orchestrator=Plan(subtasks=("a", LARGE)))
    assert len(run(kit, max_subtasks=2).accepted) == 2


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
@pytest.mark.uncounted
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


def tiers() -> tuple[ModelInfo, ...]:
    return tuple(
        ModelInfo(key=key, provider="main", name=key, tier=tier, prices=(Price(input=price, output=price),))
        for key, tier, price in (("cheap", 1, 50.0), ("strong", 3, 1000.0))
    )


def test_a_rejected_draft_goes_up_the_ladder_and_each_result_says_why_this_model():
    def coder(call):
        return f"a draft of {call.request.model}"

    def reviewer(call):
        return GOOD if "strong" in call.messages[-1].content else BAD

    kit = ActorTestKit({"coder": coder, "reviewer": reviewer}, models=tiers())
    for agent in (Coder, Reviewer):
        kit.register(agent)
    result = run(kit, "Say hello", ladder=True)
    written = [r for r in result.results if r.agent.startswith("coder")]
    assert [r.model for r in written] == ["cheap", "strong"]
    assert written[0].why_model.startswith("tier 1: a first draft for a simple coder task")
    assert written[1].why_model.startswith("tier 3: a step up after a rejection")
    assert result.output == "a draft of strong"
    learnt = {effect.name: effect.value for effect in kit.router.learnt}
    assert learnt["case coder simple first cheap"] < 0.0 < learnt["case coder simple up strong"]


def test_a_subtask_that_quotes_its_whole_task_is_no_harder_to_write_for_it():
    def coder(call):
        return f"a draft of {call.request.model}"

    whole = "Build a shop with a database, an API, payments and docs"
    plan = Plan(subtasks=(f"Write the tests of {whole}", whole))
    kit = ActorTestKit({"orchestrator": plan, "coder": coder, "reviewer": GOOD}, models=tiers())
    for agent in (Orchestrator, Coder, Reviewer):
        kit.register(agent)
    why = [r.why_model for r in run(kit, whole, split="never").results if r.agent.startswith("coder")]
    assert ["simple coder" in why[0], "complex coder" in why[1]] == [True, True]


def test_a_call_that_failed_on_its_way_teaches_nothing_about_its_model():
    kit = ActorTestKit({"coder": bad_request(), "reviewer": GOOD}, models=tiers())
    for agent in (Coder, Reviewer):
        kit.register(agent)
    assert not run(kit, "Say hello").success
    assert kit.router.learnt == ()


def test_each_draft_has_its_share_of_the_money():
    dollar = ModelInfo(key="auto", provider="main", name="m", prices=(Price(input=0.0, output=1e9),))
    texts = {"orchestrator": Plan(subtasks=("a", "b")), "coder": draft, "reviewer": BAD}

    def said(role):
        def answer(call):
            what = texts[role](call) if callable(texts[role]) else msgspec.json.encode(texts[role]).decode()
            return reply(what, input_tokens=0, output_tokens=1)

        return answer

    for budget, note in ((8.0, "kept as the best: plateau"), (7.0, "kept as the best: dear")):
        kit = ActorTestKit({role: said(role) for role in texts}, models=(dollar,))
        for agent in (Orchestrator, Coder, Reviewer):
            kit.register(agent)
        assert {a.note for a in run(kit, budget_usd=budget).accepted} == {note}


def test_a_resumed_run_does_not_tell_again_what_became_of_a_draft():
    kit = ActorTestKit(ScriptedModel({"coder": draft, "reviewer": [BAD, GOOD]}, latency=1.0), models=tiers())
    for agent in (Coder, Reviewer):
        kit.register(agent)
    id_ = kit.submit(lambda start: TeamWorkflow(start, TeamRules()), "Say hello")
    kit.advance(2.5)
    kit.restart(f"workflow/{id_}")
    assert kit.result(id_).success
    assert kit.sequence(1000).count(" Graded") == 2


def test_what_went_wrong_in_an_earlier_round_is_not_said_of_a_draft_that_was_accepted():
    kit = kit_with(reviewer=["what?", "what?", GOOD], coder=["one", "another"])
    result = run(kit, "Say hello", stop_rules="rounds", progress_guard="off")
    assert (result.accepted[0].accepted, result.accepted[0].rounds, result.accepted[0].note) == (True, 1, "")


@pytest.mark.parametrize(("max_cost", "note"), [(8000, ""), (7000, "kept as the best: dear")])
def test_the_runs_own_budget_ends_rounds_as_the_systems_does(max_cost, note):
    free_to_read = ModelInfo(key="auto", provider="main", name="m", prices=(Price(input=0.0, output=1000.0),))
    two = reply("a draft", input_tokens=1, output_tokens=2)
    read = {
        "coder": two,
        "reviewer": [reply(msgspec.json.encode(r).decode(), input_tokens=1, output_tokens=2) for r in (BAD, GOOD)],
    }
    kit = ActorTestKit(read, models=(free_to_read,))
    for agent in (Coder, Reviewer):
        kit.register(agent, settings=replace(agent.settings, max_tokens=2))
    kit.rig.workflows["team"] = lambda start: TeamWorkflow(start, TeamRules(progress_guard="off", stop_rules="auto"))
    kit.tell(ids.SUPERVISOR, StartRun(run="r", task="Hi?", workflow="team", max_cost=max_cost, reply_to=ids.DESK))
    assert kit.result("r").accepted[0].note == note


WITH_TESTS = f"{LARGE}:\n```python\ndef test_it():\n    assert True\n```"


def test_a_subtask_that_brings_tests_is_not_taken_apart():
    kit = kit_with(orchestrator=[Plan(subtasks=(WITH_TESTS, "a")), Plan(subtasks=("x", "y"))])
    assert [a.subtask for a in run(kit, plan="always").accepted] == [WITH_TESTS, "a"]


def test_no_more_is_taken_apart_than_there_is_room_for():
    plans = [Plan(subtasks=("a", f"One {LARGE}", f"Two {LARGE}")), *[Plan(subtasks=("x", "y"))] * 2]
    accepted = run(kit_with(orchestrator=plans), plan="always", max_subtasks=4).accepted
    assert [a.subtask for a in accepted] == ["a", "x", "y", f"Two {LARGE}"]


# --- what it costs


def priced(key: str = "auto", tier: int = 1, price: float = 1000.0) -> ModelInfo:
    return ModelInfo(key=key, provider="main", name=key, tier=tier, prices=(Price(input=price, output=price),))


def costing(models, coder="x", **answers) -> ActorTestKit:
    script = {"orchestrator": Plan(subtasks=("a", "b")), "coder": coder, "reviewer": GOOD, **answers}

    def counted(answer):
        def say(call):
            said = answer.pop(0) if isinstance(answer, list) else answer
            text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
            return reply(text, input_tokens=8, output_tokens=2)

        return say

    kit = ActorTestKit({role: counted(answer) for role, answer in script.items()}, models=models)
    for agent in (Orchestrator, Coder, Reviewer):
        kit.register(agent)
    return kit


def test_a_result_says_what_each_role_model_and_round_cost():
    kit = costing((priced(),), orchestrator=Plan(subtasks=("a",)), coder=["x", "better"], reviewer=[BAD, GOOD])
    result = run(kit)
    costs, call = result.costs, 10 * 1000
    assert {role: sums.nano_usd for role, sums in costs.roles.items()} == {
        "orchestrator": call, "coder": 2 * call, "reviewer": 2 * call,
    }  # fmt: skip
    assert {number: (sums.calls, sums.nano_usd) for number, sums in costs.rounds.items()} == {
        "none": (1, call), "0": (2, 2 * call), "1": (2, 2 * call),
    }  # fmt: skip
    assert {key: sums.calls for key, sums in costs.models.items()} == {"auto": 5}
    assert (costs.total.nano_usd, costs.total.input_tokens, costs.total.routing) == (5 * call, 40, 0)
    assert result.summary.cost_usd == pytest.approx(costs.total.nano_usd / 1e9)


def test_what_choosing_models_saved_is_told_by_the_same_tokens_at_the_strongest():
    kit = costing((priced("strong", 3), priced("cheap", 1, 50.0)))
    costs = run(kit, "Say hello", ladder=True).costs
    assert {key: sums.calls for key, sums in costs.models.items()} == {"cheap": 1, "strong": 1}
    assert (costs.total.routing, costs.total.nano_usd) == (10 * 950, 10 * 1050)


def test_an_unknown_price_makes_the_costs_unknown_and_never_nothing():
    kit = costing((ModelInfo(key="auto", provider="main", name="m"),))
    costs = run(kit, "Say hello").costs
    assert (costs.total.nano_usd, costs.roles["coder"].nano_usd, costs.planning) == (None, None, None)


PLANNER = Planner(fixed_tokens=50, price_in=2.0, price_out=10.0)


@pytest.mark.parametrize(
    ("task", "plan", "spared"), [("Hi?", "auto", 104 + 1500), ("Hi?", "never", 0), (TASK, "auto", 0)]
)
def test_a_plan_that_was_not_worth_it_saved_the_planners_call(task, plan, spared):
    costs = run(costing((priced(),)), task, plan=plan, planner=PLANNER).costs
    assert costs.planning == spared


def test_a_run_that_was_cancelled_has_its_costs_so_far():
    kit = costing((priced(),), reviewer=[Review(issues=(f"{n}",), score=n, approved=False) for n in range(9)])
    kit.model.latency = 1.0
    id_ = kit.submit(lambda start: TeamWorkflow(start, TeamRules(planner=PLANNER)), "Hi?")
    kit.advance(2.5)
    kit.cancel(id_)
    costs = kit.result(id_).costs
    assert (costs.total.calls, costs.total.nano_usd, costs.planning) == (2, 20_000, 1604)
