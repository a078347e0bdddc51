"""The test kit: real actors in virtual time, and failures that say what was wrong."""

from __future__ import annotations

from functools import partial

import pytest

from actors import Agent, Workflow
from actors.base import Actor
from actors.simulation import SimulatedDispatcher
from actors.testing import ActorTestKit, Crash, FaultPlan, Lose, ScriptedModel
from actors.workflow import DirectWorkflow
from protocol import AgentMessage, ErrorKind
from protocol.chat import CallFailure, ChatReply, Usage
from protocol.codec import NotCodable
from protocol.plan import Plan


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Counter(Actor):
    def __init__(self):
        super().__init__()
        self.total = 0

    def on_receive(self, message):
        self.total += message


class Ask(Workflow):
    async def run(self, task: str) -> str:
        return await self.ask("probe", task, timeout=5.0)


def kit_with(script=None, latency: float = 0.0, **options) -> ActorTestKit:
    kit = ActorTestKit(ScriptedModel({"echo": "hello"} if script is None else script, latency=latency), **options)
    kit.register(Echo)
    return kit


# --- the scripted model


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("text", "text"),
        (Plan(subtasks=("a",)), '{"subtasks":["a"]}'),
        (ChatReply(text="whole", finish_reason="stop"), "whole"),
        (lambda call: call.messages[-1].content.upper(), "HI"),
        (["first", "second"], "first"),
    ],
)
def test_a_model_says_what_it_is_told_to(said, expected):
    assert kit_with({"echo": said}).ask("echo", "hi").result == expected


def test_a_model_may_fail():
    failure = CallFailure(kind=ErrorKind.SERVER_ERROR, message="down")
    assert kit_with({"echo": failure}).ask("echo", "hi").error_kind is ErrorKind.SERVER_ERROR


def test_a_list_is_used_up_in_order_and_one_call_more_fails_the_test():
    kit = kit_with({"echo": ["one"]})
    assert kit.ask("echo", "hi").result == "one"
    with pytest.raises(
        AssertionError,
        match=r"something unexpected: echo asked \(run-2/0/0/0, attempt 1, 0 s\): and again \(its answers are used",
    ):
        kit.ask("echo", "and again")


def test_a_role_without_a_script_fails_the_test():
    with pytest.raises(AssertionError, match="echo asked"):
        kit_with({}).ask("echo", "hi")


def test_tokens_are_counted_as_words_unless_the_reply_says_more():
    assert kit_with({"echo": "one two"}).ask("echo", "hi you").usage == Usage(input_tokens=2, output_tokens=2)
    reply = ChatReply(text="x", usage=Usage(output_tokens=40))
    assert kit_with({"echo": reply}).ask("echo", "hi").usage == Usage(input_tokens=1, output_tokens=40)


def test_latency_is_virtual_and_counts_as_execution_time():
    kit = kit_with(latency=7.5)
    assert kit.ask("echo", "hi").execution_time_ms == 7500.0
    assert kit.now == 7.5


# --- the kit


@pytest.mark.parametrize("name", ["", "Echo", "workflow", "a" * 33, "echo/0"])
def test_a_role_that_production_refuses_is_refused(name):
    with pytest.raises(ValueError, match="a role's name is 1 to 32 characters"):
        ActorTestKit().register(type("Nameless", (Echo,), {"role": name}))


def test_a_class_without_a_role_is_told_how_to_get_one():
    with pytest.raises(ValueError, match=r"not ''; set Nameless.role or pass role="):
        ActorTestKit().register(type("Nameless", (Agent,), {}))


@pytest.mark.parametrize("wrong", [str, Workflow])
def test_what_is_no_agent_is_not_registered(wrong):
    with pytest.raises(TypeError, match=r"register\(\) takes a subclass of actors.Agent, not"):
        ActorTestKit().register(wrong)


def test_any_actor_can_be_spawned_and_looked_at():
    kit = ActorTestKit()
    assert kit.spawn(Counter) == "counter"
    kit.tell("counter", 2)
    kit.tell("counter", 3)
    kit.settle()
    assert kit.actor("counter").total == 5


def test_an_instance_is_not_spawned_since_a_restart_makes_a_new_one():
    with pytest.raises(TypeError, match="a restart makes anew"):
        ActorTestKit().spawn(Counter(), "counter")


def test_what_an_actor_is_spawned_with_may_be_said():
    kit = ActorTestKit()
    kit.spawn(Counter, "small", cap=7)
    assert kit.directory.mailboxes["small"].spec.cap == 7


def test_who_is_not_there_is_named_with_those_who_are():
    with pytest.raises(AssertionError, match="nobody lives at 'echo'; there are: desk, gateway, limiter, recorder"):
        ActorTestKit().actor("echo")


