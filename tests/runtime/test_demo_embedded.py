"""The demo on the real model: its sums are the model server's own, another task changes the plan, signals end it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.embedded import available
from tests.runtime.command import environment, ran

REASON = available()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=REASON or "")]
COUNTED = """
import json, sys
from pathlib import Path
from runtime.cli import main
from runtime.embedded import EmbeddedModel, token_counter

end = EmbeddedModel.stop

def counted(model, timeout=2.0):
    if model.alive:
        Path("counted").write_text(json.dumps(token_counter(model.url)))
    end(model, timeout)

EmbeddedModel.stop = counted
sys.exit(main([]))
"""
"""The demo, and what the model's server has counted at its end."""

TASK = "Build a small tool that sorts a list of names, with tests"
PLAN = re.compile(r"^\[ +[\d.]+ s\] plan with \d subtasks:\n((?: +\d\. .+\n)+)", re.MULTILINE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    home = tmp_path_factory.mktemp("demo")
    return ran(home, [sys.executable, "-c", COUNTED], "", TROUPE_TASK=TASK), json.loads((home / "counted").read_text())


def test_it_ends_well_with_more_than_one_call_for_each_part_and_one_for_the_plan(shown):
    done, _ = shown
    assert done.lines[0].startswith("Troupe demo: a 135M model runs on this machine")
    parts = len(PLAN.search(done.err)[1].splitlines())
    labels = dict(re.findall(r"^(Total Tasks|Successful|Failed): (\d+)$", done.err, re.MULTILINE))
    assert done.code == 0
    assert int(labels["Successful"]) == int(labels["Total Tasks"]) >= 1 + 2 * parts
    assert labels["Failed"] == "0"
    assert done.out.count("## ") >= parts > 1


def test_the_tokens_of_the_summary_are_those_that_the_models_server_has_counted(shown):
    done, (prompt, cached, generated) = shown
    told = re.search(r"^Tokens: (\d+) in, (\d+) out$", done.err, re.MULTILINE)
    assert [int(n) for n in told.groups()] == [prompt + cached, generated]


@pytest.fixture
def begun(tmp_path):
    """The demo of the guide's task as the leader of its own session, and its plan's lines, once coders are at work."""
    command = [sys.executable, "-m", "runtime"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    demo = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), start_new_session=True, **pipes)
    with demo:
        said = ""
        while "coder" not in said:
            line = demo.stderr.readline()
            assert line, f"the demo ended early: {said}"
            said += line.decode()
        yield demo, PLAN.search(said)[1]
        demo.kill()
    assert session(demo.pid) == []


def session(leader):
    """Return the living processes of *leader*'s session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (process / "stat").read_text().rpartition(") ")[2].split()[:4]
        except OSError:  # it ended meanwhile
            continue
        if int(of) == leader and state != "Z":
            found.append(int(process.name))
    return found


def children(pid):
    """Return the processes that *pid* has started."""
    found = []
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            found += map(int, each.read_text().split())
    return found


def gone(pid, within=5.0):
    """Wait until process *pid*, which is no child of ours, has ended."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(watched):
        return bool(select.select([watched], [], [], within)[0])


CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_ends_the_demo_with_its_code_and_the_models_process_with_it(tmp_path, begun, number, code):
    demo, _ = begun
    (model,) = children(demo.pid)
    demo.send_signal(number)
    out, err = demo.communicate(timeout=30)
    assert demo.returncode == code
    assert (out, b"Traceback" in err) == (b"", False)
    assert f"troupe: {number.name}: cancelling 1 run; once more ends at once".encode() in err
    assert b"task_001 failed: cancelled" in err
    assert gone(model)
    assert session(demo.pid) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_to_the_whole_process_group_ends_all_of_it_too(begun, number, code):
    demo, _ = begun
    (model,) = children(demo.pid)
    os.killpg(demo.pid, number)
    _, err = demo.communicate(timeout=30)
    assert (demo.returncode, b"Traceback" in err) == (code, False)
    assert gone(model)


def test_a_second_signal_ends_the_demo_and_the_models_process_at_once(begun):
    demo, _ = begun
    (model,) = children(demo.pid)
    for number in (signal.SIGINT, signal.SIGTERM):
        demo.send_signal(number)
    demo.communicate(timeout=30)
    assert demo.returncode in {130, 143}
    assert gone(model)


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_while_the_model_loads_ends_the_demo_and_the_models_process_at_once(tmp_path, number, code):
    command = [sys.executable, "-m", "runtime"]
    demo = subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, start_new_session=True
    )
    with demo:
        assert b"135M model" in demo.stderr.readline()
        while not (models := children(demo.pid)):
            pass
        demo.send_signal(number)
        _, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (code, b"")
    assert gone(models[0])


def test_another_task_changes_the_plan(shown, begun):
    _, plan = begun
    assert plan != PLAN.search(shown[0].err)[1]
