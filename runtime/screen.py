"""A frame on a terminal that lines are written to as well: what to write so that both stand where they belong.

The frame is the last thing on the screen. A line goes above it; a new frame replaces the old one in place, and only the
lines that differ are written, so that nothing flickers. No byte is read from the terminal, the cursor is never hidden
and the screen never switched: a process that ends at any instant leaves the terminal as it should be.
"""

from __future__ import annotations

from msgspec import Struct

BEGIN, END = b"\x1b[?2026h", b"\x1b[?2026l"
"""A terminal that knows them shows what is between in one go; others ignore them."""
CLEAR_LINE, CLEAR_BELOW = b"\x1b[K", b"\x1b[J"


class Frame(Struct, frozen=True, kw_only=True):
    """What is to stand at the end of the screen: lines, with what steers their colours, and their widths in cells.

    ``columns`` is what the terminal had when it was drawn. One that ``stays`` is the last: what comes next follows it.
    """

    lines: tuple[bytes, ...] = ()
    widths: tuple[int, ...] = ()
    columns: int = 0
    stays: bool = False


NOTHING = Frame()


class Screen:
    """Says what to write; knows which frame stands there now, with the cursor in the line below it."""

    def __init__(self) -> None:
        self._frame = NOTHING

    def text(self, text: bytes) -> bytes:
        """Return what writes *text*, which ends with a newline, above the frame."""
        frame = self._frame
        if not frame.lines:
            return text
        return b"".join((BEGIN, _up(_height(frame, frame.columns)), CLEAR_BELOW, text, *_whole(frame), END))

    def frame(self, frame: Frame) -> bytes:
        """Return what puts *frame* in place of the one that is there."""
        old, self._frame = self._frame, NOTHING if frame.stays else frame
        if not old.lines:
            return b"".join((BEGIN, *_whole(frame), END)) if frame.lines else b""
        up = _up(_height(old, frame.columns or old.columns))
        if frame.columns != old.columns:
            return b"".join((BEGIN, up, CLEAR_BELOW, *_whole(frame), END))
        lines = [
            b"\n" if n < len(old.lines) and old.lines[n] == line else line + CLEAR_LINE + b"\n"
            for n, line in enumerate(frame.lines)
        ]
        return b"".join((BEGIN, up, *lines, CLEAR_BELOW if len(old.lines) > len(lines) else b"", END))


def _height(frame: Frame, columns: int) -> int:
    """Return how many rows *frame* takes on a terminal that has *columns* now: it breaks lines that became too long."""
    return sum(max(1, -(-width // columns)) for width in frame.widths) if columns else len(frame.lines)


def _up(rows: int) -> bytes:
    return b"\r\x1b[%dA" % rows


def _whole(frame: Frame) -> list[bytes]:
    return [line + CLEAR_LINE + b"\n" for line in frame.lines]
