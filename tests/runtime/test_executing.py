"""The executor in a running system: on, off or absent; a whole feedback run; cancels, stops, and the key stays ours."""

from __future__ import annotations

import json
import secrets
import threading
import time

import pytest

from actors import Agent, Coder, Executor, Orchestrator, Reviewer, TeamWorkflow
from actors.team import Running, TeamRules
from actors.testing import ActorTestKit, ScriptedModel
from protocol import AgentRole, ConfigError
from protocol.facts import Checked
from protocol.plan import Plan, Review
from runtime import ActorSystem, Config, bubblewrap
from runtime.executing import Executing
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from runtime.sandbox import Sandbox
from tests.runtime.attacks import PRELUDE
from tests.runtime.box import boxes, needs_sandbox, soon, users_of_our_own  # noqa: F401
from tests.runtime.command import config, troupe

RIGHT = "```python\ndef double(x):\n    return 2 * x\n\n\ndef test_double():\n    assert double(2) == 4\n```"
WRONG = RIGHT.replace("2 * x", "3 * x")
HANGS = "```python\nimport time\n\n\ndef test_it():\n    time.sleep(60)\n```"
TASK = "Implement an async HTTP client with retry logic"
NO_SANDBOX = "no sandbox (bubblewrap is not installed; install it with: apt-get install bubblewrap)"


def configured(url: str, more: str = "") -> Config:
    return Config.parse(config(url, more).encode(), "a test")


@pytest.fixture
def no_bubblewrap(monkeypatch, tmp_path):
    monkeypatch.setattr(bubblewrap, "WHERE", str(tmp_path))


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


# --- a feedback run


@needs_sandbox
def test_a_failing_test_drives_the_revision_that_passes_it():
    class Boxed(Executor):
        def __init__(self) -> None:
            super().__init__(Sandbox())

    script = {
        "orchestrator": Plan(subtasks=("double a number",)),
        "coder": [WRONG, RIGHT],
        "reviewer": Review(score=9, approved=True),
    }
    kit = ActorTestKit(ScriptedModel(script))
    for agent in (Orchestrator, Coder, Reviewer, Boxed):
        kit.register(agent)
    result = kit.run(lambda start: TeamWorkflow(start, TeamRules(plan="always"), Running(on=True)), TASK)
    prompts = [call.messages[-1].content for call in kit.model.calls]
    failed = "- draft.py::test_double failed: AssertionError (draft.py line 6: assert double(2) == 4)"
    assert [failed in prompt for prompt in prompts] == [False, False, True, False]
    assert (result.success, result.output, result.accepted[0].rounds) == (True, RIGHT, 1)
    assert result.accepted[0].facts == Checked(parsed=True, ran=True, tests_passed=1)


@needs_sandbox
def test_a_team_over_http_has_its_drafts_run(server):
    with ActorSystem(configured(server.url)) as system:
        handle = system.submit(TASK)
        result = handle.result(timeout=20)
        checked = [event for event in handle.events() if event.event == "draft.checked"]
    assert [accepted.facts for accepted in result.accepted] == [Checked(parsed=True, ran=True, tests_passed=1)] * 3
    assert len(checked) == 3
    assert result.summary.total_tasks == len(result.results) == 7


# --- enabled, or not


def test_without_a_sandbox_auto_starts_and_shows_that_nothing_was_run(server, no_bubblewrap):
    with ActorSystem(configured(server.url)) as system:
        handle = system.submit(TASK)
        result = handle.result(timeout=20)
        told = [event.facts for event in handle.events() if event.event == "drafts.not_run"]
        asked = system.submit(RIGHT, to=AgentRole.EXECUTOR).result(timeout=20)
    assert [accepted.facts.note for accepted in result.accepted] == [f"not run: {NO_SANDBOX}"] * 3
    assert told == [{"reason": NO_SANDBOX}]
    assert "not run: no sandbox" in json.loads(asked.output)["note"]


def test_without_a_sandbox_true_refuses_to_start_and_names_the_package(server, no_bubblewrap):
    system = ActorSystem(configured(server.url, "[executor]\nenabled = true"))
    with pytest.raises(ConfigError, match=r"executor.enabled is true, and there is no sandbox: .*install bubblewrap"):
        system.start()


@needs_sandbox
def test_with_a_sandbox_true_starts(server):
    with ActorSystem(configured(server.url, "[executor]\nenabled = true")) as system:
        assert json.loads(system.submit(RIGHT, to=AgentRole.EXECUTOR).result(timeout=20).output)["imported"] is True


def test_switched_off_nothing_is_run_and_nothing_said(server):
    with ActorSystem(configured(server.url, "[executor]\nenabled = false")) as system:
        handle = system.submit(TASK)
        result = handle.result(timeout=20)
        events = {event.event for event in handle.events()}
        asked = system.submit(RIGHT, to=AgentRole.EXECUTOR).result(timeout=20)
    assert [accepted.facts for accepted in result.accepted] == [None] * 3
    assert events & {"drafts.not_run", "draft.checked"} == set()
    assert json.loads(asked.output)["note"] == "not run: no sandbox (executor.enabled is false)"


