"""The supervisor's shell: registrations, runs, verdicts, and what a restarted one makes good."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from actors import Agent, Workflow
from actors.agent import agent_spec
from actors.supervisor import LOST_VERDICT, Register, Supervisor
from actors.testing import ActorTestKit, Crash, Lose, ScriptedModel
from protocol import AgentMessage, ErrorKind, TaskFailed
from protocol.ids import DESK, RECORDER, SUPERVISOR, workflow_address
from protocol.signals import Answer, CancelRun, CancelStep, ChildStopped, Reaffirmed, Restart, RunEnded, StartRun, Stop
from tests.actors.players import Player, fails_on


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Ask(Workflow):
    async def run(self, task: str) -> str:
        return await self.ask("echo", task)


def said(call) -> str:
    return f"re: {call.messages[-1].content}"


def kit_with(latency: float = 1.0, instances: int = 1, **options) -> ActorTestKit:
    kit = ActorTestKit(ScriptedModel({"echo": said}, latency=latency), **options)
    kit.register(Echo, instances=instances)
    return kit


def decisions(kit):
    return kit.directory.mailboxes[SUPERVISOR].actor._decide


def request(step: str = "run/0", to: str = "echo") -> AgentMessage:
    return AgentMessage(
        sender="probe", recipient=to, content="x", message_id=step, correlation_id="run", reply_to="probe"
    )


def register(kit, specs, role="echo"):
    """Register as a system does, from outside, and return the answer."""
    future = kit.directory.mailboxes[SUPERVISOR].actor.actor_ref.ask(Register(role=role, specs=specs), block=False)
    kit.settle()
    return future.get(timeout=0)


# --- registering


def test_a_role_that_is_played_already_is_refused():
    kit = kit_with()
    assert register(kit, (agent_spec(Echo, "echo", 0),)) == "the role 'echo' is played already"


def test_an_agent_whose_constructor_raises_is_refused_and_nothing_fails():
    class Broken(Echo):
        def __init__(self):
            raise SystemExit("no")

    kit = ActorTestKit()
    assert register(kit, (agent_spec(Broken, "echo", 0),)) == "echo/0 cannot be made: SystemExit: no"
    assert kit.failures == []


# --- runs


def start(run: str = "run", workflow: str = "direct", to: str | None = "echo") -> StartRun:
    return StartRun(run=run, task="x", workflow=workflow, to=to, reply_to=DESK)


def test_a_run_that_is_started_twice_runs_once():
    kit = kit_with()
    for _ in range(2):
        kit.tell(SUPERVISOR, start())
    assert kit.result("run").success
    assert [letter.reason for letter in kit.dead_letters] == ["this run is under way already"]
    assert len(kit.model.calls) == 1


def test_a_workflow_that_cannot_be_made_is_a_failed_run():
    class Broken(Ask):
        def __init__(self, _start):
            raise ValueError("no")

    kit = kit_with()
    result = kit.run(Broken, "x")
    assert (result.success, result.error_kind) == (False, ErrorKind.HANDLER_ERROR)
    assert "ValueError: no" in result.error
    assert kit.failures == []


def test_what_it_has_no_use_for_is_a_dead_letter():
    kit = kit_with()
    kit.tell(SUPERVISOR, "hello")
    kit.settle()
    assert [letter.message for letter in kit.dead_letters] == ["hello"]


# --- routing


def test_an_unknown_role_is_answered_at_once_and_kept_among_the_dead_letters():
    kit = kit_with()
    probe = kit.probe()
    kit.tell(SUPERVISOR, request(to="nobody"))
    assert probe.expect(Answer).payload.error_kind is ErrorKind.NO_SUCH_ROLE
    assert [letter.reason for letter in kit.dead_letters] == ["no agent plays the role 'nobody'; there are: echo"]


def test_two_runs_share_the_agents_of_a_role():
    kit = kit_with(instances=2)
    runs = [kit.submit(Ask, "x") for _ in range(4)]
    assert sorted(kit.result(run).results[0].agent for run in runs) == ["echo/0", "echo/0", "echo/1", "echo/1"]


def test_when_all_is_done_nobody_has_any_load():
    kit = kit_with(instances=2)
    runs = [kit.submit(Ask, "x", timeout=0.5 if n % 2 else None) for n in range(6)]
    assert sorted(kit.result(run).success for run in runs) == [False] * 3 + [True] * 3
    kit.settle()
    assert set(decisions(kit)._load.values()) == {0}
    assert decisions(kit)._holders == {}
    assert decisions(kit)._sticky == {}


# --- verdicts


def our_own_bug(*_args, **_options):
    raise OSError("our own bug")


def test_a_child_that_fails_too_often_is_stopped_and_what_it_was_asked_is_answered(monkeypatch):
    monkeypatch.setattr(Echo, "_open", our_own_bug)
    kit = kit_with()
    probe = kit.probe()
    kit.tell(SUPERVISOR, request())
    for n in range(5):
        kit.tell("echo/0", request(f"run/{n + 1}"))
    kit.advance(60.0)
    assert len(probe.received) == 6
    assert {each.payload.success for each in probe.received} == {False}
    kit.expect_idle()


def test_a_workflow_that_fails_again_and_again_ends_its_run(monkeypatch):
    monkeypatch.setattr(Ask, "ended", our_own_bug)
    kit = kit_with()
    result = kit.run(Ask, "x")
    assert result.success is False
    assert kit.failures[-1].endswith("(stopped: it failed too often)")


# --- a restarted supervisor


def test_a_restarted_supervisor_learns_who_holds_what():
    kit = kit_with(instances=2)
    runs = [kit.submit(Ask, "x") for _ in range(2)]
    kit.advance(0.5)
    kit.tell(SUPERVISOR, Restart())
    kit.settle()
    assert sorted(decisions(kit)._load.items()) == [("echo/0", 1), ("echo/1", 1)]
    for run in runs:
        assert kit.result(run).success
    kit.settle()
    assert set(decisions(kit)._load.values()) == {0}


def test_a_cancel_finds_its_way_after_a_restart():
    kit = kit_with(latency=9.0)
    run = kit.submit(Ask, "x")
    kit.advance(0.5)
    kit.tell(SUPERVISOR, Restart())
    kit.cancel(run)
    assert kit.result(run).error_kind is ErrorKind.CANCELLED
    kit.settle()
    assert len(kit.model.cancelled) == 1
    kit.expect_idle()


def test_a_child_that_waits_for_its_verdict_gets_one_from_the_next_supervisor():
    kit, log = kit_with(), []
    kit.spawn(lambda: Player(fails_on("bad", log)), "player")
    for _ in range(2):
        kit.tell("player", "bad")
        kit.settle()  # the second failure waits for its backoff
    kit.tell(SUPERVISOR, Restart())
    kit.tell("player", "good")
    kit.settle()
    assert log == []
    kit.advance(LOST_VERDICT)
    assert log == ["good"]


@pytest.mark.parametrize("what", ["route", "start"])
def test_what_a_supervisor_failed_on_is_answered_by_the_next(monkeypatch, what):
    kit = kit_with()
    probe = kit.probe()
    monkeypatch.setattr(Supervisor, f"_{what}", our_own_bug)
    kit.tell(SUPERVISOR, request() if what == "route" else start())
    kit.settle()
    answered = probe.expect(Answer).payload if what == "route" else kit.result("run")
    assert (answered.success, answered.error_kind) == (False, ErrorKind.INTERNAL)


class GivesUp(Workflow):
    """Has the supervisor hear of a task, its cancel, its end, a run's cancel and its end: messages 2 to 7."""

    async def run(self, task: str) -> str:
        try:
            await self.ask("echo", task, timeout=2.0)
        except TaskFailed:
            await self.pause(1000.0)


