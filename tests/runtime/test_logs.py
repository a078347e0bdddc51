"""Logs: one event is one line, keys are blotted out last, and what cannot be shown stops nobody."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from runtime import logs
from runtime.logs import where_raised
from tests.runtime.command import environment


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setattr(logs, "_secrets", ())


def logged(caplog, event: str = "thing.happened", **facts) -> str:
    with caplog.at_level(logging.DEBUG, "troupe"):
        logs.get_logger().info(event, **facts)
    return caplog.messages[-1]


def test_an_event_is_one_line_of_json_with_its_facts(caplog):
    line = json.loads(logged(caplog, correlation_id="one", text="ä"))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "thing.happened", "level": "info", "correlation_id": "one", "text": "ä"}


@pytest.mark.parametrize("text", ['x\n{"event":"forged"}', "a\x1b[31m\x07", "a\x85b\u2028c\u2029d\x9bm"])
def test_no_text_forges_a_line_or_steers_a_terminal(caplog, text):
    line = logged(caplog, text=text)
    assert line.isprintable()
    assert json.loads(line)["text"] == text


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_shown_does_not_stop_the_one_who_logs(caplog):
    line = json.loads(logged(caplog, thing=Unshowable(), keys={(1, 2): 3}))
    assert line["thing"] == "<a Unshowable that cannot be shown: RuntimeError>"


@pytest.mark.parametrize("key", ["canary-1234", 'can"ary\\1234', "sk-abcdefgh1234"])
def test_a_known_key_is_blotted_out_wherever_it_stands(caplog, key):
    logs.keep_out(key)
    line = logged(
        caplog, exc_info=ValueError(f"refused: {key}"), text=f"a{key}b", **{f"name-{key}": [key, {"deep": key}]}
    )
    assert key not in line
    assert json.dumps(key)[1:-1] not in line
    assert "ValueError" in line


def test_of_two_keys_the_longer_one_is_blotted_out_whole():
    logs.keep_out("abcd-1234")
    logs.keep_out("abcd-1234-5678")
    assert logs.redact("abcd-1234-5678 abcd-1234") == "[key] [key]"


def test_the_check_of_keys_can_turn_red(caplog):
    assert "canary-1234" in logged(caplog, text="canary-1234")


@pytest.mark.parametrize("text", ["Authorization: Bearer abc.def-ghi", "x-api-key: abcdef", "sk-proj-abcdefgh12345678"])
def test_what_looks_like_a_key_is_blotted_out_although_nobody_named_it(text):
    shown = logs.redact(f"before {text}, after")
    assert "[key]" in shown
    assert not any(part in shown for part in ("abc", "def", "ghi"))
    assert shown.endswith(", after")


def test_short_words_are_no_keys():
    logs.keep_out("abc")
    assert logs.redact("abc") == "abc"


LIBRARY = """
import logging
from runtime.logs import get_logger
get_logger().error("nobody.listens")
assert logging.getLogger().handlers == []
"""
COMMAND = """
from runtime.logs import get_logger, to_stderr
to_stderr("WARNING")
get_logger().warning("somebody.listens", key="Bearer abcdefgh")
get_logger().info("too.quiet")
"""


@pytest.mark.slow
def test_the_library_says_nothing_by_itself_and_the_command_line_shows_warnings(tmp_path):
    def said(code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=True).stderr

    assert said(LIBRARY) == ""
    (line,) = said(COMMAND).splitlines()
    assert (json.loads(line)["event"], json.loads(line)["key"]) == ("somebody.listens", "[key]")


def raised(cause):
    try:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise ValueError("the end") from (error if cause else None)
    except ValueError as error:
        return error


@pytest.mark.parametrize(("cause", "names"), [(True, ["KeyError", "ValueError"]), (False, ["ValueError"])])
def test_where_something_was_raised_is_told_from_its_cause_on_and_without_a_heading(cause, names):
    trace = where_raised(raised(cause))
    assert [line.partition(":")[0] for line in trace.splitlines() if "Error: " in line] == names
    assert ("Traceback" in trace, "test_logs.py" in trace) == (False, True)
