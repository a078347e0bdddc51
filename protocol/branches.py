"""The branches of a conversation and what joins them: the state that the steps driver (``protocol/steps.py``) moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol import ids
from protocol.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Join:
    """A gather or scope that waits for its branches."""

    __slots__ = ("cancelled", "errors", "fail_fast", "left", "single", "step", "values")

    def __init__(self, step: str, size: int, *, fail_fast: bool, single: bool) -> None:
        self.step = step
        self.left = size
        self.values: list[Any] = [None] * size
        self.errors: dict[int, BaseException] = {}
        self.fail_fast = fail_fast
        self.single = single
        self.cancelled = False

    def error(self, *, doomed: bool) -> BaseException:
        """Return what is raised: the error of the lowest index.

        Where all are cancelled that is the cancel, whatever failed before; where *fail_fast* cancelled the siblings it
        is what they were cancelled for.
        """
        chosen = self.errors
        if doomed or self.cancelled:
            chosen = {k: e for k, e in chosen.items() if isinstance(e, Cancelled) is doomed} or chosen
        return chosen[min(chosen)]


class Branch:
    """One line of control: a coroutine, its path, how many steps it has awaited, and the time of its last answer."""

    __slots__ = ("coroutine", "index", "join", "memory", "now", "ordinal", "parent", "path", "throws")

    def __init__(
        self,
        path: str,
        coroutine: Coroutine[Any, Any, Any],
        now: float,
        parent: Branch | None = None,
        join: Join | None = None,
        index: int = 0,
    ) -> None:
        self.path = path
        self.coroutine = coroutine
        self.now = now
        self.parent = parent
        self.join = join
        self.index = index
        self.ordinal = 0
        self.throws = 0
        self.memory: Any = parent.memory if parent is not None else None

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
