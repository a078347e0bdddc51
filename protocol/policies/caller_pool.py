"""The callers of one provider: hired lazily up to a maximum, handed out to whoever waits in the order they came.

The caller that was free last is taken first: its connection is the likeliest to be still open.
"""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct


class Seat(Struct, frozen=True, gc=False):
    """A caller to use; *hired* gives its number when it has yet to be spawned."""

    caller: str
    hired: int | None


class CallerPool:
    """Who may call, and which steps wait for a caller."""

    __slots__ = ("_idle", "_members", "_next", "_waiting", "most", "provider")

    def __init__(self, provider: str, most: int) -> None:
        self.provider = provider
        self.most = most
        self._next = 0
        self._members: set[str] = set()
        self._idle: list[str] = []
        self._waiting: OrderedDict[str, None] = OrderedDict()

    def address(self, number: int) -> str:
        """Return the address of caller *number*."""
        return f"caller/{self.provider}/{number}"

    def take(self) -> Seat | None:
        """Take a free caller, or hire one; None when all are busy."""
        if self._idle:
            return Seat(self._idle.pop(), None)
        if len(self._members) >= self.most:
            return None
        number, self._next = self._next, self._next + 1
        caller = self.address(number)
        self._members.add(caller)
        return Seat(caller, number)

    def free(self, caller: str) -> None:
        """Take *caller* back; one that was counted as lost meanwhile stays lost."""
        if caller in self._members:
            self._idle.append(caller)

    def lose(self, caller: str) -> bool:
        """Count *caller* as lost, so that another may be hired; False when it is not one of these."""
        if caller not in self._members:
            return False
        self._members.remove(caller)
        if caller in self._idle:
            self._idle.remove(caller)
        return True

    def adopt(self, caller: str) -> bool:
        """Let *caller*, lost or of an earlier life, be one of these and free; False when there is no room for it.

        Nobody is hired under its name, whose reports could be taken for each other's.
        """
        self._next = max(self._next, int(caller.rpartition("/")[2]) + 1)
        if len(self._members) >= self.most:
            return False
        self._members.add(caller)
        self._idle.append(caller)
        return True

    def __contains__(self, caller: str) -> bool:
        return caller in self._members

    @property
    def idle(self) -> int:
        """How many callers are free."""
        return len(self._idle)

    @property
    def size(self) -> int:
        """How many callers there are."""
        return len(self._members)

    # --- who waits

    def wait(self, step: str) -> None:
        """Let *step* wait for a caller."""
        self._waiting[step] = None

    def leave(self, step: str) -> None:
        """Let *step* wait no longer."""
        self._waiting.pop(step, None)

    def first(self) -> str | None:
        """Return the step that has waited longest."""
        return next(iter(self._waiting), None)
