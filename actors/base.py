"""The base actor: the only subclass of ``pykka.Actor`` that knows Pykka's rules.

Pykka's seams for implementors are ``_create_actor_inbox``, ``_create_future`` and ``_start_actor_loop``; two private
names are used and stand here alone: ``pykka._envelope.Envelope`` and ``pykka.messages._ActorStop``.

What a handler sends, and the timers it sets, lie in an outbox and leave when it returns. A handler that raises, or that
was fenced because it never returned, sends nothing but its failure. Nothing escapes into Pykka: a failure suspends the
actor and is reported to its parent, address, mailbox and mail are kept, and a restart is a new instance from the stored
factory.

A turn changes the world only in :meth:`Actor.commit`, when the dispatcher knows that the turn was not taken away from
it. That holds for a stop, a restart and a Pykka reply too: they lie in the outbox as functions to call.
"""

from __future__ import annotations

import traceback as tracebacks
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import pykka
from msgspec import Struct
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from actors.mailbox import VERDICTS, Begin, Leave, Mailbox
from protocol.errors import ErrorKind
from protocol.signals import ChildFailed, ChildRestarted, ChildStopped, Restart, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.directory import ActorSpec, Directory
    from actors.dispatcher import Dispatcher


OF_AN_INSTANCE = (Begin, *VERDICTS)
"""What belongs to one instance and concerns the next no more."""
FOREVER = 1e9
"""No timer is set further ahead than these seconds, 30 years."""


class Timed(Struct, frozen=True):
    """A timer that fired: delivered unless its key was set again, or cancelled, or the actor restarted meanwhile."""

    key: str
    message: Any


