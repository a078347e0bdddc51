"""The system as an application embeds it: DESIGN section 10, faults of a server and of handlers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
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
from protocol import AgentMessage, ErrorKind, TroupeError
from runtime import ActorSystem, Config
from runtime.fake_script import Fault, RateLimit, Script
from runtime.fake_server import FakeServer
from tests.runtime.command import ROOT, config, environment

pytestmark = pytest.mark.slow
TASK = "Implement an async HTTP client with retries"
NEVER = "[team]\nplan = 'never'"


class Translator(Agent):
    role = "translator"
    system_prompt = "You translate into German."

    async def handle(self, message: AgentMessage) -> str:
        return "translated: " + (await self.chat(message.content)).text


class Greetings(Workflow):
    async def run(self, task: str) -> str:
        return "\n".join(await self.gather(*(self.ask("translator", word) for word in task.split())))


def system_for(server: FakeServer, more: str = "") -> ActorSystem:
    return ActorSystem(Config.parse(config(server.url, more).encode(), "the test"))


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


@pytest.fixture
def slow_server():
    with FakeServer(Script(latency=30.0)) as running:
        yield running


# --- the contract


def test_a_team_run_through_submit(server):
    with system_for(server) as system:
        handle = system.submit(TASK, correlation_id="task_001")
        outcome = handle.result(timeout=30)
    assert outcome.success
    assert (outcome.correlation_id, outcome.summary.total_tasks) == ("task_001", 7)
    assert handle.result() is outcome


def test_a_users_own_role_is_asked_and_its_text_is_in_the_output(server):
    with system_for(server) as system:
        system.register(Translator, role="translator", instances=2)
        direct = system.submit("Hello", to="translator").result(timeout=30)
        both = system.submit("good morning", workflow=Greetings, timeout=60).result(timeout=30)
    assert direct.output.startswith("translated: ")
    assert both.output.count("translated: ") == 2


def test_result_times_out_and_the_run_goes_on():
    with FakeServer(Script(latency=0.3)) as server, system_for(server) as system:
        handle = system.submit("What is 2?")
        with pytest.raises(TimeoutError, match="it goes on"):
            handle.result(timeout=0.05)
        assert handle.result(timeout=30).success


def test_a_cancelled_run_is_a_result(slow_server):
    with system_for(slow_server) as system:
        handle = system.submit(TASK)
        handle.cancel()
        assert handle.result(timeout=5).error_kind is ErrorKind.CANCELLED


def test_a_run_ends_by_its_own_timeout(slow_server):
    with system_for(slow_server) as system:
        began = time.monotonic()
        result = system.submit(TASK, timeout=0.3).result(timeout=5)
    assert result.error_kind is ErrorKind.DEADLINE
    assert time.monotonic() - began < 2.0


def test_events_come_from_the_first_one_also_when_subscribed_late_or_after_the_end(server):
    with system_for(server) as system:
        handle = system.submit(TASK)
        live = [event.event for event in handle.events()]
        late = [event.event for event in handle.events()]
    stopped = [event.event for event in handle.events()]
    assert live == late == stopped
    assert live[0] == "task.started"
    assert live.count("task.finished") == 7


def test_the_same_id_and_task_give_the_same_handle_from_many_threads(server):
    with system_for(server) as system, ThreadPoolExecutor(16) as pool:
        handles = set(pool.map(lambda _: system.submit("Hi?", correlation_id="one"), range(64)))
        assert len(handles) == 1
        with pytest.raises(TroupeError, match="another task"):
            system.submit("Ho?", correlation_id="one")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"task": " "}, "empty"),
        ({"correlation_id": "a/b"}, "correlation id"),
        ({"priority": "urgent"}, "priority"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "5"}, "not '5'"),
        ({"task": 5}, r"task is text, not 5: task = str\(\.\.\.\)"),
        ({"correlation_id": 5}, "correlation_id is text, not 5"),
        ({"correlation_id": 0}, "correlation_id is text, not 0"),
        ({"correlation_id": ""}, "not ''"),
        ({"flow": 5}, "flow is text"),
        ({"to": Translator}, "to is text"),
    ],
)
def test_what_cannot_be_submitted_is_refused_at_the_door(server, options, word):
    with system_for(server) as system, pytest.raises(TroupeError, match=word):
        system.submit(**{"task": "x", **options})


def test_a_system_that_is_not_running_says_so(server):
    system = system_for(server)
    with pytest.raises(TroupeError, match="not running"):
        system.submit("x")
    system.start().stop()
    system.stop()
    with pytest.raises(TroupeError, match="not running"):
        system.submit("x")


def waited_for_a_core() -> float:
    """Return the seconds that our threads have been ready to run and had no core: the machine's fault, not ours."""
    waited = 0
    for each in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended
            waited += int(each.read_text().split()[1])
    return waited / 1e9


