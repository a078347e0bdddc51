"""SIGINT and SIGTERM, for the command line alone; the library installs no handlers.

While there is nothing to lose yet, a signal ends the process at once. While runs are open, the first one asks and the
second one ends. CPython runs a handler in the main thread, and not before that thread goes on: a signal that comes just
before it begins to wait, or to another thread, is heard seconds later. So the handlers do nothing here; a thread of its
own hears of each signal by the wakeup descriptor, into which CPython writes at once.
"""

from __future__ import annotations

import os
import signal
from threading import Thread
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once() -> None:
    """From now on a signal ends the process with its exit code, 130 or 143, and no word."""
    for number in SIGNALS:
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Be installed: only then does CPython write the signal into the wakeup descriptor."""


class Interrupts:
    """``with Interrupts(on_first):`` calls *on_first* with the first signal's number; the second ends the process.

    *on_first* is called in a thread of its own, so it may only put a word into a channel. ``number`` is the first
    signal's, 0 when none came. Main thread only.
    """

    def __init__(self, on_first: Callable[[int], object]) -> None:
        self.number = 0
        self._on_first = on_first
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._woken = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._listener = Thread(target=self._listen, name="troupe-signals", daemon=True)
        self._listener.start()
        self._before = {number: signal.signal(number, _nothing) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._woken)
        os.close(self._writer)
        self._listener.join()
        os.close(self._reader)

    def _listen(self) -> None:
        while heard := os.read(self._reader, 64):
            for number in heard:
                self._handle(number)

    def _handle(self, number: int) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
        self._on_first(number)
