"""The explorer at work: silent where nothing is wrong, and what it says of a finding."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from actors.fault_plan import Crash, Delay, Lose, Stall
from protocol.chat import ChatRequest
from protocol.messages import AgentMessage
from protocol.signals import Acquire, Amount, CancelStep, Granted, Perform, StartRun, TaskSettled
from tests.explorer.__main__ import main
from tests.explorer.explore import Finding
from tests.explorer.plants import planted
from tests.explorer.play import Play, harmless
from tests.explorer.provider import FINAL, PASSING
from tests.explorer.report import told
from tests.explorer.scenario import Plan, RestartAt, draw, draw_plan
from tests.explorer.shrink import shrink

TASK = AgentMessage(sender="a", recipient="b", content="c", message_id="run/0")
PERFORM = Perform(call="run/0#1", request=ChatRequest(model="m", messages=()), timeout=1.0, reply_to="gateway")
SETTLED = TaskSettled(agent="a", step="run/0")
CALL_CANCELLED = CancelStep(step="run/0")
START = StartRun(run="run", task="t", workflow="w", reply_to="desk")
GRANTED = Granted(lease="run/0#1")
ACQUIRE = Acquire(lease="run/0#1", domain="main", amount=Amount(), holder="gateway", reply_to="gateway")
ROOT = Path(__file__).parents[2]
CPU_SECONDS = 90.0
"""What 2,000 seeds may take on one core; two share them."""


def explorer(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.explorer", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.mark.slow
@pytest.mark.uncounted
def test_2000_seeds_break_no_law():
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = explorer("--seeds", "2000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2000 seeds in ")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < CPU_SECONDS


@pytest.mark.slow
def test_a_seed_gives_the_same_trace_in_another_process_with_another_hash_seed():
    shown = [explorer("--seed", "10", "--show", PYTHONHASHSEED=seed).stdout for seed in ("1", "2")]
    assert shown[0] == shown[1]
    assert "trace_sha256" in shown[0]


@pytest.mark.slow
@pytest.mark.uncounted
def test_what_is_explored_holds_every_fault_every_failure_and_every_kind_of_run():
    faults, met, ends, kinds = Counter(), Counter(), Counter(), Counter()
    compared = disturbed = wired = 0
    for seed in range(600):
        scenario = draw(seed)
        play = Play(scenario, draw_plan(scenario), seed).go()
        struck = [fault for fault, _ in play.stage.struck if isinstance(fault, RestartAt)]
        faults.update((type(fault), fault.address.partition("/")[0]) for fault in (*play.stage.fired, *struck))
        met += play.provider.met
        ends.update(result.error_kind for result in play.books.ended.values())
        kinds.update(run.kind for run in scenario.runs)
        wired += scenario.wire
        compared += play.comparable()
        disturbed += play.comparable() and bool(play.stage.fired or struck)
    assert {kind for kind, _ in faults} == {Crash, Stall, Delay, Lose, RestartAt}
    house = {"supervisor", "recorder", "limiter", "gateway", "workers", "workflow", "writer", "caller"}
    assert house <= {place for kind, place in faults if kind is Crash}
    assert house <= {place for kind, place in faults if kind is RestartAt}
    assert {*PASSING, *FINAL, "replied"} <= set(met)
    assert {"script", "team", "direct"} == set(kinds)
    assert {None, "cancelled", "deadline", "timeout", "handler_error", "internal"} <= set(ends)
    assert min(compared, disturbed, wired) > 40


# --- what is told of a finding


def found(plant: str) -> Finding:
    return next(finding for seed in range(2000) if (finding := planted(plant, seed)) is not None)


@pytest.mark.slow
def test_a_finding_is_told_with_one_command_the_shortest_plan_and_the_last_messages(capsys):
    finding = found("lost-reply")
    text = told(finding, "lost-reply")
    plan = Plan.decode(text.partition("still fails: ")[2].partition("\n")[0])
    assert f"\nreplay: python -m tests.explorer --seed {finding.seed} --plant lost-reply\n" in text
    assert [(type(fault), fault.address) for fault in plan.faults] == [(Crash, "recorder")]
    assert "\nthe last 20 messages:\n" in text
    assert main(["--seed", str(finding.seed), "--plant", "lost-reply", "--plan", plan.encode()]) == 1
    assert f"{finding.law}:" in capsys.readouterr().out


def test_a_range_with_findings_names_their_seeds_and_what_they_break(capsys):
    assert main(["--seeds", "1:3", "--plant", "early-answer", "--jobs", "1"]) == 1
    assert "seeds that fail: 1 2\nby law: {'record': 2}\n2 seeds in " in capsys.readouterr().out


def test_a_seed_in_which_nothing_breaks_says_so(capsys):
    assert main(["--seed", "1"]) == 0
    assert capsys.readouterr().out == "seed 1: every law holds\n"


# --- shrinking


def breaks(needs):
    """Return an explorer for which a plan breaks the law when *needs* holds for it."""

    def explored(seed: int, plan: Plan) -> Finding | None:
        return Finding(seed, plan, "law 1", "", "") if needs(plan.faults) else None

    return explored


def test_a_plan_is_shrunk_to_the_faults_that_are_needed_as_early_and_as_short_as_they_can_be():
    def needs(faults):
        crashed = any(isinstance(f, Crash) and f.address == "a" and f.at >= 3 for f in faults)
        return crashed and any(isinstance(f, Stall) and f.seconds > 2.5 for f in faults)

    plan = Plan((Lose("b", 2), Crash("a", 37), Delay("c", 1, 9.0), Stall("d", 20, 40.0), RestartAt("a", 90)))
    shortest = shrink(Finding(7, plan, "law 1", "", ""), breaks(needs)).plan
    assert shortest == Plan((Crash("a", 3), Stall("d", 1, 3.0)))


def test_a_plan_that_is_not_to_blame_shrinks_to_none():
    assert shrink(Finding(7, draw_plan(draw(7)), "law 1", "", ""), breaks(lambda _: True)).plan == Plan()


def test_another_law_that_a_shorter_plan_breaks_is_not_followed():
    def other(seed: int, plan: Plan) -> Finding:
        return Finding(seed, plan, "law 1" if len(plan.faults) == 2 else "law 2", "", "")

    plan = Plan((Crash("a", 1), Crash("b", 1)))
    assert shrink(Finding(7, plan, "law 1", "", ""), other).plan == plan


# --- scenarios and plans are values


@pytest.mark.parametrize("seed", range(20))
def test_a_scenario_and_its_plan_are_drawn_alike_twice_and_read_back(seed):
    assert draw(seed) == draw(seed)
    plan = draw_plan(draw(seed))
    assert plan == draw_plan(draw(seed)) == Plan.decode(plan.encode())


def test_a_plan_of_ones_own_takes_the_place_of_the_seeds():
    plan = Plan((Crash("nobody", 1),))
    assert planted("early-answer", 0, plan).plan == plan


@pytest.mark.parametrize(
    ("fault", "message", "expected"),
    [
        (RestartAt("gateway", 1), None, True),
        (Lose("caller/main/0", 1), PERFORM, True),
        (Lose("writer/0", 1), TASK, False),
        (Crash("writer/0", 1), TASK, True),
        (Crash("recorder", 1), TASK, True),
        (Crash("caller/main/0", 1), PERFORM, True),
        (Crash("worker/pinned/0", 1), TASK, False),
        (Crash("supervisor", 1), TASK, False),
        (Crash("supervisor", 1), SETTLED, True),
        (Crash("supervisor", 1), START, True),
        (Crash("gateway", 1), CALL_CANCELLED, True),
        (Crash("gateway", 1), GRANTED, False),
        (Crash("limiter", 1), GRANTED, True),
        (Crash("limiter", 1), ACQUIRE, False),
    ],
)
def test_a_fault_is_harmless_unless_it_fails_a_request_by_design(fault, message, expected):
    assert harmless(fault, message) is expected
