"""Agents: conversations that never mix, failures that stay with their task, restarts that pay nothing twice."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import msgspec
import pytest

from actors import Agent, Workflow
from actors.agent import MOST_DELIVERIES, read_output
from actors.testing import ActorTestKit, ScriptedModel
from protocol import AgentMessage, ErrorKind, RoleSettings, TaskFailed
from protocol.chat import CallFailure, ChatReply
from protocol.errors import ErrorKind as Kind
from protocol.plan import Plan
from protocol.signals import Restart


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
    assert (call.temperature, call.max_tokens, call.timeout, call.max_retries) == (0.1, 7, 3.0, 1)


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
