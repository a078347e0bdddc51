"""The watchdog: looks at every loop twenty times a second, and goes on without a handler that never returns.

Python cannot kill a thread. So the watchdog takes the running turn away from it (``Loop.running``, one atomic pop),
starts a second thread on the same channel and timers, and reports the actor as failed; its parent then replaces it.
Whatever the stuck handler would have sent is discarded when it returns, if it ever does.

Time in which the watchdog itself could not look (a stopped process, a machine that was asleep) is not held against a
handler.
"""

from __future__ import annotations

import sys
import traceback
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pykka

from actors.base import describe, in_words
from actors.dispatcher import fence
from runtime.channel import Channel, Empty
from runtime.loop import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.directory import Directory
    from runtime.loop import Loop

PERIOD = 0.05
SLOW = 0.1
"""From this many seconds on a handler on the shared loop is named in the log."""
LONGEST_LOOK = 0.5
"""At most these seconds count between two looks."""


class Seen(NamedTuple):
    """What a loop was doing: the turn, how many seconds it had lasted, and whether it was named in the log."""

    turn: int
    held: float
    told: bool


class Watched(Protocol):
    """A dispatcher with loops."""

    def loops(self) -> list[Loop]:
        """Return the loops to look at."""
        ...

    def replace(self, stuck: Loop) -> None:
        """Go on with a new thread."""
        ...


class Watchdog:
    """A daemon thread that compares what each loop is doing with what it was doing before."""

    def __init__(
        self, directory: Directory, dispatchers: tuple[Watched, ...], on_slow: Callable[[str, str, float], object]
    ) -> None:
        self._directory = directory
        self._dispatchers = dispatchers
        self._on_slow = on_slow
        self._seen: dict[Loop, Seen] = {}
        self._looked = 0.0
        self._bell: Channel[None] = Channel()
        self.stuck: list[Thread] = []
        self.thread = Thread(target=self._run, name="troupe-watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._bell.put(None)

    def _run(self) -> None:
        while True:
            try:
                self._bell.get(timeout=PERIOD)
            except Empty:
                self._look_safely()
            else:
                return

    def _look_safely(self) -> None:
        try:
            self.look(Clock.now())
        except BaseException as error:  # noqa: BLE001 (who would watch, if this thread ended?)
            self._directory.dead_letter("watchdog", f"it could not look: {in_words(error)}", None)

    def look(self, now: float) -> None:
        """Look once at every loop; *now* in monotonic seconds."""
        passed, self._looked = min(now - self._looked, LONGEST_LOOK), now
        before, self._seen = self._seen, {}
        self.stuck = [thread for thread in self.stuck if thread.is_alive()]
        for dispatcher in self._dispatchers:
            for loop in dispatcher.loops():
                for turn in list(loop.running):
                    self._judge(dispatcher, loop, turn, before.get(loop), passed)

    def _judge(self, dispatcher: Watched, loop: Loop, turn: int, before: Seen | None, passed: float) -> None:
        mailbox = loop.running.get(turn)
        if mailbox is None:
            return  # it has just returned
        seen = Seen(turn, 0.0, False)
        if before is not None and before.turn == turn:
            seen = before._replace(held=before.held + passed)
        limit = mailbox.spec.stuck_after if mailbox.spec is not None else None
        if limit is not None and seen.held >= limit:
            self._take_over(dispatcher, loop, turn, limit)
            return
        if limit is not None and seen.held >= SLOW and not seen.told:
            self._on_slow(mailbox.address, describe(loop.taken), seen.held)
            seen = seen._replace(told=True)
        self._seen[loop] = seen

    def _take_over(self, dispatcher: Watched, loop: Loop, turn: int, limit: float) -> None:
        mailbox = loop.running.pop(turn, None)
        if mailbox is None:
            return  # it returned at the last moment
        self.stuck.append(loop.thread)
        error = pykka.Timeout(f"its handler did not return within {limit:g} s")
        try:
            fence(mailbox, loop.taken, error, stack_of(loop.thread))
        finally:
            dispatcher.replace(loop)


def stack_of(thread: Thread) -> str:
    """Return where *thread* is now, as a traceback would show it."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 (documented, whatever its underscore says)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""
