"""A terminal for tests: what stands on it after bytes were written to it, and what has scrolled out of it."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

TOKEN = re.compile(rb"\x1b\[(\??)([0-9;]*)([A-Za-z])|[\r\n\x08\x07\t\x1b]|[^\x1b\r\n\x08\x07\t]+")


class Terminal:
    """Understands what a frame is made of, and nothing else: an unknown sequence is an error."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.rows = rows
        self.lines: list[str] = [""]
        self.row = 0
        self.column = 0
        self.broken = 0  # lines that were too long

    def write(self, data: bytes) -> Terminal:
        for token in TOKEN.finditer(data):
            if token[3]:
                self._steer(token[1] + token[3], token[2])
            elif token[0] == b"\n":
                self._down()
            elif token[0] == b"\r":
                self.column = 0
            else:
                self._put(token[0].decode())
        return self

    @property
    def text(self) -> list[str]:
        """All lines, from the first that was ever written to the last that is not empty."""
        lines = [line.rstrip() for line in self.lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _steer(self, what: bytes, number: bytes) -> None:
        match what:
            case b"A":
                self.row = max(0, len(self.lines) - self.rows, self.row - int(number or b"1"))
            case b"K":
                self.lines[self.row] = self.lines[self.row][: self.column]
            case b"J":
                self.lines[self.row] = self.lines[self.row][: self.column]
                del self.lines[self.row + 1 :]
            case b"m" | b"?h" | b"?l":
                pass
            case _:
                raise AssertionError((what, number))

    def _down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def _put(self, text: str) -> None:
        assert text.isprintable(), text
        while cell_len(self.lines[self.row][: self.column] + text) > self.columns:
            room = self.columns - cell_len(self.lines[self.row][: self.column])
            part = set_cell_size(text, room).rstrip() if cell_len(text) > room else text
            self._put(part)
            self._down()
            self.broken += 1
            text = text[len(part) :]
        line = self.lines[self.row]
        self.lines[self.row] = line[: self.column] + text + line[self.column + len(text) :]
        self.column += len(text)
