"""The probe: keeps what it is told, waits in virtual time, answers as an agent does, and says what it got instead."""

from __future__ import annotations

import pytest

from actors import Agent, Workflow
from actors.testing import ActorTestKit, ScriptedModel
from protocol import AgentMessage, ErrorKind, TaskFailed, TaskResult, ids
from protocol.chat import Usage
from protocol.costs import Line, Sums
from protocol.plan import Plan
from protocol.signals import Answer, CancelStep


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Ask(Workflow):
    async def run(self, task: str) -> str:
        return await self.ask("probe", task, timeout=5.0)


class Many(Workflow):
    async def run(self, task: str) -> str:
        return "".join(await self.gather(*(self.ask("probe", f"{task} {n}") for n in range(3))))


def asked(workflow=Ask, **options):
    """Return a kit, a probe that plays a role, and a run that has asked it."""
    kit = ActorTestKit(**options)
    probe = kit.probe(role="probe")
    return kit, probe, kit.submit(workflow, "a question")


# --- what it is told


def test_a_probe_keeps_what_it_is_told_in_order():
    kit = ActorTestKit()
    probe = kit.probe()
    kit.tell("probe", "one")
    kit.tell("probe", 2)
    assert (probe.expect(str), probe.expect(int)) == ("one", 2)
    probe.expect_nothing()


def test_a_predicate_says_what_is_wanted():
    kit = ActorTestKit()
    probe = kit.probe()
    kit.tell("probe", "one")
    assert probe.expect(lambda message: message.startswith("o")) == "one"


def test_the_next_message_must_be_the_one_and_stays_the_next_when_it_is_not():
    kit = ActorTestKit()
    probe = kit.probe()
    kit.tell("probe", "text")
    kit.tell("probe", 2)
    with pytest.raises(AssertionError, match="probe got 'text'; int was expected\nin full: 'text'\n"):
        probe.expect(int)
    assert (probe.expect(str), probe.expect(int)) == ("text", 2)


def is_even(message):
    return message % 2 == 0


@pytest.mark.parametrize(
    ("wanted", "named"), [(is_even, r"what is_even\(\) wants"), (lambda _: False, "what the predicate wants")]
)
def test_a_predicate_is_named_where_it_has_a_name(wanted, named):
    kit = ActorTestKit()
    probe = kit.probe()
    kit.tell("probe", 3)
    with pytest.raises(AssertionError, match=f"probe got int 3; {named} was expected"):
        probe.expect(wanted)


def test_nothing_is_told_as_such():
    with pytest.raises(AssertionError, match=r"probe got nothing within 3 s; int was expected"):
        ActorTestKit().probe().expect(int, within=3.0)


def test_more_than_nothing_is_told_message_by_message():
    kit = ActorTestKit()
    probe = kit.probe()
    kit.tell("probe", "one")
    kit.tell("probe", 2)
    with pytest.raises(AssertionError, match="probe got 2 messages; nothing was expected:\n- 'one'\n- int 2\n"):
        probe.expect_nothing()


def test_a_failure_shows_the_last_messages():
    kit = ActorTestKit()
    probe = kit.probe()
    kit.tell("probe", "one")
    with pytest.raises(AssertionError, match=r"the last 20 messages:\n *0\.000000  test -> probe  'one'$"):
        probe.expect(int)


def test_a_message_is_shown_in_full_without_what_says_nothing():
    kit, probe, _ = asked()
    with pytest.raises(AssertionError) as failure:
        probe.expect(int)
    full = str(failure.value).splitlines()[1]
    assert full.startswith("in full: AgentMessage(sender='workflow/run-1', recipient='probe', content='a question', ")
    assert " data=" not in full
    assert "reply_to='workflow/run-1'" in full
    assert kit.now == 0.0


# --- time


def test_a_probe_waits_in_virtual_time():
    kit = ActorTestKit(ScriptedModel("hello", latency=2.0))
    kit.register(Echo)
    probe = kit.probe()
    kit.tell("echo/0", AgentMessage(sender="x", recipient="echo", content="hi", message_id="r/0", reply_to="probe"))
    sums = Sums(calls=1, input_tokens=1, output_tokens=1, nano_usd=None)
    assert probe.expect(Answer, within=3.0).payload == TaskResult(
        task_id="r/0",
        agent="echo/0",
        success=True,
        result="hello",
        execution_time_ms=2000.0,
        model="auto",
        usage=Usage(input_tokens=1, output_tokens=1),
        calls=1,
        costs=(Line(role="echo", model="auto", sums=sums),),
    )
    assert kit.now == 2.0


