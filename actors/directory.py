"""The directory: who lives at which address, where mail for nobody goes, and who executes whom.

One per system; two systems in one process share nothing. It is written by whoever spawns and stops, read by every
thread, and holds nothing that needs two operations to be consistent.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pykka
from msgspec import Struct

from actors.base import in_words, is_stop, unwrap
from protocol import ids
from protocol.awaited import fingerprint
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage, failed
from protocol.policies.restarts import Restart as RestartVerdict
from protocol.policies.restarts import RestartLimit
from protocol.signals import Answer, ChildFailed, DeadLetter, Restart, Stop, TaskSettled, is_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from actors.base import Actor, Timed
    from actors.dispatcher import Dispatcher
    from actors.mailbox import Mailbox
    from protocol.pace import LearnedLimit

DEAD_LETTERS_KEPT = 1000


class ActorSpec(Struct, frozen=True, kw_only=True):
    """How an actor is made, and made again: supervision is data.

    ``factory`` takes no argument and returns a new instance. ``watchers`` hear of failures too. ``cap`` bounds waiting
    requests. ``stuck_after`` is in seconds; None: the watchdog leaves this actor alone. Without a ``vital`` actor
    nothing can go on: when it is given up, the system has collapsed.
    """

    address: str
    factory: Any
    parent: str | None = None
    role: str | None = None
    pinned: bool = False
    restarts: RestartLimit = RestartLimit()
    watchers: tuple[str, ...] = ()
    cap: int | None = None
    stuck_after: float | None = 5.0
    vital: bool = False


ROOT_RESTARTS = RestartLimit(times=3, within=30.0)
"""The top level is kept small, since nested supervisors multiply restarts."""


class Directory:
    """Addresses, dispatchers and dead letters of one system."""

    def __init__(self, shared: Dispatcher, pinned: Dispatcher | None = None) -> None:
        self.mailboxes: dict[str, Mailbox] = {}
        self.dead: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_KEPT)
        self.on_dead_letter: Callable[[DeadLetter], object] = self.dead.append
        self.on_failure: Callable[[ChildFailed, str], object] = _quietly
        self.on_raised: Callable[[str, str, str, BaseException], object] = _quietly
        self.on_lesson: Callable[[str, LearnedLimit], object] = _quietly
        self.on_collapse: Callable[[ChildFailed], object] | None = None
        self.on_turn: Callable[[str, Iterable[tuple[float, Timed]], Iterable[tuple[Any, Any]]], object] | None = None
        self._shared = shared
        self._pinned = pinned or shared
        self._collapses: dict[str, tuple[float, ...]] = {}

    def spawn(self, spec: ActorSpec) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec* and start it; its mailbox takes mail at once. Raises what the factory raises."""
        if spec.address in self.mailboxes:
            raise ValueError(f"address {spec.address!r} is taken")
        dispatcher = self._pinned if spec.pinned else self._shared
        return dispatcher.spawn(spec, self)

    def send(self, to: str, message: Any) -> None:
        """Put *message* into the mailbox of *to*, or among the dead letters. Any thread; never raises, never blocks."""
        mailbox = self.mailboxes.get(to)
        if mailbox is None:
            self.dead_letter(to, "no such address", message)
        else:
            mailbox.put(message)

    def children(self, parent: str) -> list[ActorSpec]:
        """Return the specs of the actors whose parent is *parent*, in the order they were spawned."""
        return [m.spec for m in list(self.mailboxes.values()) if m.spec is not None and m.spec.parent == parent]

    def refuse(self, address: str, item: Any) -> bool:
        """Turn *item* down for a full mailbox if it is a new request, and tell its asker; False: it must be taken."""
        if not is_request(unwrap(item)[0]):
            return False
        self.dead_letter(address, "overloaded", item, ErrorKind.OVERLOADED)
        if ids.SUPERVISOR in self.mailboxes:  # it has booked the task for that address
            self.send(ids.SUPERVISOR, TaskSettled(agent=address, step=unwrap(item)[0].message_id))
        return True

    def dead_letter(self, to: str, reason: str, item: Any, kind: ErrorKind = ErrorKind.STOPPED) -> None:
        """Keep *item*, which nobody will handle, and fail whoever awaits an answer with *kind*. Never raises."""
        message, future = unwrap(item)
        self._safely(self.on_dead_letter, DeadLetter(to=to, reason=reason, message=message))
        if isinstance(message, AgentMessage):
            self._safely(self.bounce, message, kind, f"{to}: {reason}")
        elif isinstance(message, ChildFailed):
            self._orphan(to, message)
        if future is not None and is_stop(message):
            self._safely(future.set, None)
        elif future is not None:
            error = pykka.ActorDeadError(f"{to}: {reason}")
            self._safely(future.set_exception, (type(error), error, None))

    def report(self, mailbox: Mailbox, news: ChildFailed, now: float) -> None:
        """Tell watchers and parent that an actor's machinery failed. A root has no parent: it is judged here."""
        spec = mailbox.spec
        for watcher in spec.watchers if spec is not None else ():
            self.send(watcher, news)
        if spec is not None and spec.parent is not None:
            self.send(spec.parent, news)
            return
        history = (*self._collapses.get(mailbox.address, ()), now)[-2 * ROOT_RESTARTS.times - 1 :]
        self._collapses[mailbox.address] = history
        if isinstance(ROOT_RESTARTS.judge(history, now), RestartVerdict):
            mailbox.put(Restart())
            self.tell_failure(news, "restarted")
        else:
            mailbox.put(Stop(reason=news.error))
            self.tell_failure(news, "stopped: it failed too often")
            self.collapse(news)

    def collapse(self, news: ChildFailed) -> None:
        """Have the system told that nothing can go on, since the actor in *news* is given up. Never raises."""
        if self.on_collapse is not None:
            self._safely(self.on_collapse, news)

    def tell_failure(self, news: ChildFailed, action: str) -> None:
        """Have a failure and what was done about it logged. Never raises."""
        self._safely(self.on_failure, news, action)

    def tell_raised(self, event: str, address: str, step: str, error: BaseException) -> None:
        """Have it logged where a user's code raised, for *step* at *address*. Never raises."""
        self._safely(self.on_raised, event, address, ids.run_of(step), error)

    def tell_lesson(self, domain: str, limit: LearnedLimit) -> None:
        """Have it logged that the provider of *domain* has taught a limit. Never raises."""
        self._safely(self.on_lesson, domain, limit)

    def _orphan(self, to: str, news: ChildFailed) -> None:
        """Stop an actor that failed when nobody is above it any more: it would stay suspended for ever."""
        mailbox = self.mailboxes.get(news.address)
        if mailbox is not None and mailbox.spec is not None and mailbox.spec.parent == to:
            mailbox.put(Stop(reason=f"{news.error}; {to} is gone"))
            self.tell_failure(news, f"stopped: {to} is gone")

    def _safely(self, hook: Callable[..., object], *args: Any) -> None:
        """Call a log or a future: what it raises must not reach the sender of a message, and is kept."""
        try:
            hook(*args)
        except BaseException as error:  # noqa: BLE001 (put() promises never to raise)
            self.dead.append(DeadLetter(to="", reason=in_words(error), message=args[0]))

    def bounce(self, message: AgentMessage, kind: ErrorKind, reason: str) -> None:
        """Answer *message* with a failed TaskResult, through the recorder if there is one."""
        if message.reply_to is None:
            return
        result = failed(message.message_id, kind, reason, priority=message.priority)
        answer = answer_to(message, result)
        self.send(ids.RECORDER if ids.RECORDER in self.mailboxes else message.reply_to, answer)


class Limbo(Directory):
    """Where a fenced instance lives: nobody is here, and nothing it says is heard."""

    def spawn(self, spec: ActorSpec) -> pykka.ActorRef[Actor]:
        """Refuse, since nobody would stop the child."""
        raise RuntimeError(f"this instance did not return in time and was replaced; it may not spawn {spec.address!r}")


def _quietly(*_facts: object) -> None:
    """Stand in for a log."""


def answer_to(message: AgentMessage, payload: Any) -> Answer:
    """Return the answer to *message* for the one who awaits it."""
    return Answer(
        to=message.reply_to or "",
        step=message.message_id,
        kind="ask",
        fingerprint=fingerprint("ask", message.recipient, message.content, bytes(message.data)),
        payload=payload,
    )
