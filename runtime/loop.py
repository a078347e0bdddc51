"""The threaded dispatchers: one loop thread for many actors (shared), or one thread for each (pinned).

A loop takes wake tokens from its channel; a token is a mailbox in which one message waits. It owns its timers, so that
they are set and fire in its thread. Whoever pops the running turn from ``running`` owns its end: the loop when the
handler returns, or the watchdog when it never does (``runtime/watchdog.py``). ``dict.pop`` is atomic, so exactly one of
them gets it.
"""

from __future__ import annotations

import time
from heapq import heapify, heappop, heappush
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


FEW = 1000
"""Up to this many timers, stale ones wait until they are due."""


class Timers:
    """The timers of one loop, in a heap; used in its thread alone."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Mailbox, Timed]] = []
        self._sequence = count()
        self._many = FEW

    def set(self, seconds: float, mailbox: Mailbox, timed: Timed) -> None:
        """Set a timer; when they have doubled, sweep out those that were replaced or cancelled."""
        heappush(self.heap, (time.monotonic() + seconds, next(self._sequence), mailbox, timed))
        if len(self.heap) > self._many:
            self.heap[:] = [entry for entry in self.heap if _wanted(entry[2], entry[3])]
            heapify(self.heap)
            self._many = max(FEW, 2 * len(self.heap))

    def fire(self) -> None:
        """Turn the timer that is due into mail, unless it is stale."""
        _, _, mailbox, timed = heappop(self.heap)
        if _wanted(mailbox, timed):
            mailbox.put(timed)


def _wanted(mailbox: Mailbox, timed: Timed) -> bool:
    actor = mailbox.actor
    return actor is not None and actor.wants(timed)


class Loop:
    """A thread that executes actors, one message at a time."""

    def __init__(self, name: str, ready: Channel[Mailbox], timers: Timers) -> None:
        self.name = name
        self.ready = ready
        self.timers = timers
        self.running: dict[int, Mailbox] = {}
        self.taken: Any = None
        self.thread = Thread(target=self.run, name=f"troupe-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def run(self) -> None:
        """Execute turns until the stop token comes, or until this loop was fenced."""
        heap, get, running, clock = self.timers.heap, self.ready.get, self.running, time.monotonic
        turn = 0
        while True:
            try:
                if heap:
                    wait = heap[0][0] - clock()
                    if wait <= 0.0:
                        self.timers.fire()
                        continue
                    mailbox = get(True, wait)
                else:
                    mailbox = get()
            except Empty:
                continue
            if mailbox is STOP:
                return
            actor = mailbox.actor
            try:
                self.taken = item = mailbox.verdict() if actor is None or mailbox.suspended else mailbox.take()
            except (IndexError, AttributeError):  # nothing to deliver: not yet, or drained meanwhile
                continue
            turn += 1
            running[turn] = mailbox
            failure = None
            try:
                actor.execute(item)  # type: ignore[union-attr]
            except BaseException as error:  # noqa: BLE001 (SystemExit in one actor must not stop the others)
                failure = error
            if running.pop(turn, None) is None:
                return  # fenced: another loop goes on where this one stood
            finish(actor, item, failure)  # type: ignore[arg-type]


class Clock:
    """The world's time, read in this file alone."""

    @staticmethod
    def now() -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    @staticmethod
    def wall() -> float:
        """Return seconds since the epoch."""
        return time.time()


class SharedDispatcher(Clock):
    """One loop thread runs many actors, which must never block."""

    def __init__(self, name: str = "shared") -> None:
        self.loop = Loop(name, Channel(), Timers())

    def start(self) -> None:
        """Start the loop's thread."""
        self.loop.start()

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec*; any thread may call it."""
        return open_mailbox(spec, directory, self, self.loop.ready.put)

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Set a timer; called in the loop's thread."""
        self.loop.timers.set(seconds, mailbox, timed)

    def retire(self, mailbox: Mailbox) -> None:
        """Do nothing: the loop serves others."""

    def loops(self) -> list[Loop]:
        """Return the loops that the watchdog looks at."""
        return [self.loop]

    def replace(self, stuck: Loop) -> None:
        """Go on with a new thread on the same channel and timers; the stuck one has been fenced."""
        self.loop = Loop(stuck.name, stuck.ready, stuck.timers)
        self.loop.start()

    def stop(self) -> None:
        """End the loop after what is in its channel now."""
        self.loop.ready.put(STOP)

    def threads(self) -> list[Thread]:
        """Return the threads to join."""
        return [self.loop.thread]


class PinnedDispatcher(Clock):
    """One thread for each actor; these may block."""

    def __init__(self) -> None:
        self._loops: dict[str, Loop] = {}

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec* and its thread; any thread may call it."""
        loop = Loop(spec.address, Channel(), Timers())
        ref = open_mailbox(spec, directory, self, loop.ready.put)
        self._loops[spec.address] = loop
        try:
            loop.start()
        except RuntimeError:  # the machine gives no more threads
            self._loops.pop(spec.address)
            directory.mailboxes.pop(spec.address).seal("no thread could be started for it")
            raise
        return ref

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Set a timer; called in the actor's own thread."""
        self._loops[mailbox.address].timers.set(seconds, mailbox, timed)

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
        loop = Loop(stuck.name, stuck.ready, stuck.timers)
        self._loops[stuck.name] = loop
        loop.start()

    def stop(self) -> None:
        """End every loop after what is in its channel now."""
        for loop in self.loops():
            loop.ready.put(STOP)

    def threads(self) -> list[Thread]:
        """Return the threads to join."""
        return [loop.thread for loop in self.loops()]