def test_a_probe_does_not_wait_longer_than_it_is_told():
    kit = ActorTestKit(ScriptedModel("hello", latency=2.0))
    kit.register(Echo)
    probe = kit.probe()
    kit.tell("echo/0", AgentMessage(sender="x", recipient="echo", content="hi", message_id="r/0", reply_to="probe"))
    with pytest.raises(AssertionError, match=r"probe got nothing within 1.5 s"):
        probe.expect(Answer, within=1.5)
    assert probe.expect(Answer, within=2.0).payload.success


def test_nothing_may_come_while_time_passes():
    _, probe, _ = asked()
    probe.expect(AgentMessage)
    probe.expect_nothing(for_=4.9)
    with pytest.raises(AssertionError, match="CancelStep run-1/0"):
        probe.expect_nothing(for_=0.2)


# --- playing a role


def test_a_probe_answers_as_an_agent_does():
    kit, probe, run = asked()
    question = probe.expect(AgentMessage)
    assert question.content == "a question"
    probe.reply("an answer", to=question)
    assert kit.result(run).output == "an answer"
    kit.expect_idle()


def test_the_task_asked_first_is_answered_first():
    kit, probe, run = asked(Many)
    for text in "abc":
        probe.reply(text)
    assert kit.result(run).output == "abc"


def test_a_task_is_answered_once_in_whatever_order():
    kit, probe, run = asked(Many)
    first, second, third = (probe.expect(AgentMessage) for _ in range(3))
    probe.reply("3", to=third)
    probe.reply("1", to=first)
    probe.reply("2")
    assert kit.result(run).output == "123"
    assert second.content == "a question 1"


def test_a_struct_is_answered_as_json():
    class Planning(Workflow):
        async def run(self, task: str) -> str:
            return (await self.ask("probe", task, returns=Plan)).subtasks[0]

    kit, probe, run = asked(Planning)
    probe.reply(Plan(subtasks=("one",)))
    assert kit.result(run).output == "one"


def test_a_probe_may_refuse():
    kit, probe, run = asked()
    probe.refuse(ErrorKind.QUOTA, "no money left")
    assert (kit.result(run).error_kind, kit.result(run).error) == (ErrorKind.QUOTA, "no money left")


def test_a_probe_that_was_asked_nothing_has_nothing_to_answer():
    kit = ActorTestKit()
    with pytest.raises(AssertionError, match="probe/0 has been asked nothing that is still unanswered"):
        kit.probe(role="probe").reply("x")


def test_a_message_that_awaits_no_answer_cannot_be_answered():
    kit = ActorTestKit()
    probe = kit.probe()
    kit.tell("probe", AgentMessage(sender="x", recipient="probe", content="by the way", message_id="m"))
    with pytest.raises(AssertionError, match=r"cannot answer AgentMessage m 'by the way': nobody awaits an answer"):
        probe.reply("thanks")


def test_an_answered_task_is_no_load_of_the_probe():
    kit, probe, run = asked()
    probe.reply("x")
    kit.result(run)
    assert not any(kit.actor(ids.SUPERVISOR)._decide._load.values())


def test_a_probe_hears_that_nobody_waits_any_longer():
    kit, probe, run = asked()
    probe.expect(AgentMessage)
    kit.cancel(run)
    assert probe.expect(CancelStep).step == "run-1/0"


def test_a_supervisor_that_was_restarted_finds_the_probe_and_its_tasks():
    kit, probe, run = asked()
    probe.expect(AgentMessage)
    kit.crash(ids.SUPERVISOR)
    probe.expect_nothing()
    kit.cancel(run)
    assert probe.expect(CancelStep).step == "run-1/0"


def test_a_role_that_is_played_already_takes_no_probe():
    kit = ActorTestKit()
    kit.register(Echo)
    with pytest.raises(ValueError, match="the role 'echo' is played already"):
        kit.probe(role="echo")


def test_a_late_answer_of_a_probe_is_a_dead_letter():
    class Patient(Ask):
        async def run(self, task: str) -> str:
            try:
                await super().run(task)
            except TaskFailed:
                await self.pause(60.0)
            return "done"

    kit, probe, run = asked(Patient)
    question = probe.expect(AgentMessage)
    kit.advance(10.0)
    probe.reply("late", to=question)
    kit.expect_dead_letter(Answer, to="workflow/run-1", reason="a second answer for the same step")
    assert kit.result(run).output == "done"
