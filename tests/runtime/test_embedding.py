"""Embedding: what an application may do with a system, rightly and wrongly."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from actors import Agent, Workflow
from protocol import AgentMessage, ConfigError, ErrorKind, TaskFailed, TroupeError, ids
from runtime import ActorSystem
from runtime.channel import Channel
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import environment
from tests.runtime.systems import TASK, AskMirror, Mirror, system_for, threads

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


@pytest.fixture
def system(server):
    with system_for(server) as running:
        yield running


# --- what may be submitted, and reaches the agents


def test_priority_flow_and_timeout_reach_the_agent(system):
    system.register(Mirror)
    handle = system.submit("hi", workflow=AskMirror, priority="high", flow="acme", timeout=60)
    outcome = handle.result(10)
    assert outcome.output == "seen: hi 0 acme True"
    assert outcome.results[0].priority == 0


def test_a_task_goes_straight_to_a_role_and_its_text_is_the_output(system):
    system.register(Mirror, role="looking-glass", instances=3)
    assert system.submit("hi", to="looking-glass").result(10).output.startswith("hi 1 ")


def test_an_unknown_role_fails_at_once_and_says_which_there_are(system):
    outcome = system.submit("hi", to="plumber").result(10)
    assert outcome.error_kind is ErrorKind.NO_SUCH_ROLE
    assert "coder, executor, orchestrator, reviewer" in outcome.error


@pytest.mark.parametrize(("workflow", "said"), [("nope", "there are: direct, team"), (int, "subclass"), (Agent, "sub")])
def test_a_workflow_that_is_none_is_refused_at_the_door(system, workflow, said):
    with pytest.raises(TroupeError, match=said):
        system.submit("hi", workflow=workflow)


def test_text_that_nobody_could_send_is_refused_at_the_door(system):
    with pytest.raises(TroupeError, match="not valid text"):
        system.submit("half an emoji: \ud83d")


@pytest.mark.parametrize("task", ["Grüße, 世界 👋", "tab\tbell\x07 and \x00 null\r\nline", "a\u2028b"])
def test_any_other_text_comes_back_as_it_was(system, task):
    system.register(Mirror)
    assert system.submit(task, to="mirror").result(10).output.startswith(task)


def test_two_classes_of_one_name_are_two_workflows(system):
    def made(text):
        class Same(Workflow):
            async def run(self, task: str) -> str:
                return text

        return Same

    handles = [system.submit("hi", workflow=made(str(n))) for n in range(10)]
    assert [handle.result(10).output for handle in handles] == [str(n) for n in range(10)]


def test_a_workflow_whose_constructor_raises_fails_its_run_and_no_other(system):
    class Broken(Workflow):
        def __init__(self, start):
            raise SystemExit(3)

    broken = [system.submit("hi", workflow=Broken).result(10) for _ in range(8)]
    assert {outcome.error_kind for outcome in broken} == {ErrorKind.HANDLER_ERROR}
    assert "SystemExit: 3" in broken[0].error
    assert system.submit("Hi?").result(10).success


def test_a_workflow_that_fails_in_its_own_machinery_ends_its_run_even_when_it_cannot_say_so(system):
    class Damaged(Workflow):
        def on_receive(self, message):
            raise ValueError("not a step")

        def teardown(self):
            raise ValueError("not even an end")

    outcome = system.submit("hi", workflow=Damaged).result(10)
    assert outcome.error == "its workflow failed too often: ValueError: not a step"
    assert outcome.error_kind is ErrorKind.INTERNAL


def test_a_workflow_that_never_returns_is_replaced_once_and_its_run_says_so(system):
    inside, let_go = Channel(), Channel()

    class Blocks(Workflow):
        async def run(self, task: str) -> str:
            inside.put(None)
            let_go.get(timeout=20)
            return "late"

    handle = system.submit("hi", workflow=Blocks)
    inside.get(timeout=5)
    box = system.directory.mailboxes[ids.workflow_address(handle.correlation_id)]
    box.spec = replace(box.spec, stuck_after=0.2)
    outcome = handle.result(10)
    healthy = system.submit("Hi?").result(10)
    let_go.put(None)
    assert (outcome.success, outcome.error_kind) == (False, ErrorKind.STUCK)
    assert healthy.success


# --- who may play


def test_an_agent_whose_constructor_raises_is_refused_and_the_system_goes_on(system):
    class Broken(Agent):
        role = "broken"

        def __init__(self):
            raise ValueError("no battery")

    for _ in range(8):
        with pytest.raises(ConfigError, match="broken/0 cannot be made: ValueError: no battery"):
            system.register(Broken)
    assert system.submit("Hi?").result(10).success


class Nameless(Agent):
    """An agent that plays no role yet."""


def test_a_path_is_no_configuration():
    with pytest.raises(ConfigError, match=r"not 'team\.toml': Config\.load\(path\) reads a file"):
        ActorSystem("team.toml")


@pytest.mark.parametrize(
    ("agent", "options", "said"),
    [
        (Workflow, {}, "subclass of actors.Agent"),
        (Mirror(), {}, "subclass of actors.Agent"),
        (Nameless, {}, "not ''; set Nameless.role or pass role="),
        (Mirror, {"role": "Not a name"}, "role's name"),
        (Mirror, {"instances": 0}, "1 instance or more"),
        (Mirror, {"role": "coder"}, "'coder' is played already"),
    ],
)
def test_an_agent_that_cannot_be_registered_is_refused(system, agent, options, said):
    with pytest.raises(ConfigError, match=said):
        system.register(agent, **options)


def test_of_two_threads_that_register_one_role_one_wins_and_the_other_is_told(system):
    def register(_):
        try:
            system.register(Mirror, instances=2)
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(register, range(8))).count(True) == 1
    assert system.submit("hi", to="mirror").result(10).success


# --- one id, one run


def test_of_32_threads_with_one_id_those_with_one_task_share_a_handle_and_the_others_are_told(system):
    def submit(n):
        try:
            return system.submit(f"What is {n % 2}?", correlation_id="one")
        except TroupeError as error:
            return str(error)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(submit, range(32)))
    texts = [answer for answer in answers if isinstance(answer, str)]
    assert len({id(answer) for answer in answers if not isinstance(answer, str)}) == 1
    assert set(texts) == {"run 'one' exists already with another task"}
    assert len(texts) == 16


def test_the_same_id_after_the_end_gives_the_same_handle_and_makes_no_call(system, server):
    first = system.submit("Hi?", correlation_id="again")
    first.result(10)
    before = server.stats().requests
    assert system.submit("Hi?", correlation_id="again") is first
    assert server.stats().requests == before


def test_a_run_is_found_by_its_id_while_it_goes_on_and_after_the_stop(server):
    with system_for(server) as system:
        handle = system.submit("Hi?", correlation_id="mine")
        assert system.handle("mine") is handle
        assert system.handle("yours") is None
    assert system.handle("mine") is handle
    assert handle.result(0).error_kind is ErrorKind.STOPPED


@pytest.mark.parametrize("other", [{"to": "coder"}, {"workflow": AskMirror}])
def test_the_same_text_for_somebody_else_is_another_task(system, other):
    system.submit("Hi?", correlation_id="one")
    with pytest.raises(TroupeError, match="another task"):
        system.submit("Hi?", correlation_id="one", **other)


def test_submit_does_not_wait_for_a_handler_that_holds_the_loop(system):
    inside, go_on = Channel(), Channel()

    class Holds(Agent):
        role = "holds"

        async def handle(self, message: AgentMessage) -> str:
            inside.put(None)
            go_on.get(timeout=3)
            return "done"

    system.register(Holds)
    held = system.submit("x", to="holds")
    inside.get(timeout=3)
    began = time.monotonic()
    handles = [system.submit("Hi?") for _ in range(20)]
    assert time.monotonic() - began < 0.2
    go_on.put(None)
    assert all(handle.result(10).success for handle in (held, *handles))


# --- what a user's own code raises


class Prices(Agent):
    role = "prices"

    async def handle(self, message: AgentMessage) -> str:
        return {}["the price"]


class Halves(Workflow):
    async def run(self, task: str) -> str:
        return str(1 / 0)


class Reads(Agent):
    role = "reads"

    async def handle(self, message: AgentMessage) -> str:
        try:
            return await self.call(open, "/no/such/file")
        except TaskFailed:
            return "none"


@pytest.fixture
def heard():
    """The lines that the library logs, as dicts; the application has asked for INFO and above."""
    lines, log = [], logging.getLogger("troupe")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(json.loads(record.getMessage()))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)
    log.setLevel(before)


@pytest.mark.parametrize(
    ("where", "event", "level", "said"),
    [
        ({"to": "prices"}, "handler.raised", "error", 'return {}["the price"]'),
        ({"workflow": Halves}, "handler.raised", "error", "return str(1 / 0)"),
        ({"to": "reads"}, "function.raised", "info", "FileNotFoundError"),
    ],
)
def test_where_a_users_code_raised_is_logged_once_with_the_id_of_the_run(system, heard, where, event, level, said):
    system.register(Prices)
    system.register(Reads)
    system.submit("x", correlation_id="order-17", **where).result(10)
    (line,) = [line for line in heard if line["event"].endswith(".raised")]
    assert (line["event"], line["level"], line["correlation_id"]) == (event, level, "order-17")
    assert said in line["trace"]


# --- asyncio


def test_a_start_that_is_cancelled_leaves_no_system_behind(silent_start):
    system, inside, go_on = silent_start

    async def main():
        entering = asyncio.create_task(system.__aenter__())
        await asyncio.to_thread(inside.get, timeout=5)
        entering.cancel()
        await asyncio.sleep(0)
        go_on.put(None)
        await asyncio.gather(entering, return_exceptions=True)
        return entering.cancelled()

    assert asyncio.run(main())
    assert threads() == []
    with pytest.raises(TroupeError, match="has been stopped"):
        system.submit("Hi?")


@pytest.fixture
def silent_start(server, monkeypatch):
    """A system whose start takes until it is let go."""
    system, inside, go_on = system_for(server), Channel(), Channel()
    start = system.start

    def slowly():
        inside.put(None)
        go_on.get(timeout=5)
        return start()

    monkeypatch.setattr(system, "start", slowly)
    return system, inside, go_on


def test_leaving_an_async_block_ends_the_runs_under_way_and_their_watchers():
    async def main(server):
        async with system_for(server) as system:
            handle = system.submit(TASK)
            watching = asyncio.create_task(_names(handle))
            waiting = asyncio.ensure_future(handle)
            await anext(handle.aevents())
        return await asyncio.wait_for(watching, 5), await asyncio.wait_for(waiting, 5)

    with FakeServer(Script(latency=30.0)) as server:
        names, outcome = asyncio.run(main(server))
    assert names[0] == "task.started"
    assert (outcome.success, outcome.error_kind) == (False, ErrorKind.STOPPED)


async def _names(handle):
    return [event.event async for event in handle.aevents()]


# --- one process


def test_two_systems_share_nothing(server):
    with system_for(server) as one:
        with system_for(server) as two:
            one.register(Mirror)
            assert two.submit("hi", to="mirror").result(10).error_kind is ErrorKind.NO_SUCH_ROLE
        assert one.submit("hi", to="mirror").result(10).success


@pytest.mark.parametrize("dispatcher", ["shared", "threads"])
def test_the_same_application_runs_on_either_dispatcher(server, dispatcher):
    with system_for(server, f"[system]\ndispatcher = '{dispatcher}'") as system:
        system.register(Mirror)
        outcomes = [h.result(20) for h in [system.submit(TASK), system.submit("hi", workflow=AskMirror)]]
        assert [outcome.success for outcome in outcomes] == [True, True]
        cancelled = system.submit(TASK)
        cancelled.cancel()
        assert cancelled.result(10).error_kind in {ErrorKind.CANCELLED, None}


UNUSED = """
import sys
from runtime import ActorSystem, Config
with ActorSystem(Config.for_endpoint(sys.argv[1], "m")) as system:
    assert system.submit("Implement an async HTTP client with retries").result(20).success
heavy = [name for name in ("asyncio", "structlog", "rich", "sqlite3") if name in sys.modules]
print(heavy)
"""


def test_a_program_without_an_event_loop_or_logging_loads_neither(server, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", UNUSED, server.url],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


STARTED = """
import sys
from runtime import ActorSystem, Config
before = "requests" in sys.modules
with ActorSystem(Config.for_endpoint(sys.argv[1], "m")):
    print(before, "requests" in sys.modules)
"""


def test_the_http_library_is_loaded_by_the_start_not_by_the_first_call_on_the_loop(server, tmp_path):
    command = [sys.executable, "-c", STARTED, server.url]
    done = subprocess.run(
        command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("False True\n", "")
