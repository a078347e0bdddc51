"""The directory: who lives at which address, where mail for nobody goes, and who executes whom.

One per system; two systems in one process share nothing. It is written by whoever spawns and stops, read by every thread, and holds
nothing that needs two operations to be consistent.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pykka
from msgspec import Struct

from actors.base import is_stop, unwrap
from protocol import ids
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage, failed
from protocol.policies.restarts import Restart as RestartVerdict
from protocol.policies.restarts import RestartLimit
from protocol.signals import Answer, ChildFailed, DeadLetter, Restart, Stop
from protocol.steps import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.base import Actor
    from actors.dispatcher import Dispatcher
    from actors.mailbox import Mailbox

DEAD_LETTERS_KEPT = 1000


class ActorSpec(Struct, frozen=True, kw_only=True):
    """How an actor is made, and made again: supervision is data.

    ``factory`` takes no argument and returns a new instance. ``watchers`` hear of failures too. ``cap`` bounds waiting requests.
    ``stuck_after`` is in seconds; None: the watchdog leaves this actor alone.
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


ROOT_RESTARTS = RestartLimit(times=3, within=30.0)
"""The top level is kept small, since nested supervisors multiply restarts."""


class Directory:
    """Addresses, dispatchers and dead letters of one system."""

    def __init__(self, shared: Dispatcher, pinned: Dispatcher | None = None) -> None:
        self.mailboxes: dict[str, Mailbox] = {}
        self.dead: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_KEPT)
        self.on_dead_letter: Callable[[DeadLetter], object] = self.dead.append
        self.on_failure: Callable[[ChildFailed, str], object] = _quietly
        self.on_collapse: Callable[[ChildFailed], object] | None = None
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

    def refuse(self, address: str, message: Any) -> None:
        """A full mailbox turned *message* down: its asker hears so."""
        self._bury(address, "overloaded", message, ErrorKind.OVERLOADED)

    def dead_letter(self, to: str, reason: str, message: Any, kind: ErrorKind = ErrorKind.STOPPED) -> None:
        """Keep *message*, which nobody will handle; whoever awaits an answer gets one that failed with *kind*."""
        self._bury(to, reason, message, kind)

    def report(self, mailbox: Mailbox, news: ChildFailed, now: float) -> None:
        """Tell the parent that an actor's machinery failed. A root has no parent: it is judged here."""
        spec = mailbox.spec
        if spec is not None and spec.parent is not None:
            self.send(spec.parent, news)
            return
        history = (*self._collapses.get(mailbox.address, ()), now)
        self._collapses[mailbox.address] = history
        if isinstance(ROOT_RESTARTS.judge(history, now), RestartVerdict):
            self.on_failure(news, "restarted")
            mailbox.put(Restart())
        else:
            self.on_failure(news, "stopped: it failed too often")
            mailbox.put(Stop(reason=news.error))
            if self.on_collapse is not None:
                self.on_collapse(news)

    def _bury(self, to: str, reason: str, item: Any, kind: ErrorKind) -> None:
        message, future = unwrap(item)
        self.on_dead_letter(DeadLetter(to=to, reason=reason, message=message))
        if isinstance(message, AgentMessage):
            self.bounce(message, kind, f"{to}: {reason}")
        if future is not None and is_stop(message):
            future.set(None)
        elif future is not None:
            error = pykka.ActorDeadError(f"{to}: {reason}")
            future.set_exception((type(error), error, None))

    def bounce(self, message: AgentMessage, kind: ErrorKind, reason: str) -> None:
        """Answer *message* with a failed TaskResult, through the recorder if there is one."""
        if message.reply_to is None:
            return
        result = failed(message.message_id, kind, reason, priority=message.priority)
        answer = answer_to(message, result)
        self.send(ids.RECORDER if ids.RECORDER in self.mailboxes else message.reply_to, answer)


def _quietly(_news: ChildFailed, _action: str) -> None:
    """Stand in for a log."""


def answer_to(message: AgentMessage, payload: Any) -> Answer:
    """Return the answer to *message* for the one who awaits it."""
    return Answer(
        to=message.reply_to or "",
        step=message.message_id,
        kind="ask",
        fingerprint=fingerprint("ask", message.recipient, message.content),
        payload=payload,
    )
