"""The agent: an actor with its own mailbox that plays a role, its ``handle`` a coroutine.

One agent serves many messages at once: each is a conversation with its own locals, history and costs, so parallel
tasks never mix. A handler that raises fails its own task. Mail that was taken and not yet answered is held in the
mailbox, which outlives the instance: after a restart the new instance resumes it from the record, so nothing that was
paid is paid again.
"""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

import msgspec
from msgspec.structs import replace

from actors.conversations import Conversational, Talk, failure_of, recall
from actors.directory import ActorSpec, answer_to
from protocol import ids
from protocol.awaited import Scope, Step
from protocol.chat import ChatMessage, ChatReply, OutputSchema
from protocol.errors import Cancelled, ErrorKind, TaskFailed
from protocol.messages import AgentMessage, TaskResult, failed
from protocol.policies.history import trim
from protocol.policies.json_text import extract_json
from protocol.policies.token_estimate import estimate
from protocol.roles import RoleSettings
from protocol.signals import (
    Answer,
    CancelStep,
    ChatCall,
    ChatResult,
    Payload,
    Reaffirmed,
    Recalled,
    TaskSettled,
    WhoHolds,
)
from protocol.wire.schema import strict_schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

T = TypeVar("T")

MOST_DELIVERIES = 3
"""A message that was under way at this many restarts is poison: it is failed, the agent goes on."""

REPAIR = "Your answer could not be read: {error}. Answer again with nothing but one JSON value that follows the schema."


class Held:
    """A message taken and not yet answered; lives in the mailbox."""

    __slots__ = ("deliveries", "message")

    def __init__(self, message: AgentMessage) -> None:
        self.message = message
        self.deliveries = 1


