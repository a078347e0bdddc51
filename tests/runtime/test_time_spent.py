"""Where the time went: the parts are what the chain of causes did, and add up to the wall time, whatever happened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.signals import Progress
from runtime.time_spent import PARTS, TimeSpent, lines

BEGAN = 1000.0


def event(at: float, name: str, run: str = "r", **facts) -> Progress:
    return Progress(run=run, event=name, at=BEGAN + at, facts=facts)


def fed(*events: Progress) -> TimeSpent:
    time = TimeSpent(BEGAN)
    for each in events:
        time.on_event(each)
    return time


def parts(spent: dict[str, float]) -> dict[str, float]:
    """Return the parts that are not nothing, in seconds."""
    return {name.removesuffix("_ms"): round(ms / 1000.0, 3) for name, ms in spent.items() if ms}


def task(began: float, ended: float, step: str, role: str = "coder", run: str = "r", queue: float = 0.0) -> list:
    """Return the events of a task with one call, which waits *queue* seconds and flies until the end."""
    return [
        event(began, "task.started", run, step=step, role=role, content="a"),
        event(began, "call.queued", run, step=f"{step}/0", domain="main"),
        event(began + queue, "call.sent", run, step=f"{step}/0"),
        event(ended, "call.ended", run, step=f"{step}/0"),
        event(ended, "task.finished", run, step=step),
    ]


def test_one_after_another_each_part_is_what_was_done():
    time = fed(
        *task(1.0, 2.0, "r/0", "orchestrator"),
        *task(2.0, 5.0, "r/1", queue=1.0),
        event(5.0, "check.started", subtask="a"),
        event(5.5, "draft.checked", subtask="a"),
        *task(5.5, 7.0, "r/2", "reviewer", queue=0.5),
    )
    assert parts(time.on_ended("r", 6_250.0)) == {
        "limits": 1.5, "http": 3.0, "review": 1.0, "execution": 0.5, "own": 0.25,
    }  # fmt: skip
    assert parts(time.total(8_000.0)) == {
        "start_stop": 1.75, "limits": 1.5, "http": 3.0, "review": 1.0, "execution": 0.5, "own": 0.25,
    }  # fmt: skip


def test_of_parallel_work_the_chain_that_ends_last_counts_and_each_task_goes_back_to_its_own_cause():
    short, long = task(0.0, 1.0, "r/0.0"), task(0.0, 4.0, "r/0.1", queue=3.0)
    review = task(1.0, 2.0, "r/0.2", "reviewer")
    time = fed(*sorted([*short, *long, *review], key=lambda e: e.at))
    assert parts(time.on_ended("r", 4_000.0)) == {"limits": 3.0, "http": 1.0}


def test_a_failed_attempt_and_its_backoff_are_retries_and_a_429_is_waiting_for_limits():
    time = fed(
        event(0.0, "task.started", step="r/0", role="coder"),
        event(0.0, "call.parked", step="r/0/0"),
        event(1.0, "call.queued", step="r/0/0"),
        event(1.0, "call.sent", step="r/0/0"),
        event(3.0, "call.rested", step="r/0/0", seconds=4.0),
        event(7.0, "call.queued", step="r/0/0"),
        event(7.5, "call.sent", step="r/0/0"),
        event(7.75, "call.queued", step="r/0/0"),
        event(9.75, "call.sent", step="r/0/0"),
        event(10.75, "call.ended", step="r/0/0"),
        event(10.75, "task.finished", step="r/0"),
    )
    assert parts(time.on_ended("r", 10_750.0)) == {"retries": 7.0, "limits": 2.75, "http": 1.0}


def test_a_task_that_the_team_keeps_back_waits_for_a_limit_and_what_an_agent_does_itself_is_its_own():
    time = fed(
        event(0.0, "task.started", step="r/0", role="coder", kept_back=True),
        event(2.0, "task.sent", step="r/0"),
        event(3.0, "task.finished", step="r/0"),
    )
    assert parts(time.on_ended("r", 3_000.0)) == {"limits": 2.0, "own": 1.0}


def test_of_several_calls_of_a_task_one_in_flight_counts_first():
    time = fed(
        event(0.0, "task.started", step="r/0", role="coder"),
        event(0.0, "call.queued", step="r/0/0.0"),
        event(0.0, "call.queued", step="r/0/0.1"),
        event(1.0, "call.sent", step="r/0/0.0"),
        event(3.0, "call.ended", step="r/0/0.0"),
        event(4.0, "task.finished", step="r/0"),
    )
    assert parts(time.on_ended("r", 4_000.0)) == {"limits": 2.0, "http": 2.0}


def test_a_run_that_is_cut_off_was_spent_on_what_was_still_under_way():
    time = fed(
        event(0.0, "task.started", step="r/0", role="coder"),
        event(0.0, "call.queued", step="r/0/0"),
    )
    assert parts(time.on_ended("r", 5_000.0)) == {"limits": 5.0}


def test_a_run_that_begins_when_another_has_ended_goes_back_to_it():
    time = fed(*task(0.5, 2.0, "a/0", run="a"))
    time.on_ended("a", 1_500.0)
    for each in task(2.25, 4.0, "b/0", run="b", queue=1.0):
        time.on_event(each)
    assert parts(time.on_ended("b", 1_750.0)) == {"limits": 1.0, "http": 0.75}
    assert parts(time.total(4_500.0)) == {"start_stop": 1.0, "own": 0.25, "limits": 1.0, "http": 2.25}


def test_of_runs_at_once_the_last_that_ends_counts():
    time = fed(*task(0.0, 5.0, "a/0", run="a"), *task(0.0, 2.0, "b/0", run="b", queue=2.0))
    time.on_ended("a", 5_000.0)
    time.on_ended("b", 2_000.0)
    assert parts(time.total(5_000.0)) == {"http": 5.0}


def test_a_run_that_never_said_anything_is_overhead():
    time = TimeSpent(BEGAN)
    assert parts(time.on_ended("r", 1_000.0)) == {"own": 1.0}
    assert parts(time.total(2_000.0)) == {"start_stop": 2.0}


STEPS = ("r/0", "r/1.0/0", "r/1.1/0", "s/0")
NAMES = st.sampled_from([
    "task.started", "task.sent", "task.finished", "task.failed", "check.started", "draft.checked", "plan.made",
    "call.parked", "call.queued", "call.sent", "call.landed", "call.rested", "call.ended",
])  # fmt: skip
ANY = st.lists(
    st.tuples(
        st.floats(-0.5, 2.0), NAMES, st.sampled_from(STEPS), st.sampled_from(["coder", "reviewer", "x"]), st.booleans()
    ),
    max_size=40,
)


@given(ANY, st.floats(0.0, 5.0))
def test_whatever_happens_in_whatever_order_the_parts_add_up_to_the_wall_time_and_none_is_negative(said, rest):
    time, now, last = TimeSpent(BEGAN), 0.0, 0.0
    first: dict[str, float] = {}
    for took, name, step, role, kept_back in said:
        now = max(0.0, now + took)  # a clock may step back
        last = max(last, now)
        run, call = step.partition("/")[0], f"{step}/0" if name.startswith("call.") else step
        first.setdefault(run, now)
        time.on_event(event(now, name, run, step=call, role=role, kept_back=kept_back, subtask=step))
    for run, began in first.items():
        wall = (last - began + rest) * 1000.0
        spent = time.on_ended(run, wall)
        assert sum(spent.values()) == pytest.approx(wall, abs=0.01)
        assert min(spent.values()) >= -0.001
    whole = (last + rest) * 1000.0
    assert sum(time.total(whole).values()) == pytest.approx(whole, abs=0.01)


def test_the_table_names_each_part_with_its_share():
    spent = {f"{part}_ms": 0.0 for part in PARTS} | {"http_ms": 3_000.0, "limits_ms": 1_000.0}
    assert lines(spent)[:3] == [
        "Where the wall time went:",
        "  waiting for limits       1.00 s  25 %",
        "  model calls              3.00 s  75 %",
    ]
    assert len(lines(spent)) == 1 + len(PARTS)
    assert lines(dict.fromkeys(spent, 0.0))[1] == "  waiting for limits       0.00 s     -"
