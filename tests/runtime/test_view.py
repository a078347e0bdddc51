"""The live view of the real command on a terminal, when it is shown, and when plain lines are instead."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios

import pytest

from protocol.signals import Progress
from runtime import terminal
from runtime.config import Config
from runtime.fake_script import Fault, Script
from runtime.fake_server import FakeServer
from runtime.view import EVERY, LiveView, live_view, wanted
from runtime.view_state import ViewState
from tests.runtime.command import environment
from tests.runtime.screens import Terminal
from tests.runtime.test_view_draw import STYLE

TASK = "Implement an async HTTP client with retries"
BLOCKED = "import sys; sys.modules['rich'] = None; from runtime.cli import main; sys.exit(main(sys.argv[1:]))"


# --- when a frame is drawn, and what it knows at the begin


class Stage:
    """A live view with a clock that the test moves, on a terminal of any size."""

    def __init__(self, cost: float = 0.0) -> None:
        self.frames = []
        self.now = 100.0
        self.used = 0.0
        self.cost = cost
        self.size = (80, 24)
        self.view = LiveView(
            ViewState(began=1000.0),
            show=self._show,
            clock=lambda: self.now,
            wall=lambda: 900.0 + self.now,
            cpu=lambda: self.used,
            size=lambda: self.size,
        )
        self.view.on_opened("r", "a title")

    def _show(self, frame):
        self.frames.append(frame)
        self.used += self.cost


def test_frames_come_at_intervals_however_often_one_is_asked_for():
    stage = Stage()
    waits = []
    for _ in range(20):
        waits.append(stage.view.refresh())
        stage.now += EVERY / 10
    assert len(stage.frames) == 2
    assert (waits[0], waits[9], waits[10]) == (EVERY, pytest.approx(EVERY / 10), EVERY)


def test_frames_that_take_long_come_less_often():
    stage = Stage(cost=0.1)
    assert stage.view.refresh() == pytest.approx(5.0)


def test_each_frame_is_as_wide_as_the_terminal_is_then_and_the_last_one_stays():
    stage = Stage()
    stage.view.refresh()
    stage.size, stage.now = (120, 40), stage.now + 1.0
    stage.view.refresh()
    stage.view.close()
    assert [(frame.columns, frame.stays) for frame in stage.frames] == [(80, False), (120, False), (120, True)]


def test_an_event_is_in_the_next_frame():
    stage = Stage()
    stage.view.on_event(Progress(run="r", event="plan.made", at=1000.0, facts={"subtasks": ["one", "two"]}))
    stage.view.refresh()
    assert b"two" in b"".join(stage.frames[0].lines)


def test_it_knows_the_limits_and_the_budget_of_the_configuration():
    text = "[budget]\nusd = 5.0\n[limits.main]\nrequests_per_minute = 60\nconcurrency = 8\n[provider.main]\n"
    config = Config.parse(f'{text}base_url = "http://127.0.0.1:9/v1"\n'.encode(), "t")
    state = live_view(config, 1, 1000.0, 2.0).state
    assert (state.budget, live_view(config, 2, 1000.0, 2.0).state.budget) == (2.0, 5.0)
    assert (state.domains["main"].concurrency, state.domains["main"].allowed) == (8, {"requests_per_minute": 60.0})


@pytest.mark.parametrize(
    ("term", "is_terminal", "shown"),
    [("xterm-256color", True, True), ("xterm", False, False), ("dumb", True, False), (None, True, False)],
)
def test_it_is_wanted_on_a_terminal_that_can_move_its_cursor(monkeypatch, term, is_terminal, shown):
    monkeypatch.setattr(terminal, "is_terminal", lambda: is_terminal)
    assert wanted({} if term is None else {"TERM": term}) is shown


def test_without_rich_it_is_not_wanted(monkeypatch):
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert not wanted({"TERM": "xterm"})


# --- the real command on a terminal


class OnTerminal:
    """The command on a pseudo-terminal; with *same* its standard output goes there too."""

    def __init__(self, home, command, *, same=False, columns=100, rows=40, **env):
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (rows, columns))
        attributes = termios.tcgetattr(theirs)
        attributes[1] &= ~termios.OPOST  # what is written is what is read
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self.screen = Terminal(columns, rows)
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=home,
            env=environment(home, **{"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | env),
            stdin=subprocess.DEVNULL,
            stdout=theirs if same else subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)

    def read(self, until: str | None = None) -> str:
        """Read until a word was written, or to the end; return all that was written, without its colours."""
        while until is None or until.encode() not in self.written:
            try:
                self.written += os.read(self.ours, 65536)
            except OSError:
                break
        return STYLE.sub("", self.written.decode("utf-8", "replace"))

    def end(self) -> tuple[int, list[str]]:
        """Return the exit code, and what stands on the screen at last."""
        self.read()
        code = self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self.ours)
        return code, self.screen.write(self.written).text


def run(url, *options):
    return ("-m", "runtime", "run", TASK, "--base-url", url, "--model", "m", "--id", "one", *options)


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script(latency=0.3)) as running:
        yield running


def labels(screen: list[str]) -> list[str]:
    return [line.partition(":")[0] for line in screen if line.startswith(("Total", "Successful", "Failed"))]


LABELS = ["Total Tasks", "Successful", "Failed", "Total Execution Time"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 100])
def test_leaves_turn_from_waiting_to_done_and_the_last_frame_stays_as_the_record(tmp_path, server, columns):
    shown = OnTerminal(tmp_path, run(server.url), columns=columns)
    said = shown.read()
    code, screen = shown.end()
    assert code == 0
    for words in ("● planning", "● writing", "◐ in review", "✓ done"):
        assert words in said
    assert [line[:13] for line in screen[:5]] == ["✓ done       ", *["├─ ✓ done    "] * 2, "└─ ✓ done    ", " " * 13]
    assert TASK[:30] in screen[0]
    assert labels(screen) == LABELS
    assert "begins" not in said


@pytest.mark.slow
def test_a_result_on_the_same_terminal_stands_above_the_last_frame_and_nothing_is_left_of_the_others(tmp_path, server):
    shown = OnTerminal(tmp_path, run(server.url), same=True)
    code, screen = shown.end()
    tree = [n for n, line in enumerate(screen) if line.startswith(("├─", "└─"))]
    output = [n for n, line in enumerate(screen) if line.startswith("## ")]
    assert code == 0
    assert (len(tree), len(output)) == (3, 3)
    assert max(output) < min(tree) < screen.index(next(line for line in screen if line.startswith("Total Tasks")))
    assert not any("writing" in line for line in screen)


@pytest.mark.slow
def test_what_a_model_writes_steers_no_terminal(tmp_path):
    body = '{"choices": [{"message": {"content": "- a \\u001b[2J\\u001b[31mred\\n- b \\u009b1m\\u202e"}}]}'
    with FakeServer(Script(faults=(Fault(match="Analyze", times=0, body=body),))) as server:
        shown = OnTerminal(tmp_path, run(server.url), same=True)
        shown.read()
        assert b"\x1b[2J" not in shown.written
        code, screen = shown.end()  # the screen refuses every sequence that is not the view's own
    assert code == 0
    assert any("\\x1b[2J\\x1b[31mred" in line for line in screen)


@pytest.mark.slow
@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"without": "rich"}])
def test_on_a_dumb_terminal_and_without_rich_there_are_plain_lines_and_no_error(tmp_path, server, env):
    command = run(server.url)
    if "without" in env:
        command, env = ("-c", BLOCKED, *command[2:]), {}
    shown = OnTerminal(tmp_path, command, columns=150, **env)
    code, screen = shown.end()
    assert (code, b"\x1b" in shown.written) == (0, False)
    assert re.fullmatch(rf"\[   \d\.\d s\] orchestrator begins: {TASK}", screen[0])
    assert labels(screen) == LABELS


@pytest.mark.slow
def test_no_color_leaves_the_view_without_colours(tmp_path, server):
    shown = OnTerminal(tmp_path, run(server.url), NO_COLOR="1")
    code, screen = shown.end()
    assert code == 0
    assert screen[0].startswith("✓ done")
    assert b"\x1b[3" not in shown.written


@pytest.mark.slow
def test_quiet_shows_nothing(tmp_path, server):
    shown = OnTerminal(tmp_path, run(server.url, "--quiet"))
    assert (shown.end(), shown.written) == ((0, []), b"")


@pytest.mark.slow
def test_many_tasks_have_a_bar_with_an_estimate_and_failures_are_counted(tmp_path):
    faults = (Fault(match="sick", status=400, times=0),)
    (tmp_path / "tasks").write_text("".join(f"What is {n}?\n" for n in (1, 2, 3)) + "What is a sick one?\n")
    with FakeServer(Script(latency=(0.8, 1.6), faults=faults)) as server:
        command = ("-m", "runtime", "run", "--tasks", "tasks", "--base-url", server.url, "--model", "m")
        shown = OnTerminal(tmp_path, command)
        said = shown.read()
        code, screen = shown.end()
    assert code == 1
    assert " of 4 runs" in said
    assert " left" in said
    bar = next(n for n, line in enumerate(screen) if "100 %  4 of 4 runs, " in line)
    assert screen[bar + 1].startswith("1 run failed; parts: 3 done, 1 failed")
    assert any(line.startswith("troupe: run-") for line in screen[:bar])


@pytest.mark.slow
def test_a_signal_ends_it_with_a_last_frame_and_the_summary(tmp_path):
    with FakeServer(Script(latency=30.0)) as server:
        shown = OnTerminal(tmp_path, run(server.url))
        shown.read("planning")
        shown.process.send_signal(signal.SIGINT)
        code, screen = shown.end()
    assert code == 130
    assert screen[0] == "troupe: SIGINT: cancelling 1 run; once more ends at once"
    assert any(line.startswith("✗ failed") and "cancelled" in line for line in screen)
    assert labels(screen) == LABELS


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(tmp_path):
    with FakeServer(Script(latency=30.0)) as server:
        shown = OnTerminal(tmp_path, run(server.url))
        shown.read("planning")
        for number in (signal.SIGINT, signal.SIGTERM):
            shown.process.send_signal(number)
        code, screen = shown.end()
    assert code in {130, 143}
    assert labels(screen) == []


@pytest.mark.slow
def test_a_terminal_that_goes_away_ends_nothing(tmp_path, server):
    shown = OnTerminal(tmp_path, run(server.url, "--json"))
    shown.read("planning")
    os.close(shown.ours)
    out, _ = shown.process.communicate(timeout=20)
    assert (shown.process.returncode, b'"success": true' in out) in {(0, True), (-signal.SIGHUP, False)}
