"""The demo without the embedded model: the same team over HTTP against the scripted server, and it says so."""

from __future__ import annotations

import re
import sys

import pytest

from tests.runtime.command import ran

pytestmark = pytest.mark.slow
WITHOUT = "import sys; sys.modules['xllamacpp'] = None; from runtime.cli import main; sys.exit(main([]))"


def demo(home, **env):
    return ran(home, [sys.executable, "-c", WITHOUT], "", **env)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return demo(tmp_path_factory.mktemp("demo"))


def test_the_first_line_says_which_model_is_at_work_and_how_to_get_the_real_one(shown):
    first = shown.lines[0]
    assert shown.code == 0
    assert "scripted server" in first
    assert "pip install" in first


def test_it_shows_the_guides_task_a_plan_every_role_and_the_four_labels(shown):
    assert "Implement an async HTTP client with retry logic" in shown.err
    for words in ("plan with 3 subtasks:", "orchestrator begins", "coder        done", "reviewer     done", "accepted"):
        assert words in shown.err
    assert re.search(
        r"^Total Tasks: 7\nSuccessful: 7\nFailed: 0\nTotal Execution Time: \d+\.\d\d ms$", shown.err, re.MULTILINE
    )


def test_standard_output_is_the_teams_output_alone(shown):
    assert shown.out.startswith("## ")
    assert "Total Tasks" not in shown.out


def test_another_task_changes_the_plan(tmp_path):
    done = demo(tmp_path, TROUPE_TASK="Build a parser with tests")
    assert done.code == 0
    assert "Build a parser with tests" in done.err
    assert "HTTP client" not in done.err


@pytest.mark.parametrize("task", ["   ", "x" * 1_001])
def test_a_task_that_is_only_blanks_is_refused_and_a_long_one_is_not(tmp_path, task):
    done = demo(tmp_path, TROUPE_TASK=task)
    assert done.code == (0 if task.strip() else 2)
    assert task.strip() or "TROUPE_TASK is empty" in done.err
