"""The threaded dispatchers: one loop thread for many actors (shared), or one thread for each (pinned).

A loop takes wake tokens from its channel; a token is a mailbox in which one message waits. It owns its timer heap, so timers
are set and fire in its thread. Whoever pops the running turn from ``running`` owns its end: the loop when the handler returns,
or the watchdog when it never does (``runtime/watchdog.py``). ``dict.pop`` is atomic, so exactly one of them gets it.
"""

from __future__ import annotations

import time
from heapq import heappop, heappush
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING, Any

from actors.dispatcher import finish, open_mailbox
from runtime.channel import Channel, Empty

if TYPE_CHECKING:
    import pykka

    from actors.base import Actor, Timed
    from actors.directory import ActorSpec, Directory
    from actors.mailbox import Mailbox

STOP: Any = None
"""The wake token that ends a loop."""


class Loop:
    """A thread that executes actors, one message at a time."""

    def __init__(
        self, name: str, ready: Channel[Mailbox], heap: list[tuple[float, int, Mailbox, Timed]] | None = None
    ) -> None:
        self.name = name
        self.ready = ready
        self.heap = [] if heap is None else heap
        self.running: dict[int, Mailbox] = {}
        self.turn = 0
        self.thread = Thread(target=self.run, name=f"troupe-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def run(self) -> None:
        """Execute turns until the stop token comes, or until this loop was fenced."""
        heap, get, running, clock = self.heap, self.ready.get, self.running, time.monotonic
        while True:
            try:
                if heap:
                    wait = heap[0][0] - clock()
                    if wait <= 0.0:
                        self.fire()
                        continue
                    mailbox = get(True, wait)
                else:
                    mailbox = get()
            except Empty:
                continue
            if mailbox is STOP:
                return
            if mailbox.suspended and not mailbox.control:
                mailbox.owed += 1
                continue
            try:
                item = mailbox.take()
            except (IndexError, AttributeError):  # sealed meanwhile, and drained
                continue
            actor = mailbox.actor
            mailbox.taken = item
            self.turn = turn = self.turn + 1
            running[turn] = mailbox
            failure = None
            try:
                actor.execute(item)  # type: ignore[union-attr]
            except BaseException as error:  # noqa: BLE001 (SystemExit in one actor must not stop the others)
                failure = error
            if running.pop(turn, None) is None:
                return  # fenced: another loop goes on where this one stood
            finish(actor, item, failure)  # type: ignore[arg-type]

    def fire(self) -> None:
        """Turn the timer that is due into mail, unless it is stale."""
        _, _, mailbox, timed = heappop(self.heap)
        actor = mailbox.actor
        if actor is not None and actor.wants(timed):
            mailbox.put(timed)


class _Clock:
    """The world's time, read in this file alone."""

    @staticmethod
    def now() -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    @staticmethod
    def wall() -> float:
        """Return seconds since the epoch."""
        return time.time()


class SharedDispatcher(_Clock):
    """One loop thread runs many actors, which must never block."""

    def __init__(self, name: str = "shared") -> None:
        self._sequence = count()
        self.loop = Loop(name, Channel())

    def start(self) -> None:
        """Start the loop's thread."""
        self.loop.start()

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec*; any thread may call it."""
        return open_mailbox(spec, directory, self, self.loop.ready.put)

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Set a timer; called in the loop's thread."""
        heappush(self.loop.heap, (time.monotonic() + seconds, next(self._sequence), mailbox, timed))

    def retire(self, mailbox: Mailbox) -> None:
        """Do nothing: the loop serves others."""

    def loops(self) -> list[Loop]:
        """Return the loops that the watchdog looks at."""
        return [self.loop]

    def replace(self, stuck: Loop) -> None:
        """Go on with a new thread on the same channel and timers; the stuck one has been fenced."""
        self.loop = Loop(stuck.name, stuck.ready, stuck.heap)
        self.loop.start()

    def stop(self) -> None:
        """End the loop after what is in its channel now."""
        self.loop.ready.put(STOP)

    def threads(self) -> list[Thread]:
        """Return the threads to join."""
        return [self.loop.thread]


class PinnedDispatcher(_Clock):
    """One thread for each actor; these may block."""

    def __init__(self) -> None:
        self._sequence = count()
        self._loops: dict[str, Loop] = {}

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec* and its thread; any thread may call it."""
        loop = Loop(spec.address, Channel())
        ref = open_mailbox(spec, directory, self, loop.ready.put)
        self._loops[spec.address] = loop
        loop.start()
        return ref

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Set a timer; called in the actor's own thread."""
        heappush(self._loops[mailbox.address].heap, (time.monotonic() + seconds, next(self._sequence), mailbox, timed))

    def retire(self, mailbox: Mailbox) -> None:
        """End the thread of an actor that has stopped; called in that thread."""
        loop = self._loops.pop(mailbox.address, None)
        if loop is not None:
            loop.ready.put(STOP)

    def loops(self) -> list[Loop]:
        """Return the loops that the watchdog looks at."""
        return list(self._loops.values())

    def replace(self, stuck: Loop) -> None:
        """Go on with a new thread on the same channel and timers; the stuck one has been fenced."""
        loop = Loop(stuck.name, stuck.ready, stuck.heap)
        self._loops[stuck.name] = loop
        loop.start()

    def stop(self) -> None:
        """End every loop after what is in its channel now."""
        for loop in self.loops():
            loop.ready.put(STOP)

    def threads(self) -> list[Thread]:
        """Return the threads to join."""
        return [loop.thread for loop in self.loops()]
