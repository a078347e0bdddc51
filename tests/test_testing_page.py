"""The code of ``docs/testing.md`` runs as it stands, and what it prints is what the page shows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from actors import testing
from tests.runtime.command import ROOT, environment

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
SEEDS = 20
"""How many seeds the one test runs with that has seeds."""


def cases(code: str) -> list[str]:
    functions = [f for f in ast.parse(code).body if isinstance(f, ast.FunctionDef)]
    return [f.name for f in functions if f.name.startswith("test_")]


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> str:
    home = tmp_path_factory.mktemp("page")
    (home / "test_page.py").write_text("\n\n".join(BLOCKS), encoding="utf-8")
    options = ("-q", "-s", "-W", "error", "-p", "no:cacheprovider", "-p", "runtime.pytest_plugin", "--strict-markers")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_page.py"],
        cwd=home,
        env=environment(home, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_each_block_but_the_first_holds_a_test():
    assert [block for block in BLOCKS[1:] if not cases(block)] == []
    assert len(BLOCKS) > 15


@pytest.mark.slow
def test_every_test_of_the_page_passes(output):
    assert f"\n{len(cases(''.join(BLOCKS))) + SEEDS - 1} passed in " in output, output


@pytest.mark.slow
def test_what_a_failure_shows_is_what_the_page_shows(output):
    (shown,) = re.findall(r"```text\n(.+?)```", PAGE, re.DOTALL)
    assert shown in output


def test_every_answer_that_the_kit_knows_is_in_the_table():
    answers = {name for name in testing.__all__ if name[0].islower()}
    assert answers - set(re.findall(r"`([a-z_]+)\(", PAGE)) == set()
