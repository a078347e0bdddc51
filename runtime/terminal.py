"""The three standard streams, whatever state they are in: closed, full, a pipe that nobody reads, a terminal.

Results wait for their reader; what stands on standard error does not, and is dropped when nobody reads it.
"""

from __future__ import annotations

import os
import re
import sys

from runtime.line_writer import LineWriter
from runtime.screen import NOTHING, Frame

WIDTH = 72
"""Characters of a task or error that are shown in a line at most."""
COLUMNS = 120
"""Columns of a line where standard error is no terminal."""
ROWS = 24
"""Lines of a terminal that does not say."""
MOST_LINE = 2000
"""Characters of an error's line."""

IN_ORDER = 1.0
"""Seconds that a result waits for the lines before it, since both may go to one terminal."""

_errors = LineWriter(2)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class OutputLost(OSError):  # noqa: N818 (news, not a fault: it reads as `except OutputLost`)
    """Standard output cannot be written."""


def open_all() -> None:
    """Put the null device where a standard stream is closed, so that no socket or file takes its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def silence(number: int) -> None:
    """Let what is still written to stream *number* go nowhere: nobody reads it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def print_out(text: str) -> None:
    """Write *text* and a newline to standard output as UTF-8, whatever the locale says.

    A terminal gets control characters escaped. A reader that has gone is no error; a full disk is: ``OutputLost``.
    """
    if sys.stdout.isatty():  # perhaps the terminal that a frame stands on; the next one follows the text
        text = escaped(text)
        show(NOTHING)
    _errors.flush(IN_ORDER)
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        silence(1)
    except OSError as error:
        silence(1)
        raise OutputLost(error.errno, error.strerror) from None


def say(text: str) -> None:
    """Have *text*, one line or several, written to standard error; never waits, and any thread may call it."""
    _errors.put(text.encode("utf-8", "replace") + b"\n")


def show(frame: Frame) -> None:
    """Have *frame* put at the end of the terminal that standard error is; lines are written above it."""
    _errors.show(frame)


def is_terminal() -> bool:
    """Tell whether standard error is a terminal."""
    try:
        return os.isatty(2)
    except OSError:
        return False


def rows() -> int:
    """Return how many lines the terminal on standard error has now."""
    try:
        return os.get_terminal_size(2).lines or ROWS
    except OSError:
        return ROWS


def columns() -> int:
    """Return how wide a line on standard error may be now; a terminal can be resized at any time."""
    try:
        return os.get_terminal_size(2).columns or COLUMNS
    except OSError:
        return COLUMNS


def program() -> str:
    """Return how the command line was started."""
    return "troupe" if os.path.basename(sys.argv[0]) == "troupe" else "python -m runtime"  # noqa: PTH119 (a text)


def complain(text: str, page: str = "") -> None:
    """Say in one line what went wrong; *page* is the heading in ``docs/errors.md`` that says why, and what to do."""
    say(f"troupe: {printable(text, MOST_LINE)}{f' [errors.md#{page}]' if page else ''}")


def printable(text: str, width: int = WIDTH) -> str:
    """Return *text* on one line without control characters, cut to *width* characters."""
    one_line = " ".join(text[: 8 * width].split())
    safe = "".join(c if c.isprintable() else _escape(c) for c in one_line)
    return safe if len(safe) <= width else safe[: width - 3] + "..."


def escaped(text: str) -> str:
    """Return *text* with what could steer a terminal made visible; lines and tabs stay."""
    return _CONTROL.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
