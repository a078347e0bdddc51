"""Priority classes with ageing: the most urgent class goes first, and nobody starves behind it.

A class rises by one class for each *seconds* that its longest waiter has waited. Once it has risen to the most urgent
class that waits, it is *due*, and may take one turn between two turns of that class, the least urgent first. So whoever
is urgent keeps at least one of :data:`CLASSES` turns, however much has aged.

Law: the least urgent class is served in the first turn in which it is due, or two turns after its last one; so a waiter
of it that is not one of many waits at most its class times *seconds* and one turn, whatever the overload. Source:
wire.md 6.4, where the aged overtake without a bound, and whoever waits behind them starves.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSES = 3
"""How many classes there are; 0 is the most urgent."""


def class_of(priority: int) -> int:
    """Return the class of any number: what is beyond the least urgent counts as that."""
    return priority if 0 <= priority < CLASSES else 0 if priority < 0 else CLASSES - 1


class Turn(Struct, frozen=True, gc=False):
    """Class *level* is served next; *by_age* although a more urgent one waits."""

    level: int
    by_age: bool


class Ageing:
    """Says whose turn it is, and remembers who has had one by age. *seconds* is what a class takes to rise by one."""

    __slots__ = ("_had", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._had: set[int] = set()  # the classes that took a turn by age since the last of the most urgent one

    def turn(self, since: Sequence[float], now: float) -> Turn:
        """Return whose turn it is, by when the longest waiter of each class came (infinity: nobody waits there).

        Raises ``ValueError`` when nobody waits at all.
        """
        strict = _most_urgent(since)
        for level in range(CLASSES - 1, strict, -1):
            if level not in self._had and self._rises_at(level, since, strict) <= now:
                return Turn(level, by_age=True)
        return Turn(strict, by_age=False)

    def took(self, turn: Turn) -> None:
        """*turn* was taken: somebody was served."""
        if turn.by_age:
            self._had.add(turn.level)
        else:
            self._had.clear()

    def next_rise(self, since: Sequence[float], now: float) -> float:
        """Return the next instant at which a class becomes due, infinity when none will."""
        strict = _most_urgent(since)
        rises = (self._rises_at(level, since, strict) for level in range(strict + 1, CLASSES))
        return min((at for at in rises if at > now), default=inf)

    def _rises_at(self, level: int, since: Sequence[float], strict: int) -> float:
        return since[level] + (level - strict) * self.seconds


def _most_urgent(since: Sequence[float]) -> int:
    for level, at in enumerate(since):
        if at < inf:
            return level
    raise ValueError("nobody waits")
