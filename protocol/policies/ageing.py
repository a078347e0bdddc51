"""Priority classes with ageing: the most urgent class goes first, and nobody starves behind it.

A class rises by one class for each *seconds* that its longest waiter has waited. Once it has risen to the most urgent
class that waits, it is *due*, and every second turn is its own: of two turns in a row at most one goes to a class that
was only due, so whoever is urgent keeps at least half of what there is, however much has aged.

Law: a class p that is due is served in this turn, or in the next; so when nobody else of it waits, a waiter of class p
waits at most ``p * seconds`` and one turn more. Source: wire.md 6.4, where the aged overtake without a bound.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSES = 3
"""How many classes there are; 0 is the most urgent."""


def class_of(priority: int) -> int:
    """Return the class of any number: what is beyond the least urgent counts as that."""
    return min(max(priority, 0), CLASSES - 1)


class Turn(NamedTuple):
    """Class *level* is served next; *by_age* although a more urgent one waits."""

    level: int
    by_age: bool


def choose(since: Sequence[float], seconds: float, now: float, *, aged_last: bool) -> Turn:
    """Return whose turn it is; *aged_last*: the turn before went to a class because of its age.

    *since* gives for each class when its longest waiter came, infinity where nobody waits. Raises ``ValueError`` when
    nobody waits at all.
    """
    strict = _most_urgent(since)
    if not aged_last:
        due, level = min((at, level) for level, at in enumerate(_due(since, seconds, strict)))
        if due <= now:
            return Turn(level, by_age=True)
    return Turn(strict, by_age=False)


def next_rise(since: Sequence[float], seconds: float, now: float) -> float:
    """Return the next instant at which a class becomes due, infinity when none will."""
    strict = _most_urgent(since)
    return min((at for at in _due(since, seconds, strict) if at > now), default=inf)


def _most_urgent(since: Sequence[float]) -> int:
    for level, at in enumerate(since):
        if at < inf:
            return level
    raise ValueError("nobody waits")


def _due(since: Sequence[float], seconds: float, strict: int) -> list[float]:
    """Return for each class when it is due beside the class *strict*; infinity for that and the more urgent ones."""
    return [at + (level - strict) * seconds if level > strict else inf for level, at in enumerate(since)]
