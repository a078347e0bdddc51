"""Bugs that can be planted into the real code, to see that they are found. Each is a context manager."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from protocol.gateway import Gateway as GatewayMachine
from actors.conversations import Conversational
from actors.recorder import Recorder
from protocol import ids
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    kept = owner.__dict__[name]
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def lost_reply() -> Any:
    """A restarted recorder forgets the answer that it failed on."""
    setup = Recorder.setup

    def forgetful(self: Recorder) -> None:
        self.actor_inbox.failed_on = None
        setup(self)

    return _replaced(Recorder, "setup", forgetful)


def lost_lease() -> Any:
    """A grant that crosses with the cancel of its call is not given back."""
    on_granted = GatewayMachine.on_granted

    def keeping(self: GatewayMachine, granted: Any, now: float) -> list[Any]:
        return [] if self._waiting_for(granted.lease) is None else on_granted(self, granted, now)

    return _replaced(GatewayMachine, "on_granted", keeping)


def wrong_conversation() -> Any:
    """Of two conversations of an agent that wait for a model's reply, the one that has waited longest gets it."""
    deliver = Conversational.deliver

    def misled(self: Conversational, answer: Any) -> None:
        if answer.kind == "chat" and answer.step in self._waiting:
            first = next(s for s, talk in self._waiting.items() if talk.conversation.waiting[s][1].kind == "chat")
            answer = replace(answer, step=first)
        deliver(self, answer)

    return _replaced(Conversational, "deliver", misled)


def early_answer() -> Any:
    """The recorder delivers at once and writes when the next message comes, as one that saves itself trouble would."""
    on_receive = Recorder.on_receive

    def lazy(self: Recorder, message: Any) -> None:
        runs = self._runs
        for run, answer in self.__dict__.pop("late", ()):
            if run in runs:
                runs[run].answers[answer.step] = answer
        on_receive(self, message)
        if type(message).__name__ == "Answer":
            run = ids.run_of(message.step)
            kept = runs[run].answers.pop(message.step, None) if run in runs else None
            self.__dict__["late"] = () if kept is None else ((run, kept),)

    return _replaced(Recorder, "on_receive", lazy)


PLANTS: dict[str, Callable[[], Any]] = {
    "lost-reply": lost_reply,
    "lost-lease": lost_lease,
    "wrong-conversation": wrong_conversation,
    "early-answer": early_answer,
}