def test_what_a_handler_raises_for_an_ask_comes_back():
    kit = ActorTestKit()
    kit.spawn(Counter)
    with pytest.raises(TypeError, match="unsupported operand"):
        kit.ask_actor("counter", "no number")


def test_a_role_that_is_played_already_cannot_be_registered_again():
    with pytest.raises(ValueError, match="the role 'echo' is played already"):
        kit_with().register(Echo)


def test_what_an_actor_answers_or_raises_comes_back_through_its_ref():
    kit = kit_with()
    kit.probe()
    assert kit.ask_actor("probe", "x") is None
    assert kit.directory.mailboxes["probe"].actor.received == ["x"]


def test_two_workflows_of_one_name_are_not_mixed_up():
    kit = kit_with()

    def workflow(text):
        class Same(Workflow):
            async def run(self, task: str) -> str:
                return text

        return Same

    runs = [kit.submit(workflow(text), "x") for text in ("one", "two")]
    assert [kit.result(run).output for run in runs] == ["one", "two"]


def test_a_run_that_does_not_end_says_so():
    class Endless(Workflow):
        async def run(self, task: str) -> str:
            await self.pause(1e6)

    with pytest.raises(AssertionError, match="run-1 did not end within 10 virtual seconds"):
        kit_with().run(Endless, "x", seconds=10.0)


def test_a_task_that_nobody_answers_says_so():
    kit = kit_with()
    kit.probe(role="probe")
    with pytest.raises(AssertionError, match="did not end within 10 virtual seconds"):
        kit.ask("probe", "x", seconds=10.0)


def test_a_task_cut_by_its_deadline_says_so():
    kit = kit_with()
    kit.probe(role="probe")
    with pytest.raises(AssertionError, match="no task ended within 3600 virtual seconds: the run's 1 s are over"):
        kit.ask("probe", "x", timeout=1.0)


def test_expect_idle_names_what_is_under_way():
    kit = kit_with(latency=5.0)
    run = kit.submit(Ask, "x")
    kit.tell("echo/0", AgentMessage(sender="x", recipient="echo", content="hi", message_id="r/0"))
    with pytest.raises(AssertionError, match=r"still under way: .*'echo/0': \['r/0'\]"):
        kit.expect_idle()
    kit.result(run)
    kit.advance(5.0)
    kit.expect_idle()


def test_expect_idle_names_mail_that_a_suspended_actor_does_not_get():
    kit = kit_with()
    kit.directory.mailboxes["echo/0"].suspend()
    kit.tell("echo/0", "x")
    with pytest.raises(AssertionError, match="'echo/0': '1 messages'"):
        kit.expect_idle()


def test_the_same_seed_gives_the_same_order_and_another_one_another():
    def order(seed):
        kit = ActorTestKit({"echo": "hello"}, seed=seed)
        kit.register(Echo, instances=6)
        runs = [kit.submit(DirectWorkflow, str(n), to="echo") for n in range(6)]
        kit.result(runs[0])
        return tuple(call.messages[-1].content for call in kit.model.calls)

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(10)}) > 5
    assert order(None) == tuple("012345")


# --- what goes wrong


def test_a_crash_keeps_the_mail_and_calls_nothing_again():
    kit = kit_with(latency=5.0)
    run = kit.submit(DirectWorkflow, "hi", to="echo")
    kit.advance(1.0)
    before = kit.actor("echo/0")
    kit.crash("echo/0")
    assert kit.actor("echo/0") is not before
    assert kit.result(run).output == "hello"
    assert (len(kit.model.calls), kit.now) == (1, 5.0)
    assert kit.failures == ["echo/0: RuntimeError: crashed by the test (restarted after 0 s)"]


def test_mail_that_waits_in_front_of_a_crash_is_handled_after_it():
    kit = ActorTestKit()
    kit.spawn(Counter)
    kit.tell("counter", 2)
    kit.crash("counter")
    assert kit.actor("counter").total == 2


@pytest.mark.parametrize("kind", [list, FaultPlan], ids=["list", "plan"])
def test_faults_strike_where_they_are_told_to(kind):
    faults = (Crash("echo/0", 1), Crash("recorder", 2))
    kit = kit_with(faults=FaultPlan(faults) if kind is FaultPlan else list(faults))
    assert kit.ask("echo", "hi").result == "hello"
    assert set(kit.dispatcher.fired) == set(faults)
    assert [failure.partition(":")[0] for failure in kit.failures] == [fault.address for fault in kit.dispatcher.fired]


def test_a_system_that_has_collapsed_fails_the_test_once():
    kit = kit_with(faults=[Lose("recorder", 1)])
    with pytest.raises(AssertionError, match="the system has collapsed: recorder failed too often: lost for good"):
        kit.ask("echo", "hi")
    kit.settle()


