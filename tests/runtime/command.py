"""The command line as a user starts it: a process of its own, in an empty folder, with an empty home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
FAST = """
[retry]
base = 0.01
cap = 0.05
[roles.orchestrator]
timeout = 5.0
[roles.coder]
timeout = 5.0
[roles.reviewer]
timeout = 5.0
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def results(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def one_line(self) -> str:
        """Standard error, which must be one line and no traceback."""
        assert "Traceback" not in self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "COVERAGE_PROCESS_START"}}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


def troupe(home: Path, *arguments: str, stdin: str | bytes = b"", **env: str) -> Ran:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *arguments],
        cwd=home,
        env=environment(home, **env),
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def config(url: str, more: str = "") -> str:
    return f"""
[provider.main]
kind = "openai"
base_url = "{url}"
[model.m]
provider = "main"
name = "m"
{FAST}
{more}
"""
