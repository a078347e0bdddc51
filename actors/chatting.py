"""Model calls: a chat is a scope of turns that remembers what the conversation has said so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

import msgspec
from msgspec.structs import replace

from actors.conversations import Conversational
from protocol.awaited import Scope, Step
from protocol.chat import ChatMessage, ChatReply, Occasion, OutputSchema
from protocol.errors import ErrorKind, TaskFailed
from protocol.messages import failed
from protocol.policies.history import trim
from protocol.policies.json_text import extract_json
from protocol.policies.token_estimate import estimate
from protocol.roles import RoleSettings
from protocol.signals import ChatCall, ChatResult, Payload
from protocol.wire.schema import strict_schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from actors.asking import Talk

T = TypeVar("T")

NO_OCCASION = Occasion()
REPAIR = "Your answer could not be read: {error}. Answer again with nothing but one JSON value that follows the schema."


class Chatting(Conversational):
    """An actor whose coroutines talk to the model of its role."""

    role: ClassVar[str] = ""
    settings: RoleSettings = RoleSettings()

    @overload
    def chat(
        self,
        content: str,
        *,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        occasion: Occasion | None = None,
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
        occasion: Occasion | None = None,
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
        occasion: Occasion | None = None,
    ) -> Awaitable[Any]:
        """Say *content* to the role's model, after what this conversation has said so far.

        Gives the :class:`ChatReply`; with *returns* a value of that type, asked for by JSON schema and checked here.
        *reader* reads plain text where the model knows no JSON; one repair turn follows an answer that cannot be read.
        *occasion* tells what it is for, where the model is chosen (``auto``).
        Raises ``TaskFailed`` when the call failed after its retries, or the answer stayed unreadable.
        """
        if not isinstance(content, str):
            raise TypeError(f"what is said to a model is a str, not {type(content).__name__}")
        options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "occasion": occasion}
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
        trimmed = trim(messages, self.settings.history_tokens, estimate)
        return Step("chat", self.role, content, self._read_turn, {"messages": trimmed, **options})

    def _read_turn(self, step: Step[ChatReply], payload: Payload) -> ChatReply:
        result, occasion = cast("ChatResult", payload), step.options.get("occasion") or NO_OCCASION
        self._running.ledger.add_call(result, self.role, occasion.round)
        if result.reply is not None:
            return result.reply
        failure = result.failure
        kind = ErrorKind.INTERNAL if failure is None else failure.kind
        raise TaskFailed(failed(self._running.id, kind, failure.message if failure else "no reply", agent=self.address))

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
            again=step in talk.again,
            coalesce=settings.coalesce,
            cache_seconds=settings.cache_seconds,
            occasion=replace(options.get("occasion") or NO_OCCASION, task=talk.id, last=talk.ledger.model),
        )


def read_output(text: str, returns: type[T], reader: Callable[[str], T | None] | None) -> tuple[T | None, str | None]:
    """Read *text* as *returns*: as JSON, as JSON inside prose, then by *reader*.

    Gives the value, or what is wrong with it.
    """
    try:
        return msgspec.json.decode(text, type=returns), None
    except (msgspec.DecodeError, RecursionError):
        found = extract_json(text)
    error = "it holds no JSON"
    if found is not None:
        try:
            return msgspec.json.decode(found, type=returns), None
        except (msgspec.DecodeError, RecursionError) as wrong:
            error = str(wrong)
    value = reader(text) if reader is not None else None
    return (value, None) if value is not None else (None, error)
