"""The life of a system: start, stop within a deadline whatever hangs, collapse, fork; its end ends everything."""

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

from actors import Agent
from protocol import AgentMessage, ConfigError, ErrorKind, TroupeError, ids
from protocol.policies.restarts import RestartLimit
from runtime.channel import Channel
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import environment
from tests.runtime.systems import TASK, system_for, threads, took

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


@pytest.fixture
def silent():
    with FakeServer(Script(latency=60.0)) as running:
        yield running


# --- life


def test_a_system_starts_once_and_a_stopped_one_stays_stopped(server):
    system = system_for(server)
    assert system.start() is system.start()
    system.stop()
    with pytest.raises(TroupeError, match="stays so; make a new one"):
        system.start()


def test_a_start_that_fails_leaves_nothing_and_says_why(server):
    before = threading.active_count()
    system = system_for(server, '[roles.extra]\nagent = "no.such.module:Thing"')
    with pytest.raises(ConfigError, match=r"roles\.extra\.agent"):
        system.start()
    assert threading.active_count() == before
    system.stop()


class Unmakeable(Agent):
    role = "extra"

    def __init__(self):
        raise OSError("no battery")

    async def handle(self, message):
        return message.content


def test_an_agent_of_the_configuration_that_cannot_be_made_ends_the_start(server):
    before = threading.active_count()
    system = system_for(server, f'[roles.extra]\nagent = "{__name__}:Unmakeable"')
    with pytest.raises(ConfigError, match="extra/0 cannot be made: OSError: no battery"):
        system.start()
    assert threading.active_count() == before
    with pytest.raises(TroupeError, match="not running"):
        system.submit("x")


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
    before, mine = threading.active_count(), sockets()
    for n in range(50):
        once(n)
        assert threading.active_count() == before
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


# --- stopping


@pytest.mark.parametrize("dispatcher", ["shared", "threads"])
def test_stop_is_quick_while_runs_wait_for_a_silent_server_and_their_handles_say_stopped(silent, dispatcher):
    system = system_for(silent, f"[system]\ndispatcher = '{dispatcher}'").start()
    handles = [system.submit(f"{TASK} {n}") for n in range(20)]
    while silent.stats().requests < 20:
        time.sleep(0.01)
    assert took(lambda: system.stop(timeout=5.0)) < 2.5
    assert {handle.result(0).error_kind for handle in handles} == {ErrorKind.STOPPED}
    assert threads() == []


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


def test_every_run_submitted_while_the_system_stops_ends_or_is_refused(server):
    for _ in range(4):
        system, handles = system_for(server).start(), []

        def flood(system=system, handles=handles):
            try:
                while True:
                    handles.append(system.submit("Hi?"))
                    time.sleep(0.0005)
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
    assert threads() == []


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