def test_messages_that_have_no_end_fail_the_test_with_the_sequence():
    class Ping(Actor):
        def on_receive(self, message):
            self.tell(self.address, message)

    kit = ActorTestKit()
    kit.spawn(Ping, "ping")
    kit.tell("ping", "again")
    kit.dispatcher.settle = partial(kit.dispatcher.settle, turns=100)
    with pytest.raises(AssertionError, match=r"no end after 100 messages at (?s:.)+ping -> ping  'again'"):
        kit.settle()


def test_with_wire_a_team_of_agents_works_as_it_did():
    kit = kit_with(wire=True)
    assert kit.ask("echo", "hi").result == "hello"
    kit.expect_no_dead_letters()


def test_with_wire_a_message_that_holds_a_function_is_refused():
    kit = ActorTestKit(wire=True)
    kit.probe()
    with pytest.raises(NotCodable, match="dict cannot be sent to another machine"):
        kit.tell("probe", {"function": print})


@pytest.mark.parametrize("option", [{"seed": 1}, {"faults": [Crash("a", 1)]}, {"wire": True}], ids=str)
def test_what_makes_a_simulation_is_refused_beside_another_stage(option):
    with pytest.raises(TypeError, match="seed, faults and wire make a simulation"):
        ActorTestKit(stage=SimulatedDispatcher(), **option)


# --- what must hold


def test_an_open_run_is_not_idle():
    class Pausing(Workflow):
        async def run(self, task: str) -> None:
            await self.pause(10.0)

    kit = ActorTestKit()
    run = kit.submit(Pausing, "x")
    with pytest.raises(AssertionError, match=r"still under way: \{'open runs': \['run-1'\]\}"):
        kit.expect_idle()
    kit.result(run)
    kit.expect_idle()


def test_a_call_under_way_and_its_lease_are_not_idle():
    kit = kit_with(latency=5.0)
    kit.tell("echo/0", AgentMessage(sender="x", recipient="echo", content="hi", message_id="r/0"))
    with pytest.raises(AssertionError, match=r"'gateway': \['r/0/0/0'\], .*'limiter': '1 leases'"):
        kit.expect_idle()
    kit.advance(5.0)
    kit.expect_idle()


def letters(kit):
    kit.tell("nobody", "hello")
    kit.tell("nobody", 3)
    kit.tell("no/one", 4)
    kit.settle()
    return kit


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "hello"),
        ({"wanted": int}, 3),
        ({"wanted": lambda message: message == 4}, 4),
        ({"to": "no/one"}, 4),
        ({"wanted": str, "to": "nobody", "reason": "such address$"}, "hello"),
    ],
)
def test_a_dead_letter_is_found_by_what_is_known_of_it(wanted, message):
    assert letters(ActorTestKit()).expect_dead_letter(**wanted).message == message


def test_a_dead_letter_that_was_expected_is_taken():
    kit = letters(ActorTestKit())
    for _ in range(3):
        kit.expect_dead_letter()
    kit.expect_no_dead_letters()


def test_a_dead_letter_that_is_not_there_is_told_with_those_that_are():
    kit = letters(ActorTestKit())
    expected = r"no dead letter is str to no/one because of 'x'; there are: nobody: 'hello' \(no such address\); "
    with pytest.raises(AssertionError, match=expected):
        kit.expect_dead_letter(str, to="no/one", reason="x")


def test_what_the_desk_has_no_use_for_is_a_dead_letter():
    kit = ActorTestKit()
    kit.tell("desk", "hello")
    assert kit.expect_dead_letter(str, to="desk").reason == "no use for str"


def test_a_dead_letter_that_was_not_expected_fails():
    with pytest.raises(AssertionError, match=r"nobody handled: nobody: 'hello' \(no such address\)"):
        letters(ActorTestKit()).expect_no_dead_letters()


def test_no_dead_letter_is_told_as_none():
    with pytest.raises(AssertionError, match=r"no dead letter is object; there are: none"):
        ActorTestKit().expect_dead_letter()


def test_time_passes_without_anything_happening():
    kit = ActorTestKit()
    kit.advance(1.5)
    assert kit.now == 1.5


def test_how_long_is_waited_for_something_is_bounded():
    kit = kit_with(latency=5.0)
    kit.submit(DirectWorkflow, "hi", to="echo")
    assert kit.advance_until(lambda: bool(kit.progress), 0.0)
    assert not kit.advance_until(lambda: len(kit.progress) > 1, 4.0)
    assert kit.advance_until(lambda: len(kit.progress) > 1, 5.0)
    assert kit.now == 5.0
