"""Costs from end to end: what a configuration switches shows in calls at the server and in the sums."""

from __future__ import annotations

import pytest

from runtime import ActorSystem, Config
from runtime.assembly import planner, settings
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import troupe

LADDER = """
[provider.main]
base_url = "{url}"
[model.cheap]
provider = "main"
name = "c"
tier = 1
price = {{ input = 1.0, output = 2.0 }}
[model.strong]
provider = "main"
name = "s"
tier = 3
price = {{ input = 100.0, output = 200.0 }}
[routing]
explore = 0.0
"""


def configuration(more="", url="http://127.0.0.1:9"):
    return Config.parse((LADDER.format(url=url) + more).encode(), "the test")


def test_a_plan_costs_what_the_orchestrators_model_takes_or_the_strongest_where_it_is_chosen():
    assert planner(configuration())[1:] == (100_000.0, 200_000.0)
    assert planner(configuration('[roles.orchestrator]\nmodel = "cheap"'))[1:] == (1000.0, 2000.0)
    assert planner(Config()) == (planner(configuration()).fixed_tokens, None, None)
    assert planner(configuration()).fixed_tokens > 50


def test_sharing_is_off_where_the_configuration_says_nothing():
    on = configuration("[roles.coder]\ncoalesce = true\ncache_seconds = 60")
    assert (settings(on, "coder").coalesce, settings(on, "coder").cache_seconds) == (True, 60.0)
    assert (settings(on, "reviewer").coalesce, settings(on, "reviewer").cache_seconds) == (False, 0.0)


SHARED = "".join(f"[roles.{role}]\ncoalesce = true\ncache_seconds = 60\n" for role in ("coder", "reviewer"))


@pytest.mark.slow
@pytest.mark.parametrize(("more", "calls"), [("", 12), (SHARED, 2)])
def test_the_same_task_six_times_is_paid_six_times_or_once(tmp_path, more, calls):
    with FakeServer(Script(latency=0.05)) as server:
        (tmp_path / "t.toml").write_text(LADDER.format(url=server.url) + more)
        tasks = "What is a monad?\n" * 6
        done = troupe(tmp_path, "run", "--tasks", "-", "--config", "t.toml", "--json", stdin=tasks)
        requests = server.stats().requests
    *results, last = done.documents
    assert (done.code, requests, len({result["output"] for result in results})) == (0, calls, 1)
    costs = last["costs"]
    assert (costs["calls"], costs["served"]) == (calls, 12 - calls)
    assert costs["cost_usd"] == pytest.approx(sum(result["summary"]["cost_usd"] for result in results))
    saved = costs["saved_estimates"]
    assert saved["routing_usd"] > 0.0 < saved["planning_usd"]
    assert (saved["serving_usd"] > 0.0) == bool(more)
    assert all("costs" not in task for result in results for task in result["results"])
    assert "Saved (estimates): $" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "max_cost", "models"),
    [("", 10.0, {"strong"}), ("", 0.5, {"cheap"}), ("[budget]\nusd = 0.5\n", None, {"cheap"})],
)
def test_a_run_with_little_money_has_models_it_can_pay(budget, max_cost, models):
    with FakeServer(Script()) as server:
        config = configuration(f"[team]\nplan = 'never'\n{budget}", server.url)
        with ActorSystem(config) as system:
            task = "Build a shop with a database, an API, a mobile app, payments, tests and docs"
            result = system.submit(task, max_cost=max_cost).result(timeout=20)
    assert (result.success, set(result.costs.models)) == (True, models)
