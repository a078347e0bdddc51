"""The test kit on real threads: the same tests, the same virtual time, but handlers run as in production.

Actors run on the shared loop's thread or, pinned, on threads of their own. Time is still virtual: timers fire when no
message waits and no handler runs, so an hour passes at once and a blocking function takes as long as it takes. This
finds what the simulation cannot: handlers that share state across threads, and functions that block.
"""

from __future__ import annotations

import time
from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

from actors.base import describe
from actors.dispatcher import open_mailbox
from actors.kit import ActorTestKit
from actors.simulation import EPOCH, MICROS
from protocol import ids
from protocol.signals import Stop
from runtime.channel import Channel, Empty
from runtime.loop import STOP, Loop, Timers

if TYPE_CHECKING:
    import pykka

    from actors.base import Actor, Timed
    from actors.directory import ActorSpec, Directory
    from actors.mailbox import Mailbox

PATIENCE = 5.0
"""Real seconds that a test waits for handlers to return; none waits that long when all is well."""

Entry = tuple[int, int, "Mailbox", "Timed"]


class Tokens(Channel["Mailbox"]):
    """The wake tokens of one loop. *under_way* holds one entry for each token, of all loops, until its turn has ended.

    A loop that asks for its next token has ended the turn of the one before, commit and all. So while anything is still
    to happen, *under_way* is not empty; whoever empties it says so on *quiet*.
    """

    def __init__(self, under_way: deque[None], quiet: Channel[None]) -> None:
        super().__init__()
        self._under_way = under_way
        self._quiet = quiet
        self._busy = False
        self._ended = False

    def put(self, item: Mailbox, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 (as its base)
        """Give a token; any thread."""
        if item is not STOP:
            self._under_way.append(None)
        super().put(item, block, timeout)
        if self._ended:
            self._drain()

    def get(self, block: bool = True, timeout: float | None = None) -> Mailbox:  # noqa: FBT001, FBT002 (as its base)
        """Take the next token; the loop's thread."""
        if self._busy:
            self._busy = False
            self._done()
        item = super().get(block, timeout)
        if item is STOP:
            self._ended = True
            self._drain()
        else:
            self._busy = True
        return item

    def _drain(self) -> None:
        """Take back the tokens that nobody will take any more: their mailboxes are sealed, or their system is over."""
        try:
            while True:
                if super().get(False) is not STOP:
                    self._done()
        except Empty:
            return

    def _done(self) -> None:
        self._under_way.pop()
        if not self._under_way:
            self._quiet.put(None)


class ThreadedStage:
    """Executes actors on threads, with virtual time. What a test drives is called in the test's thread alone."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._micros = 0
        self._under_way: deque[None] = deque()
        self._quiet: Channel[None] = Channel()
        self._set: deque[Entry] = deque()
        self._heap: list[Entry] = []
        self._sequence = count()
        self._shared = self._loop("kit")
        self._pinned: dict[str, Loop] = {}
        self._threads = [self._shared.thread]
        self._shared.start()

    def _loop(self, name: str) -> Loop:
        return Loop(name, Tokens(self._under_way, self._quiet), Timers())

    # --- a dispatcher

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec*, and its thread if it is pinned; any thread may call it."""
        if not spec.pinned:
            return open_mailbox(spec, directory, self, self._shared.ready.put)
        loop = self._loop(spec.address)
        ref = open_mailbox(spec, directory, self, loop.ready.put)
        self._pinned[spec.address] = loop
        self._threads.append(loop.thread)
        loop.start()
        return ref

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Set a timer in virtual time; called in the actor's own thread."""
        self._set.append((self._micros + max(0, round(seconds * MICROS)), next(self._sequence), mailbox, timed))

    def retire(self, mailbox: Mailbox) -> None:
        """End the thread of a pinned actor that has stopped; called in that thread."""
        loop = self._pinned.pop(mailbox.address, None)
        if loop is not None:
            loop.ready.put(STOP)

    def now(self) -> float:
        """Return virtual seconds."""
        return self._micros / MICROS

    def wall(self) -> float:
        """Return virtual seconds since the epoch."""
        return EPOCH + self.now()

    def across(self, message: Any) -> Any:
        """Return *message*: between threads lies no wire."""
        return message

    # --- what a test drives

    def settle(self) -> None:
        """Return when no message waits and no handler runs. Raises ``RuntimeError`` when that takes too long."""
        until = time.monotonic() + self.patience
        while self._under_way:
            try:
                self._quiet.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise RuntimeError(f"no end after {self.patience:g} s of real time; {self._busy()}") from None

    def next_timer(self) -> float | None:
        """Return when the next live timer fires, in virtual seconds."""
        while self._set:
            heappush(self._heap, self._set.popleft())
        while self._heap and not _live(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] / MICROS if self._heap else None

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, firing timers in order and settling after each."""
        end = self._micros + round(seconds * MICROS)
        self.run(until=end / MICROS)
        self._micros = max(self._micros, end)

    def run(self, *, until: float = float("inf")) -> None:
        """Settle and skip idle time until no timer is left, or virtual time would pass *until* seconds."""
        self.settle()
        while (due := self.next_timer()) is not None and due <= until:
            micros, _, mailbox, timed = heappop(self._heap)
            self._micros = max(self._micros, micros)
            mailbox.put(timed)
            self.settle()

    def stop(self) -> list[str]:
        """End every thread; returns the names of those that do not end."""
        for loop in (self._shared, *self._pinned.values()):
            loop.ready.put(STOP)
        until = time.monotonic() + self.patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _busy(self) -> str:
        loops = [loop for loop in (self._shared, *list(self._pinned.values())) if loop.running]
        running = [
            f"{mailbox.address} with {describe(loop.taken)}"
            for loop in loops
            for mailbox in list(loop.running.values())
        ]
        return f"still running: {', '.join(running)}" if running else "do two actors answer each other for ever?"


class ThreadedTestKit(ActorTestKit):
    """The kit on real threads. Use it as a context manager, or :meth:`close` it: it has threads to end.

    *patience* is in real seconds and bounds every wait. *options* as of :class:`ActorTestKit`, save those of the
    simulation (``seed``): who is next is up to the threads.
    """

    def __init__(self, model: Any = None, *, patience: float = PATIENCE, **options: Any) -> None:
        self._stage = ThreadedStage(patience)
        try:
            super().__init__(model, stage=self._stage, **options)
        except BaseException:
            self._stage.stop()
            raise

    def close(self) -> None:
        """Stop every actor and end every thread, each wait bounded. Fails when one does not end."""
        self.directory.on_turn = None
        self.directory.on_dead_letter = self.directory.dead.append
        last = (ids.DESK, ids.SUPERVISOR)
        for address in (*(a for a in list(self.directory.mailboxes) if a not in last), *last):
            self.directory.send(address, Stop(reason="the test is over"))
        alive = self._stage.stop()
        if alive:
            self.fail(f"these threads did not end: {', '.join(alive)}")


def _live(entry: Entry) -> bool:
    _, _, mailbox, timed = entry
    return mailbox.actor is not None and mailbox.actor.wants(timed)
