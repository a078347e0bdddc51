"""A user's code as the type checker sees it: ``make lint`` checks it, strictly; nobody runs it.

A line with ``type: ignore`` has to be an error of just that kind: mypy reports an ignore that it did not need.
"""

from __future__ import annotations

from typing import assert_type

from msgspec import Struct

from actors import Agent, Outcome, TeamWorkflow, Workflow
from actors.testing import ActorTestKit, DomainLimits, ScriptedModel, rate_limited
from protocol import AgentMessage, AgentRole, ConfigError, ErrorKind, TaskFailed, TaskResult, WorkflowResult
from protocol.chat import ChatReply
from protocol.signals import Progress
from runtime import ActorSystem, Config, Handle


class Grade(Struct, frozen=True):
    points: int


class Examiner(Agent):
    role = "examiner"
    restart_on = (ConnectionError,)

    async def handle(self, message: AgentMessage) -> Grade:
        reply = await self.chat(message.content)
        assert_type(reply, ChatReply)
        grade = await self.chat("Grade it.", returns=Grade, temperature=0.0)
        assert_type(grade, Grade)
        self.chat("never awaited")  # type: ignore[unused-awaitable]
        await self.chat(3)  # type: ignore[call-overload]
        grade.points = 7  # type: ignore[misc]
        return grade


class Exam(Workflow):
    async def run(self, task: str) -> Outcome:
        text = await self.ask("examiner", task)
        assert_type(text, str)
        grade = await self.ask(AgentRole.REVIEWER, task, returns=Grade, timeout=30)
        assert_type(grade, Grade)
        pair = await self.gather(self.ask("a", task), self.ask("b", task, returns=Grade))
        assert_type(pair, tuple[str, Grade])
        many = await self.gather(*(self.ask("a", word) for word in task.split()))
        assert_type(many, tuple[str, ...])
        assert_type(await self.call(len, task), int)
        await self.pause("a while")  # type: ignore[arg-type]
        await self.ask("a", task, returns=3)  # type: ignore[call-overload]
        try:
            await self.ask("a", task)
        except TaskFailed as failure:
            assert_type(failure.result, TaskResult)
            assert_type(failure.result.error_kind, ErrorKind | None)
        return Outcome(output=text, score=3)  # type: ignore[call-arg]


class Terse(TeamWorkflow):
    def compose(self) -> str:
        return "\n".join(draft.text for draft in self.drafts)


def embedded(path: str) -> str:
    try:
        config = Config.load(path)
    except ConfigError as error:
        return str(error)
    with ActorSystem(config) as system:
        assert_type(system, ActorSystem)
        system.register(Examiner, instances=2)
        system.register(Exam)  # type: ignore[arg-type]
        handle = assert_type(system.submit("a task", workflow=Exam, priority="high", max_cost=0.5), Handle)
        _ = system.submit("a task", workflow=Examiner)  # type: ignore[arg-type]
        _ = system.submit(3)  # type: ignore[arg-type]
        for event in handle.events():
            assert_type(event, Progress)
        result = handle.result(timeout=60)
        assert_type(result, WorkflowResult)
        assert_type(result.summary.cost_usd, float | None)
        result.output = ""  # type: ignore[misc]
        return result.output


async def awaited(system: ActorSystem) -> str:
    async with system:
        handle = system.submit("a task")
        async for event in handle.aevents():
            assert_type(event.event, str)
        assert_type(await handle, WorkflowResult)
    return handle.correlation_id


def test_kit(actor_kit: ActorTestKit, scripted_model: ScriptedModel) -> None:
    scripted_model.on("examiner", [rate_limited(retry_after=5), Grade(points=6), lambda call: call.text.upper()])
    actor_kit.register(Examiner)
    assert_type(actor_kit.ask("examiner", "Hello"), TaskResult)
    assert_type(actor_kit.run(Exam, "Hello"), WorkflowResult)
    ActorTestKit(limits=DomainLimits(requests_per_minute=60, brust=1))  # type: ignore[call-arg]
