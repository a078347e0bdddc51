"""``make demo TASK="..."``: the task reaches the program as it was typed, and make says nothing on standard output."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.skipif(which("make") is None, reason="make is not installed")]


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A stand-in for the environment's Python that tells its task."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nprintf "%s" "$TROUPE_TASK"\n')
    script.chmod(0o755)
    return script


def demo(python: Path, *arguments: str) -> bytes:
    """Run the target, as if all that it needs had been set up already, and return its standard output."""
    command = ["make", "-C", str(ROOT), "--no-print-directory", "-o", ".venv/.model", "demo", f"PY={python}"]
    return subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, timeout=30).stdout


@pytest.mark.parametrize(
    "task",
    [
        "Write a parser for INI files",
        "print \"two\" 'quotes'; $HOME and $(rm -rf x) `id` & | > < # * \\ % !",
        "Grüße, 世界 👋",
        "two\nlines",
    ],
)
def test_a_task_reaches_the_program_as_it_was_typed(python: Path, task: str):
    assert demo(python, f"TASK={task}").decode() == task


def test_without_a_task_the_program_chooses_its_own(python: Path):
    assert demo(python) == b""
