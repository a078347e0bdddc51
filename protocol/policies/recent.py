"""A bounded memory: the last names that were added, older ones are forgotten.

A performer of steps keeps one of those it has answered. A restarted asker asks again for what it found no answer to in
the record, and its question may cross with the answer.
"""

from __future__ import annotations


class Recent:
    """The last *most* names that were added."""

    __slots__ = ("_most", "_names")

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        """Remember *name*, as the youngest; forget the oldest when there are too many."""
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > self._most:
            del self._names[next(iter(self._names))]

    def discard(self, name: str) -> None:
        """Forget *name*."""
        self._names.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._names