class Agent(Conversational):
    """Base of every agent. Subclasses set :attr:`role` and implement :meth:`handle`.

    ``blocking = True`` gives the agent a thread of its own, on which ``handle`` may block. An exception listed in
    ``restart_on`` restarts the agent instead of only failing the task.
    """

    role: ClassVar[str] = ""
    system_prompt: ClassVar[str] = ""
    blocking: ClassVar[bool] = False
    restart_on: ClassVar[tuple[type[BaseException], ...]] = ()
    settings: RoleSettings = RoleSettings()

    async def handle(self, message: AgentMessage) -> Any:
        """Do the task in *message*; return its result, a ``str`` or a struct."""
        raise NotImplementedError(f"{type(self).__name__} has no handle()")

    # --- model calls

    @overload
    def chat(
        self,
        content: str,
        *,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Awaitable[ChatReply]: ...
    @overload
    def chat(
        self,
        content: str,
        *,
        returns: type[T],
        reader: Callable[[str], T | None] | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Awaitable[T]: ...
    def chat(
        self,
        content: str,
        *,
        returns: type[Any] | None = None,
        reader: Callable[[str], Any] | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Awaitable[Any]:
        """Say *content* to the role's model, after what this conversation has said so far.

        Gives the :class:`ChatReply`; with *returns* a value of that type, asked for by JSON schema and checked here.
        *reader* reads plain text where the model knows no JSON; one repair turn follows an answer that cannot be read.
        Raises ``TaskFailed`` when the call failed after its retries, or the answer stayed unreadable.
        """
        options = {"temperature": temperature, "max_tokens": max_tokens}
        return Scope(
            self._chat(content, returns, reader, self.settings.system_prompt if system is None else system, options)
        )

    async def _chat(
        self,
        content: str,
        returns: type[Any] | None,
        reader: Callable[[str], Any] | None,
        system: str,
        options: dict[str, Any],
    ) -> Any:
        conversation = self._running.conversation
        head = (ChatMessage(role="system", content=system),) if system else ()
        said = (*(conversation.memory or ()), ChatMessage(role="user", content=content))
        options["schema"] = None if returns is None else strict_schema(cast("Hashable", returns))
        reply = await self._turn(content, (*head, *said), options)
        if returns is None:
            conversation.memory = (*said, ChatMessage(role="assistant", content=reply.text))
            return self._whole(reply)
        value, error = read_output(reply.text, returns, reader)
        if error is not None:
            repair = REPAIR.format(error=error)
            said = (*said, ChatMessage(role="assistant", content=reply.text), ChatMessage(role="user", content=repair))
            reply = await self._turn(repair, (*head, *said), options)
            value, error = read_output(reply.text, returns, reader)
        if error is not None:
            text = f"the model's answer is no {returns.__name__}: {error}"
            raise TaskFailed(failed(self._running.id, ErrorKind.INVALID_OUTPUT, text, agent=self.address))
        conversation.memory = (*said, ChatMessage(role="assistant", content=reply.text))
        return value

    def _turn(self, content: str, messages: tuple[ChatMessage, ...], options: dict[str, Any]) -> Step[ChatReply]:
        """One model turn: a step whose answer is booked when it is read, on a resume too."""

        def read(payload: Payload) -> ChatReply:
            result = cast("ChatResult", payload)
            self._running.ledger.add_call(result)
            if result.reply is not None:
                return result.reply
            failure = result.failure
            kind = ErrorKind.INTERNAL if failure is None else failure.kind
            raise TaskFailed(
                failed(self._running.id, kind, failure.message if failure else "no reply", agent=self.address)
            )

        trimmed = trim(messages, self.settings.history_tokens, estimate)
        return Step("chat", self.role, content, read, {"messages": trimmed, **options})

    def _whole(self, reply: ChatReply) -> ChatReply:
        """Return *reply* unless it was cut at ``max_tokens``: a failure where the role does not keep such texts."""
        if reply.finish_reason != "length":
            return reply
        if self.settings.keep_truncated:
            self._running.ledger.truncated = True
            return reply
        limit = self.settings.max_tokens
        text = f"the reply was cut at max_tokens = {limit}; raise roles.{self.role}.max_tokens"
        raise TaskFailed(failed(self._running.id, ErrorKind.TRUNCATED, text, agent=self.address))

    def chat_call(self, talk: Talk, step: str, request: Step[Any]) -> ChatCall:
        """Return the model call of a chat step, with the role's settings."""
        settings, options = self.settings, request.options
        temperature, max_tokens = options.get("temperature"), options.get("max_tokens")
        schema: OutputSchema | None = options.get("schema")
        return ChatCall(
            step=step,
            fingerprint=request.fingerprint,
            reply_to=self.address,
            role=self.role,
            model=settings.model,
            messages=options["messages"],
            max_tokens=settings.max_tokens if max_tokens is None else max_tokens,
            temperature=settings.temperature if temperature is None else temperature,
            schema=schema,
            timeout=settings.timeout,
            max_retries=settings.max_retries,
            deadline=talk.deadline,
            priority=talk.priority,
            flow=talk.flow,
        )

    # --- mail

    def setup(self) -> None:
        """Resume what an earlier instance had taken and not answered."""
        held = self.actor_inbox.held or {}
        for id_, item in list(held.items()):
            item.deliveries += 1
            if id_ == self._stuck_id(held):
                self._answer(
                    item.message, failed(id_, ErrorKind.STUCK, "its handler did not return", agent=self.address)
                )
            elif item.deliveries > MOST_DELIVERIES:
                text = f"the agent was restarted {MOST_DELIVERIES} times with this message under way"
                self._answer(item.message, failed(id_, ErrorKind.POISON, text, agent=self.address))
            else:
                self.tell(ids.RECORDER, recall(id_, self.address, held))
        self.actor_inbox.stuck = None

    def teardown(self) -> None:
        """Fail what is still open: nobody will work on it any more."""
        for held in list((self.actor_inbox.held or {}).values()):
            id_ = held.message.message_id
            self._answer(held.message, failed(id_, ErrorKind.STOPPED, "the agent was stopped", agent=self.address))

    def on_receive(self, message: Any) -> None:
        """Start a conversation, resume one, or cancel one."""
        match message:
            case AgentMessage():
                self._accept(message)
            case Answer() if message.at == 0.0:
                self.on_timer(message)
            case Answer():
                self.deliver(message)
            case Recalled():
                self._recalled(message)
            case CancelStep():
                self._cancel(message.step)
            case WhoHolds():
                self.tell(
                    message.reply_to,
                    Reaffirmed(agent=self.address, role=self.role, steps=tuple(self.actor_inbox.held or ())),
                )
            case _:
                self._directory.dead_letter(self.address, f"an agent has no use for {type(message).__name__}", message)

    def _accept(self, message: AgentMessage) -> None:
        if not message.message_id:
            message = replace(
                message, message_id=self._next_id(message), timestamp=message.timestamp or self.timestamp()
            )
        if message.metadata:
            message = replace(message, metadata=_copied(message.metadata))
        mailbox = self.actor_inbox
        if mailbox.held is None:
            mailbox.held = {}
        if message.message_id in mailbox.held:
            self._directory.dead_letter(self.address, "this task is already under way", replace(message, reply_to=None))
            return
        mailbox.held[message.message_id] = Held(message)
        self._open(message, ())

    def _next_id(self, message: AgentMessage) -> str:
        self.actor_inbox.generation += 1
        return f"{message.correlation_id or 'told'}/{self.address}#{self.actor_inbox.generation}"

    def _open(self, message: AgentMessage, recorded: tuple[Answer, ...]) -> None:
        talk = Talk(
            message.message_id,
            message,
            priority=message.priority,
            flow=str(message.metadata.get("flow", "")),
            deadline=message.deadline,
        )
        outcome: Any = self.handle(message)
        self.begin(talk, outcome if inspect.iscoroutine(outcome) else _value(outcome), recorded)

    def _recalled(self, recalled: Recalled) -> None:
        held = (self.actor_inbox.held or {}).get(recalled.conversation)
        if held is None or recalled.conversation in self._talks:
            return
        if recalled.answered:
            self._forget(held.message)
        else:
            self._open(held.message, recalled.answers)

    def _cancel(self, step: str) -> None:
        talk = self._talks.get(step)
        if talk is not None:
            self.cancel_talk(talk)

    def ended(self, talk: Talk, value: Any, error: BaseException | None) -> None:
        """Answer the message of *talk*; restart on an error that the agent lists."""
        message = cast("AgentMessage", talk.message)
        if isinstance(error, Cancelled):
            self._forget(message)
            return
        if error is not None and isinstance(error, self.restart_on):
            raise error
        if error is None:
            result = TaskResult(
                task_id=talk.id, agent=self.address, success=True, result=_text(value), priority=talk.priority
            )
        else:
            kind, text = failure_of(error)
            result = failed(talk.id, kind, text, agent=self.address, priority=talk.priority)
        self._answer(message, talk.ledger.settle(result))

    def _answer(self, message: AgentMessage, result: TaskResult) -> None:
        if message.reply_to is not None:
            self.tell(ids.RECORDER, answer_to(message, result))
        elif not result.success:
            self._directory.dead_letter(self.address, f"{result.error_kind}: {result.error}", message)
        self._forget(message)

    def _forget(self, message: AgentMessage) -> None:
        (self.actor_inbox.held or {}).pop(message.message_id, None)
        self.tell(ids.SUPERVISOR, TaskSettled(agent=self.address, step=message.message_id))

    def _stuck_id(self, held: dict[str, Held]) -> str | None:
        """Return the id of the conversation that held the thread when the watchdog took over."""
        item = self.actor_inbox.stuck
        if isinstance(item, AgentMessage):
            return item.message_id
        if isinstance(item, Answer):
            return next((id_ for id_ in held if item.step.startswith(id_ + "/")), None)
        return None


def agent_spec(
    agent: type[Agent], role: str, number: int, settings: RoleSettings | None = None, **options: Any
) -> ActorSpec:
    """Return the spec of instance *number* of *agent* in the pool of *role*."""
    return ActorSpec(
        address=f"{role}/{number}",
        factory=lambda: equip(agent(), role, settings),
        parent=ids.SUPERVISOR,
        role=role,
        pinned=agent.blocking,
        stuck_after=None if agent.blocking else 5.0,
        **options,
    )


def equip(agent: Agent, role: str, settings: RoleSettings | None) -> Agent:
    """Give *agent* its role and settings; what the class itself says wins where the settings say nothing."""
    agent.__dict__["role"] = role
    if settings is not None:
        agent.settings = settings
    if agent.system_prompt and not agent.settings.system_prompt:
        agent.settings = replace(agent.settings, system_prompt=agent.system_prompt)
    return agent


def read_output(text: str, returns: type[T], reader: Callable[[str], T | None] | None) -> tuple[T | None, str | None]:
    """Read *text* as *returns*: as JSON, as JSON inside prose, then by *reader*.

    Gives the value, or what is wrong with it.
    """
    found = extract_json(text)
    error = "it holds no JSON"
    if found is not None:
        try:
            return msgspec.json.decode(found, type=returns), None
        except (msgspec.DecodeError, RecursionError) as wrong:
            error = str(wrong)
    value = reader(text) if reader is not None else None
    return (value, None) if value is not None else (None, error)


def _copied(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that shares nothing mutable; plain values, the common case, need no deep one."""
    if all(isinstance(value, str | int | float | None) for value in metadata.values()):
        return dict(metadata)
    return deepcopy(metadata)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


async def _value(value: Any) -> Any:
    return value
