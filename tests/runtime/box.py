"""What the tests of the sandbox share: one sandbox, and whether there is one here at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol.facts import Job, Ran, SourceFile
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
