"""Each example runs as it stands, against the scripted server."""

from __future__ import annotations

import ast
import sys

import pytest

from runtime import Config
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import ROOT, config, printed, ran, troupe

pytestmark = pytest.mark.slow


def test_the_embedding_example_runs_a_role_a_workflow_and_the_team(tmp_path):
    out = printed(tmp_path, str(ROOT / "examples" / "embed.py"))
    assert out.count("task.finished") == 7
    assert "## " in out


def test_the_example_of_a_team_of_your_own_survives_a_task_that_fails(tmp_path):
    good, bad = printed(tmp_path, str(ROOT / "examples" / "own_agent.py")).splitlines()
    assert good.partition(" ")[0].isdigit()
    assert len(good.split(". ", 1)[1]) > 10
    assert bad.startswith("no proofreading: ")
    assert "FileNotFoundError" in bad


@pytest.mark.parametrize("name", ["embed", "own_agent", "asyncio_app"])
def test_an_example_takes_a_configuration_file(tmp_path, name):
    (tmp_path / "team.toml").write_text(config("http://127.0.0.1:9/v1", "[team]\nplan = 1"), encoding="utf-8")
    done = ran(tmp_path, [sys.executable, str(ROOT / "examples" / f"{name}.py"), "team.toml"], b"")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("protocol.errors.ConfigError: team.toml: team.plan: ")


def test_the_asyncio_example_awaits_its_runs(tmp_path):
    out = printed(tmp_path, str(ROOT / "examples" / "asyncio_app.py"))
    assert out.count("succeeded") == 2


def test_the_examples_of_tests_pass_and_each_is_under_ten_lines(tmp_path):
    example = ROOT / "examples" / "test_my_agent.py"
    plugin = ("-p", "no:cacheprovider", "-p", "runtime.pytest_plugin")
    out = printed(tmp_path, "-m", "pytest", "-q", *plugin, "-c", "/dev/null", str(example))
    assert "5 passed" in out
    functions = [f for f in ast.parse(example.read_text("utf-8")).body if isinstance(f, ast.FunctionDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 >= 10] == []


def test_the_german_example_runs_the_guides_task_with_the_guides_values(tmp_path):
    path = ROOT / "examples" / "guide_de.toml"
    task = "Implementiere einen async HTTP-Client mit Retry-Logik"
    with FakeServer(Script(latency=0.05)) as server:
        where = ("--config", str(path), "--base-url", server.url, "--id", "task_001", "--json")
        done = troupe(tmp_path, "run", task, *where, HOLYSHEEP_API_KEY="sk-of-nobody")
        stats = server.stats()
    (result,) = done.documents
    assert (done.code, result["correlation_id"], result["success"]) == (0, "task_001", True)
    assert (stats.by_role, stats.max_in_flight) == ({"orchestrator": 1, "coder": 3, "reviewer": 3}, 3)
    assert {task["model"] for task in result["results"]} == {"opus"}
    german = Config.load(path)
    assert (german.team.max_parallel, german.roles["coder"].timeout) == (3, 45.0)
    assert all("Du " in german.roles[role].system_prompt for role in ("orchestrator", "coder", "reviewer"))