@pytest.mark.parametrize("at", [4, 5, 6, 7])
def test_a_cancel_or_an_end_that_a_supervisor_failed_on_is_heard_by_the_next(at):
    kit = kit_with(latency=9.0, faults=[Crash(SUPERVISOR, at)])
    run = kit.submit(GivesUp, "x")
    kit.advance(5.0)
    kit.cancel(run)
    kit.settle()
    assert kit.result(run).error_kind is ErrorKind.CANCELLED
    assert kit.dispatcher.fired == (Crash(SUPERVISOR, at),)
    assert len(kit.model.cancelled) == 1
    assert list(kit.directory.mailboxes[RECORDER].held) == []
    kit.expect_idle()


def test_a_supervisor_that_failed_on_the_end_of_a_given_up_workflow_ends_its_run():
    kit = kit_with(faults=[Crash(SUPERVISOR, 2)])
    kit.tell(SUPERVISOR, ChildStopped(address=workflow_address("run"), reason="too often", failed=True))
    assert kit.result("run", seconds=1.0).error == "its workflow failed too often: too often"


class Patient(Agent):
    """Works until it is cancelled."""

    role = "echo"

    async def handle(self, message: AgentMessage) -> None:
        await self.pause(1000.0)


def patient_kit(**options) -> ActorTestKit:
    kit = ActorTestKit(**options)
    kit.register(Patient, instances=2)
    return kit