class Own(Agent):
    """An executor of the user's own."""

    role = AgentRole.EXECUTOR

    async def handle(self, message):
        return '{"parsed": true, "imported": true, "note": "elsewhere"}'


def test_an_executor_of_the_users_own_needs_no_sandbox(server, no_bubblewrap):
    own = "[roles.executor]\nagent = 'tests.runtime.test_executing:Own'"
    with ActorSystem(configured(server.url, f"{own}\n[executor]\nenabled = true")) as system:
        result = system.submit(TASK).result(timeout=20)
    assert [accepted.facts.note for accepted in result.accepted] == ["elsewhere"] * 3


def test_auto_looks_for_the_tools_and_makes_no_run(monkeypatch):
    monkeypatch.setattr(Sandbox, "run", lambda *_: pytest.fail("it was run"))
    executing = Executing(Config())
    executing.open()
    assert executing.running.on or executing.running.reason


# --- the command line


@needs_sandbox
@pytest.mark.slow
def test_the_summary_and_the_progress_say_whether_drafts_parsed_ran_and_passed(tmp_path, server):
    done = troupe(tmp_path, "run", TASK, "--base-url", server.url, "--model", "m", "--json")
    assert done.code == 0
    assert "Drafts: parsed 3 of 3, ran 3 of 3, 3 of 3 tests passed" in done.err.splitlines()
    said = [line for line in done.err.splitlines() if "(it parses, it runs, 1 of 1 tests passed)" in line]
    assert [sum(word in line for line in said) for word in ("executor     found:", "accepted with ")] == [3, 3]
    facts = [accepted["facts"] for accepted in done.documents[0]["accepted"]]
    assert facts[0] == {
        "parsed": True, "ran": True, "tests_passed": 1, "tests_failed": 0, "failures": [], "note": "",
    }  # fmt: skip


# --- ends


@needs_sandbox
@pytest.mark.slow
def test_a_cancelled_execution_is_over_within_two_seconds_and_leaves_nobody(server):
    before = boxes()
    with ActorSystem(configured(server.url)) as system:
        handle = system.submit(HANGS, to=AgentRole.EXECUTOR)
        assert soon(lambda: boxes() - before)
        began = time.monotonic()
        handle.cancel()
        assert not handle.result(timeout=5).success
        assert soon(lambda: boxes() - before == set(), 2.0)
        assert time.monotonic() - began < 2.0


@needs_sandbox
@pytest.mark.slow
def test_a_stop_ends_what_runs_in_the_sandbox(server):
    before = boxes()
    with ActorSystem(configured(server.url)) as system:
        system.submit(HANGS, to=AgentRole.EXECUTOR)
        assert soon(lambda: boxes() - before)
        began = time.monotonic()
    assert time.monotonic() - began < 3.0
    assert boxes() - before == set()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("troupe-")] == []


@needs_sandbox
@pytest.mark.slow
def test_a_stop_ends_also_what_a_cancel_did_not(server, monkeypatch):
    monkeypatch.setattr(Sandbox, "kill", lambda *_: None)
    before = boxes()
    with ActorSystem(configured(server.url)) as system:
        system.submit(HANGS, to=AgentRole.EXECUTOR)
        assert soon(lambda: boxes() - before)
        began = time.monotonic()
    assert time.monotonic() - began < 3.0
    assert boxes() - before == set()


# --- law 10

THIEF = f"""```python
{PRELUDE.partition("HOME,")[0]}
for place in ("/proc", "/root", "/etc", "/tmp", "/home", "/box", "/dev", "/run", "/var"):
    for folder, _, names in os.walk(place):
        for name in names[:200]:
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    print(file.read(2000))
            except OSError as error:
                print(error)
for fd in range(256):
    try:
        print(os.pread(fd, 2000, 0))
    except OSError:
        pass
print(dict(os.environ), sys.argv)


def test_it():
    assert False, repr(dict(os.environ))
```"""


class Thief(Agent):
    """A coder whose drafts look for a key, and print what they find."""

    role = AgentRole.CODER

    async def handle(self, message):
        return THIEF


@needs_sandbox
@pytest.mark.slow
def test_law_10_a_draft_that_looks_for_the_key_finds_none(tmp_path, server):
    canary = f"sk-canary-{secrets.token_hex(16)}"
    text = config(server.url, "[team]\nmax_rounds = 1").replace("[model.m]", "api_key_env = 'CANARY_KEY'\n[model.m]")
    text = text.replace("[roles.coder]", "[roles.coder]\nagent = 'tests.runtime.test_executing:Thief'")
    (tmp_path / "team.toml").write_text(text, encoding="utf-8")
    events = tmp_path / "events.jsonl"
    command = ("run", TASK, "--config", "team.toml", "--events", str(events), "--json")
    done = troupe(tmp_path, *command, CANARY_KEY=canary)
    accepted = done.documents[0]["accepted"]
    assert [each["facts"]["tests_failed"] for each in accepted] == [1] * 3
    assert "HOME" in accepted[0]["facts"]["failures"][0]
    everything = done.out + done.err + events.read_text(encoding="utf-8")
    assert canary not in everything
    assert canary.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
