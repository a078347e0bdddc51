"""A frame at the end of a terminal that lines are written to as well: both stand where they belong."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.screen import NOTHING, Frame, Screen
from tests.runtime.screens import Terminal


def frame(*lines: str, columns: int = 80, stays: bool = False) -> Frame:
    encoded = tuple(line.encode() for line in lines)
    return Frame(lines=encoded, widths=tuple(map(len, lines)), columns=columns, stays=stays)


def test_without_a_frame_text_goes_through_as_it_is():
    assert Screen().text(b"\x1b[1many\n") == b"\x1b[1many\n"


def test_a_frame_that_is_the_same_writes_no_line_again():
    screen = Screen()
    screen.frame(frame("one", "two", "three"))
    again = screen.frame(frame("one", "2", "three"))
    assert b"2" in again
    assert b"one" not in again
    assert b"three" not in again


def test_a_terminal_that_became_narrower_has_broken_the_lines_of_the_frame():
    screen, terminal = Screen(), Terminal(40)
    terminal.write(screen.text(b"before\n") + screen.frame(frame("x" * 35, "y" * 10, columns=40)))
    terminal.lines = ["before", "x" * 20, "x" * 15, "y" * 10, ""]
    terminal.row, terminal.columns = 4, 20
    terminal.write(screen.frame(frame("x" * 19, "y" * 10, columns=20)))
    assert terminal.text == ["before", "x" * 19, "y" * 10]


LINES = st.lists(st.text("abc", min_size=1, max_size=5), max_size=5)
WRITTEN = st.lists(st.tuples(st.sampled_from(["text", "frame", "stays", "nothing"]), LINES), max_size=12)


@settings(max_examples=60)
@given(WRITTEN)
def test_whatever_is_written_texts_stand_in_their_order_and_the_last_frame_below_them(written):
    screen, terminal = Screen(), Terminal(rows=6)
    texts: list[str] = []
    shown: list[str] = []
    for what, lines in written:
        if what == "text":
            said = lines or [""]
            terminal.write(screen.text("".join(f"{line}\n" for line in said).encode()))
            texts += said
        elif what == "nothing":
            terminal.write(screen.frame(NOTHING))
            shown = []
        else:
            terminal.write(screen.frame(frame(*lines, stays=what == "stays")))
            shown = lines
        if what == "stays":
            texts, shown = texts + shown, []
    expected = texts + shown
    while expected and not expected[-1]:
        expected.pop()
    assert terminal.text == expected
