"""Answers that may be given again, bounded in number, bytes and time; what was asked for longest ago goes first.

Nothing is judged here: what may be kept, and what counts as the same question, is said by ``protocol/sharing.py``.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Kept(NamedTuple, Generic[T]):
    """One answer, how large it is, and until when it may be given."""

    value: T
    size: int
    until: float


class ResponseCache(Generic[T]):
    """At most *entries* answers of *most_bytes* together."""

    __slots__ = ("_entries", "_kept", "_most_bytes", "size")

    def __init__(self, entries: int = 1000, most_bytes: int = 16_000_000) -> None:
        self._entries = entries
        self._most_bytes = most_bytes
        self._kept: dict[bytes, Kept[T]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now: float) -> T | None:
        """Return what is kept for *key*, as the youngest from now on; None when there is nothing, or no more."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= now:
            self._drop(key)
            return None
        self._kept[key] = self._kept.pop(key)
        return kept.value

    def put(self, key: bytes, value: T, size: int, until: float) -> None:
        """Keep *value* of *size* bytes until then, in place of what was kept; nothing too large for all of them."""
        if key in self._kept:
            self._drop(key)
        if size > self._most_bytes:
            return
        self._kept[key] = Kept(value, size, until)
        self.size += size
        while len(self._kept) > self._entries or self.size > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        self.size -= self._kept.pop(key).size
