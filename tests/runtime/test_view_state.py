"""The live view's state: a reducer over events, without a clock, a terminal or rich."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ErrorKind
from protocol.messages import WorkflowResult
from protocol.signals import Progress
from runtime.view_state import MOST_RUNS, DomainState, Minute, ViewState
from tests.runtime.command import ROOT

NOW = 1000.0


def event(name: str, run: str = "r", at: float = NOW, **facts) -> Progress:
    return Progress(run=run, event=name, at=at, facts=facts)


def state(*events: Progress, total: int = 1, **options) -> ViewState:
    seen = ViewState(began=NOW, total=total, **options)
    seen.on_opened("r", "the whole", NOW)
    for each in events:
        seen.on_event(each)
    return seen


def ended(run: str = "r", *, success: bool = True) -> WorkflowResult:
    kind = None if success else ErrorKind.CANCELLED
    return WorkflowResult(correlation_id=run, success=success, error_kind=kind, error=None if success else "cancelled")


def task(role: str, step: str = "r/1", content: str = "a", **facts) -> Progress:
    return event("task.started", step=step, role=role, content=content, **facts)


def call(stage: str, step: str = "r/1/0", **facts) -> Progress:
    return event(f"call.{stage}", step=step, domain="main", **facts)


def finished(step: str = "r/1", **facts) -> Progress:
    return event("task.finished", step=step, input_tokens=10, output_tokens=5, **facts)


PLAN = event("plan.made", subtasks=["a", "b"])
WRITTEN = (task("coder"), call("queued"), call("sent"), call("ended"), finished())


def leaf(*events: Progress) -> str:
    return state(PLAN, *events).runs["r"].leaves["a"].state


def role(seen: ViewState, name: str) -> tuple[int, int, int, int, int]:
    found = seen.roles[name]
    return found.running, found.waiting, found.done, found.failed, found.retries


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([], "waiting"),
        ([task("coder", kept_back=True)], "waiting"),
        ([task("coder"), call("queued")], "waiting"),
        ([task("coder"), call("queued"), call("sent")], "writing"),
        ([task("coder"), call("sent"), call("rested", seconds=2.0)], "retrying"),
        ([task("coder"), call("parked")], "retrying"),
        ([*WRITTEN, event("check.started", subtask="a")], "running"),
        ([*WRITTEN, task("reviewer", "r/2"), call("sent", "r/2/0")], "in review"),
        ([*WRITTEN, event("draft.accepted", subtask="a", score=9)], "done"),
        ([*WRITTEN, event("draft.rejected", subtask="a", score=3)], "waiting"),
        ([event("draft.rejected", subtask="a"), event("draft.accepted", subtask="a")], "revised"),
        ([event("draft.kept", subtask="a")], "kept"),
        ([event("draft.failed", subtask="a")], "failed"),
    ],
)
def test_a_leaf_says_what_is_done_to_it(events, word):
    assert leaf(*events) == word


def test_a_leaf_keeps_its_score_and_counts_its_rounds():
    seen = state(PLAN, *(event("draft.rejected", subtask="a", score=n) for n in (3, 5)))
    found = seen.runs["r"].leaves["a"]
    assert (found.round, found.score, seen.runs["r"].leaves["b"].round) == (2, 5, 0)


def test_what_is_not_done_when_its_run_ends_was_stopped():
    seen = state(PLAN, event("draft.accepted", subtask="a"), task("coder", content="b"))
    seen.on_ended(ended(success=False), NOW + 1.0)
    assert {name: each.state for name, each in seen.runs["r"].leaves.items()} == {"a": "done", "b": "stopped"}
    assert (seen.runs["r"].result, seen.failed, role(seen, "coder")) == ("cancelled: cancelled", 1, (0, 0, 0, 0, 0))


def test_without_a_plan_each_task_is_a_leaf_of_its_own():
    seen = state(task("translator", content="Hello"), call("sent"))
    assert seen.runs["r"].leaves["Hello"].state == "writing"
    seen.on_event(finished())
    assert seen.runs["r"].leaves["Hello"].state == "done"


def test_parts_of_what_was_too_large_are_known_by_it():
    split = event("subtask.split", subtask="large", pieces=["a", "b"])
    assert state(split, PLAN).runs["r"].groups == {"a": "large", "b": "large"}


def test_a_roles_tasks_run_wait_and_are_done_and_its_calls_are_tried_again():
    seen = state(PLAN, task("coder", "r/1", kept_back=True), task("coder", "r/2", "b"))
    assert role(seen, "coder") == (1, 1, 0, 0, 0)
    for each in (event("task.sent", step="r/1"), call("queued"), call("sent", "r/2/0")):
        seen.on_event(each)
    assert role(seen, "coder") == (1, 1, 0, 0, 0)
    again = (call("rested", "r/2/0"), call("queued", "r/2/0"), call("sent", "r/2/0"))
    for each in (call("sent"), *again, finished(), event("task.failed", step="r/2")):
        seen.on_event(each)
    assert role(seen, "coder") == (0, 0, 1, 1, 1)


def test_the_executor_has_its_line_too():
    seen = state(PLAN, event("check.started", subtask="a"), event("check.started", subtask="b"))
    assert role(seen, "executor") == (2, 0, 0, 0, 0)
    seen.on_event(event("draft.checked", subtask="a"))
    assert role(seen, "executor") == (1, 0, 1, 0, 0)


def test_what_a_domain_has_used_in_the_last_minute_and_has_in_flight_is_counted_by_calls():
    seen = state(PLAN, *WRITTEN[:3], task("coder", "r/2", "b"), call("queued", "r/2/0"), call("sent", "r/2/0"))
    domain = seen.domains["main"]
    assert (domain.in_flight, domain.requests.sum(NOW), domain.tokens.sum(NOW)) == (2, 2, 0)
    for each in WRITTEN[3:]:
        seen.on_event(each)
    assert (domain.in_flight, domain.requests.sum(NOW + 59.0), domain.tokens.sum(NOW)) == (1, 2, 15)
    assert domain.requests.sum(NOW + 61.0) == 0
    seen.on_ended(ended(), NOW)
    assert domain.in_flight == 0


def test_a_snapshot_tells_what_is_allowed_until_when_it_blocks_and_who_waits_and_grows_old():
    rates = {"requests_per_minute": 30.0}
    facts = {"domain": "main", "waits_for": "blocked", "waiting": 12, "blocked_s": 7.0, "rates": rates}
    seen = state(event("limits.snapshot", **facts), limits={"main": DomainState(8, {"requests_per_minute": 60.0})})
    domain = seen.domains["main"]
    assert (domain.allowed, domain.blocked_until, domain.concurrency) == ({"requests_per_minute": 30.0}, NOW + 7.0, 8)
    assert domain.waiting(NOW + 1.0) == (12, "blocked")
    assert domain.waiting(NOW + 3.0) == (0, "")


def test_tokens_and_costs_add_up_and_one_unknown_cost_makes_the_sum_unknown():
    seen = state(task("coder"), finished(cost_usd=0.25), task("coder", "r/2"), finished("r/2", cost_usd=0.5))
    assert (seen.input_tokens, seen.output_tokens, seen.cost) == (20, 10, 0.75)
    for each in (task("coder", "r/3"), finished("r/3", cost_usd=None)):
        seen.on_event(each)
    assert seen.cost is None


def many(done: int, total: int = 10) -> ViewState:
    """Return what is seen of *total* runs of five tasks, of which *done* have ended and the others are open."""
    seen = ViewState(began=NOW, total=total)
    for n in range(total):
        seen.on_opened(f"r{n}", "x", NOW)
        seen.on_event(event("plan.made", f"r{n}", subtasks=["a", "b"]))
    for n in range(done):
        for k in range(5):
            seen.on_event(event("task.started", f"r{n}", step=f"r{n}/{k}", role="coder", content="a"))
            seen.on_event(event("task.finished", f"r{n}", step=f"r{n}/{k}"))
        seen.on_ended(ended(f"r{n}"), NOW)
    return seen


def test_progress_is_counted_in_tasks_and_gives_an_estimate_of_the_time_left():
    assert many(0).time_left(NOW + 10.0) is None
    half = many(5)
    assert half.progress() == 0.5
    assert half.time_left(NOW + 10.0) == pytest.approx(10.0)
    assert (many(10).progress(), many(10).time_left(NOW + 10.0)) == (1.0, 0.0)


def test_a_run_that_has_failed_at_once_does_not_tell_how_long_the_others_take():
    seen = many(0)
    seen.on_event(event("task.started", "r0", step="r0/0", role="orchestrator", content="x"))
    seen.on_event(event("task.failed", "r0", step="r0/0"))
    seen.on_ended(ended("r0", success=False), NOW)
    assert seen.progress() < 0.05


def test_of_very_many_runs_few_that_have_ended_are_kept():
    seen = many(200, total=300)
    assert len(seen.runs) == 100
    last = many(300, total=300)
    assert (len(last.runs), last.ended) == (MOST_RUNS, 300)


def test_a_minute_holds_no_more_than_two_of_seconds():
    minute = Minute()
    for second in range(1000):
        minute.add(NOW + second)
    assert (minute.sum(NOW + 999.5), len(minute._seconds) <= 121) == (60, True)


NAMES = [
    "task.started", "task.sent", "task.finished", "task.failed", "check.started", "draft.checked", "draft.accepted",
    "draft.rejected", "draft.kept", "plan.made", "subtask.split", "call.parked", "call.queued", "call.sent",
    "call.landed", "call.rested", "call.ended", "limits.snapshot", "unheard.of",
]  # fmt: skip
ANY = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["r/0", "r/1", "s/0"]), st.sampled_from("ab"), st.booleans()),
    max_size=60,
)


@settings(max_examples=60)
@given(ANY)
def test_whatever_comes_in_whatever_order_nothing_breaks_and_nothing_is_left_when_the_run_ends(said):
    seen = state()
    for name, step, text, flag in said:
        id_ = f"{step}/0" if name.startswith("call.") else step
        facts = {"role": "coder", "content": text, "subtask": text, "pieces": ["b"], "subtasks": ["a", "b"]}
        seen.on_event(event(name, step[0], step=id_, kept_back=flag, domain="main", **facts))
    assert all(found.running >= 0 and found.waiting >= 0 for found in seen.roles.values())
    assert all(domain.in_flight >= 0 for domain in seen.domains.values())
    assert 0.0 <= seen.progress() <= 1.0
    seen.on_ended(ended(), NOW)
    assert all((found.running, found.waiting) == (0, 0) for found in seen.roles.values())
    assert all(domain.in_flight == 0 for domain in seen.domains.values())


@pytest.mark.slow
def test_it_needs_no_rich():
    code = "import sys; sys.modules['rich'] = None; import runtime.view_state, runtime.time_spent, runtime.outlet"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
