"""Embedding: what an application may do with a system, rightly and wrongly, and that its end ends everything."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors import Agent, Workflow
from protocol import AgentMessage, ConfigError, ErrorKind, TroupeError, ids
from protocol.policies.restarts import RestartLimit
from runtime import ActorSystem, Config
from runtime.channel import Channel
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import config, environment

pytestmark = pytest.mark.slow
TASK = "Implement an async HTTP client with retries"


def system_for(server: FakeServer, more: str = "") -> ActorSystem:
    return ActorSystem(Config.parse(config(server.url, more).encode(), "the test"))


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


@pytest.fixture
def silent():
    with FakeServer(Script(latency=60.0)) as running:
        yield running


@pytest.fixture
def system(server):
    with system_for(server) as running:
        yield running


class Mirror(Agent):
    """Answers with what it was told about the message."""

    role = "mirror"

    async def handle(self, message: AgentMessage) -> str:
        in_time = message.deadline is not None and message.deadline > self.clock()
        return f"{message.content} {message.priority} {message.metadata.get('flow')} {in_time}"


class AskMirror(Workflow):
    async def run(self, task: str) -> str:
        return "seen: " + await self.ask("mirror", task)


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
    assert "coder, orchestrator, reviewer" in outcome.error


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


@pytest.mark.parametrize(
    ("agent", "options", "said"),
    [
        (Workflow, {}, "subclass of actors.Agent"),
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


# --- life


def test_a_system_starts_once_and_a_stopped_one_stays_stopped(server):
    system = system_for(server)
    assert system.start() is system.start()
    system.stop()
    with pytest.raises(TroupeError, match="stays so; make a new one"):
        system.start()


def test_a_start_that_fails_leaves_nothing_and_says_why(server):
    threads = threading.active_count()
    system = system_for(server, '[roles.extra]\nagent = "no.such.module:Thing"')
    with pytest.raises(ConfigError, match=r"roles\.extra\.agent"):
        system.start()
    assert threading.active_count() == threads
    system.stop()


class Unmakeable(Agent):
    role = "extra"

    def __init__(self):
        raise OSError("no battery")


def test_an_agent_of_the_configuration_that_cannot_be_made_ends_the_start(server):
    threads = threading.active_count()
    system = system_for(server, f'[roles.extra]\nagent = "{__name__}:Unmakeable"')
    with pytest.raises(ConfigError, match="extra/0 cannot be made: OSError: no battery"):
        system.start()
    assert threading.active_count() == threads
    with pytest.raises(TroupeError, match="not running"):
        system.submit("x")


def test_two_systems_share_nothing(server):
    with system_for(server) as one:
        with system_for(server) as two:
            one.register(Mirror)
            assert two.submit("hi", to="mirror").result(10).error_kind is ErrorKind.NO_SUCH_ROLE
        assert one.submit("hi", to="mirror").result(10).success


def test_an_async_block_stops_the_system_too(server):
    async def main():
        async with system_for(server) as system:
            handle = system.submit("Hi?")
        return await handle

    assert asyncio.run(main()).error_kind in {None, ErrorKind.STOPPED}


def test_50_systems_leave_threads_and_files_as_they_were(server):
    def once(n):
        with system_for(server) as system:
            assert system.submit(TASK if n % 5 == 0 else "Hi?").result(10).success

    once(0)
    threads, mine = threading.active_count(), sockets()
    for n in range(50):
        once(n)
        assert threading.active_count() == threads
    deadline = time.monotonic() + 5.0
    while sockets() > mine and time.monotonic() < deadline:
        server.stats()  # the server, in this process too, hears of each hang-up in its own time
    assert sockets() <= mine


def sockets() -> int:
    links = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            links += str(file.readlink()).startswith("socket:")
    return links


@pytest.mark.parametrize("dispatcher", ["shared", "threads"])
def test_the_same_application_runs_on_either_dispatcher(server, dispatcher):
    with system_for(server, f"[system]\ndispatcher = '{dispatcher}'") as system:
        system.register(Mirror)
        outcomes = [h.result(20) for h in [system.submit(TASK), system.submit("hi", workflow=AskMirror)]]
        assert [outcome.success for outcome in outcomes] == [True, True]
        cancelled = system.submit(TASK)
        cancelled.cancel()
        assert cancelled.result(10).error_kind in {ErrorKind.CANCELLED, None}


# --- stopping


def took(stop) -> float:
    began = time.monotonic()
    stop()
    return time.monotonic() - began


@pytest.mark.parametrize("dispatcher", ["shared", "threads"])
def test_stop_is_quick_while_runs_wait_for_a_silent_server_and_their_handles_say_stopped(silent, dispatcher):
    system = system_for(silent, f"[system]\ndispatcher = '{dispatcher}'").start()
    handles = [system.submit(f"{TASK} {n}") for n in range(20)]
    while silent.stats().requests < 20:
        time.sleep(0.01)
    assert took(lambda: system.stop(timeout=5.0)) < 2.5
    assert {handle.result(0).error_kind for handle in handles} == {ErrorKind.STOPPED}
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("troupe-")] == []


def test_stop_keeps_its_deadline_while_a_handler_never_returns(server):
    inside, let_go = Channel(), Channel()

    class Endless(Agent):
        role = "endless"

        async def handle(self, message: AgentMessage) -> str:
            inside.put(None)
            let_go.get(timeout=20)
            return ""

    system = system_for(server).start()
    system.register(Endless)
    handles = [system.submit("x", to="endless"), system.submit(TASK)]
    inside.get(timeout=5)
    iterator = handles[1].events()
    watching = ThreadPoolExecutor(1).submit(list, iterator)
    assert took(lambda: system.stop(timeout=1.0)) < 1.5
    assert {handle.result(0).error_kind for handle in handles} == {ErrorKind.STOPPED}
    let_go.put(None)
    assert isinstance(watching.result(5), list)


def test_a_blocking_agent_that_never_returns_does_not_hold_the_stop_either(server):
    let_go = Channel()

    class Blocks(Agent):
        role = "blocks"
        blocking = True

        async def handle(self, message: AgentMessage) -> str:
            let_go.get(timeout=20)
            return ""

    system = system_for(server).start()
    system.register(Blocks)
    blocked, healthy = system.submit("x", to="blocks"), system.submit("Hi?")
    assert healthy.result(10).success
    assert took(lambda: system.stop(timeout=1.0)) < 1.5
    assert blocked.result(0).error_kind is ErrorKind.STOPPED
    let_go.put(None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_run_submitted_while_the_system_stops_ends_or_is_refused(server):
    for _ in range(4):
        system, handles = system_for(server).start(), []

        def flood(system=system, handles=handles):
            try:
                while True:
                    handles.append(system.submit("Hi?"))
            except TroupeError:
                return True

        with ThreadPoolExecutor(4) as pool:
            floods = [pool.submit(flood) for _ in range(4)]
            time.sleep(0.005)
            system.stop(timeout=10.0)
            assert all(f.result(5) for f in floods)
        kinds = {handle.result(1).error_kind for handle in handles}
        assert kinds <= {None, ErrorKind.STOPPED}
        assert all(list(handle.events()) is not None for handle in handles[-3:])


def test_stop_may_be_called_by_many_at_once(server):
    system = system_for(server).start()
    system.submit(TASK)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: system.stop(), range(8)))
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("troupe-")] == []


# --- when the system's own actors fail


def crash(system, address, times):
    """Let the actor at *address* fail so many times in a row."""
    for _ in range(times):
        box = system.directory.mailboxes.get(address)
        while box is not None and (box.suspended or box.actor is None) and address in system.directory.mailboxes:
            time.sleep(0.01)
        if address not in system.directory.mailboxes:
            return
        failed = box.actor
        failed.on_receive = None
        system.directory.send(address, "anything")
        while box.actor is failed and address in system.directory.mailboxes:
            time.sleep(0.01)


@pytest.mark.parametrize("address", [ids.RECORDER, ids.LIMITER, ids.GATEWAY, ids.DESK, "workers"])
def test_an_actor_of_the_systems_own_that_fails_once_is_restarted_and_runs_go_on(server, address):
    with system_for(server) as system:
        crash(system, address, 1)
        assert system.submit(TASK).result(10).success


@pytest.mark.parametrize("address", [ids.RECORDER, ids.LIMITER, ids.GATEWAY, ids.DESK, "workers", ids.SUPERVISOR])
def test_when_one_is_given_up_for_good_open_runs_end_and_new_ones_are_refused_in_plain_words(silent, address):
    with system_for(silent) as system:
        box = system.directory.mailboxes[address]
        box.spec = replace(box.spec, restarts=RestartLimit(times=0, within=30.0))
        handle = system.submit(TASK)
        crash(system, address, 4 if address == ids.SUPERVISOR else 1)
        outcome = handle.result(5)
        assert outcome.error_kind is ErrorKind.INTERNAL
        assert outcome.error.startswith(f"the system has collapsed: {address} failed too often: TypeError")
        with pytest.raises(TroupeError, match="has collapsed"):
            system.submit("Hi?")
        assert took(system.stop) < 3.0


# --- processes

FORKED = """
import os, sys
from runtime import ActorSystem, Config
system = ActorSystem(Config.for_endpoint(sys.argv[1], "m")).start()
handle = system.submit("Implement an async HTTP client with retries")
pid = os.fork()
if pid == 0:
    def attempt(use):
        try:
            print("no error:", use(), flush=True)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    attempt(lambda: system.submit("x"))
    attempt(lambda: system.register(object))
    attempt(system.start)
    attempt(lambda: handle.result(timeout=5))
    attempt(handle.cancel)
    attempt(lambda: list(handle.events()))
    system.stop()
    with ActorSystem(Config.for_endpoint(sys.argv[1], "m")) as own:
        print(own.submit("Hi?", to="nobody").result(5).error_kind, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
system.stop()
print(handle.result(0).error_kind, flush=True)
"""


def test_after_a_fork_every_use_is_one_clear_error_and_a_new_system_works(silent, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, silent.url],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert len(lines) == 8
    assert all("started before os.fork()" in line for i, line in enumerate(lines[:6]) if i != 1)
    assert lines[6:] == ["no_such_role", "stopped"]


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
