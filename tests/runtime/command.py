"""The command line as a user starts it: a process of its own, in an empty folder, with an empty home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
NOWHERE = "http://127.0.0.1:9/v1"
"""An address on this machine at which nobody listens."""
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
    seconds: float = 0.0

    @property
    def documents(self) -> list[dict]:
        """Standard output as JSON lines, cut as a careless reader cuts lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def results(self) -> dict[str, dict]:
        """The documents of runs by their ids."""
        return {document["correlation_id"]: document for document in self.documents if "correlation_id" in document}

    @property
    def one_line(self) -> str:
        """Standard error, which must be one line and no traceback."""
        (line,) = self.lines
        return line

    @property
    def lines(self) -> list[str]:
        """The lines of standard error, none of them a traceback's, but for those that a busy machine brings about."""
        assert "Traceback" not in self.err, self.err
        return [line for line in self.err.splitlines() if '"event": "loop.held"' not in line]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "COVERAGE_PROCESS_START"}}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


def troupe(home: Path, *arguments: str, stdin: str | bytes = b"", **env: str) -> Ran:
    return ran(home, [sys.executable, "-m", "runtime", *arguments], stdin, **env)


def in_shell(home: Path, arguments: str, ending: str, stdin: str | bytes = b"", **env: str) -> Ran:
    """Run the command in a shell that goes on with *ending*: redirections, pipes."""
    return ran(home, ["bash", "-c", f'"{sys.executable}" -m runtime {arguments} {ending}'], stdin, **env)


def ran(home: Path, command: list[str], stdin: str | bytes, **env: str) -> Ran:
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=home,
        env=environment(home, **env),
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=240,
        check=False,
    )
    out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    return Ran(done.returncode, out, err, time.monotonic() - began)


def printed(home: Path, *arguments: str) -> str:
    """Return what Python prints in *home*; it must end well and complain of nothing."""
    done = ran(home, [sys.executable, *arguments], b"", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert (done.code, done.err) == (0, ""), done
    return done.out


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
