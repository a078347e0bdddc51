"""Lines for a descriptor that perhaps nobody reads: a bounded queue, and one thread that alone waits for the reader.

Whoever puts a line goes on at once, be it the loop that runs every actor. When too many wait, further ones are dropped
and counted, and the count is written when the others are out.
"""

from __future__ import annotations

import atexit
import os
import select
from collections import deque
from threading import Thread

from runtime.channel import Channel, Empty
from runtime.screen import Frame, Screen

MOST_LINES = 10_000
"""How many lines may wait for a reader."""
LAST_WORDS = 5.0
"""Seconds that the end of the process waits for the reader."""


class LineWriter:
    """Writes lines to descriptor *number*, in the order in which they were put. Any thread may call any method."""

    def __init__(self, number: int, most: int = MOST_LINES) -> None:
        self._number = number
        self._most = most
        self._waiting: Channel[bytes | Frame | Channel[None]] = Channel()
        self._screen = Screen()  # the writing thread's own
        self._dropped: deque[None] = deque()
        self._unheard: Channel[None] | None = None
        self._broken = False
        self._unstarted = [Thread(target=self._run, name="line-writer", daemon=True)]

    def put(self, line: bytes) -> None:
        """Have *line*, which ends with a newline, written. Never blocks, never raises."""
        if self._waiting.qsize() >= self._most:
            self._dropped.append(None)
            return
        self._waiting.put(line)
        if self._unstarted:
            self._start()

    def show(self, frame: Frame) -> None:
        """Have *frame* put at the end of the screen; one for which the reader is too slow is left out."""
        if not frame.lines and self._unstarted:
            return  # nothing stands there yet
        if frame.stays or not frame.lines or self._waiting.empty():
            self._waiting.put(frame)
            if self._unstarted:
                self._start()

    def flush(self, within: float, *, again: bool = False) -> bool:
        """Wait until all is written that was put before, at most *within* seconds; tell whether it is.

        Once it was in vain, it does not wait before the reader has caught up, unless it is told to *again*.
        """
        if self._unstarted:
            return True
        late, mark = self._unheard, Channel[None]()
        if late is not None and not _came(late, within if again else 0.0):
            return False
        self._waiting.put(mark)
        self._unheard = None if _came(mark, within) else mark
        return self._unheard is None

    def _start(self) -> None:
        try:
            thread = self._unstarted.pop()
        except IndexError:  # another thread was quicker
            return
        thread.start()
        atexit.register(self.flush, LAST_WORDS, again=True)

    def _run(self) -> None:
        while True:
            match self._waiting.get():
                case bytes() as line:
                    self._write(self._screen.text(line))
                case Frame() as frame:
                    self._write(self._screen.frame(frame))
                case mark:
                    mark.put(None)
            if self._dropped and self._waiting.empty():
                self._confess()

    def _confess(self) -> None:
        count = len(self._dropped)
        for _ in range(count):
            self._dropped.popleft()
        lines = "1 line was" if count == 1 else f"{count} lines were"
        self._write(self._screen.text(f"troupe: {lines} dropped here: nobody read them in time\n".encode()))

    def _write(self, line: bytes) -> None:
        """Write all of *line*, however long it takes; where nobody can ever read it, nothing happens."""
        while line and not self._broken:
            try:
                line = line[os.write(self._number, line) :]
            except BlockingIOError:  # another process has made the pipe or terminal that we share non-blocking
                select.select([], [self._number], [])
            except OSError:
                self._broken = True


def _came(mark: Channel[None], within: float) -> bool:
    try:
        mark.get(timeout=within)
    except Empty:
        return False
    return True
