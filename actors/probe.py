"""The probe: an actor that keeps what it is told, in order, for a test to look at and to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from actors.base import Actor
from actors.conversations import as_text
from actors.directory import answer_to
from actors.sequence import brief, in_full
from protocol import ids
from protocol.messages import AgentMessage, TaskResult, failed
from protocol.signals import Reaffirmed, TaskSettled, WhoHolds

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.kit import ActorTestKit
    from protocol.errors import ErrorKind

T = TypeVar("T")


class TestProbe(Actor):
    """An actor that keeps what it is told. Made by ``ActorTestKit.probe``; it may play a role, as an agent does."""

    __test__ = False

    def __init__(self, kit: ActorTestKit, role: str = "") -> None:
        super().__init__()
        self.received: list[Any] = []
        self.role = role
        self._kit = kit
        self._asked: dict[str, AgentMessage] = {}

    def on_receive(self, message: Any) -> None:
        """Keep *message*."""
        if isinstance(message, WhoHolds):  # the supervisor was restarted: its machinery, nothing a test waits for
            self.tell(message.reply_to, Reaffirmed(agent=self.address, role=self.role, steps=tuple(self._asked)))
            return
        if isinstance(message, AgentMessage):
            self._asked[message.message_id] = message
        self.received.append(message)

    # --- what a test says

    @overload
    def expect(self, wanted: type[T], *, within: float = 0.0) -> T: ...
    @overload
    def expect(self, wanted: Callable[[Any], Any], *, within: float = 0.0) -> Any: ...
    def expect(self, wanted: Any, *, within: float = 0.0) -> Any:
        """Return the next message, which must be a *wanted*, or one for which the predicate *wanted* is true.

        Virtual time passes until it comes, *within* seconds at most; 0: it must be there once every message is handled.
        Raises ``AssertionError`` for nothing, and for another message, which stays the next.
        """
        self._kit.settle()
        if not self.received and within > 0.0:
            self._kit.advance_until(lambda: bool(self.received), within)
        what = named(wanted)
        if not self.received:
            self._kit.fail(f"{self.address} got nothing within {within:g} s; {what} was expected")
        message = self.received[0]
        if not is_wanted(message, wanted):
            self._kit.fail(f"{self.address} got {brief(message)}; {what} was expected\nin full: {in_full(message)}")
        return self.received.pop(0)

    def expect_nothing(self, *, for_: float = 0.0) -> None:
        """Let *for_* virtual seconds pass, in which no message may come."""
        self._kit.advance(for_)
        if self.received:
            got = "\n".join(f"- {brief(message)}" for message in self.received)
            self._kit.fail(f"{self.address} got {len(self.received)} messages; nothing was expected:\n{got}")

    def reply(self, result: Any = "", *, to: AgentMessage | None = None) -> None:
        """Answer the task *to* (the one asked first, when None) with *result*, a text or a struct."""
        message = self._open(to)
        self._answer(
            message,
            TaskResult(
                task_id=message.message_id,
                agent=self.address,
                success=True,
                result=as_text(result),
                priority=message.priority,
            ),
        )

    def refuse(self, kind: ErrorKind, error: str = "refused by the test", *, to: AgentMessage | None = None) -> None:
        """Answer the task *to* (the one asked first, when None) with a failure."""
        message = self._open(to)
        self._answer(message, failed(message.message_id, kind, error, agent=self.address, priority=message.priority))

    def _open(self, to: AgentMessage | None) -> AgentMessage:
        self._kit.settle()
        if to is None and not self._asked:
            self._kit.fail(f"{self.address} has been asked nothing that is still unanswered")
        message = next(iter(self._asked.values())) if to is None else to
        if message.reply_to is None:
            self._kit.fail(f"{self.address} cannot answer {brief(message)}: nobody awaits an answer (reply_to is None)")
        return message

    def _answer(self, message: AgentMessage, result: TaskResult) -> None:
        self._asked.pop(message.message_id, None)
        self._kit.tell(ids.RECORDER, answer_to(message, result), sender=self.address)
        self._kit.tell(ids.SUPERVISOR, TaskSettled(agent=self.address, step=message.message_id), sender=self.address)
        self._kit.settle()


def is_wanted(message: Any, wanted: Any) -> bool:
    """Tell whether *message* is of the type *wanted*, or fits the predicate *wanted*."""
    return isinstance(message, wanted) if isinstance(wanted, type) else bool(wanted(message))


def named(wanted: Any) -> str:
    """Name a type or a predicate for people."""
    if isinstance(wanted, type):
        return wanted.__name__
    name = getattr(wanted, "__name__", repr(wanted))
    return "what the predicate wants" if name == "<lambda>" else f"what {name}() wants"
