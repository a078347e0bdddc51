"""What an actor's coroutines may await: another role, a function on a worker, a pause, several at once.

Nothing is sent here: these methods make the steps that the driver hands out, and say how their answers read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints, overload

import msgspec

from actors.base import Actor
from protocol.awaited import Gather, Step
from protocol.errors import ErrorKind, TaskFailed
from protocol.ledger import Ledger
from protocol.messages import AgentMessage, TaskResult, failed
from protocol.signals import Payload, Returned
from protocol.steps import Conversation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random


T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")


class Talk(msgspec.Struct, eq=False):
    """One conversation: the coroutine's driver, what asked for it, and its ledger.

    ``again`` names the steps that an earlier instance may have asked for already.
    """

    id: str
    message: AgentMessage | None
    priority: int
    flow: str
    deadline: float | None
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    replaying: bool = False
    again: frozenset[str] = frozenset()
    conversation: Conversation = cast("Conversation", None)


class Asking(Actor):
    """An actor with coroutines, and what these may await."""

    def __init__(self) -> None:
        super().__init__()
        self._running: Talk = cast("Talk", None)

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

        Gives the answer's text, or *returns* decoded from it; ``returns=TaskResult`` gives the whole answer with its
        model and cost. *timeout* is in seconds. Raises ``TaskFailed`` when the task failed.
        """
        encoded = b"" if data is None else msgspec.json.encode(data, order="deterministic")
        options = {"data": data, "metadata": dict(metadata or {}), "timeout": _seconds(timeout), "returns": returns}
        return Step("ask", None if to is None else str(to), content, self._read_task, options, encoded)

    def call(self, fn: Callable[..., T], *args: Any, timeout: float | None = None) -> Step[T]:
        """Run the blocking function *fn* on a worker thread.

        Its value must be something msgspec encodes, since it is recorded; it is read back as the type that *fn* is
        annotated with. Raises ``TaskFailed`` when the function raises or *timeout* (seconds) passes.
        """
        name = getattr(fn, "__qualname__", repr(fn))
        type_ = _return_type(fn)

        def read(_step: Step[T], payload: Payload) -> T:
            if not isinstance(payload, Returned) or payload.error is not None:
                raise TaskFailed(_as_failure(name, payload))
            try:
                return cast("T", msgspec.json.decode(payload.value, type=type_))
            except msgspec.ValidationError as error:
                text = f"{name} returned something else than it is annotated with: {error}"
                raise TaskFailed(failed("", ErrorKind.INVALID_OUTPUT, text, agent=name)) from None

        content = _AT.sub("", f"{name}({', '.join(repr(arg) for arg in args)})")
        return Step("call", None, content, read, {"fn": fn, "args": args, "timeout": _seconds(timeout)})

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

    # --- how answers read

    def _read_task(self, step: Step[Any], payload: Payload) -> Any:
        """Book the result of a task, and read it as what was asked for."""
        result = payload if isinstance(payload, TaskResult) else _as_failure("", payload)
        self.answered(self._running, result)
        if not result.success:
            raise TaskFailed(result)
        returns = step.options["returns"]
        if returns is TaskResult:
            return result
        return result.result if returns is None else decode(result, returns)

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


_AT = re.compile(r" at 0x[0-9a-fA-F]+")
"""Where an object lies in memory; what is compared on a resume must not depend on it."""


def _seconds(timeout: float | None) -> float | None:
    if timeout is not None and not 0.0 <= timeout < float("inf"):
        raise ValueError(f"a timeout is 0 seconds or more, not {timeout}")
    return timeout


def _return_type(fn: Callable[..., Any]) -> Any:
    """Return what *fn* is annotated to return; Any where that says nothing, or nothing that msgspec can read."""
    try:
        type_ = get_type_hints(fn).get("return", Any)
        msgspec.json.Decoder(type_)
    except (TypeError, NameError, AttributeError):
        return Any
    return type_


def _as_failure(agent: str, payload: Payload) -> TaskResult:
    if isinstance(payload, TaskResult):
        return payload
    if isinstance(payload, Returned):
        return failed("", payload.error_kind or ErrorKind.HANDLER_ERROR, payload.error or "", agent=agent)
    return failed("", ErrorKind.INTERNAL, f"an answer of type {type(payload).__name__} was not expected", agent=agent)


def _nothing(_step: Step[None], _payload: Payload) -> None:
    return None
