"""Budgets, priorities, flows and bounds of calls, from the command line and from submit down to the server's log."""

from __future__ import annotations

import json

import pytest

from actors import Agent, Workflow
from protocol import AgentMessage, ErrorKind, TroupeError
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import config, troupe
from tests.runtime.systems import AskMirror, Mirror, system_for

pytestmark = pytest.mark.slow
TASK = "Implement an async HTTP client with retries"
PRICE = 'name = "m"\nprice = { input = 0.0, output = 1000.0 }\n'
"""A tenth of a cent for each output token."""


def priced(url, more=""):
    return config(url, more).replace('name = "m"\n', PRICE).replace("timeout = 5.0", "timeout = 5.0\nmax_tokens = 200")


def run(home, text, *arguments, **options):
    (home / "t.toml").write_text(text)
    return troupe(home, "run", *arguments, "--config", "t.toml", "--json", "--quiet", **options)


# --- money


def test_a_run_without_money_for_its_first_call_sends_nothing_and_says_why(tmp_path):
    with FakeServer(Script()) as server:
        done = run(tmp_path, priced(server.url), TASK, "--id", "poor", "--max-cost", "0.1")
        requests = server.stats().requests
    (result,) = done.documents
    assert (done.code, result["success"], result["error_kind"], requests) == (1, False, "budget", 0)
    assert "the budget of the run poor does not cover this call: $0.000000 of $0.100000 are spent" in done.one_line
    assert "it may cost $0.200000" in done.one_line


def test_a_run_ends_with_what_it_has_when_its_budget_is_used_up(tmp_path):
    with FakeServer(Script()) as server:
        whole = run(tmp_path, priced(server.url), TASK).documents[0]
        cost = whole["summary"]["cost_usd"]
        done = run(tmp_path, priced(server.url), TASK, "--max-cost", f"{cost * 0.6 + 0.2:.4f}")
    (result,) = done.documents
    assert (whole["success"], done.code, result["success"], result["error_kind"]) == (True, 1, False, "budget")
    assert 0.2 < result["summary"]["cost_usd"] <= cost * 0.6 + 0.2
    assert "##" in result["output"]
    assert "budget" in done.one_line


def test_one_budget_holds_for_all_runs_of_the_system(tmp_path):
    tasks = "\n".join(f"What is {n}?" for n in range(40))
    with FakeServer(Script(latency=0.01)) as server:
        done = run(tmp_path, priced(server.url, "[budget]\nusd = 1.5"), "--tasks", "-", stdin=tasks)
    *results, last = done.documents
    assert done.code == 1
    assert 0.5 < last["summary"]["cost_usd"] <= 1.5
    assert "budget" in {result["error_kind"] for result in results} <= {None, "budget"}


@pytest.mark.parametrize("bound", [["--max-cost", "5"], []])
def test_with_a_budget_a_model_without_a_price_is_not_called(tmp_path, bound):
    more = "" if bound else "[budget]\nusd = 5.0"
    with FakeServer(Script()) as server:
        done = run(tmp_path, config(server.url, more), TASK, *bound)
        requests = server.stats().requests
    assert (done.code, done.documents[0]["error_kind"], requests) == (1, "budget", 0)
    assert "has no price" in done.lines[-1]


def test_each_task_of_a_file_may_have_a_budget_of_its_own(tmp_path):
    lines = '{"task": "What is a?", "id": "poor", "max_cost": 0.01}\n{"task": "What is b?", "id": "rich"}\n'
    with FakeServer(Script()) as server:
        done = run(tmp_path, priced(server.url), "--tasks", "-", stdin=lines)
    assert {run: result["error_kind"] for run, result in done.results.items()} == {"poor": "budget", "rich": None}


def test_a_budget_stands_in_a_submission_as_well():
    with FakeServer(Script()) as server, system_of(server) as system:
        poor = system.submit(TASK, max_cost=0.05).result(timeout=20)
        rich = system.submit(TASK, max_cost=50).result(timeout=20)
    assert (poor.error_kind, rich.success) == (ErrorKind.BUDGET, True)


def system_of(server, more=""):
    from runtime import ActorSystem, Config

    return ActorSystem(Config.parse(priced(server.url, more).encode(), "the test"))


@pytest.mark.parametrize("wrong", [{"max_cost": -1.0}, {"max_cost": float("nan")}, {"flow": "a/b"}, {"flow": "x" * 65}])
def test_bounds_that_cannot_be_are_refused_at_the_door(wrong):
    with FakeServer(Script()) as server, system_for(server) as system, pytest.raises(TroupeError, match=r"budget|flow"):
        system.submit(TASK, **wrong)


