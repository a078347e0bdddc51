"""Workers: blocking functions in the order they came, by few threads, through crashes of the crew and of workers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from actors import Agent, Workflow
from actors.testing import ActorTestKit, Crash, Lose
from actors.worker import CREW, MOST_WORKERS, WORKER, Crew, FunctionDone, RunFunction, Worker
from protocol import AgentMessage, ErrorKind, TaskFailed
from protocol.ids import workflow_address
from protocol.plan import Plan
from protocol.signals import Answer, CancelStep, ChildFailed, ChildRestarted, Restart

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def kit():
    return ActorTestKit()


def function(fn, *args, step: str = "run/0", again: bool = False) -> RunFunction:
    return RunFunction(step=step, fingerprint="f", reply_to="probe", name="fn", fn=fn, args=args, again=again)


def tasks(kit) -> int:
    return len(kit.directory.mailboxes[CREW].held)


def test_no_more_workers_are_hired_than_allowed_and_all_functions_run_in_order(kit):
    probe, ran = kit.probe(), []
    for n in range(30):
        kit.tell(CREW, function(ran.append, n, step=f"run/{n}"))
    kit.settle()
    assert ran == list(range(30))
    assert [probe.expect(Answer).step for _ in range(30)] == [f"run/{n}" for n in range(30)]
    assert sum(address.startswith(WORKER) for address in kit.directory.mailboxes) == MOST_WORKERS
    assert tasks(kit) == 0


def test_a_role_called_worker_gets_its_own_addresses(kit):
    class Mine(Agent):
        role = "worker"

        async def handle(self, message: AgentMessage) -> int:
            return await self.call(len, message.content)

    assert kit.register(Mine) == ["worker/0"]
    assert kit.ask("worker", "four").result == "4"


def test_a_function_asked_for_twice_runs_once(kit):
    kit.probe()
    ran = []
    for again in (False, True):
        kit.tell(CREW, function(ran.append, 1, again=again))
    kit.settle()
    kit.tell(CREW, function(ran.append, 1, again=True))
    kit.settle()
    assert ran == [1]


def test_a_run_that_takes_up_an_old_id_has_its_functions_run(kit):
    kit.probe()
    ran = []
    for _ in range(2):
        kit.tell(CREW, function(ran.append, 1))
        kit.settle()
    assert ran == [1, 1]


def test_a_function_that_waits_and_is_cancelled_never_runs(kit):
    kit.probe()
    ran = []
    for n in range(MOST_WORKERS + 1):
        kit.tell(CREW, function(ran.append, n, step=f"run/{n}"))
    kit.tell(CREW, CancelStep(step=f"run/{MOST_WORKERS}"))
    kit.tell(CREW, CancelStep(step="run/0"))  # it runs already
    kit.settle()
    assert ran == list(range(MOST_WORKERS))
    assert tasks(kit) == 0


def test_a_crew_that_restarts_forgets_no_function_and_hires_nobody_twice(kit):
    probe, ran = kit.probe(), []

    def restarting(n: int) -> None:
        ran.append(n)
        if n == 1:
            kit.tell(CREW, Restart())

    for n in range(20):
        kit.tell(CREW, function(restarting, n, step=f"run/{n}"))
    kit.settle()
    assert sorted(ran) == list(range(20))
    assert len(probe.received) == 20
    assert kit.failures == []


def test_a_worker_that_fails_fails_its_function_and_works_on(kit, monkeypatch):
    probe = kit.probe()
    work, failures = Worker.on_receive, [OSError("broken")]

    def troubled(self, message):
        if failures:
            raise failures.pop()
        work(self, message)

    monkeypatch.setattr(Worker, "on_receive", troubled)
    kit.tell(CREW, function(len, "ab"))
    kit.settle()
    assert probe.expect(Answer).payload.error == "OSError: broken"
    kit.tell(CREW, function(len, "ab", step="run/1"))
    kit.settle()
    assert bytes(probe.expect(Answer).payload.value) == b"2"
    assert tasks(kit) == 0


def troubled(monkeypatch, name: str, when: Callable[[], bool]) -> None:
    """Let the crew fail after its method *name* has done all it does, as long as *when* says so."""
    method = getattr(Crew, name)

    def fails(self, *args):
        method(self, *args)
        if when():
            raise OSError("our own bug")

    monkeypatch.setattr(Crew, name, fails)


@pytest.mark.parametrize("times", [1, 3])
def test_a_crew_that_fails_in_the_turn_in_which_it_hands_out_a_function_hands_it_out_again(kit, monkeypatch, times):
    probe, ran, failures = kit.probe(), [], list(range(times))
    troubled(monkeypatch, "_hand_out", lambda: bool(failures and failures.pop() + 1))
    kit.tell(CREW, function(ran.append, 1))
    kit.advance(10.0)
    assert [message.step for message in probe.received] == ["run/0"]
    assert ran == [1]
    assert len(kit.failures) == times
    kit.expect_idle()


@pytest.mark.parametrize("kind", [RunFunction, FunctionDone, CancelStep, ChildFailed, ChildRestarted])
@pytest.mark.parametrize("seed", range(5))
def test_a_crew_that_fails_on_a_message_answers_every_function_once_all_the_same(monkeypatch, kind, seed):
    kit = ActorTestKit(seed=seed)
    probe, ran, failures, broken = kit.probe(), [], [1], [OSError("broken")]
    handle, work = Crew.on_receive, Worker.on_receive

    def fails_on_kind(self, message):
        handle(self, message)
        if isinstance(message, kind) and failures:
            raise OSError(f"our own bug {failures.pop()}")

    def fails_on_three(self, message):
        if message.step == "run/3" and broken:
            raise broken.pop()
        work(self, message)

    once = [1]
    troubled(monkeypatch, "setup", lambda: bool(once and once.pop()))  # the next instance fails at its beginning
    monkeypatch.setattr(Crew, "on_receive", fails_on_kind)
    monkeypatch.setattr(Worker, "on_receive", fails_on_three)
    for n in range(20):
        kit.tell(CREW, function(ran.append, n, step=f"run/{n}"))
    kit.tell(CREW, CancelStep(step="nobody's"))
    kit.advance(10.0)
    assert failures == once == broken == []
    assert sorted(answer.step for answer in probe.received) == sorted(f"run/{n}" for n in range(20))
    assert [answer.step for answer in probe.received if answer.payload.error] == ["run/3"]
    assert sorted(ran) == [n for n in range(20) if n != 3]
    kit.expect_idle()


@pytest.mark.parametrize("at", [1, 2])
def test_a_crew_that_fails_in_the_turn_that_takes_or_answers_a_function_has_it_answered(at):
    kit = ActorTestKit(faults=[Crash(CREW, at)])
    probe = kit.probe()
    kit.tell(CREW, function(len, "ab"))
    kit.advance(1.0)
    assert bytes(probe.expect(Answer).payload.value) == b"2"
    assert tasks(kit) == 0


def test_a_crew_that_fails_on_the_news_of_a_failed_worker_fails_its_function():
    kit = ActorTestKit(faults=[Crash(f"{WORKER}0", 1), Crash(CREW, 2)])
    probe = kit.probe()
    kit.tell(CREW, function(len, "ab"))
    kit.advance(1.0)
    assert probe.expect(Answer).payload.error_kind is ErrorKind.INTERNAL
    assert tasks(kit) == 0


def test_a_worker_that_is_restarted_with_a_function_in_its_mail_is_busy(kit):
    probe, ran = kit.probe(), []
    kit.tell(CREW, function(ran.append, 0))
    kit.settle()
    kit.tell(CREW, function(ran.append, 1, step="run/1"))
    for _ in range(2):  # the crew, then the worker's restart in front of its mail
        kit.tell(f"{WORKER}0", Restart())
        kit.dispatcher.step()
    kit.tell(CREW, function(ran.append, 2, step="run/2"))
    kit.settle()
    assert sorted(ran) == [0, 1, 2]
    assert len(kit.actor(CREW)._free()) == len(set(kit.actor(CREW)._free())) == len(kit.actor(CREW)._hired)
    assert len(probe.received) == 3


def test_a_worker_that_is_gone_leaves_its_place_to_another():
    kit = ActorTestKit(faults=[Lose(f"{WORKER}0", 1)])
    probe = kit.probe()
    for steps in (("run/0", "run/1"), ("run/2", "run/3")):
        for step in steps:
            kit.tell(CREW, function(len, "ab", step=step))
        kit.settle()
        kit.tell(CREW, Restart())
        kit.settle()
    assert sorted(probe.expect(Answer).payload.error is None for _ in range(4)) == [False, True, True, True]
    assert kit.failures == []
    assert sorted(kit.actor(CREW)._hired) == [f"{WORKER}0", f"{WORKER}1"]


def test_what_the_crew_has_no_use_for_is_a_dead_letter(kit):
    kit.tell(CREW, "hello")
    kit.settle()
    assert [letter.message for letter in kit.dead_letters] == ["hello"]


# --- self.call


def plan() -> Plan:
    return Plan(subtasks=("a",))


def lies() -> int:
    return "no number"  # type: ignore[return-value]


def plain():
    return {"a": [1]}


def unencodable():
    return object()


class Thing:
    """A thing whose text says where it lies in memory."""


def outcome(kit, fn, *args):
    class Call(Workflow):
        async def run(self, task: str) -> str:
            try:
                return repr(await self.call(fn, *args))
            except TaskFailed as failure:
                return f"{failure.result.error_kind}: {failure.result.error}"

    return kit.run(Call, "x").output


def test_a_value_is_read_back_as_the_type_the_function_is_annotated_with(kit):
    assert outcome(kit, plan) == repr(Plan(subtasks=("a",)))
    assert outcome(kit, plain) == "{'a': [1]}"
    assert outcome(kit, functools.partial(plan)) == "{'subtasks': ['a']}"


@pytest.mark.parametrize(
    ("fn", "error"),
    [
        (lies, f"{ErrorKind.INVALID_OUTPUT}: lies returned something else than it is annotated with"),
        (unencodable, f"{ErrorKind.HANDLER_ERROR}: TypeError: Encoding objects of type object is unsupported"),
    ],
)
def test_a_value_that_is_none_fails_the_call(kit, fn, error):
    assert outcome(kit, fn).startswith(error)


def test_a_call_that_takes_too_long_fails_and_its_late_value_is_a_dead_letter(kit):
    class Slow(Workflow):
        async def run(self, task: str) -> str:
            try:
                return str(await self.call(len, "x", timeout=2.0))
            except TaskFailed as failure:
                return f"{failure.result.error_kind}: {failure.result.error}"

    crew = kit.directory.mailboxes[CREW]
    crew.suspend()  # as long as all workers are busy, say
    assert kit.run(Slow, "x").output == "timeout: no answer within 2 s"
    crew.resume()
    kit.settle()
    assert [letter.reason for letter in kit.dead_letters] == ["whoever asked has gone"]
    kit.expect_idle()


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(kit, timeout):
    class Wrong(Workflow):
        async def run(self, task: str) -> int:
            return await self.call(len, "x", timeout=timeout)

    assert "a timeout is 0 seconds or more" in kit.run(Wrong, "x").error
    assert kit.failures == []


def test_an_argument_that_lies_elsewhere_in_memory_is_no_mismatch_on_a_resume(kit):
    class Call(Workflow):
        async def run(self, task: str) -> str:
            size = await self.call(lambda thing: len(type(thing).__name__), Thing())
            await self.pause(1.0)
            return str(size)

    run = kit.submit(Call, "x")
    kit.advance(0.5)
    kit.tell(workflow_address(run), Restart())
    assert kit.result(run).output == "5"
