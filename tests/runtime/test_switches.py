"""Every adaptive mechanism can be switched off in the configuration, and then something is different.

The page ``docs/adaptive.md`` names each of these switches; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from actors import Coder, Orchestrator, Reviewer
from actors.testing import ActorTestKit, ScriptedModel
from protocol.models import ModelInfo, Price
from protocol.plan import Check, Plan, Review, Rubric
from protocol.policies.routing import Job
from runtime import learnt
from runtime.assembly import settings, workflows
from runtime.config import Config
from runtime.executing import Executing

BASE = """
[provider.main]
base_url = "http://127.0.0.1:9"
[model.one]
provider = "main"
name = "one"
"""
SIMPLE = "Say hello"
BIG = "Implement an async HTTP client with retries"
LARGE = "Build the storage layer, the API, the admin UI and the mobile app, with tests and docs"
GOOD, BAD = Review(score=9, approved=True), Review(issues=("too short",), score=3, approved=False)
FLAWED = Rubric(checks=(Check(aspect="security", passes=False, fix="mend it"),))
MODELS = [
    ModelInfo(key=key, provider="main", name=key, tier=tier, prices=(Price(input=price, output=price),))
    for key, tier, price in (("cheap", 1, 10.0), ("strong", 3, 1000.0))
]
EASY = Job(role="coder", complexity=0.0, prompt_tokens=100, output_tokens=100, roll=0.9)
PAGE = (Path(__file__).parents[2] / "docs/adaptive.md").read_text(encoding="utf-8")


def configured(text: str) -> Config:
    table, _, value = text.partition("] ")
    return Config.parse(f"{BASE}{table}]\n{value}\n".encode() if text else BASE.encode(), "the test")


def team(config: Config, task: str, tasks: int = 1, **answers):
    """Run *task* so many times at once with the team of *config*; return the kit and the first result."""
    script = {"orchestrator": Plan(subtasks=("a", "b", "c")), "coder": "a draft", "reviewer": GOOD, **answers}
    kit = ActorTestKit(ScriptedModel(script, latency=1.0))
    for agent in (Orchestrator, Coder, Reviewer):
        kit.register(agent, settings=settings(config, agent.role))
    runs = [kit.submit(workflows(config)["team"], task) for _ in range(tasks)]
    first, *_ = [kit.result(run) for run in runs]
    return kit, first


def router(config: Config):
    return learnt.router(config.routing, MODELS)


# --- what can be seen of each mechanism


def subtasks_of_a_small_task(config):
    return len(team(config, SIMPLE)[1].accepted)


def subtasks_of_a_plan_of_twelve(config):
    return len(team(config, BIG, orchestrator=Plan(subtasks=tuple("abcdefghijkl")))[1].accepted)


def subtasks_where_one_is_too_large(config):
    plans = [Plan(subtasks=("a", LARGE)), Plan(subtasks=("x", "y"))]
    return len(team(config, BIG, orchestrator=plans)[1].accepted)


def rounds_of_a_draft_that_never_pleases(config):
    drafts = [f"draft number {n} {'x' * n}" for n in range(9)]
    return team(config, SIMPLE, coder=drafts, reviewer=BAD)[1].accepted[0].rounds


def rounds_of_a_draft_that_gains_two_points(config):
    reviews = [Review(issues=(f"{n}",), score=n, approved=False) for n in (2, 4, 5)]
    return team(config, SIMPLE, coder=["one", "two", "three"], reviewer=reviews)[1].accepted[0].rounds


def reviews_of_a_draft_that_is_the_same_each_time(config):
    kit, _ = team(config, SIMPLE, reviewer=BAD)
    return sum(call.role == "reviewer" for call in kit.model.calls)


def what_a_reviewer_is_asked_for(config):
    kit, _ = team(config, SIMPLE)
    return kit.model.calls[-1].request.schema.name


def calls_of_five_equal_tasks(config):
    kit, _ = team(config, SIMPLE, tasks=5)
    return sum(call.role == "coder" for call in kit.model.calls)


def calls_of_a_task_that_was_done_before(config):
    kit, result = team(config, SIMPLE)
    again = kit.run(workflows(config)["team"], SIMPLE)
    assert again.output == result.output
    return sum(call.role == "coder" for call in kit.model.calls)


def model_of_a_simple_draft(config):
    return router(config).choose(EASY).key


def what_a_bad_draft_teaches(config):
    chooses = router(config)
    chooses.learn(chooses.choose(EASY), good=False, fact=True)
    return bool(chooses.learnt)


def trials_in_a_thousand(config):
    chooses = router(config)
    return any(chooses.choose(replace(EASY, complexity=1.0, roll=n / 1000)).trial for n in range(1000))


def drafts_are_looked_at_by_the_executor(config):
    executing = Executing(config)
    executing.open()
    said = executing.running.on or bool(executing.running.reason)
    executing.close()
    return said


SWITCHES = [
    ('[team] plan = "always"', subtasks_of_a_small_task, 1, 3),
    ('[team] fan_out = "max"', subtasks_of_a_plan_of_twelve, 7, 12),
    ('[team] split = "never"', subtasks_where_one_is_too_large, 3, 2),
    ('[team] stop_rules = "rounds"', rounds_of_a_draft_that_never_pleases, 1, 2),
    ("[team] max_rounds = 0", rounds_of_a_draft_that_never_pleases, 1, 0),
    ("[team] judge_noise = 0", rounds_of_a_draft_that_gains_two_points, 1, 2),
    ('[team] progress_guard = "off"', reviews_of_a_draft_that_is_the_same_each_time, 1, 2),
    ("[roles.reviewer] rubric = false", what_a_reviewer_is_asked_for, "Rubric", "Review"),
    ("[executor] enabled = false", drafts_are_looked_at_by_the_executor, True, False),
    ('[routing] choose = "strongest"', model_of_a_simple_draft, "cheap", "strong"),
    ("[routing] cascade = false", model_of_a_simple_draft, "cheap", "strong"),
    ("[routing] learn = false", what_a_bad_draft_teaches, True, False),
    ("[routing] explore = 0.0", trials_in_a_thousand, True, False),
    ("[roles.coder] coalesce = true", calls_of_five_equal_tasks, 5, 1),
    ("[roles.coder] cache_seconds = 600", calls_of_a_task_that_was_done_before, 2, 1),
]


@pytest.mark.parametrize(("switch", "look", "usual", "switched"), SWITCHES, ids=[row[0] for row in SWITCHES])
def test_what_a_switch_changes_can_be_seen(switch, look, usual, switched):
    assert (look(configured("")), look(configured(switch))) == (usual, switched)


def test_the_page_names_every_switch_and_no_other():
    table = PAGE[PAGE.index("| mechanism |") : PAGE.index("\n\n## ")]
    named = [cell for row in table.splitlines()[2:] for cell in row.split("|")[3].split("`")[1::2]]
    assert sorted(named) == sorted(row[0] for row in SWITCHES)
