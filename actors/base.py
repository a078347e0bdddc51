"""The base actor: the only subclass of ``pykka.Actor`` that knows Pykka's rules.

Pykka's seams for implementors are ``_create_actor_inbox``, ``_create_future`` and ``_start_actor_loop``; two private names are used and
stand here alone: ``pykka._envelope.Envelope`` and ``pykka.messages._ActorStop``.

What a handler sends, and the timers it sets, lie in an outbox and leave when it returns. A handler that raises, or that was
fenced because it never returned, sends nothing but its failure. Nothing escapes into Pykka: a failure suspends the actor and
is reported to its parent, address, mailbox and mail are kept, and a restart is a new instance from the stored factory.
"""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from actors.mailbox import Mailbox
from protocol.errors import ErrorKind
from protocol.signals import ChildFailed, ChildRestarted, ChildStopped, Control, Restart, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.directory import ActorSpec, Directory
    from actors.dispatcher import Dispatcher


class Begin(Control, frozen=True, kw_only=True, tag=True):
    """The first message of every incarnation: run ``on_start`` and ``setup``."""


class Timed(NamedTuple):
    """A timer that fired: delivered unless its key was set again or cancelled meanwhile."""

    key: str
    generation: int
    message: Any


class Reply(NamedTuple):
    """A Pykka future in the outbox, set when the handler's turn is over."""

    future: pykka.Future[Any]
    value: Any