def suspended(kit, *addresses: str) -> None:
    for address in addresses:
        kit.directory.mailboxes[address].suspend()


def resumed(kit, *addresses: str) -> None:
    for address in addresses:
        kit.directory.mailboxes[address].resume()
    kit.settle()


@pytest.mark.parametrize("crash", [False, True])
def test_a_cancel_in_front_of_what_an_agent_names_is_obeyed(crash):
    kit = patient_kit(faults=[Crash("echo/0", 2)] if crash else [])
    kit.probe()
    kit.tell(SUPERVISOR, request())
    kit.settle()
    suspended(kit, "echo/0")
    kit.restart(SUPERVISOR)
    kit.tell(SUPERVISOR, CancelStep(step="run/0"))
    kit.settle()
    resumed(kit, "echo/0")
    assert len(kit.failures) == crash
    kit.expect_idle()


def test_a_task_that_was_asked_again_and_failed_with_the_supervisor_is_worked_for_no_more():
    kit = patient_kit(faults=[Crash(SUPERVISOR, 3)])
    probe = kit.probe()
    kit.tell(SUPERVISOR, request())
    kit.settle()
    kit.tell(SUPERVISOR, replace(request(), attempt=1))
    assert probe.expect(Answer).payload.error_kind is ErrorKind.INTERNAL
    kit.expect_idle()


def test_a_task_that_was_routed_but_not_taken_before_a_restart_is_found_by_its_cancel():
    kit = patient_kit()
    kit.probe()
    suspended(kit, "echo/0")
    kit.tell(SUPERVISOR, request())
    kit.settle()
    kit.restart(SUPERVISOR)
    resumed(kit, "echo/0")
    kit.tell(SUPERVISOR, CancelStep(step="run/0"))
    kit.settle()
    kit.expect_idle()


@pytest.mark.parametrize(
    ("last", "holders"), [("named", ["echo/0"]), ("restarted", ["echo/0"]), ("cancelled", []), ("gone", [])]
)
def test_what_is_asked_again_waits_for_those_who_may_hold_it_through_another_restart(last, holders):
    kit = patient_kit()
    kit.probe()
    kit.tell(SUPERVISOR, request())
    kit.settle()
    suspended(kit, "echo/0")
    kit.restart(SUPERVISOR)
    kit.tell(SUPERVISOR, replace(request(), attempt=1))
    kit.settle()
    assert list(kit.directory.mailboxes[SUPERVISOR].held) == ["run/0"]
    if last == "restarted":
        kit.restart(SUPERVISOR)
    elif last == "cancelled":
        kit.tell(SUPERVISOR, CancelStep(step="run/0"))
    elif last == "gone":
        kit.tell("echo/0", Stop())
    resumed(kit, "echo/0")
    assert not kit.directory.mailboxes[SUPERVISOR].held
    assert [box.address for box in kit.directory.mailboxes.values() if "run/0" in (box.held or {})] == holders
    assert list(decisions(kit)._holders.values()) == holders


def test_a_supervisor_that_finds_a_workflow_whose_end_its_predecessor_heard_forgets_the_run_with_it():
    kit = kit_with(latency=0.0)
    run = kit.submit(Ask, "x")
    while not (kit.rig.ended and kit.directory.mailboxes[workflow_address(run)].control):
        kit.dispatcher.step()
    workflow, tokens = kit.directory.mailboxes[workflow_address(run)], kit.dispatcher._tokens
    tokens.remove(workflow)  # it is told to stop, and does not get to it yet
    kit.restart(SUPERVISOR)
    assert decisions(kit)._runs == {run}
    workflow.wake(workflow)
    kit.settle()
    assert decisions(kit)._runs == set()


