"""What the tests of the sandbox share: one sandbox, and whether there is one here at all."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protocol.facts import Job, Ran, SourceFile
from runtime import bubblewrap
from runtime.sandbox import Sandbox

if TYPE_CHECKING:
    from runtime.bubblewrap import Limits

OBSTACLE = Sandbox().obstacle()
needs_sandbox = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))


def job(*texts: str, id_: str = "job", skip: tuple[str, ...] = (), **files: str) -> Job:
    """Return a job of ``draft.py`` and, by keyword, further modules."""
    named = {
        **({"draft.py": "\n".join(texts)} if texts else {}),
        **{f"{name}.py": text for name, text in files.items()},
    }
    return Job(id=id_, files=tuple(SourceFile(name=n, text=t) for n, t in named.items()), skip=skip)


def run(*texts: str, limits: Limits | None = None, skip: tuple[str, ...] = (), **files: str) -> Ran:
    """Run a draft in a sandbox of its own."""
    return Sandbox(limits).run(job(*texts, skip=skip, **files))


def told(ran: Ran) -> dict[str, str]:
    """Return what the runner vouches for, by name."""
    return {entry[1]: entry[0] for entry in ran.proof or ()}


MINE = bubblewrap.FIRST_UID + bubblewrap.USERS + 100 * os.getpid()
"""The first user of this test run's sandboxes, so that it does not see those of another."""


@pytest.fixture(autouse=True)
def users_of_our_own(monkeypatch):
    monkeypatch.setattr(bubblewrap, "FIRST_UID", MINE)
    monkeypatch.setattr(bubblewrap, "USERS", 100)


def boxes() -> set[str]:
    """Return the processes that are a sandbox, or in one; without root they are known by their command lines."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if MINE <= path.stat().st_uid < MINE + 100 or (
                os.geteuid() and b"bwrap" in (path / "cmdline").read_bytes()
            ):
                found.add(path.name)
    return found


def soon(condition, seconds: float = 3.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()
