"""The test kit: strict models, probes, virtual time, and failures that say what was wrong."""

from __future__ import annotations

import pytest

from actors import Agent, Workflow
from actors.testing import ActorTestKit, ScriptedModel
from actors.workflow import DirectWorkflow
from protocol import AgentMessage, ErrorKind, TaskFailed, TaskResult
from protocol.chat import CallFailure, ChatReply, Usage
from protocol.plan import Plan
from protocol.signals import Answer


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


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


# --- the probe


def test_a_probe_keeps_what_it_is_told_in_order():
    kit = kit_with()
    probe = kit.probe()
    kit.tell("probe", "one")
    kit.tell("probe", 2)
    assert (probe.expect(str), probe.expect(int)) == ("one", 2)
    probe.expect_nothing()


def test_a_probe_says_what_it_got_instead():
    kit = kit_with()
    probe = kit.probe()
    with pytest.raises(AssertionError, match="probe got nothing within 3 s; int was expected"):
        probe.expect(int, within=3.0)
    kit.tell("probe", "text")
    with pytest.raises(AssertionError, match="probe got 'text'; int was expected"):
        probe.expect(int)
    kit.tell("probe", "more")
    with pytest.raises(AssertionError, match="nothing was expected"):
        probe.expect_nothing()


def probing(kit):
    """Return a probe that plays the role ``probe``."""
    probe = kit.probe("probe/0")
    kit.directory.mailboxes["supervisor"].actor._decide.on_registered("probe", "probe/0")
    return probe


def test_a_probe_answers_as_an_agent_does():
    kit = kit_with()
    probe, run = probing(kit), kit.submit(Ask, "a question")
    asked = probe.expect(AgentMessage)
    assert asked.content == "a question"
    probe.reply("an answer", to=asked)
    assert kit.result(run).output == "an answer"


def test_a_probe_may_refuse():
    kit = kit_with()
    probe, run = probing(kit), kit.submit(Ask, "x")
    probe.expect(AgentMessage)
    probe.refuse(ErrorKind.QUOTA, "no money left")
    assert (kit.result(run).error_kind, kit.result(run).error) == (ErrorKind.QUOTA, "no money left")


def test_a_late_answer_of_a_probe_is_a_dead_letter():
    class Patient(Ask):
        async def run(self, task: str) -> str:
            try:
                await super().run(task)
            except TaskFailed:
                await self.pause(60.0)
            return "done"

    kit = kit_with()
    probe, run = probing(kit), kit.submit(Patient, "x")
    asked = probe.expect(AgentMessage)
    kit.advance(10.0)
    probe.reply("late", to=asked)
    (letter,) = kit.dead_letters
    assert letter.reason == "a second answer for the same step"
    assert kit.result(run).output == "done"


def test_a_probe_waits_in_virtual_time():
    kit = kit_with(latency=2.0)
    probe = kit.probe()
    kit.tell("echo/0", AgentMessage(sender="x", recipient="echo", content="hi", message_id="r/0", reply_to="probe"))
    assert probe.expect(Answer, within=3.0).payload == TaskResult(
        task_id="r/0",
        agent="echo/0",
        success=True,
        result="hello",
        execution_time_ms=2000.0,
        model="auto",
        usage=Usage(input_tokens=1, output_tokens=1),
        calls=1,
    )
    assert kit.now == 2.0


# --- the kit


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
    probing(kit)
    with pytest.raises(AssertionError, match="did not end within 10 virtual seconds"):
        kit.ask("probe", "x", seconds=10.0)


def test_a_task_cut_by_its_deadline_says_so():
    kit = kit_with()
    probing(kit)
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
