"""Progress lines: one event, one line that people can read, whatever is in it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.signals import Progress
from runtime.progress import ProgressLines
from runtime.terminal import escaped, printable
from tests.runtime.command import environment


def shown(*events: tuple[str, dict], several: bool = False, width: int = 120) -> list[str]:
    """Return the lines for *events*, the n-th of them n seconds after the begin."""
    said: list[str] = []
    lines = ProgressLines(100.0, several=several, write=said.append, width=lambda: width)
    for seconds, (name, facts) in enumerate(events):
        lines.show(Progress(run="one", event=name, at=100.0 + seconds, facts=facts))
    return said


STARTED = ("task.started", {"step": "one/0", "role": "coder", "content": "parse the\nfile"})
FINISHED = ("task.finished", {"step": "one/0", "execution_ms": 1234.5, "output_tokens": 42, "truncated": False})


def test_a_task_is_shown_at_its_begin_and_at_its_end_with_what_it_took():
    assert shown(STARTED, FINISHED) == [
        "[   0.0 s] coder        begins: parse the file",
        "[   1.0 s] coder        done:   parse the file (42 tokens, 1.2 s)",
    ]


def test_a_failed_task_says_why_and_a_cut_one_that_it_was_cut_and_a_served_one_that_there_was_no_call():
    failed = ("task.failed", {"step": "one/0", "error": "no\nway"})
    cut = ("task.finished", {**FINISHED[1], "truncated": True})
    served = ("task.finished", {"step": "one/0", "served": 1})
    assert shown(STARTED, served)[1].endswith("(0 tokens, 0.0 s, without a call)")
    assert shown(STARTED, failed)[1] == "[   1.0 s] coder        failed: no way"
    assert shown(STARTED, cut)[1].endswith("(42 tokens, 1.2 s, cut)")


def test_what_running_a_draft_showed_is_one_line():
    found = {"subtask": "a", "round": 0, "parsed": True, "ran": True, "tests_passed": 1, "tests_failed": 2}
    assert shown(("draft.checked", found)) == [
        "[   0.0 s] executor     found:  a (it parses, it runs, 1 of 3 tests passed)"
    ]
    assert shown(("draft.checked", {"subtask": "a", "note": "not run: there is no Python in it"})) == [
        "[   0.0 s] executor     found:  a (not run: there is no Python in it)"
    ]


def test_that_drafts_are_not_run_is_said_with_the_reason():
    assert shown(("drafts.not_run", {"reason": "no sandbox"})) == ["[   0.0 s] drafts are not run: no sandbox"]


def test_a_plan_is_numbered_and_one_of_a_single_part_is_not_shown():
    assert shown(("plan.made", {"subtasks": ["a", "b"]})) == [
        "[   0.0 s] plan with 2 subtasks:\n            1. a\n            2. b"
    ]
    assert shown(("plan.made", {"subtasks": ["a"]})) == []


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ("plan.skipped", {"score": 0.1, "reasons": ["is a small question", "has constraints"]}),
            "no plan: the task is a small question and has constraints (complexity 0.10)",
        ),
        (("plan.skipped", {"score": 0.0, "reasons": []}), "no plan: the task is a small one (complexity 0.00)"),
        (("plan.failed", {"error": "no"}), "no plan could be had (no): one coder does the whole task"),
        (("draft.accepted", {"subtask": "a", "score": 8}), "accepted with 8 of 10: a"),
        (("draft.rejected", {"subtask": "a", "score": 0}), "rejected with 0 of 10: a"),
        (("draft.kept", {"subtask": "a", "error": "unreadable"}), "kept: a"),
        (("draft.kept", {"subtask": "a", "score": 6, "why": "same_critique"}), "kept with 6 of 10 (same critique): a"),
        (
            ("draft.rejected", {"subtask": "a", "score": 3, "checks": {"security": False, "correctness": True}}),
            "rejected with 3 of 10 (fails security): a",
        ),
        (
            ("draft.kept", {"subtask": "a", "score": 6, "round": 1, "found": "it runs, no tests", "why": "rounds"}),
            "kept with 6 of 10 (draft 2; it runs, no tests; rounds): a",
        ),
        (("draft.failed", {"subtask": "a", "error": "no"}), "failed: a: no"),
    ],
)
def test_each_event_has_its_words(event, line):
    assert shown(event) == [f"[   0.0 s] {line}"]


def test_a_model_that_was_chosen_is_named_with_the_reason_and_one_that_was_set_is_only_once():
    ended = {"step": "one/0", "model": "small", "output_tokens": 1}
    _, chosen = shown(STARTED, ("task.finished", {**ended, "why_model": "tier 1: a first draft"}))
    assert chosen.splitlines()[1].strip() == "on small: tier 1: a first draft"
    only = ("task.finished", {**ended, "why_model": "the only model"})
    _, first, _, second = shown(STARTED, only, STARTED, only)
    assert first.splitlines()[1].strip() == "on small: the only model"
    assert "small" not in second


def test_of_several_runs_each_line_names_its_own():
    assert shown(STARTED, several=True) == ["[   0.0 s] one coder        begins: parse the file"]


LONG = "Handle the errors and edge cases of an async HTTP client with retries, timeouts and a cache of its own"
ALL = (
    ("task.started", {"step": "one/0", "role": "orchestrator", "content": LONG}),
    ("task.finished", {"step": "one/0", "execution_ms": 123456.7, "output_tokens": 1234, "truncated": True}),
    ("plan.made", {"subtasks": [LONG, LONG + "."]}),
    *((f"draft.{how}", {"subtask": LONG, "score": 10}) for how in ("accepted", "rejected", "kept")),
)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_each_line_fits_the_terminal_and_shows_as_much_as_it_can(width):
    lines = [line for text in shown(*ALL, width=width) for line in text.splitlines()]
    contents = [line for line in lines if "Handle the errors" in line]
    assert len(contents) == 7
    assert max(map(len, lines)) <= width
    assert all("..." in line and (len(line) == width or LONG[:69] in line) for line in contents)


def test_a_very_narrow_terminal_still_shows_what_it_is_about():
    assert shown(STARTED, width=10) == ["[   0.0 s] coder        begins: parse the file"]


@pytest.mark.slow
def test_a_terminal_is_as_wide_as_it_is_now_and_anything_else_has_120_columns(tmp_path):
    ours, theirs = pty.openpty()
    code = "from runtime.terminal import columns; print(columns())"

    def told(errors):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=errors, check=True)
        return int(done.stdout)

    termios.tcsetwinsize(theirs, (24, 80))
    narrow = told(theirs)
    termios.tcsetwinsize(theirs, (24, 160))
    assert (narrow, told(theirs), told(subprocess.DEVNULL)) == (80, 160, 120)
    os.close(ours)
    os.close(theirs)


def test_what_nobody_knows_is_not_shown_and_an_end_without_a_begin_is_the_teams():
    assert shown(("something.else", {})) == []
    assert shown(FINISHED) == ["[   0.0 s] team         done:    (42 tokens, 1.2 s)"]


def test_a_clock_that_steps_back_shows_no_negative_time():
    said: list[str] = []
    ProgressLines(100.0, write=said.append).show(Progress(run="one", event=STARTED[0], at=90.0, facts=STARTED[1]))
    assert said[0].startswith("[   0.0 s]")


@given(st.text(), st.integers(4, 100))
def test_printable_text_is_one_line_that_steers_no_terminal_and_fits(text, width):
    safe = printable(text, width)
    assert safe.isprintable() or safe == ""
    assert len(safe) <= width


@given(st.text(st.characters(categories=("L", "N", "S", "P"))))
def test_printable_leaves_short_texts_without_blanks_as_they_are(text):
    assert printable(text[:72]) == text[:72]


@given(st.text())
def test_escaped_text_keeps_its_lines_and_loses_what_steers(text):
    safe = escaped(text)
    assert not set(safe) & {*map(chr, range(9)), *map(chr, range(11, 32)), *map(chr, range(127, 160)), "\u202e"}
    assert (safe.count("\n"), safe.count("\t")) == (text.count("\n"), text.count("\t"))


def test_escapes_name_the_character():
    assert escaped("\x1b[1m\x9b\u202e") == "\\x1b[1m\\x9b\\u202e"
    assert printable("a\U000e0001b") == "a\\U000e0001b"


def waits(seconds, why="requests_per_minute", **more):
    facts = {"domain": "main", "waits_for": why, "waiting": 12, "in_flight": 3, "blocked_s": 0.0} | more
    return Progress(run=f"run-{seconds}", event="limits.snapshot", at=100.0 + seconds, facts=facts)


def test_a_wait_is_shown_once_for_all_runs_and_again_when_it_goes_on_for_long_or_changes():
    said: list[str] = []
    lines = ProgressLines(100.0, several=True, write=said.append, width=lambda: 120)
    for event in (waits(1), waits(2), waits(3, "blocked", blocked_s=7.2), waits(12), waits(13), waits(23)):
        lines.show(event)
    assert said == [
        "[   1.0 s] waits: main requests_per_minute, 12 in line, 3 in flight",
        "[   3.0 s] waits: main the end of a 429, 12 in line, 3 in flight, blocked for 7 s",
        "[  12.0 s] waits: main requests_per_minute, 12 in line, 3 in flight",
        "[  23.0 s] waits: main requests_per_minute, 12 in line, 3 in flight",
    ]
