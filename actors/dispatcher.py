"""Where actors are executed: the Protocol that every dispatcher keeps, and what all of them share.

An actor is written once; a dispatcher decides where it runs. The threaded ones live in ``runtime/loop.py``, the simulated one,
which has no world in it, in ``actors/simulation.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from actors.base import Actor, Begin
from actors.mailbox import Mailbox

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
    """Make the first instance of *spec*, give it its mailbox and its place in the directory, and have it begin."""
    actor = make(spec)
    mailbox = actor.actor_inbox
    mailbox.address, mailbox.directory, mailbox.spec, mailbox.cap = spec.address, directory, spec, spec.cap
    mailbox.wake = wake
    mailbox.actor = actor
    actor.bind(mailbox, dispatcher)
    directory.mailboxes[spec.address] = mailbox
    mailbox.put(Begin())
    return actor.actor_ref


def make(spec: ActorSpec) -> Any:
    """Return a new instance from the stored factory. Raises what the factory raises, or ``TypeError``."""
    actor = spec.factory()
    if not isinstance(actor, Actor):
        raise TypeError(f"the factory of {spec.address!r} must return an actors.base.Actor, not {type(actor).__name__}")
    return actor


def finish(actor: Actor, item: Any, failure: BaseException | None) -> None:
    """End a turn: let its outbox leave, or report its failure. Never raises, whatever the actor does."""
    try:
        if failure is None:
            actor.commit()
        else:
            actor.fail(item, failure)
    except BaseException as error:  # noqa: BLE001 (a loop outlives everything that runs on it)
        actor.actor_inbox.suspend()
        if actor.actor_inbox.directory is not None:
            actor.actor_inbox.directory.dead_letter(actor.address, f"its turn could not be ended: {error!r}", item)
