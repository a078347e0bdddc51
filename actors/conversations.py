"""What agents and workflows share: coroutines in an actor's care, their steps sent as messages.

The driver (``protocol/steps.py``) says what to send; this shell sends it, and gives it the answers that come from the
recorder. One actor serves many conversations at once; each keeps its own locals, history and costs.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import msgspec

from actors.base import Actor
from actors.worker import CREW, RunFunction
from protocol import ids, steps
from protocol.awaited import Gather, Step
from protocol.errors import Cancelled, ErrorKind, ForeignAwaitError, NonDeterminismError, TaskFailed
from protocol.ledger import Ledger
from protocol.messages import AgentMessage, TaskResult, failed
from protocol.signals import Answer, CancelStep, ChatCall, Elapsed, Payload, Recall, Returned
from protocol.steps import Abandon, Ask, Conversation, Done, Failed, Unexpected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")


class Talk:
    """One conversation: the coroutine's driver, what asked for it, and its ledger."""

    __slots__ = ("conversation", "deadline", "flow", "id", "ledger", "message", "priority", "replaying")

    def __init__(
        self, id_: str, message: AgentMessage | None, *, priority: int, flow: str, deadline: float | None
    ) -> None:
        self.id = id_
        self.message = message
        self.priority = priority
        self.flow = flow
        self.deadline = deadline
        self.ledger = Ledger()
        self.replaying = False
        self.conversation: Conversation = cast("Conversation", None)