def test_the_tasks_of_a_workflow_that_was_given_up_are_cancelled():
    kit = ActorTestKit(faults=[Lose("workflow/run-1", 3)])  # its cancel, in the turn that would have told of its end
    kit.register(Patient)
    run = kit.submit(Ask, "x")
    kit.settle()
    kit.cancel(run)
    kit.settle()
    kit.expect_idle()
    assert kit.dispatcher.next_timer() is None


def test_an_agent_that_is_gone_when_it_is_heard_of_plays_nothing():
    kit = patient_kit()
    kit.tell(SUPERVISOR, Reaffirmed(agent="echo/7", role="echo", steps=("run/0",)))
    kit.settle()
    assert decisions(kit).roles == {"echo": ["echo/0", "echo/1"]}


def test_what_was_told_leaves_nothing_behind_about_where_it_asked():
    class Asks(Agent):
        role = "asks"

        async def handle(self, message: AgentMessage) -> str:
            return await self.ask("echo", message.content)

    kit = kit_with(instances=2)
    kit.register(Asks)
    for _ in range(2):
        kit.tell(SUPERVISOR, AgentMessage(sender="test", recipient="asks", content="x"))
    kit.settle()
    assert sorted(decisions(kit)._load.values()) == [0, 1, 1]  # not both with the same
    assert decisions(kit)._sticky == {}


def test_a_workflow_is_found_again_by_its_address():
    kit = kit_with()
    run = kit.submit(Ask, "x")
    kit.settle()
    assert workflow_address(run) in kit.directory.mailboxes
    kit.result(run)
    kit.settle()
    assert workflow_address(run) not in kit.directory.mailboxes


@pytest.mark.parametrize("taken", [True, False], ids=["the agent has begun", "the request lies in its mailbox"])
def test_a_cancel_that_meets_a_supervisor_in_restart_reaches_whoever_holds_the_step(taken):
    kit = kit_with()
    kit.probe()
    agent = kit.directory.mailboxes["echo/0"]
    if not taken:
        agent.suspend()  # it is busy, say
    kit.tell(SUPERVISOR, request())
    kit.settle()
    kit.tell(SUPERVISOR, Restart())
    kit.tell(SUPERVISOR, CancelStep(step="run/0"))
    kit.settle()
    agent.resume()
    kit.settle()
    assert agent.held == {}
    assert kit.model.under_way == set()


def fails_once(monkeypatch, kind):
    """Let the supervisor fail in the next turn in which it handles a *kind*, when all is done and nothing has left."""
    handle, errors = Supervisor.on_receive, [OSError("our own bug")]

    def troubled(self, message):
        answer = handle(self, message)
        if isinstance(message, kind) and errors:
            raise errors.pop()
        return answer

    monkeypatch.setattr(Supervisor, "on_receive", troubled)


def test_a_cancel_that_a_supervisor_failed_on_reaches_whoever_holds_the_step(monkeypatch):
    kit = kit_with()
    kit.probe()
    kit.tell(SUPERVISOR, request())
    kit.settle()
    fails_once(monkeypatch, CancelStep)
    kit.tell(SUPERVISOR, CancelStep(step="run/0"))
    kit.settle()
    assert kit.model.under_way == set()
    kit.expect_idle()


def test_a_cancelled_run_ends_when_the_supervisor_failed_on_the_cancel(monkeypatch):
    kit = kit_with(latency=9.0)
    run = kit.submit(Ask, "x")
    kit.settle()
    fails_once(monkeypatch, CancelRun)
    kit.cancel(run)
    assert kit.result(run, seconds=1.0).error_kind is ErrorKind.CANCELLED


def test_a_run_whose_end_a_supervisor_failed_on_is_forgotten_all_the_same(monkeypatch):
    kit = kit_with()
    run = kit.submit(Ask, "x")
    kit.settle()
    fails_once(monkeypatch, RunEnded)
    assert kit.result(run).success
    kit.expect_idle()
    assert workflow_address(run) not in kit.directory.mailboxes
