"""Frames of the live view: they fit the terminal, whatever its size, and nothing in a text steers it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from protocol.errors import ErrorKind
from protocol.messages import WorkflowResult
from protocol.signals import Progress
from runtime.view_draw import draw
from runtime.view_state import DomainState, ViewState
from tests.runtime.screens import Terminal

NOW = 1000.0
STYLE = re.compile("\x1b\\[[0-9;]*m")
LONG = "Handle the errors and edge cases of an async HTTP client with retries, timeouts and a cache of its own: " * 2
TITLES = [
    LONG,
    "Größe prüfen 🎭 und 漢字漢字漢字漢字漢字漢字漢字 zählen",
    "\x1b[31mred\x07\x9b1m\u202e",
    "c",
    "d",
]
SNAPSHOT = {"domain": "main", "waits_for": "requests_per_minute", "waiting": 12, "in_flight": 3, "blocked_s": 7.2}


def event(name: str, run: str = "r0", **facts) -> Progress:
    return Progress(run=run, event=name, at=NOW, facts=facts)


def busy(runs: int = 1, titles: list[str] = TITLES, total: int | None = None) -> ViewState:
    """Return what is seen of *runs* with leaves in different states."""
    limits = {"main": DomainState(8, {"requests_per_minute": 60.0, "tokens_per_minute": 40_000.0})}
    state = ViewState(began=NOW - 10.0, total=total or runs, limits=limits, budget=5.0)
    for run in (f"r{n}" for n in range(runs)):
        state.on_opened(run, f"{run} {LONG}", NOW - 5.0)
        state.on_event(event("plan.made", run, subtasks=titles))
        for n, title in enumerate(titles[:3]):
            role = ("coder", "coder", "reviewer")[n]
            state.on_event(event("task.started", run, step=f"{run}/{n}", role=role, content=title))
            state.on_event(event("call.queued", run, step=f"{run}/{n}/0", domain="main"))
            state.on_event(event("call.sent", run, step=f"{run}/{n}/0"))
        state.on_event(event("draft.accepted", run, subtask=titles[-1], score=9))
    state.on_event(event("limits.snapshot", **SNAPSHOT))
    return state


def plain(state: ViewState, columns: int = 80, rows: int = 24, **options) -> list[str]:
    frame = draw(state, NOW, columns, rows, **options)
    return [STYLE.sub("", line.decode()) for line in frame.lines]


def test_a_frame_shows_the_tree_the_roles_the_limits_and_the_sums():
    state = busy(titles=["a", "b", "c", "d"])
    state.runs["r0"].title = "the whole"
    assert plain(state) == [
        "● at work     5.0 s the whole",
        "├─ ● writing           a",
        "├─ ● writing           b",
        "├─ ◐ in review         c",
        "└─ ✓ done      9/10    d",
        "              running  waiting     done   failed  retries",
        "coder               2        0        0        0        0",
        "reviewer            1        0        0        0        0",
        "main 3 of 8 in flight  3 of 60 requests/min  0 of 40.0k tokens/min",
        "     12 in line for requests  blocked for 7 s",
        "tokens 0 in  0 out  cost $0.0000 of $5.00",
    ]


def test_of_several_runs_it_shows_how_far_they_are_what_failed_and_each_with_a_glyph_a_leaf():
    state = busy(3, titles=["a", "b", "c", "d"], total=4)
    state.on_event(event("task.finished", step="r0/0"))
    failed = WorkflowResult(correlation_id="r2", success=False, error_kind=ErrorKind.SERVER_ERROR, error="no")
    state.on_ended(failed, NOW)
    shown = plain(state, columns=100, rows=14)
    assert re.fullmatch(r"[━╸╺]+   4 %  1 of 4 runs, 10 s, about 4 min \d\d s left", shown[0])
    assert shown[1] == "1 run failed; parts: 1 done, 3 stopped"
    assert [line[:26] for line in shown[2:4]] == ["● at work     5.0 s ●●◐✓ r"] * 2


def test_a_run_of_a_single_part_says_itself_how_that_stands():
    state = ViewState(began=NOW)
    state.on_opened("r0", "What is 2 + 2?", NOW - 1.0)
    state.on_event(event("plan.made", subtasks=["What is 2 + 2?"]))
    state.on_event(event("task.started", step="r0/0", role="reviewer", content="What is 2 + 2?"))
    state.on_event(event("call.sent", step="r0/0/0"))
    assert plain(state)[0] == "◐ in review   1.0 s What is 2 + 2?"
    assert not any("└" in line for line in plain(state))


def test_parts_of_what_was_too_large_stand_under_it():
    state = ViewState(began=NOW)
    state.on_opened("r0", "x", NOW)
    state.on_event(event("subtask.split", subtask="large", pieces=["b", "c"]))
    state.on_event(event("plan.made", subtasks=["a", "b", "c"]))
    assert [line.rstrip() for line in plain(state)[1:5]] == [
        "├─ · waiting           a",
        "├─ large",
        "│  ├─ · waiting           b",
        "│  └─ · waiting           c",
    ]


def test_where_there_is_no_room_for_all_leaves_those_at_work_are_shown_and_the_others_counted():
    state = busy(titles=[f"part {n}" for n in range(30)])
    shown = plain(state, rows=15)
    assert len(shown) == 14
    assert [line[3:] for line in shown[1:5]] == [
        "● writing           part 0",
        "● writing           part 1",
        "◐ in review         part 2",
        "· waiting           part 3",
    ]
    assert shown[7] == "└─ … 23 waiting, 1 done"


def test_a_terminal_that_knows_no_unicode_gets_other_glyphs():
    shown = plain(busy(titles=["a", "b", "c", "d"]), utf8=False)
    assert "".join(shown[1:]).isascii()
    assert [line[:9] for line in shown[1:5]] == ["|- * writ", "|- * writ", "|- ~ in r", "`- + done"]


def test_on_a_narrow_terminal_the_roles_have_short_headings_and_all_their_numbers():
    assert plain(busy(titles=["a", "b", "c", "d"]), columns=40)[5:7] == [
        "              run wait done fail  try"[-37:],
        "coder           2    0    0    0    0",
    ]


def test_the_last_frame_is_whole_and_stays():
    frame = draw(busy(titles=[f"part {n}" for n in range(30)]), NOW, 80, 200, stays=True)
    assert frame.stays
    assert sum(b"part" in line for line in frame.lines) == 30


@pytest.mark.parametrize("set_", [True, False])
def test_no_color_takes_the_colours_away(monkeypatch, set_):
    monkeypatch.setenv("TERM", "xterm-256color")
    if set_:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    drawn = b"".join(draw(busy(), NOW, 80, 24).lines)
    assert bool(re.search(rb"\x1b\[(?:\d;)*3\dm", drawn)) is not set_


def fits(state: ViewState, columns: int, rows: int) -> bool:
    frame = draw(state, NOW, columns, rows)
    lines = [STYLE.sub("", line.decode()) for line in frame.lines]
    terminal = Terminal(columns, rows).write(b"\n".join(frame.lines))  # refuses what steers
    return (
        not terminal.broken
        and len(lines) < max(3, rows)
        and all(line.isprintable() for line in lines)
        and [cell_len(line) for line in lines] == list(frame.widths)
        and max(frame.widths) < max(9, columns)
    )


@pytest.mark.parametrize("runs", [1, 3, 60])
@pytest.mark.parametrize("columns", [40, 80, 160])
@pytest.mark.parametrize("rows", [6, 24, 50])
def test_a_frame_fits_the_terminal(columns, rows, runs):
    assert fits(busy(runs), columns, rows)


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_a_title_that_is_too_long_is_cut_with_an_ellipsis_and_wide_characters_count_twice(columns):
    titles = [line for line in plain(busy(), columns) if "Handle" in line or "Gr" in line]
    assert len(titles) >= 3
    long = [line for line in titles if "Handle" in line]
    assert all(line.endswith("…") and cell_len(line) == columns - 1 for line in long)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=6, unique=True), st.integers(9, 200), st.integers(3, 60))
def test_whatever_a_model_writes_and_however_small_the_terminal_is_the_frame_fits_it(titles, columns, rows):
    state = ViewState(began=NOW)
    state.on_opened("r0", titles[0], NOW)
    state.on_event(event("plan.made", subtasks=titles))
    assert fits(state, columns, rows)


def test_when_all_runs_have_ended_each_has_a_line_and_what_was_of_the_last_minute_is_left_out():
    state = busy(3)
    for n in range(3):
        state.on_ended(WorkflowResult(correlation_id=f"r{n}", success=True), NOW)
    shown = plain(state, columns=100, rows=200, stays=True)
    assert sum(line.startswith("✓ done") for line in shown) == 3
    assert not any("in flight" in line or "├" in line for line in shown)
