"""The branches of a conversation and what joins them: the state that the steps driver (``protocol/steps.py``) moves."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, cast

from msgspec import Struct

from protocol import ids
from protocol.awaited import Step
from protocol.errors import Cancelled


class Join(Struct, eq=False):
    """A gather that waits for its branches."""

    step: str
    left: int
    fail_fast: bool
    values: list[Any]
    errors: dict[int, BaseException] = {}
    cancelled: bool = False

    def error(self, *, doomed: bool) -> BaseException:
        """Return what is raised: the error of the lowest index.

        Where all are cancelled that is the cancel, whatever failed before; where *fail_fast* cancelled the siblings it
        is what they were cancelled for.
        """
        chosen = self.errors
        if doomed or self.cancelled:
            chosen = {k: e for k, e in chosen.items() if isinstance(e, Cancelled) is doomed} or chosen
        return chosen[min(chosen)]


class Branch(Struct, eq=False):
    """One line of control: a coroutine, its path, how many steps it has awaited, and the time of its last answer.

    One that has a *parent* and no *join* is a scope. *request* is the step that it waits for, if it waits.
    """

    path: str
    coroutine: Coroutine[Any, Any, Any]
    now: float
    parent: Branch | None = None
    join: Join | None = None
    index: int = 0
    memory: Any = None
    request: Step[Any] = cast("Step[Any]", None)
    ordinal: int = 0
    throws: int = 0

    def take_ordinal(self) -> str:
        """Return the id of the step that is awaited now, and count it."""
        step = ids.child_step(self.path, self.ordinal)
        self.ordinal += 1
        return step

    def doomed(self) -> bool:
        """Tell whether a gather that this branch lies in was cancelled."""
        branch: Branch | None = self
        while branch is not None:
            if branch.join is not None and branch.join.cancelled:
                return True
            branch = branch.parent
        return False
