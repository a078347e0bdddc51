"""SIGINT and SIGTERM, for the command line alone; the library installs no handlers.

A handler never raises: an exception out of it would end a ``Thread.join`` as if the thread had ended. While there is
nothing to lose yet, a signal ends the process at once; while runs are open, the first one asks and the second one ends.
"""

from __future__ import annotations

import os
import signal
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


class Interrupts:
    """``with Interrupts(on_first):`` calls *on_first* with the first signal's number; the second ends the process.

    *on_first* is called between two instructions of the main thread, so it may only put a word into a channel.
    ``number`` is the first signal's, 0 when none came.
    """

    def __init__(self, on_first: Callable[[int], object]) -> None:
        self.number = 0
        self._on_first = on_first
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            _end(number, frame)
        self.number = number
        self._on_first(number)
