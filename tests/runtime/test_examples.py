"""Each example runs as it stands, against the scripted server."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runtime import Config
from tests.runtime.command import ROOT, environment

pytestmark = pytest.mark.slow


def run(home, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_embedding_example_runs_a_role_a_workflow_and_the_team(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "embed.py"))
    assert out.count("task.finished") == 7
    assert "## " in out


def test_the_asyncio_example_awaits_its_runs(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "asyncio_app.py"))
    assert out.count("succeeded") == 2


def test_the_test_example_passes(tmp_path):
    out = run(
        tmp_path,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        str(ROOT / "examples" / "test_my_agent.py"),
    )
    assert "1 passed" in out


def test_the_german_example_is_a_valid_configuration():
    config = Config.load(ROOT / "examples" / "guide_de.toml")
    assert "Sicherheit" in config.roles["reviewer"].system_prompt
    assert config.team.max_parallel == 3
