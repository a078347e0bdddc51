"""The mailbox: an actor's place, which outlives the instances that play there.

Two lanes, made when first used, control before data; order is kept per sender, receiver and lane. ``put`` runs in the
sender's thread: it never blocks, never raises and takes no lock. It appends, gives the dispatcher one wake token per
message, and looks whether the mailbox was sealed meanwhile: then whoever finds mail drains it into dead letters, so
that none is lost however a stop and a send race (``deque.append`` and ``popleft`` are atomic).

A failed actor is suspended. Of its mail only the verdict on it is delivered, and that before anything else: a damaged
instance must not handle what waits in front of its own restart. The wake tokens that come meanwhile are owed, and given
back when it goes on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from protocol.signals import Control, Restart, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.base import Actor
    from actors.directory import ActorSpec, Directory


class Begin(Control, frozen=True, kw_only=True, tag=True):
    """The first message of every instance: run ``on_start`` and ``setup``. *again*: it replaces an earlier one."""

    again: bool = False


class Leave(Control, frozen=True, kw_only=True, tag=True):
    """Stop without closing hooks, since these never returned."""

    reason: str


VERDICTS = (Restart, Stop, Leave)
"""What is delivered to a suspended actor that has begun."""


class Mailbox:
    """The lanes of one address, and the incarnation that reads them now."""

    control: deque[Any] | tuple[()] = ()
    data: deque[Any] | tuple[()] = ()
    actor: Actor | None = None
    begin: Begin | None = None
    cap: int | None = None
    sealed: bool = False
    suspended: bool = False
    owed: int = 0
    generation: int = 0
    stuck: Any = None
    failed_on: Any = None
    held: dict[str, Any] | None = None

    def __init__(self) -> None:
        self.address = ""
        self.wake: Callable[[Mailbox], object] = _nobody
        self.directory: Directory | None = None
        self.spec: ActorSpec | None = None

    def put(self, item: Any) -> None:
        """Leave *item*; runs in the sender's thread. A full mailbox refuses new requests, nothing else."""
        if isinstance(item, Control):
            lane, name = self.control, "control"
        else:
            lane, name = self.data, "data"
            if self.cap is not None and len(lane) >= self.cap and self._refused(item):
                return
        try:
            lane.append(item)  # type: ignore[union-attr]
        except AttributeError:  # the first of its lane; setdefault is atomic, so two senders agree on one deque
            self.__dict__.setdefault(name, deque()).append(item)
        self.wake(self)
        if self.sealed:
            self.drain("stopped")

    def put_back(self, item: Any) -> None:
        """Leave *item* in front of its lane: it was taken and could not be handled. Runs in the actor's thread."""
        lane = "control" if isinstance(item, Control) else "data"
        self.__dict__.setdefault(lane, deque()).appendleft(item)
        self.wake(self)

    def take(self) -> Any:
        """Return the next item, control first; raises ``IndexError`` when there is none. Runs in the actor's thread."""
        if self.control:
            return self.control.popleft()
        return self.data.popleft()  # type: ignore[union-attr]

    def get(self) -> Any:
        """Pykka's name for :meth:`take`."""
        return self.take()

    def empty(self) -> bool:
        """Tell whether both lanes are empty."""
        return not self.control and not self.data

    def queued(self) -> int:
        """Return how many messages wait."""
        return len(self.control) + len(self.data)

    def seal(self, reason: str) -> None:
        """Accept nothing from now on; what waits, and what still comes, becomes dead letters."""
        self.sealed = True
        self.drain(reason)

    def drain(self, reason: str) -> None:
        """Turn what waits into dead letters. Safe in any thread, also in several at once: each item is popped once."""
        while not self.empty():
            try:
                item = self.take()
            except (IndexError, AttributeError):  # another thread popped it
                continue
            if self.directory is not None:
                self.directory.dead_letter(self.address, reason, item)

    def _refused(self, item: Any) -> bool:
        return self.directory is not None and self.directory.refuse(self.address, item)

    def suspend(self) -> None:
        """Deliver nothing but verdicts until :meth:`resume`."""
        self.suspended = True

    def renew(self, actor: Actor, begin: Begin) -> None:
        """Let *actor* play here once it has begun. Runs before anybody knows the mailbox, or in the actor's thread."""
        self.actor, self.begin = actor, begin
        self.suspend()

    def verdict(self) -> Any:
        """Return what may be delivered to a suspended actor: its beginning, then the next verdict on it.

        Raises ``IndexError`` when there is none, and owes the wake token at hand; where the actor has left, drains what
        came late. Runs in the actor's thread.
        """
        if self.begin is not None:
            begin, self.begin = self.begin, None
            return begin
        passed: list[Any] = []
        try:
            while self.actor is not None:
                item = self.control.popleft()  # type: ignore[union-attr]
                if isinstance(item, VERDICTS):
                    return item
                passed.append(item)
            self.drain("stopped")
        except (IndexError, AttributeError):  # no verdict yet
            self.owed += 1
        finally:
            if passed:
                self.control.extendleft(reversed(passed))  # type: ignore[union-attr]
        raise IndexError

    def resume(self) -> None:
        """Deliver again, and give back the wake tokens that came meanwhile. Runs in the actor's thread."""
        self.suspended = False
        owed, self.owed = self.owed, 0
        for _ in range(owed):
            self.wake(self)


def _nobody(_mailbox: Mailbox) -> None:
    """Stand in for the dispatcher until there is one."""
