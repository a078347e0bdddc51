"""Tasks that cannot be run are refused in one line before anything is sent; all others arrive as they are."""

from __future__ import annotations

import json
import re

import pytest

from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import NOWHERE, troupe

pytestmark = pytest.mark.slow
BASE = ("--base-url", NOWHERE, "--model", "m")


@pytest.mark.parametrize(
    ("arguments", "stdin", "word"),
    [
        ([""], "", "empty"),
        ([" \n\t"], "", "empty"),
        (["-"], "  \n", "empty"),
        (["-"], b"\xff\xff", "UTF-8"),
        (["--tasks", "-"], "", "no task"),
        (["--tasks", "-"], '{"task": ""}', "line 1 is empty"),
        (["--tasks", "-"], '\n{"task": 3}', "line 2"),
        (["--tasks", "-"], '{"task": "a", "colour": 3}', "colour"),
        (["--tasks", "-"], '{"task": "a", "timeout": -1}', "timeout"),
        (["--tasks", "-"], '{"task": "a", "timeout": 1e999}', "line 1"),
        (["--tasks", "-"], '{"task": "a", "id": "a/b"}', "an id is"),
        (["--tasks", "-"], '{"task": "a", "priority": "urgent"}', "priority"),
        (["--tasks", "-"], '{"task": "a", "flow": "a/b"}', "a flow is"),
        (["--tasks", "-"], '{"task": "a", "max_cost": -1}', "max_cost"),
        (["--tasks", "-"], '{"task": "a\\ud800"}', "line 1"),
        (["--tasks", "-"], '{"task": ' + "[" * 100_000, "line 1"),
        (["--tasks", "nowhere.txt"], "", "nowhere.txt"),
        (["--tasks", "."], "", "cannot be read"),
        (["a", "--tasks", "-"], "b", "one TASK"),
        ([], "", "one TASK"),
        (["--tasks", "-", "--id", "a"], "b", "--id"),
        (["x", "--id", "../../etc"], "", "an id is"),
        (["x", "--id", ""], "", "an id is"),
        (["x", "--id", "a" * 65], "", "an id is"),
        (["x", "--flow", ""], "", "a flow is"),
        (["x", "--flow", "a b"], "", "a flow is"),
        (["x", "--max-cost", "-1"], "", "'-1'"),
        (["x", "--max-cost", "nan"], "", "nan"),
        (["x", "--max-cost", "much"], "", "much"),
        (["x", "--timeout", "-3"], "", "-3"),
        (["x", "--timeout", "0"], "", "'0'"),
        (["x", "--timeout", "nan"], "", "nan"),
        (["x", "--timeout", "inf"], "", "inf"),
    ],
)
def test_a_task_that_cannot_be_run_is_one_line(tmp_path, arguments, stdin, word):
    done = troupe(tmp_path, "run", *arguments, *BASE, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert word in done.one_line


@pytest.mark.parametrize("size", [1_000_001, 3_000_000])
@pytest.mark.parametrize("way", ["-", "--tasks -", "--tasks f", "json"])
def test_a_task_above_a_megabyte_is_refused_in_one_line(tmp_path, way, size):
    text = "ä" * (size // 2) + "x" * (size % 2)
    text = json.dumps({"task": text}) if way == "json" else text
    (tmp_path / "f").write_text(text, encoding="utf-8")
    arguments = ["--tasks", "-"] if way == "json" else way.split()
    done = troupe(tmp_path, "run", *arguments, *BASE, stdin=text)
    assert (done.code, done.out) == (2, "")
    assert "is too long" in done.one_line
    assert "1000000 bytes are the most" in done.one_line


@pytest.mark.parametrize("way", ["-", "--tasks -", "--tasks f"])
def test_a_task_of_just_a_megabyte_works(tmp_path, way):
    text = "wörd " * 166_666 + "ab"
    assert len(text.encode()) == 999_998
    (tmp_path / "f").write_text(text, encoding="utf-8")
    with FakeServer(Script(record=True)) as server:
        base = ("--base-url", server.url, "--model", "m")
        done = troupe(tmp_path, "run", *way.split(), *base, "--quiet", "--json", stdin=text)
        bodies = server.bodies()
    assert done.code == 0
    assert {json.loads(line)["event"] for line in done.lines} <= {"loop.held"}
    assert text.strip() in json.loads(bodies[0])["messages"][-1]["content"]


def test_an_id_twice_with_the_same_task_is_one_run(tmp_path):
    lines = '{"task": "What is a?", "id": "same"}\n{"task": "What is b?"}\n{"task": "What is a?", "id": "same"}\n'
    with FakeServer(Script(record=True)) as server:
        base = ("--base-url", server.url, "--model", "m")
        done = troupe(tmp_path, "run", "--tasks", "-", *base, "--json", "--quiet", stdin=lines)
        bodies = server.bodies()
    *results, last = done.documents
    assert (done.code, len(results), last["summary"]["workflows"], len(bodies)) == (0, 2, 2, 4)


def test_an_id_twice_with_another_task_is_refused_before_anything_is_sent(tmp_path):
    lines = '{"task": "a", "id": "same"}\nother\n{"task": "b", "id": "same"}\n'
    with FakeServer(Script()) as server:
        done = troupe(tmp_path, "run", "--tasks", "-", "--base-url", server.url, "--model", "m", stdin=lines)
        requests = server.stats().requests
    assert (done.code, done.out, requests) == (2, "", 0)
    assert re.search(r"line 3: the id 'same' stands for another task in line 1", done.one_line)
