"""Bugs that can be planted into the real code, to see that they are found. Each is a context manager.

The first four are the ones that the explorer was built to find; the others break one law each, to see that every check
can fail.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, contextmanager
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from actors.agent import Agent
from actors.asking import Asking
from actors.conversations import Conversational
from actors.gateway import Gateway as GatewayShell
from actors.mailbox import Mailbox
from actors.recorder import Recorder
from actors.simulation import SimulatedDispatcher
from protocol import ids
from protocol.attempts import Attempts
from protocol.gateway import Gateway
from protocol.limiter import Limiter
from protocol.signals import AgentMessage, Answer, ChatCall, Settle
from tests.explorer.explore import Finding, explore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.explorer.scenario import Plan

Plant = AbstractContextManager[None]


def planted(plant: str | None, seed: int, plan: Plan | None = None) -> Finding | None:
    """Explore *seed* with the bug *plant* in place; None: with none."""
    if plant is None:
        return explore(seed, plan)
    with PLANTS[plant]():
        return explore(seed, plan)


@contextmanager
def _replaced(owner: type, name: str, function: Any) -> Iterator[None]:
    kept = owner.__dict__[name]
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, kept)


# --- four that happen


def lost_reply() -> Plant:
    """A restarted recorder forgets the answer that the instance before failed on."""
    setup = Recorder.setup

    def forgetful(self: Recorder) -> None:
        self.actor_inbox.failed_on = None
        setup(self)

    return _replaced(Recorder, "setup", forgetful)


def lost_lease() -> Plant:
    """A caller that fails takes the lease of its call with it."""
    on_caller_gone = Gateway.on_caller_gone

    def keeping(self: Gateway, *facts: Any) -> list[Any]:
        effects = on_caller_gone(self, *facts)
        return [effect for effect in effects if not isinstance(getattr(effect, "message", None), Settle)]

    return _replaced(Gateway, "on_caller_gone", keeping)


def wrong_conversation() -> Plant:
    """Of two conversations of an agent that wait for a model's reply, the one that has waited longest gets it."""
    deliver = Conversational.deliver

    def misled(self: Conversational, answer: Any) -> None:
        if answer.kind == "chat" and answer.step in self._waiting:
            first = next(s for s, talk in self._waiting.items() if talk.conversation.waiting[s].request.kind == "chat")
            answer = replace(answer, step=first)
        deliver(self, answer)

    return _replaced(Conversational, "deliver", misled)


def early_answer() -> Plant:
    """The recorder delivers an answer of which it has a copy to write down, and does so when the next message comes."""
    on_receive = Recorder.on_receive

    def lazy(self: Recorder, message: Any) -> None:
        for run, answer in self.__dict__.pop("to_write", ()):
            if run in self._runs:
                self._runs[run].answers[answer.step] = answer
        on_receive(self, message)
        run = ids.run_of(message.step) if isinstance(message, Answer) else None
        if run in self._runs and (answer := self._runs[run].answers.pop(message.step, None)) is not None:
            self.__dict__["to_write"] = [(run, answer)]

    return _replaced(Recorder, "on_receive", lazy)


# --- one for each check


def loses_mail() -> Plant:
    """What waits in a mailbox when its actor stops is thrown away."""

    def drain(self: Mailbox, _reason: str) -> None:
        self.__dict__.update(control=deque(), data=deque())

    return _replaced(Mailbox, "drain", drain)


def doubles_mail() -> Plant:
    """Now and then a task is delivered twice."""
    put = Mailbox.put

    def twice(self: Mailbox, item: Any) -> None:
        put(self, item)
        if isinstance(item, AgentMessage) and item.message_id.endswith("/1"):
            put(self, item)

    return _replaced(Mailbox, "put", twice)


def last_first() -> Plant:
    """The last message is handled first."""

    def take(self: Mailbox) -> Any:
        return self.control.popleft() if self.control else self.data.pop()

    return _replaced(Mailbox, "take", take)


def grants_too_much() -> Plant:
    """The limiter forgets one of those in flight when it serves who waits."""
    serve = Limiter._serve

    def generous(self: Limiter, domain: Any, now: float) -> list[Any]:
        domain.in_flight -= 1
        effects = serve(self, domain, now)
        domain.in_flight += 1
        return effects

    return _replaced(Limiter, "_serve", generous)


def settles_twice() -> Plant:
    """A lease whose call has landed is settled for the second time."""
    landed = Attempts._landed

    def twice(self: Attempts, flight: Any, *rest: Any) -> list[Any]:
        effects = landed(self, flight, *rest)
        return effects + [e for e in effects if isinstance(getattr(e, "message", None), Settle)]

    return _replaced(Attempts, "_landed", twice)


def dice_by_the_clock() -> Plant:
    """A branch's dice hang on when it rolls them, and so on who was quicker."""
    return _replaced(Asking, "random", property(lambda self: Random(f"{self.clock()} {self._dispatcher.turns}")))


def any_order() -> Plant:
    """Who is next is not decided by the seed."""
    dice = SystemRandom()

    def draw(self: SimulatedDispatcher) -> Mailbox:
        return self._tokens.pop(dice.randrange(len(self._tokens)))

    return _replaced(SimulatedDispatcher, "_draw", draw)


def forgets_no_task() -> Plant:
    """An agent keeps what it has answered."""

    def forget(self: Agent, message: Any) -> None:
        self._held()[message.message_id].cancelled = True

    return _replaced(Agent, "_forget", forget)


def pays_again() -> Plant:
    """The gateway forgets what it has answered, and makes a call again whose answer is on its way."""
    on_receive = GatewayShell.on_receive

    def obliging(self: GatewayShell, message: Any) -> None:
        on_receive(self, replace(message, again=False) if isinstance(message, ChatCall) else message)

    return _replaced(GatewayShell, "on_receive", obliging)


PLANTS: dict[str, Callable[[], Plant]] = {
    "lost-reply": lost_reply,
    "lost-lease": lost_lease,
    "wrong-conversation": wrong_conversation,
    "early-answer": early_answer,
    "loses-mail": loses_mail,
    "doubles-mail": doubles_mail,
    "last-first": last_first,
    "grants-too-much": grants_too_much,
    "settles-twice": settles_twice,
    "dice-by-the-clock": dice_by_the_clock,
    "any-order": any_order,
    "forgets-no-task": forgets_no_task,
    "pays-again": pays_again,
}
