"""What hands things from one thread to another: ``queue.SimpleQueue``, and it stands in this file alone.

A ``SimpleQueue`` is reentrant, takes no Python lock, and its ``put`` never blocks, so it may be used from any thread
and even from a signal handler.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

__all__ = ["Channel", "Empty"]


class Channel(SimpleQueue[T], Generic[T]):
    """An unbounded queue between threads: ``put`` never blocks, ``get(timeout=...)`` raises ``Empty``."""