class Conversational(Actor):
    """An actor that runs coroutines."""

    def __init__(self) -> None:
        super().__init__()
        self._talks: dict[str, Talk] = {}
        self._waiting: dict[str, Talk] = {}
        self._running: Talk = cast("Talk", None)

    # --- what a coroutine may await

    @overload
    def ask(self, to: str | None, content: str, *, timeout: float | None = None) -> Step[str]: ...
    @overload
    def ask(self, to: str | None, content: str, *, returns: type[T], timeout: float | None = None) -> Step[T]: ...
    @overload
    def ask(
        self,
        to: str | None,
        content: str,
        *,
        data: Any = None,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Step[str]: ...
    @overload
    def ask(
        self,
        to: str | None,
        content: str,
        *,
        returns: type[T],
        data: Any = None,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Step[T]: ...
    def ask(
        self,
        to: str | None,
        content: str,
        *,
        returns: type[Any] | None = None,
        data: Any = None,
        metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Step[Any]:
        """Ask the role (or address) *to*; None lets the supervisor choose.

        Gives the answer's text, or *returns* decoded from it. *timeout* is in seconds. Raises ``TaskFailed`` when the
        task failed.
        """
        options = {"data": data, "metadata": metadata, "timeout": timeout}
        return Step("ask", None if to is None else str(to), content, self._reader(returns), options)

    def call(self, fn: Callable[..., T], *args: Any, timeout: float | None = None) -> Step[T]:
        """Run the blocking function *fn* on a worker thread.

        Its value must be something msgspec encodes, since it is recorded.

        Raises ``TaskFailed`` when the function raises or *timeout* (seconds) passes.
        """
        name = getattr(fn, "__qualname__", repr(fn))

        def read(payload: Payload) -> T:
            if isinstance(payload, Returned) and payload.error is None:
                return cast("T", msgspec.json.decode(payload.value))
            raise TaskFailed(_as_failure(name, payload))

        content = f"{name}({', '.join(repr(arg) for arg in args)})"
        return Step("call", None, content, read, {"fn": fn, "args": args, "timeout": timeout})

    def pause(self, seconds: float) -> Step[None]:
        """Go on after *seconds*. Other conversations of the actor go on meanwhile."""
        if not 0.0 <= seconds < float("inf"):
            raise ValueError(f"a pause lasts 0 seconds or more, not {seconds}")
        return Step("pause", None, repr(float(seconds)), _nothing, {"seconds": seconds})

    @overload
    def gather(self, a: Awaitable[T1], b: Awaitable[T2], /, *, fail_fast: bool = False) -> Awaitable[tuple[T1, T2]]: ...
    @overload
    def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /, *, fail_fast: bool = False
    ) -> Awaitable[tuple[T1, T2, T3]]: ...
    @overload
    def gather(self, *awaitables: Awaitable[T], fail_fast: bool = False) -> Awaitable[tuple[T, ...]]: ...
    def gather(self, *awaitables: Awaitable[Any], fail_fast: bool = False) -> Awaitable[Any]:
        """Await all at once; gives a tuple in argument order, after all have ended.

        Then raises the error of the lowest index, if any. ``fail_fast=True`` cancels the others at the first error,
        and with that gives up that the result is the same in whatever order the branches end.
        """
        return Gather(awaitables, fail_fast=fail_fast)

    def now(self) -> float:
        """Return the time of the last answer this branch received, in seconds since the epoch; the same on a resume."""
        return self._running.conversation.now()

    @property
    def random(self) -> Random:
        """This branch's own dice, the same on a resume."""
        return self._running.conversation.random()

    # --- driving

    def begin(self, talk: Talk, coroutine: Coroutine[Any, Any, Any], recorded: tuple[Answer, ...] = ()) -> None:
        """Start *coroutine* as *talk*, or resume it from what was *recorded*."""
        talk.conversation = Conversation(talk.id, coroutine, dice=_dice)
        self._talks[talk.id] = talk
        self._running = talk
        if not recorded:
            self._perform(talk, talk.conversation.start(self.wall()))
            return
        try:
            talk.replaying = True
            effects = talk.conversation.resume(recorded, recorded[0].at)
        except NonDeterminismError as error:
            talk.conversation.close()
            effects = [Failed(error)]
        finally:
            talk.replaying = False
        self._perform(talk, effects)

    def deliver(self, answer: Answer) -> None:
        """Resume the conversation that waits for *answer*."""
        talk = self._waiting.pop(answer.step, None)
        if talk is None:
            self._directory.dead_letter(self.address, "nobody waits for this answer", answer)
            return
        self.cancel_timer(answer.step)
        self._running = talk
        self._perform(talk, talk.conversation.on_answer(answer))

    def cancel_talk(self, talk: Talk) -> None:
        """Cancel a conversation: it ends now, and what it asked for is abandoned."""
        self._running = talk
        self._perform(talk, talk.conversation.cancel())

    def drop(self, talk: Talk) -> None:
        """Forget a conversation without an answer."""
        for step in talk.conversation.waiting:
            self._waiting.pop(step, None)
            self.cancel_timer(step)
        talk.conversation.close()
        self._talks.pop(talk.id, None)

    def ended(self, talk: Talk, value: Any, error: BaseException | None) -> None:
        """The conversation has returned *value*, or raised *error*."""
        raise NotImplementedError

    def sending(self, talk: Talk, step: str, request: Step[Any]) -> bool:
        """Look at a request before it leaves; False keeps it back, for a later :meth:`send_step`."""
        del talk, step, request
        return True

    def _perform(self, talk: Talk, effects: list[steps.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                self._waiting[effect.step] = talk
                if self.sending(talk, effect.step, effect.request):
                    self.send_step(talk, effect.step, effect.request)
            elif isinstance(effect, Abandon):
                self._waiting.pop(effect.step, None)
                self.cancel_timer(effect.step)
                self.abandon_step(effect.step, effect.request)
            elif isinstance(effect, Done):
                self._talks.pop(talk.id, None)
                self.ended(talk, effect.value, None)
            elif isinstance(effect, Failed):
                self._talks.pop(talk.id, None)
                self.ended(talk, None, effect.error)
            elif isinstance(effect, Unexpected):
                self._directory.dead_letter(self.address, "nobody waits for this answer", effect.answer)

    # --- sending steps

    def send_step(self, talk: Talk, step: str, request: Step[Any]) -> None:
        """Send the request of *step* on its way, with a timer when it has a timeout."""
        if request.kind == "ask":
            self.tell(ids.SUPERVISOR, self._message(talk, step, request))
        elif request.kind == "pause":
            self.after(request.options["seconds"], _answer(self.address, step, request, Elapsed()), key=step)
            return
        elif request.kind == "call":
            self.tell(
                CREW,
                RunFunction(step=step, fingerprint=request.fingerprint, reply_to=self.address, **_function(request)),
            )
        else:
            self.tell(ids.GATEWAY, self.chat_call(talk, step, request))
            return
        timeout = request.options.get("timeout")
        if timeout is not None:
            expired = failed(step, ErrorKind.TIMEOUT, f"no answer within {timeout:g} s", agent=request.recipient or "")
            self.after(timeout, _answer(self.address, step, request, expired), key=step)

    def chat_call(self, talk: Talk, step: str, request: Step[Any]) -> ChatCall:
        """Return the model call of a chat step; only agents chat."""
        raise NotImplementedError

    def abandon_step(self, step: str, request: Step[Any]) -> None:
        """Tell whoever works for *step* that nobody waits any longer."""
        if request.kind == "ask":
            self.tell(ids.SUPERVISOR, CancelStep(step=step))
        elif request.kind == "chat":
            self.tell(ids.GATEWAY, CancelStep(step=step))

    def on_timer(self, answer: Answer) -> None:
        """A pause is over or a timeout has passed: an answer like any other, through the recorder."""
        self.tell(ids.RECORDER, answer)
        if answer.kind == "ask":
            self.tell(ids.SUPERVISOR, CancelStep(step=answer.step))

    def _message(self, talk: Talk, step: str, request: Step[Any]) -> AgentMessage:
        options = request.options
        metadata = dict(options.get("metadata") or {})
        if talk.flow:
            metadata.setdefault("flow", talk.flow)
        timeout = options.get("timeout")
        deadline = talk.deadline if timeout is None else min(self.clock() + timeout, talk.deadline or float("inf"))
        data = options.get("data")
        return AgentMessage(
            message_id=step,
            sender=self.address,
            recipient=request.recipient,
            content=request.content,
            data=msgspec.Raw() if data is None else msgspec.Raw(msgspec.json.encode(data)),
            metadata=metadata,
            timestamp=self.timestamp(),
            correlation_id=ids.run_of(step),
            causation_id=talk.message.message_id if talk.message is not None else None,
            reply_to=self.address,
            priority=talk.priority,
            deadline=deadline,
        )

    def _reader(self, returns: type[Any] | None) -> Callable[[Payload], Any]:
        def read(payload: Payload) -> Any:
            result = payload if isinstance(payload, TaskResult) else _as_failure("", payload)
            self.answered(self._running, result)
            if not result.success:
                raise TaskFailed(result)
            return result.result if returns is None else decode(result, returns)

        return read

    def answered(self, talk: Talk, result: TaskResult) -> None:
        """Look at the result of an awaited task; books it."""
        talk.ledger.add_task(result)


def decode(result: TaskResult, returns: type[T]) -> T:
    """Return the typed value in *result*. Raises ``TaskFailed`` when it is none."""
    try:
        return msgspec.json.decode(result.result or "", type=returns)
    except (msgspec.DecodeError, RecursionError) as error:
        text = f"the answer is no {returns.__name__}: {error}"
        raise TaskFailed(
            msgspec.structs.replace(result, success=False, error=text, error_kind=ErrorKind.INVALID_OUTPUT)
        ) from None


def failure_of(error: BaseException) -> tuple[ErrorKind, str]:
    """Put what a coroutine raised into the taxonomy's words."""
    if isinstance(error, TaskFailed):
        return error.result.error_kind or ErrorKind.INTERNAL, error.result.error or ""
    if isinstance(error, Cancelled):
        return ErrorKind.CANCELLED, "cancelled"
    if isinstance(error, ForeignAwaitError):
        return ErrorKind.FOREIGN_AWAIT, str(error)
    if isinstance(error, NonDeterminismError):
        return ErrorKind.NON_DETERMINISM, str(error)
    return ErrorKind.HANDLER_ERROR, f"{type(error).__name__}: {error}"


def recall(conversation: str, reply_to: str, open_: Iterable[str] = ()) -> Recall:
    """Return the request for what was recorded of *conversation*; *open_* are all that the asking actor has open."""
    inside = conversation + "/"
    return Recall(
        conversation=conversation, reply_to=reply_to, without=tuple(id_ for id_ in open_ if id_.startswith(inside))
    )


def _answer(to: str, step: str, request: Step[Any], payload: Payload) -> Answer:
    return Answer(to=to, step=step, kind=request.kind, fingerprint=request.fingerprint, payload=payload)


def _function(request: Step[Any]) -> dict[str, Any]:
    return {"fn": request.options["fn"], "args": request.options["args"], "name": request.content}


def _as_failure(agent: str, payload: Payload) -> TaskResult:
    if isinstance(payload, TaskResult):
        return payload
    if isinstance(payload, Returned):
        return failed("", payload.error_kind or ErrorKind.HANDLER_ERROR, payload.error or "", agent=agent)
    return failed("", ErrorKind.INTERNAL, f"an answer of type {type(payload).__name__} was not expected", agent=agent)


def _nothing(_payload: Payload) -> None:
    return None


def _dice(path: str) -> Random:
    return Random(path)  # noqa: S311 (the dice of a run must fall alike on a resume)