class Actor(pykka.Actor):
    """An actor with its own mailbox, executed by a dispatcher.

    Subclasses implement :meth:`on_receive`, and :meth:`setup` for what belongs to a new instance. All methods run in
    the actor's own turn, one message at a time, unless their docstring says otherwise.
    """

    address: str = ""
    actor_inbox: Mailbox
    _dispatcher: Dispatcher
    _directory: Directory

    def __init__(self) -> None:
        super().__init__()
        self._outbox: list[tuple[Any, Any]] = []
        self._timing: list[tuple[float, Timed]] | None = None
        self._timers: dict[str, Timed] = {}

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

    def replaced(self) -> None:
        """Run in an instance that a new one is about to replace; what it sends is discarded."""

    def stop(self) -> None:
        """Stop after the mail that is there already."""
        self._outbox.append((self.address, Envelope(_ActorStop())))

    def tell(self, to: str, message: Any) -> None:
        """Send *message* to the address *to* when this turn ends. Order per sender, receiver and lane is kept."""
        self._outbox.append((to, message))

    def when_done(self, act: Callable[[], object]) -> None:
        """Call *act* when this turn has ended well, in its place among what the turn sends.

        So is changed what outlives this instance: a turn that fails has then changed nothing, as it has sent nothing.
        """
        self._outbox.append((_CALL, act))

    def after(self, seconds: float, message: Any, *, key: str) -> None:
        """Deliver *message* to this actor after *seconds*; a new timer for *key* replaces the old one.

        0 or less is at once, NaN and infinity raise ``ValueError``.
        """
        if not seconds < inf:
            raise ValueError(f"timer {key!r}: {seconds} is no number of seconds")
        self._timers[key] = timed = Timed(key, message)
        if self._timing is None:
            self._timing = []
        self._timing.append((min(seconds, FOREVER), timed))

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

    # --- what a dispatcher calls

    def bind(self, mailbox: Mailbox, dispatcher: Dispatcher) -> None:
        """Take over *mailbox*; called by the dispatcher before the first message."""
        self.address = mailbox.address
        self._dispatcher = dispatcher
        assert mailbox.directory is not None
        self._directory = mailbox.directory

    def execute(self, item: Any) -> None:
        """Handle one item from the mailbox; raises what the handler raises, after ``on_failure``."""
        try:
            special = _SPECIAL.get(item.__class__)
            if special is None:
                self.on_receive(item)
            else:
                special(self, item)
        except BaseException as error:
            self._hook(self.on_failure, type(error), error, error.__traceback__)
            raise

    def commit(self) -> None:
        """Let the outbox leave and the timers start; called when the turn has ended well."""
        if self._directory.on_turn is not None:
            self._directory.on_turn(self.address, self._timing or (), self._outbox)
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
                elif to is _CALL:
                    message()
                else:
                    self._directory.send(to, message)
            outbox.clear()

    def rewrite(self, change: Callable[[Any], Any]) -> None:
        """Put ``change(message)`` in the place of each message that waits to leave; if it raises, none has changed."""
        self._outbox = [(to, message if to is _CALL else change(message)) for to, message in self._outbox]

    def fail(self, item: Any, error: BaseException, kind: ErrorKind = ErrorKind.INTERNAL, traceback: str = "") -> None:
        """Discard the outbox, suspend the mailbox and report *error*; called when a handler raised or was fenced.

        The mailbox keeps the message as ``failed_on``, so that the next instance need not run into it again.
        """
        self._outbox.clear()
        self._timing = None
        mailbox = self.actor_inbox
        mailbox.suspend()
        text = in_words(error)
        message, future = unwrap(item)
        if not isinstance(message, OF_AN_INSTANCE):
            mailbox.failed_on = message
        if future is not None:
            known = error if isinstance(error, Exception) else RuntimeError(f"{self.address} failed: {text}")
            self._hook(future.set_exception, (type(known), known, known.__traceback__))
        news = ChildFailed(
            address=self.address,
            kind=kind,
            error=text,
            message=describe(item),
            traceback=traceback or "".join(tracebacks.format_exception(error)),
        )
        self._directory.report(mailbox, news, self.clock())

    def wants(self, timed: Timed) -> bool:
        """Tell whether the timer is still set, so that a stale one is dropped before it becomes mail."""
        return self._timers.get(timed.key) is timed

    # --- special items

    def _on_envelope(self, envelope: Envelope[Any]) -> None:
        """Mail from outside, through a Pykka ref."""
        value = None
        if isinstance(envelope.message, _ActorStop):
            self._stop()
        else:
            value = self.on_receive(envelope.message)
        if envelope.reply_to is not None:
            self._outbox.append((_CALL, partial(envelope.reply_to.set, value)))

    def _on_timed(self, timed: Timed) -> None:
        if self._timers.get(timed.key) is timed:
            del self._timers[timed.key]
            self.on_receive(timed.message)

    def _on_begin(self, begin: Begin) -> None:
        self.on_start()
        self.setup()
        self._outbox.append((_CALL, partial(self._go_on, begin)))

    def _on_restart(self, _restart: Restart) -> None:
        """Make a new instance; it takes this one's place when the turn ends, and begins in the next."""
        mailbox = self.actor_inbox
        assert mailbox.spec is not None
        new = make(mailbox.spec)
        new.actor_inbox, new.actor_stopped, new.actor_urn = mailbox, self.actor_stopped, self.actor_urn
        new._actor_ref = pykka.ActorRef(new)  # noqa: SLF001 (Pykka's own slot of the instance we make)
        new.bind(mailbox, self._dispatcher)
        self._hook(self.replaced)
        self._outbox, self._timing = [(_CALL, new._take_place)], None  # noqa: SLF001 (a later self)

    def _on_stop(self, stop: Stop) -> None:
        self._stop(stop.reason)

    def _on_leave(self, leave: Leave) -> None:
        self._outbox.append((_CALL, partial(self._leave, leave.reason)))

    def _stop(self, reason: str = "stopped") -> None:
        """Run the closing hooks; the actor leaves when the turn ends. Pykka's registry is never touched."""
        self._hook(self.teardown)
        self._hook(self.on_stop)
        self._outbox.append((_CALL, partial(self._leave, reason)))

    # --- what happens to the place when a turn ends

    def _take_place(self) -> None:
        """Play here from now on: same address, mailbox, mail and Pykka ref; no mail before :class:`Begin`."""
        mailbox = self.actor_inbox
        mailbox.renew(self, Begin(again=True))
        mailbox.wake(mailbox)

    def _go_on(self, begin: Begin) -> None:
        """Deliver again, and tell who watches: in this order, so that who is told does not find it suspended."""
        mailbox = self.actor_inbox
        mailbox.resume()
        for watcher in mailbox.spec.watchers if mailbox.spec is not None and begin.again else ():
            self._directory.send(watcher, ChildRestarted(address=self.address))

    def _leave(self, reason: str) -> None:
        """Go; the address is given back last, so that nobody takes it while mail is drained and the thread ends."""
        mailbox = self.actor_inbox
        self.actor_stopped.set()
        mailbox.seal(reason)
        mailbox.actor = None
        self._dispatcher.retire(mailbox)
        self._directory.mailboxes.pop(self.address, None)
        if mailbox.spec is not None and mailbox.spec.parent is not None:
            news = ChildStopped(address=self.address, reason=reason, failed=mailbox.suspended)
            self._directory.send(mailbox.spec.parent, news)

    def _hook(self, hook: Callable[..., Any], *args: Any) -> None:
        """Run what must not stop a turn from ending; what it raises is kept among the dead letters."""
        try:
            hook(*args)
        except BaseException as error:  # noqa: BLE001 (nothing escapes into the dispatcher)
            name = getattr(hook, "__name__", "a hook")
            self._directory.dead_letter(self.address, f"{name} raised {in_words(error)}", None)


_CALL: Any = object()
"""Stands where an address would: the entry of the outbox is a function."""

_SPECIAL: dict[type, Callable[[Any, Any], None]] = {
    Envelope: Actor._on_envelope,  # noqa: SLF001 (a table of this class's own methods)
    Timed: Actor._on_timed,  # noqa: SLF001
    Begin: Actor._on_begin,  # noqa: SLF001
    Stop: Actor._on_stop,  # noqa: SLF001
    Leave: Actor._on_leave,  # noqa: SLF001
    Restart: Actor._on_restart,  # noqa: SLF001
}


def make(spec: ActorSpec) -> Any:
    """Return a new instance from the stored factory. Raises what the factory raises, or ``TypeError``."""
    actor = spec.factory()
    if not isinstance(actor, Actor):
        raise TypeError(f"the factory of {spec.address!r} must return an actors.base.Actor, not {type(actor).__name__}")
    if "_outbox" not in actor.__dict__:
        raise TypeError(f"{type(actor).__name__}.__init__() must call super().__init__()")
    if actor.address not in {"", spec.address}:
        raise TypeError(f"the factory of {spec.address!r} returned the instance that plays at {actor.address!r}")
    return actor


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
    fields = message if isinstance(message, Struct) else None
    step = getattr(fields, "message_id", None) or getattr(fields, "step", None)
    return f"{type(message).__name__} {step}" if step else type(message).__name__


def in_words(error: BaseException) -> str:
    """Name an error for a log line, whatever its ``__str__`` does."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 (a user's exception class runs here)
        return f"{type(error).__name__}: (its text cannot be shown)"
