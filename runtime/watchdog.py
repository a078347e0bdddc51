"""The watchdog: looks at every loop twenty times a second, and goes on without a handler that never returns.

Python cannot kill a thread. So the watchdog takes the running turn away from it (``Loop.running``, one atomic pop), starts a
second thread on the same channel and timers, and reports the actor as failed; its parent then replaces it. Whatever the stuck
handler would have sent is discarded when it returns, if it ever does.
"""

from __future__ import annotations

import time
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from actors.base import describe
from protocol.errors import ErrorKind
from protocol.signals import ChildFailed
from runtime.channel import Channel, Empty

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.directory import Directory
    from actors.mailbox import Mailbox
    from runtime.loop import Loop

PERIOD = 0.05
SLOW = 0.1
"""From this many seconds on a handler on the shared loop is named in the log."""


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
        self._seen: dict[Loop, tuple[int, float, bool]] = {}
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
                self.look(time.monotonic())
            else:
                return

    def look(self, now: float) -> None:
        """Look once at every loop; *now* in monotonic seconds."""
        seen: dict[Loop, tuple[int, float, bool]] = {}
        for dispatcher in self._dispatchers:
            for loop in dispatcher.loops():
                running = list(loop.running.items())
                if running:
                    turn, mailbox = running[0]
                    seen[loop] = self._judge(dispatcher, loop, turn, mailbox, now)
        self._seen = seen

    def _judge(self, dispatcher: Watched, loop: Loop, turn: int, mailbox: Mailbox, now: float) -> tuple[int, float, bool]:
        before = self._seen.get(loop)
        if before is None or before[0] != turn:
            return turn, now, False
        since, told = before[1], before[2]
        limit = mailbox.spec.stuck_after if mailbox.spec is not None else None
        if limit is None:
            return before
        if now - since >= limit:
            self._take_over(dispatcher, loop, turn, mailbox, limit)
        elif now - since >= SLOW and not told:
            self._on_slow(mailbox.address, describe(mailbox.taken), now - since)
            return turn, since, True
        return before

    def _take_over(self, dispatcher: Watched, loop: Loop, turn: int, mailbox: Mailbox, limit: float) -> None:
        if loop.running.pop(turn, None) is None:
            return  # it returned at the last moment
        mailbox.suspend()
        mailbox.stuck = mailbox.taken
        self.stuck.append(loop.thread)
        news = ChildFailed(
            address=mailbox.address,
            kind=ErrorKind.STUCK,
            error=f"its handler did not return within {limit:g} s",
            message=describe(mailbox.taken),
        )
        dispatcher.replace(loop)
        for watcher in mailbox.spec.watchers if mailbox.spec is not None else ():
            self._directory.send(watcher, news)
        self._directory.report(mailbox, news, time.monotonic())
