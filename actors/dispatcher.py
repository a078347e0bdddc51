"""Where actors are executed: the Protocol that every dispatcher keeps, and what all of them share.

An actor is written once; a dispatcher decides where it runs. The threaded ones live in ``runtime/loop.py``, the
simulated one, which has no world in it, in ``actors/simulation.py``.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

from actors.base import Actor, in_words, is_stop, make, unwrap
from actors.directory import Limbo
from actors.mailbox import Begin, Leave, Mailbox
from protocol.errors import ErrorKind
from protocol.signals import ChildFailed, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    import pykka

    from actors.base import Timed
    from actors.directory import ActorSpec, Directory


class Dispatcher(Protocol):
    """Executes actors, one message at a time each, and owns their clock and timers."""

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec*, bind its mailbox, and deliver from now on."""
        ...

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Put *timed* into *mailbox* after *seconds*. Called in the actor's own thread."""
        ...

    def retire(self, mailbox: Mailbox) -> None:
        """The actor of *mailbox* has stopped. Called in its own thread, from its last turn."""
        ...

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch."""
        ...


def open_mailbox(
    spec: ActorSpec, directory: Directory, dispatcher: Dispatcher, wake: Callable[[Mailbox], object]
) -> pykka.ActorRef[Actor]:
    """Make the first instance of *spec*, give it its mailbox and its place in the directory, and have it begin.

    Raises what the factory raises, and ``ValueError`` when another thread took the address first.
    """
    actor = make(spec)
    mailbox = actor.actor_inbox
    mailbox.address, mailbox.directory, mailbox.spec, mailbox.cap = spec.address, directory, spec, spec.cap
    mailbox.renew(actor, Begin())
    mailbox.wake = wake
    actor.bind(mailbox, dispatcher)
    if directory.mailboxes.setdefault(spec.address, mailbox) is not mailbox:
        raise ValueError(f"address {spec.address!r} is taken")
    wake(mailbox)
    ref: pykka.ActorRef[Actor] = actor.actor_ref
    return ref


def finish(actor: Actor, item: Any, failure: BaseException | None) -> None:
    """End a turn: let its outbox leave, or report its failure. Never raises, whatever the actor does."""
    if failure is None:
        try:
            actor.commit()
        except BaseException as error:  # noqa: BLE001 (an address that cannot be one, a future that was set: the turn failed)
            failure = error
        else:
            return
    try:
        actor.fail(item, failure)
    except BaseException as error:  # noqa: BLE001 (out of memory, say; a suspended actor must still be reported)
        news = ChildFailed(address=actor.address, kind=ErrorKind.INTERNAL, error=in_words(error))
        actor.actor_inbox.suspend()
        actor.actor_inbox.directory.report(actor.actor_inbox, news, actor.clock())  # type: ignore[union-attr]


def fence(mailbox: Mailbox, item: Any, error: BaseException, traceback: str) -> None:
    """Go on without the instance that never returned from *item*: a stand-in waits for the verdict in its place.

    Called in the watchdog's thread, when the turn was taken away and no other thread serves the mailbox yet. Whatever
    the old instance still says or forgets goes to a mailbox that nobody reads.
    """
    ghost = mailbox.actor
    assert ghost is not None
    stand_in = object.__new__(type(ghost))
    stand_in.__dict__.update(ghost.__dict__)
    stand_in._outbox, stand_in._timing, stand_in._timers = [], None, {}
    ghost.actor_inbox, ghost._directory = Mailbox(), Limbo(ghost._dispatcher)  # noqa: SLF001 (a bound actor's own)
    mailbox.actor = stand_in
    mailbox.stuck, _ = unwrap(item)
    mailbox.held = copy(mailbox.held)
    if isinstance(mailbox.stuck, (Stop, Leave)) or is_stop(mailbox.stuck):
        mailbox.put(Leave(reason="stopped; its closing hooks did not return"))
    stand_in.fail(item, error, ErrorKind.STUCK, traceback)