async def latest_tick(until: asyncio.Event) -> float:
    """Tick every 10 ms, and return by how many seconds the latest tick was late while a core was to be had."""
    latest = 0.0
    while not until.is_set():
        before, waited = time.monotonic(), waited_for_a_core()
        await asyncio.sleep(0.01)
        late = time.monotonic() - before - 0.01
        latest = max(latest, late - max(0.0, waited_for_a_core() - waited))
    return latest


def test_an_asyncio_application_awaits_runs_and_its_loop_is_never_late():
    async def main(server):
        over = asyncio.Event()
        ticking = asyncio.create_task(latest_tick(over))
        await asyncio.sleep(0)  # it ticks
        async with system_for(server) as system:
            outcomes = await asyncio.gather(*(system.submit(f"{TASK} {n}") for n in range(8)))
            events = [event.event async for event in system.submit("Hi?").aevents()]
        over.set()
        return outcomes, events, await ticking

    with FakeServer(Script(latency=0.05)) as server:  # so that whoever blocks until a run ends is late for sure
        outcomes, events, late = asyncio.run(main(server))
    assert all(outcome.success for outcome in outcomes)
    assert events[0] == "plan.skipped"
    assert late < 0.05


def test_a_loop_that_is_blocked_for_60_ms_is_late():
    async def main():
        over = asyncio.Event()
        ticking = asyncio.create_task(latest_tick(over))
        await asyncio.sleep(0.02)
        time.sleep(0.06)  # noqa: ASYNC251 (what must not happen)
        over.set()
        return await ticking

    assert asyncio.run(main()) > 0.045


def test_two_systems_live_in_one_process(server):
    with system_for(server) as one, system_for(server) as two:
        handles = [system.submit("Hi?", correlation_id="same") for system in (one, two)]
        assert all(handle.result(10).success for handle in handles)


def test_the_same_team_runs_with_a_thread_for_each_actor(server):
    with system_for(server, "[system]\ndispatcher = 'threads'") as system:
        assert system.submit(TASK).result(30).success


def test_nothing_is_left_of_many_systems(server):
    def once():
        with system_for(server) as system:
            assert system.submit("Hi?").result(10).success

    once()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        once()
    assert threading.active_count() == threads
    for _ in range(200):  # the server, in this process too, hears of each hang-up in its own time
        server.stats()
    assert len(os.listdir("/proc/self/fd")) <= files + 1


def test_the_library_writes_nothing_configures_no_logging_and_installs_no_signal_handler(server, capfd):
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(logging.getLogger().handlers))
    with system_for(server) as system:
        system.submit(TASK).result(30)
        system.submit("x", to="nobody").result(30)
    assert capfd.readouterr() == ("", "")
    assert before == (
        signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(logging.getLogger().handlers),
    )  # fmt: skip


FORGOTTEN = """
import sys
from runtime import ActorSystem, Config
system = ActorSystem(Config.for_endpoint(sys.argv[1], "m")).start()
system.submit("Implement an async HTTP client with retries")
print("end of main")
"""
FORKED = """
import os, sys
from runtime import ActorSystem, Config
system = ActorSystem(Config.for_endpoint(sys.argv[1], "m")).start()
pid = os.fork()
if pid == 0:
    try:
        system.submit("x")
    except Exception as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
system.stop()
"""


def program(code: str, url: str, home) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, url]
    return subprocess.run(
        command, env=environment(home), cwd=home, capture_output=True, text=True, timeout=20, check=False
    )


def test_a_forgotten_stop_does_not_hang_the_interpreter(slow_server, tmp_path):
    done = program(FORGOTTEN, slow_server.url, tmp_path)
    assert (done.returncode, done.stdout) == (0, "end of main\n")


def test_use_after_a_fork_is_one_clear_error(server, tmp_path):
    done = program(FORKED, server.url, tmp_path)
    assert "before os.fork()" in done.stdout


# --- stopping