# --- who goes first

ONE_AT_A_TIME = "[team]\nplan = 'never'\n[limits.main]\nconcurrency = 1\n"


def coder_order(server):
    """Return the numbers of the tasks in the order in which the server was asked to implement them."""
    texts = [json.loads(body)["messages"][-1]["content"] for body in server.bodies()]
    return [text.split("number ")[1][:2] for text in texts if text.startswith("Implement: ")]


def test_urgent_tasks_of_a_file_go_before_the_others(tmp_path):
    lines = [{"task": f"Explain number {n}.", "priority": "low" if n < 20 else "high"} for n in range(10, 26)]
    with FakeServer(Script(latency=0.02, record=True)) as server:
        done = run(tmp_path, config(server.url, ONE_AT_A_TIME), "--tasks", "-", stdin="\n".join(map(json.dumps, lines)))
        order = coder_order(server)
    assert done.code == 0
    assert max(order.index(str(n)) for n in range(20, 26)) < min(order.index(str(n)) for n in range(12, 20))


def test_the_priority_of_the_options_is_that_of_every_line_without_one(tmp_path):
    lines = [{"task": f"Explain number {n}."} | ({"priority": "high"} if n > 20 else {}) for n in range(10, 26)]
    with FakeServer(Script(latency=0.02, record=True)) as server:
        text = config(server.url, ONE_AT_A_TIME)
        done = run(tmp_path, text, "--tasks", "-", "--priority", "low", stdin="\n".join(map(json.dumps, lines)))
        order = coder_order(server)
    assert {task["priority"] for result in done.documents[:-1] for task in result["results"]} == {0, 2}
    assert max(order.index(str(n)) for n in range(21, 26)) < min(order.index(str(n)) for n in range(12, 20))


def test_flows_share_a_contended_provider_by_their_weights(tmp_path):
    more = ONE_AT_A_TIME + "[flows.big]\nweight = 3\n[flows.small]\nweight = 1\n"
    lines = [{"task": f"Explain number {n}.", "flow": "big" if n % 2 else "small"} for n in range(10, 50)]
    with FakeServer(Script(latency=0.01, record=True)) as server:
        done = run(tmp_path, config(server.url, more), "--tasks", "-", stdin="\n".join(map(json.dumps, lines)))
        order = [int(number) % 2 for number in coder_order(server)]
    assert done.code == 0
    assert sum(order[:20]) == pytest.approx(15, abs=2)


def test_priorities_hold_where_no_limits_are_configured_and_only_callers_are_scarce(tmp_path):
    lines = [{"task": f"Explain number {n}.", "priority": "low" if n < 190 else "high"} for n in range(100, 200)]
    with FakeServer(Script(latency=(1.0, 3.0), record=True)) as server:
        text = config(server.url, "[team]\nplan = 'never'\n")
        done = run(tmp_path, text, "--tasks", "-", stdin="\n".join(map(json.dumps, lines)))
        texts = [json.loads(body)["messages"][-1]["content"] for body in server.bodies()]
    order = [text.split("number ")[1][:3] for text in texts if text.startswith("Implement: ")]
    assert done.code == 0
    assert max(order.index(str(n)) for n in range(190, 200)) < 64 + 10 + 5


def test_priority_and_flow_reach_every_agent():
    with FakeServer(Script()) as server, system_for(server) as system:
        system.register(Mirror)
        outcome = system.submit("x", workflow=AskMirror, priority="high", flow="acme", timeout=20).result(timeout=20)
    assert outcome.output == "seen: x 0 acme True"


# --- how many at once


class Many(Agent):
    role = "many"

    async def handle(self, message: AgentMessage) -> str:
        replies = await self.gather(*(self.chat(f"{message.content} {n}") for n in range(12)))
        return f"{len(replies)} replies"


class Bounded(Workflow):
    max_parallel = 3

    async def run(self, task: str) -> str:
        return await self.ask("many", task)


def test_a_workflow_has_at_most_so_many_calls_in_flight_however_many_an_agent_makes():
    with FakeServer(Script(latency=0.05)) as server, system_for(server) as system:
        system.register(Many)
        outcome = system.submit("x", workflow=Bounded).result(timeout=20)
        most = server.stats().max_in_flight
    assert (outcome.output, most) == ("12 replies", 3)
