"""What agents and workflows share: coroutines in an actor's care, their steps sent as messages.

The driver (``protocol/steps.py``) says what to send; this shell sends it, and gives it the answers that come from the
recorder. One actor serves many conversations at once; each keeps its own locals, history and costs.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from actors.asking import Asking
from actors.base import in_words
from actors.worker import CREW, RunFunction
from protocol import ids, steps
from protocol.errors import Cancelled, ErrorKind, ForeignAwaitError, NonDeterminismError, TaskFailed
from protocol.messages import AgentMessage, failed
from protocol.signals import Answer, CancelStep, ChatCall, Elapsed, Payload
from protocol.steps import Abandon, Ask, Conversation, Done, Failed, Unexpected

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from actors.asking import Talk
    from actors.base import Actor
    from protocol.awaited import Step


WORKS = {"ask": ids.SUPERVISOR, "chat": ids.GATEWAY, "call": CREW}
"""Whom a step of each kind is sent to; a pause needs nobody."""


class Conversational(Asking):
    """An actor that runs coroutines."""

    def __init__(self) -> None:
        super().__init__()
        self._talks: dict[str, Talk] = {}
        self._waiting: dict[str, Talk] = {}

    # --- driving

    def begin(
        self,
        talk: Talk,
        coroutine: Coroutine[Any, Any, Any],
        at: float,
        recorded: tuple[Answer, ...] = (),
        *,
        again: bool = False,
    ) -> None:
        """Start *coroutine* as *talk* at *at* (seconds since the epoch), or resume it from what was *recorded*.

        *again*: an earlier instance had begun it, so what it now asks for may have been asked for before.
        """
        talk.conversation = Conversation(talk.id, coroutine, dice=_dice)
        self._talks[talk.id] = talk
        self._running = talk
        talk.replaying = bool(recorded)
        try:
            effects = talk.conversation.resume(recorded, at) if recorded else talk.conversation.start(at)
        except NonDeterminismError as error:
            talk.conversation.close()
            effects = [Failed(error)]
        talk.replaying = False
        if again:
            talk.again = frozenset(talk.conversation.waiting)
        self._perform(talk, effects)

    def deliver(self, answer: Answer) -> None:
        """Resume the conversation that waits for *answer*."""
        talk = self._waiting.pop(answer.step, None)
        if talk is None:
            if not self.recalling(answer.step):
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
        """Forget a conversation without an answer; what it asked for is abandoned."""
        for step, branch in talk.conversation.waiting.items():
            self._waiting.pop(step, None)
            self.cancel_timer(step)
            self.abandon_step(step, branch.request)
        self._talks.pop(talk.id, None)
        self._close(talk)

    def replaced(self) -> None:
        """Close the conversations of an instance that goes; the next one has its own."""
        for talk in list(self._talks.values()):
            self._close(talk)

    def _close(self, talk: Talk) -> None:
        self._running = talk
        talk.conversation.close()

    def recalling(self, step: str) -> bool:
        """Tell whether *step* belongs to a conversation whose record is on its way: its answer comes with it."""
        del step
        return False

    def ended(self, talk: Talk, value: Any, error: BaseException | None) -> None:
        """The conversation has returned *value*, or raised *error*."""
        raise NotImplementedError

    def sending(self, talk: Talk, step: str, request: Step[Any]) -> bool:
        """Look at a request before it leaves; False keeps it back, for a later :meth:`send_step`."""
        del talk, step, request
        return True

    def _raised(self, talk: Talk, error: BaseException) -> None:
        """Have it logged where the coroutine raised; why a step of it failed was told there."""
        if not isinstance(error, (Cancelled, TaskFailed)):
            self._directory.tell_raised("handler.raised", self.address, talk.id, error)

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
            self.tell(CREW, self._function(talk, step, request))
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
        if request.kind in WORKS:
            self.tell(WORKS[request.kind], CancelStep(step=step))

    def on_timer(self, answer: Answer) -> None:
        """A pause is over or a timeout has passed: an answer like any other, through the recorder."""
        self.tell(ids.RECORDER, answer)
        if answer.kind != "pause":
            self.tell(CREW if answer.kind == "call" else ids.SUPERVISOR, CancelStep(step=answer.step))

    def _function(self, talk: Talk, step: str, request: Step[Any]) -> RunFunction:
        return RunFunction(
            step=step,
            fingerprint=request.fingerprint,
            reply_to=self.address,
            name=request.content,
            fn=request.options["fn"],
            args=request.options["args"],
            again=step in talk.again,
        )

    def _message(self, talk: Talk, step: str, request: Step[Any]) -> AgentMessage:
        metadata = dict(request.options["metadata"])
        if talk.flow:
            metadata.setdefault("flow", talk.flow)
        timeout, deadline = request.options["timeout"], talk.deadline
        if timeout is not None:
            until = self.clock() + timeout
            deadline = until if deadline is None else min(until, deadline)
        return AgentMessage(
            message_id=step,
            sender=self.address,
            recipient=request.recipient,
            content=request.content,
            data=msgspec.Raw(request.data),
            metadata=metadata,
            timestamp=self.timestamp(),
            correlation_id=ids.run_of(step),
            causation_id=talk.message.message_id if talk.message is not None else None,
            reply_to=self.address,
            priority=talk.priority,
            deadline=deadline,
            attempt=int(step in talk.again),
        )


HOOKS = frozenset({"on_failure", "on_receive", "on_start", "on_stop", "setup", "teardown"})
"""What every actor of a user's may define, beside what its base names."""


def guard(cls: type[Actor], base: type[Actor], own: frozenset[str]) -> None:
    """Refuse a subclass of *base* that takes a name of the machinery by accident, a helper called ``execute``, say."""
    taken = [name for name in vars(cls) if not name.startswith("__") and hasattr(base, name)]
    for name in sorted(set(taken) - own - HOOKS):
        raise TypeError(
            f"{cls.__name__}.{name} would replace a part of {base.__name__} that makes it run; call it something else "
            f"(what a subclass may define: {', '.join(sorted(own | HOOKS))})"
        )


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
    return ErrorKind.HANDLER_ERROR, in_words(error)


def as_text(value: Any) -> str:
    """Return what a coroutine gave back: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _answer(to: str, step: str, request: Step[Any], payload: Payload) -> Answer:
    return Answer(to=to, step=step, kind=request.kind, fingerprint=request.fingerprint, payload=payload)


def _dice(path: str) -> Random:
    return Random(path)  # noqa: S311 (the dice of a run must fall alike on a resume)
