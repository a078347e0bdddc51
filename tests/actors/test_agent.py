"""Agents: conversations that never mix, failures that stay with their task, restarts that pay nothing twice."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import msgspec
import pytest

from actors import Agent, Workflow
from actors.agent import MOST_DELIVERIES
from actors.chatting import read_output
from actors.testing import ActorTestKit, Crash, ScriptedModel
from protocol import AgentMessage, ErrorKind, RoleSettings, TaskFailed, ids
from protocol.chat import CallFailure, ChatReply
from protocol.errors import Cancelled
from protocol.errors import ErrorKind as Kind
from protocol.messages import failed
from protocol.plan import Plan
from protocol.signals import Answer, CancelStep, ChatResult, Recalled, Restart, Returned, Stop


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


def said(call) -> str:
    return f"re: {call.messages[-1].content}"


def test_an_agent_answers_with_what_its_model_says():
    kit = ActorTestKit({"echo": "hello"})
    kit.register(Echo)
    result = kit.ask("echo", "hi")
    assert (result.success, result.result, result.calls) == (True, "hello", 1)
    kit.expect_idle()


def test_the_system_prompt_of_the_class_and_the_settings_reach_the_model():
    class Polite(Echo):
        system_prompt = "Be polite."

    kit = ActorTestKit({"echo": "hello"})
    kit.register(Polite, settings=RoleSettings(temperature=0.1, max_tokens=7, timeout=3.0, max_retries=1))
    kit.ask("echo", "hi")
    (call,) = kit.model.calls
    assert [m.content for m in call.messages] == ["Be polite.", "hi"]
    assert (call.request.temperature, call.request.max_tokens) == (0.1, 7)
    assert (call.asked.timeout, call.asked.max_retries) == (3.0, 1)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(2), KeyboardInterrupt()])
def test_a_handler_that_raises_fails_its_own_task_and_the_others_go_on(error):
    class Moody(Agent):
        role = "moody"

        async def handle(self, message: AgentMessage) -> str:
            reply = await self.chat(message.content)
            if "raise" in message.content:
                raise error
            return reply.text

    class Both(Workflow):
        async def run(self, task: str) -> str:
            good, bad = self.ask("moody", "fine"), self.ask("moody", "raise")

            async def caught():
                try:
                    return await bad
                except TaskFailed as failure:
                    return failure.result.error_kind

            return "|".join(map(str, await self.gather(good, caught())))

    kit = ActorTestKit({"moody": said})
    kit.register(Moody)
    assert kit.run(Both, "x").output == f"re: fine|{ErrorKind.HANDLER_ERROR}"
    assert kit.failures == []


def test_a_foreign_await_fails_the_task_and_names_the_three_right_ways():
    class Wrong(Agent):
        role = "wrong"

        async def handle(self, message: AgentMessage) -> str:
            await asyncio.sleep(0)
            return ""

    kit = ActorTestKit()
    kit.register(Wrong)
    result = kit.ask("wrong", "x")
    assert result.error_kind is Kind.FOREIGN_AWAIT
    assert "self.call(fn, *args)" in result.error
    assert "blocking = True" in result.error


def test_parallel_tasks_keep_their_own_history():
    class Twice(Agent):
        role = "twice"

        async def handle(self, message: AgentMessage) -> str:
            await self.chat(message.content)
            await self.chat("and now?")
            return "done"

    class Many(Workflow):
        async def run(self, task: str) -> str:
            await self.gather(*(self.ask("twice", f"task {n}") for n in range(5)))
            return ""

    kit = ActorTestKit(ScriptedModel({"twice": said}, latency=1.0), seed=4)
    kit.register(Twice)
    kit.run(Many, "x")
    second = [call for call in kit.model.calls if call.messages[-1].content == "and now?"]
    histories = sorted(tuple(m.content for m in call.messages) for call in second)
    assert histories == [(f"task {n}", f"re: task {n}", "and now?") for n in range(5)]


def test_a_struct_is_answered_as_json_and_read_back_by_type():
    class Planner(Agent):
        role = "planner"

        async def handle(self, message: AgentMessage) -> Plan:
            return Plan(subtasks=("a", "b"))

    class Use(Workflow):
        async def run(self, task: str) -> str:
            plan = await self.ask("planner", task, returns=Plan)
            return ",".join(plan.subtasks)

    kit = ActorTestKit()
    kit.register(Planner)
    assert kit.run(Use, "x").output == "a,b"


class Structured(Agent):
    role = "structured"

    async def handle(self, message: AgentMessage) -> Plan:
        return await self.chat(message.content, returns=Plan)


def test_an_unreadable_answer_gets_one_repair_turn():
    kit = ActorTestKit({"structured": ["no json at all", '{"subtasks": ["x"]}']})
    kit.register(Structured)
    assert kit.ask("structured", "plan").result == '{"subtasks":["x"]}'
    assert "could not be read" in kit.model.calls[1].messages[-1].content


def test_an_answer_that_stays_unreadable_fails_the_task():
    kit = ActorTestKit({"structured": ["no", "still no"]})
    kit.register(Structured)
    result = kit.ask("structured", "plan")
    assert result.error_kind is Kind.INVALID_OUTPUT
    assert result.calls == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"subtasks":["a"]}', ("a",)),
        ('Sure:\n```json\n{"subtasks": ["a"]}\n```', ("a",)),
        ("1. a", None),
        ("[]", None),
    ],
)
def test_output_is_read_as_json_also_inside_prose(text, value):
    plan, error = read_output(text, Plan, None)
    assert (plan.subtasks if plan else None) == value
    assert (error is None) == (value is not None)


def test_a_failed_call_fails_the_task_with_its_kind():
    failure = CallFailure(kind=Kind.AUTHENTICATION, message="the key is wrong")
    kit = ActorTestKit({"echo": failure})
    kit.register(Echo)
    result = kit.ask("echo", "hi")
    assert (result.error_kind, result.error) == (Kind.AUTHENTICATION, "the key is wrong")


@pytest.mark.parametrize(("keep", "success"), [(False, False), (True, True)])
def test_a_text_cut_at_max_tokens_is_a_failure_unless_the_role_keeps_it(keep, success):
    kit = ActorTestKit({"echo": ChatReply(text="half a sent", finish_reason="length")})
    kit.register(Echo, settings=RoleSettings(max_tokens=3, keep_truncated=keep))
    result = kit.ask("echo", "hi")
    assert (result.success, result.truncated) == (success, keep)
    assert keep or (result.error_kind is Kind.TRUNCATED and "roles.echo.max_tokens" in result.error)


class Stepwise(Agent):
    """Two chats; raises between them as often as it is told."""

    role = "stepwise"
    crashes: ClassVar[int] = 0
    restart_on = (OSError,)

    async def handle(self, message: AgentMessage) -> str:
        first = (await self.chat("first")).text
        if type(self).crashes > 0:
            type(self).crashes -= 1
            raise OSError("the disk is gone")
        return first + (await self.chat("second")).text


@pytest.mark.parametrize("crashes", [0, 1, 2])
def test_a_restarted_agent_goes_on_from_the_record_and_asks_nothing_twice(crashes):
    Stepwise.crashes = crashes
    kit = ActorTestKit({"stepwise": ["one", "two"]})
    kit.register(Stepwise)
    result = kit.ask("stepwise", "go")
    assert result.result == "onetwo"
    assert [call.messages[-1].content for call in kit.model.calls] == ["first", "second"]
    assert result.calls == 2
    assert len(kit.failures) == crashes


@pytest.mark.parametrize("at", [1, 2])
def test_an_answer_is_not_lost_when_the_turn_that_gives_it_fails(at):
    kit = ActorTestKit({"echo": said}, faults=[Crash("echo/0", at)])
    kit.register(Echo)
    assert kit.ask("echo", "hi").result == "re: hi"
    assert len(kit.model.calls) == len(kit.failures) == 1
    kit.expect_idle()


def test_a_message_that_restarts_its_agent_again_and_again_is_poison():
    Stepwise.crashes = 99
    kit = ActorTestKit({"stepwise": said})
    kit.register(Stepwise)
    result = kit.ask("stepwise", "go")
    assert result.error_kind is Kind.POISON
    assert len(kit.model.calls) == 1
    assert 99 - Stepwise.crashes == MOST_DELIVERIES


def test_mail_waits_for_the_new_instance():
    kit = ActorTestKit({"echo": said})
    (address,) = kit.register(Echo)
    kit.tell(address, Restart())
    assert kit.ask("echo", "hi").result == "re: hi"


def test_a_task_that_is_under_way_already_is_a_dead_letter():
    kit = ActorTestKit(ScriptedModel({"echo": said}, latency=5.0))
    (address,) = kit.register(Echo)
    probe = kit.probe()
    message = AgentMessage(sender="probe", recipient="echo", content="x", message_id="r/0", reply_to=probe.address)
    kit.tell(address, message)
    kit.tell(address, message)
    kit.settle()
    assert [letter.reason for letter in kit.dead_letters] == ["this task is already under way"]


def test_metadata_is_copied_at_delivery():
    class Greedy(Agent):
        role = "greedy"

        async def handle(self, message: AgentMessage) -> str:
            message.metadata["list"].append("mine")
            return str(message.metadata["list"])

    shared = {"list": ["yours"]}

    class Give(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("greedy", "x", metadata=shared)

    kit = ActorTestKit()
    kit.register(Greedy)
    assert kit.run(Give, "x").output == "['yours', 'mine']"
    assert shared == {"list": ["yours"]}


def test_an_agent_without_a_handle_says_so():
    class Empty(Agent):
        role = "empty"

    kit = ActorTestKit()
    kit.register(Empty)
    assert "has no handle()" in kit.ask("empty", "x").error


def test_a_typed_payload_travels_with_the_message():
    class Reader(Agent):
        role = "reader"

        async def handle(self, message: AgentMessage) -> str:
            return message.payload(Plan).subtasks[0]

    class Send(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("reader", "x", data=Plan(subtasks=("typed",)))

    kit = ActorTestKit()
    kit.register(Reader)
    assert kit.run(Send, "x").output == "typed"
    assert msgspec.json.encode(Plan(subtasks=("typed",)))


# --- a user's code fails no more than its task


def agent(handle_, **attributes) -> type[Agent]:
    return type("Mine", (Agent,), {"role": "mine", "handle": handle_, **attributes})


def outcome(handle_, content: str = "x", **options):
    kit = ActorTestKit({"mine": said}, **options)
    kit.register(agent(handle_))
    result = kit.ask("mine", content)
    assert kit.failures == []
    return result


def test_a_handle_that_is_no_coroutine_works_as_well():
    assert outcome(lambda _self, message: message.content.upper()).result == "X"
    assert outcome(lambda self, message: self.call(len, message.content)).result == "1"


def test_a_handle_that_is_no_coroutine_and_raises_fails_its_task():
    def handle(self, message):
        raise SystemExit(3)

    assert outcome(handle).error == "SystemExit: 3"


async def gives_an_object(self, message):
    return object()


async def asks_for_an_object(self, message):
    await self.ask("mine", "x", data=object())


async def asks_for_a_number(self, message):
    await self.ask("mine", 5)


async def chats_a_number(self, message):
    await self.chat(5)


async def is_impatient(self, message):
    await self.ask("mine", "x", timeout=float("nan"))


async def gives_metadata_that_is_none(self, message):
    await self.ask("mine", "x", metadata="none")


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        (gives_an_object, "TypeError: Encoding objects of type object is unsupported"),
        (asks_for_an_object, "TypeError: Encoding objects of type object is unsupported"),
        (asks_for_a_number, "TypeError: what is asked is a str, not int"),
        (chats_a_number, "TypeError: what is said to a model is a str, not int"),
        (is_impatient, "ValueError: a timeout is 0 seconds or more, not nan"),
        (gives_metadata_that_is_none, "ValueError"),
    ],
)
def test_what_cannot_be_sent_fails_the_task_that_sends_it(handle, error):
    result = outcome(handle)
    assert result.error_kind is Kind.HANDLER_ERROR
    assert error in result.error


def test_metadata_that_cannot_be_copied_fails_the_task():
    class Give(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("mine", "x", metadata={"socket": (each for each in ())})

    kit = ActorTestKit()
    kit.register(agent(lambda _self, _message: "never"))
    assert "cannot pickle 'generator' object" in kit.run(Give, "x").error
    assert kit.failures == []


def test_an_error_whose_text_cannot_be_shown_fails_its_task():
    class UnspeakableError(Exception):
        def __str__(self):
            raise RuntimeError

    def handle(self, message):
        raise UnspeakableError

    assert outcome(handle).error == "UnspeakableError: (its text cannot be shown)"


# --- branches


def test_branches_inherit_the_history_and_do_not_mix_theirs():
    async def handle(self, message):
        await self.chat("root")
        await self.gather(self.chat("left"), self.chat("right"))
        return (await self.chat("end")).text

    kit = ActorTestKit(ScriptedModel({"mine": said}, latency=1.0), seed=2)
    kit.register(agent(handle))
    kit.ask("mine", "x")
    histories = {call.messages[-1].content: [m.content for m in call.messages[:-1]] for call in kit.model.calls}
    assert histories == {
        "root": [],
        "left": ["root", "re: root"],
        "right": ["root", "re: root"],
        "end": ["root", "re: root"],
    }


# --- restarts


async def two_chats(self, message):
    first = (await self.chat("first")).text
    return first + " " + (await self.chat(message.content)).text


def restarting_kit(latency: float = 1.0, **options) -> ActorTestKit:
    kit = ActorTestKit(ScriptedModel({"mine": said}, latency=latency))
    kit.register(agent(two_chats, **options))
    return kit


def request(content: str = "x", step: str = "run/0", **options) -> AgentMessage:
    return AgentMessage(sender="probe", recipient="mine", content=content, message_id=step, reply_to="probe", **options)


def test_only_the_message_that_restarts_its_agent_is_poison_and_a_bystander_is_not():
    async def handle(self, message):
        if message.content == "bad":
            raise OSError("again")
        return (await self.chat(message.content)).text

    kit = ActorTestKit(ScriptedModel({"mine": said}, latency=9.0))
    kit.register(agent(handle, restart_on=(OSError,)))
    probe = kit.probe()
    kit.tell("mine/0", request("good", "run/0"))
    kit.tell("mine/0", request("bad", "run/1"))
    kit.advance(20.0)
    answers = {each.step: each.payload for each in probe.received}
    assert answers["run/1"].error_kind is Kind.POISON
    assert answers["run/0"].result == "re: good"


def test_a_cancel_that_comes_while_the_record_is_on_its_way_is_obeyed():
    kit = restarting_kit()
    kit.probe()
    kit.tell("mine/0", request())
    kit.settle()
    kit.tell("mine/0", Restart())
    kit.tell("mine/0", CancelStep(step="run/0"))
    kit.advance(20.0)
    assert len(kit.model.calls) == 1
    kit.expect_idle()


async def waits(self, message):
    await self.pause(1000.0)


async def asks(self, message):
    return await self.ask("slow", message.content)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("how", ["restart", "restart twice", "crash"])
def test_a_cancel_that_crosses_with_a_restart_reaches_what_the_instance_before_had_asked_for(how, answered):
    kit = ActorTestKit(faults=[Crash("mine/0", 2)] if how == "crash" else [])
    kit.register(agent(asks))
    kit.register(agent(waits), role="slow")
    kit.probe()
    kit.tell("mine/0", request())
    kit.settle()
    if answered:  # its time was over, say
        late = failed("run/0", Kind.TIMEOUT, "no answer")
        kit.tell(ids.RECORDER, Answer(to="probe", step="run/0", kind="ask", fingerprint="", payload=late))
        kit.settle()
    for _ in range(how.count("restart") + how.count("twice")):
        kit.tell("mine/0", Restart())
    kit.tell("mine/0", CancelStep(step="run/0"))
    kit.settle()
    kit.expect_idle()
    assert kit.dispatcher.next_timer() is None


@pytest.mark.parametrize("end", ["poison", "stopped"])
def test_what_a_conversation_had_asked_for_ends_with_it_when_it_is_not_resumed(end):
    kit = ActorTestKit()
    kit.register(agent(asks))
    kit.register(agent(waits), role="slow")
    probe = kit.probe()
    kit.tell("mine/0", request())
    kit.settle()
    for _ in range(MOST_DELIVERIES if end == "poison" else 1):
        kit.tell("mine/0", Restart())
    if end == "stopped":
        kit.tell("mine/0", Stop())
    kit.settle()
    assert probe.expect(Answer).payload.error_kind == end
    kit.expect_idle()
    assert kit.dispatcher.next_timer() is None


def test_an_answer_in_front_of_the_record_is_no_dead_letter():
    kit = restarting_kit()
    probe = kit.probe()
    kit.tell("mine/0", request())
    kit.settle()
    kit.tell("mine/0", Restart())
    asked = kit.model.calls[0].asked
    early = ChatResult(reply=ChatReply(text="early"))
    kit.tell(
        ids.RECORDER,
        Answer(to="mine/0", step=asked.step, kind="chat", fingerprint=asked.fingerprint, payload=early),
    )
    kit.settle()
    kit.advance(5.0)
    assert probe.expect(Answer).payload.result == "early re: x"
    assert [letter.reason for letter in kit.dead_letters] == ["a second answer for the same step"]  # the model's timer


def test_a_task_that_is_sent_again_and_was_answered_is_not_done_again():
    kit = restarting_kit(latency=0.0)
    probe = kit.probe()
    kit.tell("mine/0", request())
    assert probe.expect(Answer).payload.success
    kit.tell("mine/0", request(attempt=1))
    probe.expect_nothing(for_=5.0)
    assert len(kit.model.calls) == 2
    kit.expect_idle()


def test_a_told_message_is_resumed_from_the_record_too():
    kit = restarting_kit()
    kit.tell("mine/0", AgentMessage(sender="x", recipient="mine", content="x"))
    kit.advance(1.5)
    kit.restart("mine/0")
    kit.advance(5.0)
    assert [call.messages[-1].content for call in kit.model.calls] == ["first", "x"]
    kit.expect_idle()


def test_now_is_the_same_before_the_first_answer_on_a_resume():
    seen = []

    async def handle(self, message):
        seen.append((self.now(), self.random.random()))
        await self.chat("first")

    kit = ActorTestKit(ScriptedModel({"mine": said}, latency=3.0))
    kit.register(agent(handle))
    kit.probe()
    kit.tell("mine/0", request())
    for _ in range(2):
        kit.advance(1.0)
        kit.restart("mine/0")
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_replaced_instance_runs_its_finally_blocks_and_says_nothing_in_them():
    closed = []

    async def handle(self, message):
        try:
            await self.chat("first")
        finally:
            closed.append(message.content)
            self.tell("probe", "from a finally block")
            await self.chat("in a finally block")

    kit = ActorTestKit(ScriptedModel({"mine": said}, latency=3.0))
    kit.register(agent(handle))
    probe = kit.probe()
    kit.tell("mine/0", request())
    kit.settle()
    kit.restart("mine/0")
    assert closed == ["x"]
    probe.expect_nothing()
    kit.advance(9.0)
    assert closed == ["x", "x"]


@pytest.mark.parametrize(
    "stuck",
    [
        request("inner", "run/0/0"),
        AgentMessage(sender="x", recipient="mine", content="inner", correlation_id="run/0"),
        Recalled(conversation="run/0/0"),
        Answer(to="mine/0", step="run/0/0/0/0", kind="chat", fingerprint="", payload=Returned(), at=1.0),
    ],
    ids=["message", "told", "recalled", "answer"],
)
def test_the_conversation_that_was_stuck_fails_and_no_other(stuck):
    kit = restarting_kit()
    probe = kit.probe()
    kit.tell("mine/0", request("outer", "run/0"))
    kit.tell("mine/0", request("inner", "run/0/0"))
    kit.settle()
    kit.directory.mailboxes["mine/0"].stuck = stuck
    kit.restart("mine/0")
    assert (probe.received[0].step, probe.received.pop(0).payload.error_kind) == ("run/0/0", Kind.STUCK)
    kit.advance(9.0)
    assert probe.expect(Answer).payload.result == "re: first re: outer"


# --- cancelled, stopped


def test_a_cancelled_task_is_not_answered_though_its_handler_goes_on():
    async def handle(self, message):
        try:
            await self.chat("first")
        except Cancelled:
            return "all the same"

    kit = ActorTestKit(ScriptedModel({"mine": said}, latency=9.0))
    kit.register(agent(handle))
    probe = kit.probe()
    kit.tell("mine/0", request())
    kit.settle()
    kit.tell("mine/0", CancelStep(step="run/0"))
    probe.expect_nothing(for_=20.0)
    assert kit.model.cancelled == ["run/0/0/0"]
    kit.expect_idle()


def test_an_agent_that_is_stopped_abandons_what_it_asked_for():
    kit = restarting_kit(latency=9.0)
    probe = kit.probe()
    kit.tell("mine/0", request())
    kit.settle()
    kit.tell("mine/0", Stop())
    assert probe.expect(Answer).payload.error_kind is Kind.STOPPED
    assert kit.model.cancelled == ["run/0/0/0"]
    kit.expect_idle()


# --- names of the machinery


@pytest.mark.parametrize("name", ["execute", "begin", "tell", "address", "_open"])
def test_a_helper_that_would_replace_a_part_of_the_machinery_is_refused(name):
    with pytest.raises(TypeError, match=rf"Mine\.{name} would replace a part of Agent .* handle, on_failure"):
        agent(two_chats, **{name: lambda _self: None})


def test_a_subclass_of_an_agent_of_ones_own_may_replace_what_that_defined():
    first = agent(two_chats, compute=lambda _self: 1)
    second = type("Second", (first,), {"compute": lambda _self: 2, "setup": lambda _self: None})
    assert second().compute() == 2
