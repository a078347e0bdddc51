"""The pytest plugin: its fixtures and options, what a failure shows, and that it costs nobody anything until used."""

from __future__ import annotations

import sys
import tomllib
from textwrap import dedent

import pytest

from tests.runtime import command
from tests.runtime.command import ROOT

pytestmark = pytest.mark.slow

AGENT = """
import pytest
from actors import Agent
from actors.testing import ActorTestKit, DomainLimits, ScriptedModel, TestProbe
from runtime.testing import ThreadedTestKit


class Echo(Agent):
    role = "echo"

    async def handle(self, message):
        return (await self.chat(message.content)).text

"""


def ran(home, code: str, *options: str) -> str:
    """Return what pytest printed for a file with *code*."""
    (home / "test_it.py").write_text(dedent(code), encoding="utf-8")
    options = ("-q", "-p", "no:cacheprovider", "-p", "runtime.pytest_plugin", "--strict-markers", *options)
    done = command.ran(
        home, [sys.executable, "-m", "pytest", *options, "test_it.py"], b"", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
    )
    assert done.err == ""
    return done.out


def test_pytest_finds_it_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"troupe": "runtime.pytest_plugin"}


def test_it_imports_nothing_of_troupe_until_a_fixture_is_used(tmp_path):
    code = """
        import sys

        OURS = {"actors", "protocol", "runtime", "pykka", "msgspec", "structlog", "requests", "urllib3"}

        def loaded():
            return sorted(name for name in sys.modules if name.partition(".")[0] in OURS)

        def test_before():
            assert loaded() == ["runtime", "runtime.pytest_plugin"]

        def test_then(scripted_model):
            assert {"actors.testing", "pykka", "msgspec"} <= set(loaded())
            assert "requests" not in loaded()
    """
    assert "2 passed" in ran(tmp_path, code)


def test_a_fixture_that_fails_shows_nothing_of_a_kit_that_was_never_loaded(tmp_path):
    out = ran(tmp_path, "def test_it():\n    assert 1 == 2\n")
    assert "1 failed" in out
    assert "messages" not in out


def test_the_fixtures_belong_together(tmp_path):
    code = """
def test_it(actor_probe, scripted_model, actor_kit):
    assert type(actor_kit) is ActorTestKit
    assert type(actor_probe) is TestProbe
    assert actor_kit.model is scripted_model
    actor_kit.tell("probe", "hello")
    assert actor_probe.expect(str) == "hello"
"""
    assert "1 passed" in ran(tmp_path, AGENT + code)


def test_the_marker_gives_the_options_and_the_closest_wins(tmp_path):
    code = """
pytestmark = pytest.mark.actor_kit(limits=DomainLimits(concurrency=1), threads=True)


def test_of_the_module(actor_kit):
    assert type(actor_kit) is ThreadedTestKit
    assert actor_kit.rig.settings.limits.concurrency == 1


@pytest.mark.actor_kit(threads=False, wire=True)
def test_of_the_function(actor_kit):
    assert type(actor_kit) is ActorTestKit
    assert actor_kit.dispatcher._wire
    assert actor_kit.rig.settings.limits.concurrency == 1
"""
    assert "2 passed" in ran(tmp_path, AGENT + code)


def test_a_failed_test_shows_where_the_handler_raised(tmp_path):
    code = """
class Broken(Agent):
    role = "broken"

    async def handle(self, message):
        return {}["the price"]


def test_it(actor_kit):
    actor_kit.register(Broken)
    assert actor_kit.ask("broken", "hi").result == "good"


def test_a_failure_that_is_meant(actor_kit):
    actor_kit.register(Broken)
    assert actor_kit.ask("broken", "hi").error == "KeyError: 'the price'"
"""
    out = ran(tmp_path, AGENT + code)
    assert "1 failed, 1 passed" in out
    assert out.count("what a handler raised") == 1
    assert '    return {}["the price"]' in out


def test_whatever_fails_a_test_the_last_messages_are_shown_once(tmp_path):
    code = """
def test_an_assertion_of_the_test(actor_kit, scripted_model):
    scripted_model.on("echo", "good")
    actor_kit.register(Echo)
    assert actor_kit.ask("echo", "hi").result == "better"


def test_an_assertion_of_the_kit(actor_kit):
    actor_kit.probe().expect(int)
"""
    out = ran(tmp_path, AGENT + code)
    assert "2 failed" in out
    assert out.count("the last 20 messages:") == 2
    assert "AgentMessage run-1/0 'hi'" in out
    assert "- actor_kit -" in out


def test_a_test_that_passes_shows_nothing(tmp_path):
    out = ran(tmp_path, AGENT + "def test_it(actor_kit):\n    assert actor_kit\n", "-rA")
    assert "messages:" not in out


def test_an_unexpected_call_that_nobody_saw_is_an_error_of_the_test(tmp_path):
    code = """
def test_it(actor_kit):
    actor_kit.register(Echo)
    actor_kit.submit(__import__("actors.testing").testing.DirectWorkflow, "hi", to="echo")
    actor_kit.dispatcher.settle()
"""
    out = ran(tmp_path, AGENT + code)
    assert "1 passed, 1 error" in out
    assert "the scripted model was asked something unexpected: echo asked" in out


def test_an_option_that_is_none_is_an_error_of_the_test(tmp_path):
    out = ran(tmp_path, AGENT + "@pytest.mark.actor_kit(sead=3)\ndef test_it(actor_kit):\n    assert actor_kit\n")
    assert "1 error" in out
    assert "unexpected keyword argument 'sead'" in out


THREADED = """
import pytest

pytestmark = pytest.mark.actor_kit(threads=True)


def test_which(actor_kit):
    assert type(actor_kit).__name__ == "ThreadedTestKit"
"""


def test_the_examples_pass_on_real_threads_too(tmp_path):
    example = (ROOT / "examples" / "test_my_agent.py").read_text(encoding="utf-8")
    assert "6 passed" in ran(tmp_path, example + THREADED)