class Actor(pykka.Actor):
    """An actor with its own mailbox, executed by a dispatcher.

    Subclasses implement :meth:`on_receive`, and :meth:`setup` for what belongs to a new instance. All methods run in the actor's own
    turn, one message at a time, unless their docstring says otherwise.
    """

    address: str = ""
    actor_inbox: Mailbox
    _dispatcher: Dispatcher
    _directory: Directory

    def __init__(self) -> None:
        super().__init__()
        self._outbox: list[tuple[Any, Any]] = []
        self._timing: list[tuple[float, Timed]] | None = None
        self._timers: dict[str, int] = {}

    # --- Pykka's seams

    @classmethod
    def start(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: Pykka's ``start`` registers in a process-wide list. Spawn through a system or a test kit."""
        raise TypeError(
            f"{cls.__name__}.start() is not used in Troupe: register the agent with ActorSystem.register(), "
            "or spawn it with ActorTestKit.spawn() in a test"
        )

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        raise TypeError("a dispatcher runs this actor; it has no loop of its own")

    # --- what a subclass uses

    def setup(self) -> None:
        """Run before the first message of every incarnation."""

    def teardown(self) -> None:
        """Run after the last message, when the actor stops in order."""

    def tell(self, to: str, message: Any) -> None:
        """Send *message* to the address *to* when this turn ends. Order per sender, receiver and lane is kept."""
        self._outbox.append((to, message))

    def after(self, seconds: float, message: Any, *, key: str) -> None:
        """Deliver *message* to this actor after *seconds*; a new timer for *key* replaces the old one."""
        mailbox = self.actor_inbox
        mailbox.generation += 1
        self._timers[key] = mailbox.generation
        if self._timing is None:
            self._timing = []
        self._timing.append((seconds, Timed(key, mailbox.generation, message)))

    def cancel_timer(self, key: str) -> None:
        """Forget the timer *key*; one that has already fired and waits in the mailbox is dropped too."""
        self._timers.pop(key, None)

    def clock(self) -> float:
        """Return monotonic seconds of the dispatcher's clock."""
        return self._dispatcher.now()

    def wall(self) -> float:
        """Return seconds since the epoch of the dispatcher's clock."""
        return self._dispatcher.wall()

    def timestamp(self) -> datetime:
        """Return :meth:`wall` as an aware UTC datetime."""
        return datetime.fromtimestamp(self._dispatcher.wall(), UTC)

    def spawn(self, spec: ActorSpec) -> None:
        """Spawn a child now."""
        self._directory.spawn(spec)

    def tell_parent(self, message: Any) -> None:
        """Send *message* to the parent, if there is one."""
        spec = self.actor_inbox.spec
        if spec is not None and spec.parent is not None:
            self.tell(spec.parent, message)

    # --- what a dispatcher calls

    def bind(self, mailbox: Mailbox, dispatcher: Dispatcher) -> None:
        """Take over *mailbox*; called by the dispatcher before the first message."""
        self.address = mailbox.address
        self._dispatcher = dispatcher
        assert mailbox.directory is not None
        self._directory = mailbox.directory

    def execute(self, item: Any) -> None:
        """Handle one item from the mailbox; raises what the handler raises."""
        special = _SPECIAL.get(item.__class__)
        if special is None:
            self.on_receive(item)
        else:
            special(self, item)

    def commit(self) -> None:
        """Let the outbox leave and the timers start; called when the turn has ended well."""
        if self._timing:
            timing, self._timing = self._timing, None
            for seconds, timed in timing:
                self._dispatcher.schedule(self.actor_inbox, seconds, timed)
        outbox = self._outbox
        if outbox:
            mailboxes = self._directory.mailboxes
            for to, message in outbox:
                mailbox = mailboxes.get(to)
                if mailbox is not None:
                    mailbox.put(message)
                elif to is _REPLY:
                    message.future.set(message.value)
                else:
                    self._directory.send(to, message)
            outbox.clear()

    def fail(self, item: Any, error: BaseException) -> None:
        """Discard the outbox, suspend the mailbox and report *error*; called when a handler raised."""
        self._outbox.clear()
        self._timing = None
        mailbox = self.actor_inbox
        mailbox.suspend()
        if isinstance(item, Envelope) and item.reply_to is not None:
            item.reply_to.set_exception((type(error), error, error.__traceback__))
        news = ChildFailed(
            address=self.address,
            kind=ErrorKind.INTERNAL,
            error=f"{type(error).__name__}: {error}",
            message=describe(item),
            traceback="".join(traceback.format_exception(error)),
        )
        self._hook(self.on_failure, type(error), error, error.__traceback__)
        spec = mailbox.spec
        if spec is not None:
            for watcher in spec.watchers:
                self._directory.send(watcher, news)
        self._directory.report(mailbox, news, self.clock())

    def wants(self, timed: Timed) -> bool:
        """Tell whether the timer is still set, so that a stale one is dropped before it becomes mail."""
        return self._timers.get(timed.key) == timed.generation

    # --- special items

    def _on_envelope(self, envelope: Envelope[Any]) -> None:
        """Mail from outside, through a Pykka ref."""
        if isinstance(envelope.message, _ActorStop):
            self._stop_now("stopped")
            value = None
        else:
            value = self.on_receive(envelope.message)
        if envelope.reply_to is not None:
            self._outbox.append((_REPLY, Reply(envelope.reply_to, value)))

    def _on_timed(self, timed: Timed) -> None:
        if self._timers.get(timed.key) == timed.generation:
            del self._timers[timed.key]
            self.on_receive(timed.message)

    def _on_begin(self, _begin: Begin) -> None:
        self.on_start()
        self.setup()

    def _on_stop(self, stop: Stop) -> None:
        self._stop_now(stop.reason)

    def _on_restart(self, _restart: Restart) -> None:
        """Put a new instance in this one's place: same address, mailbox, mail and Pykka ref."""
        mailbox = self.actor_inbox
        spec = mailbox.spec
        assert spec is not None
        new = spec.factory()
        new.actor_inbox, new.actor_stopped, new.actor_urn = mailbox, self.actor_stopped, self.actor_urn
        new._actor_ref = pykka.ActorRef(new)  # noqa: SLF001 (Pykka's own slot of the instance we replace)
        new.bind(mailbox, self._dispatcher)
        self._timers = {}
        mailbox.actor = new
        new.on_start()
        new.setup()
        for watcher in spec.watchers:
            new.tell(watcher, ChildRestarted(address=self.address))
        mailbox.resume()
        self._outbox, new._outbox = new._outbox, self._outbox  # noqa: SLF001 (they leave at the end of this turn)
        self._timing, new._timing = new._timing, None  # noqa: SLF001

    def _stop_now(self, reason: str) -> None:
        """End in order: ``teardown`` and ``on_stop``, then the mailbox is sealed and the parent told."""
        self.actor_stopped.set()
        self._timers.clear()
        self._hook(self.teardown)
        self._hook(self.on_stop)
        self._directory.mailboxes.pop(self.address, None)
        self.actor_inbox.seal(reason)
        self.actor_inbox.actor = None
        self._dispatcher.retire(self.actor_inbox)
        self.tell_parent(ChildStopped(address=self.address, reason=reason, failed=self.actor_inbox.suspended))

    def _stop(self) -> None:
        """Pykka's immediate stop; its registry is never touched."""
        self._stop_now("stopped")

    def _hook(self, hook: Callable[..., Any], *args: Any) -> None:
        """Run a closing hook; what it raises is reported as a failure of an actor that is already going."""
        try:
            hook(*args)
        except BaseException as error:  # noqa: BLE001 (nothing escapes into the dispatcher)
            self._directory.dead_letter(self.address, f"{hook.__name__} raised {error!r}", None)


_REPLY: Any = object()
"""Stands where an address would: the entry is a :class:`Reply`."""

_SPECIAL: dict[type, Callable[[Any, Any], None]] = {
    Envelope: Actor._on_envelope,  # noqa: SLF001 (a table of this class's own methods)
    Timed: Actor._on_timed,  # noqa: SLF001
    Begin: Actor._on_begin,  # noqa: SLF001
    Stop: Actor._on_stop,  # noqa: SLF001
    Restart: Actor._on_restart,  # noqa: SLF001
}


def unwrap(item: Any) -> tuple[Any, pykka.Future[Any] | None]:
    """Return the message in *item* and the future of whoever asked for it through a Pykka ref."""
    if isinstance(item, Envelope):
        return item.message, item.reply_to
    if isinstance(item, Timed):
        return item.message, None
    return item, None


def is_stop(message: Any) -> bool:
    """Tell whether *message* is Pykka's request to stop."""
    return isinstance(message, _ActorStop)


def describe(item: Any) -> str:
    """Name a message for a log line, without its content."""
    message, _ = unwrap(item)
    step = getattr(message, "message_id", None) or getattr(message, "step", None)
    return f"{type(message).__name__} {step}" if step else type(message).__name__