def test_stop_ends_a_run_that_waits_for_a_silent_server(slow_server):
    system = system_for(slow_server).start()
    handle = system.submit(TASK)
    began = time.monotonic()
    system.stop(timeout=5.0)
    assert time.monotonic() - began < 3.0
    assert handle.result(0).error_kind is ErrorKind.STOPPED


class Endless(Agent):
    role = "endless"
    release: socket.socket

    async def handle(self, message: AgentMessage) -> str:
        type(self).release.recv(1)
        return "late"


def test_a_handler_that_never_returns_fails_alone_and_is_replaced(server):
    Endless.release, let_go = socket.socketpair()
    with system_for(server) as system:
        system.register(Endless)
        mailbox = system.directory.mailboxes["endless/0"]
        mailbox.spec = replace(mailbox.spec, stuck_after=0.3)
        stuck = system.submit("x", to="endless")
        healthy = system.submit(TASK)
        assert stuck.result(10).error_kind is ErrorKind.STUCK
        assert healthy.result(10).success
        let_go.send(b"x")
    Endless.release.close()
    let_go.close()


# --- servers that misbehave: error kind, number of requests, and a healthy run beside it

FAULTS = {
    "401": (Fault(status=401, times=0), ErrorKind.AUTHENTICATION, 1),
    "404": (Fault(status=404, times=0), ErrorKind.NOT_FOUND, 1),
    "500": (Fault(status=500, times=0), ErrorKind.SERVER_ERROR, 4),
    "html": (Fault(html=True, times=0), ErrorKind.BAD_RESPONSE, 2),
    "empty": (Fault(empty=True, times=0), ErrorKind.BAD_RESPONSE, 2),
    "malformed": (Fault(malformed=True, times=0), ErrorKind.BAD_RESPONSE, 2),
    "error in 200": (Fault(error_in_200=True, times=0), ErrorKind.SERVER_ERROR, 4),
    "length": (Fault(finish_reason="length", times=0), ErrorKind.TRUNCATED, 1),
    "reset": (Fault(reset=True, times=0), ErrorKind.CONNECTION, 4),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_server_that_misbehaves_fails_its_call_and_no_other(name):
    fault, kind, requests = FAULTS[name]
    fault = replace(fault, match="sick")
    with FakeServer(Script(faults=(fault,))) as server, system_for(server, NEVER) as system:
        system.register(Translator)
        healthy = system.submit("healthy", to="translator")
        result = system.submit("sick", to="translator").result(20)
        assert healthy.result(20).success
        seen = server.stats().requests - 1
    assert not result.success
    (task,) = result.results
    assert (task.error_kind, task.retry_count) == (kind, requests - 1)
    resent = seen - requests  # the healthy call may have left one connection, on which a reset is tried once more
    assert resent in ({0, 1} if name == "reset" else {0})
    assert "\n" not in task.error


def test_a_429_is_waited_out():
    with (
        FakeServer(Script(rate_limit=RateLimit(per_second=20, burst=1))) as server,
        system_for(server, NEVER) as system,
    ):
        assert all(h.result(30).success for h in [system.submit(f"What is {n}?") for n in range(2)])


def test_the_examples_of_the_readme_stand_in_the_tree():
    assert (ROOT / "examples" / "embed.py").exists()


def test_a_run_that_waits_is_told_what_it_waits_for():
    with FakeServer() as server:
        more = "[limits.main]\nrequests_per_minute = 6\nburst = 2\n"
        with ActorSystem(Config.parse(config(server.url, more).encode(), "the test")) as system:
            handle = system.submit(TASK)
            event = next(event for event in handle.events() if event.event == "limits.snapshot")
            handle.cancel()
    facts = {name: event.facts[name] for name in ("domain", "waits_for", "budget_usd", "blocked_s")}
    assert facts == {"domain": "main", "waits_for": "requests_per_minute", "budget_usd": None, "blocked_s": 0.0}
    assert event.facts["classes"] == {"high": 0, "normal": event.facts["waiting"], "low": 0}


@pytest.mark.parametrize("watched", [True, False])
def test_the_stages_of_calls_are_events_only_where_they_are_watched(server, watched):
    with ActorSystem(Config.parse(config(server.url).encode(), "the test"), watch_calls=watched) as system:
        events = {event.event for event in system.submit(TASK).events()}
    assert ({"call.queued", "call.sent", "call.ended"} <= events) == watched
    assert any(event.startswith("call.") for event in events) == watched
    assert "plan.made" in events
