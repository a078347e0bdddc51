"""Names: correlation ids, step ids, addresses.

A run has one correlation id. Every step inside it has a step id that says where in the run it stands:
``task_001/0`` is the first awaited step, ``task_001/1.2/0`` the first step of branch 2 of the gather that was second.
Correlation ids contain neither ``/`` nor ``.``, so a step id can be taken apart again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CORRELATION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a correlation id looks like, at every door (use with ``fullmatch``)."""

ROLE_NAME = re.compile(r"(?!workflow\Z)[a-z][a-z0-9_-]{0,31}")
"""What the name of a role looks like (use with ``fullmatch``). ``workflow`` is none: runs have addresses like that."""

SUPERVISOR = "supervisor"
LIMITER = "limiter"
GATEWAY = "gateway"
RECORDER = "recorder"
DESK = "desk"


def is_correlation_id(text: str) -> bool:
    """Tell whether *text* may name a run."""
    return CORRELATION_ID.fullmatch(text) is not None


def run_of(step: str) -> str:
    """Return the correlation id that *step* belongs to."""
    return step.partition("/")[0]


def child_step(parent: str, ordinal: int) -> str:
    """Return the id of the step that is awaited as number *ordinal* of *parent*."""
    return f"{parent}/{ordinal}"


def branch(step: str, index: int) -> str:
    """Return the path of branch *index* of the gather whose step id is *step*."""
    return f"{step}.{index}"


def above(step: str) -> Iterator[str]:
    """Yield the ids of what *step* lies inside: its parent first, the run last."""
    while "/" in step:
        step = step.rpartition("/")[0]
        yield step


def workflow_address(correlation_id: str) -> str:
    """Return the address of the actor that runs *correlation_id*."""
    return f"workflow/{correlation_id}"
