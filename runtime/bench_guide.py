"""The limiter of the guide that Troupe grew from, as a contender of ``runtime/bench.py``; nothing else uses it.

Written anew from what the guide says its three classes do, with its numbers; it sleeps and locks as they do, in one
thread of asyncio. Mended is only what stops it from running at all:

1. A queued call has a running number beside its priority: of two equal ones Python would compare the coroutines.
2. A call is a function that makes the coroutine, not the coroutine: the guide awaits the same one again on a retry.
3. ``process`` waits for the tasks that it has begun: the guide returns while they run.
4. A reply with a status of 400 or more raises: the guide's benchmark sleeps in the place of a call, and never fails.

Left as it is: waits of 0.1 s at least, everybody woken at once and nobody in order, the level read outside the lock, a
semaphore that is free again before its task begins, one count of errors for all callers, a rate that never adapts, and
a call given up after five attempts, whatever was wrong.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call = Callable[[], Awaitable[None]]


class TokenBucket:
    """*rate* tokens a second, at most *capacity*, full at the start."""

    def __init__(self, rate: float, capacity: float) -> None:
        self.rate = rate
        self.capacity = capacity
        self.tokens = capacity
        self.last_update = time.monotonic()
        self._lock = asyncio.Lock()

    async def acquire(self, tokens: float = 1.0) -> None:
        """Wait for *tokens*; for more than the capacity for ever."""
        while True:
            async with self._lock:
                now = time.monotonic()
                self.tokens = min(self.capacity, self.tokens + (now - self.last_update) * self.rate)
                self.last_update = now
                if self.tokens >= tokens:
                    self.tokens -= tokens
                    return
            await asyncio.sleep(max(0.1, (tokens - self.tokens) / self.rate))


class PriorityTaskQueue:
    """Begins tasks in the order of their priority, 0 the most urgent; *max_workers* bounds nothing."""

    def __init__(self, max_workers: int = 5) -> None:
        self._heap: list[tuple[int, int, Call]] = []
        self._numbers = count()
        self._semaphore = asyncio.Semaphore(max_workers)

    def submit(self, priority: int, call: Call) -> None:
        """Queue *call*."""
        heapq.heappush(self._heap, (priority, next(self._numbers), call))

    async def process(self) -> None:
        """Begin everything that is queued, and wait for it; a failed task fails alone."""
        begun: list[asyncio.Task[None]] = []
        while self._heap:
            _, _, call = heapq.heappop(self._heap)
            async with self._semaphore:
                begun.append(asyncio.create_task(_run(call)))
        await asyncio.gather(*begun, return_exceptions=True)


class AdaptiveRateLimiter:
    """A bucket and five attempts, with waits that grow with the errors of all callers together."""

    ATTEMPTS = 5
    FORGIVEN_AFTER = 10
    BASE = 1.5
    MOST = 4

    def __init__(self, base_rate: float = 60.0, burst: float = 100.0) -> None:
        self._bucket = TokenBucket(base_rate, burst)
        self._errors = 0
        self._successes = 0

    async def execute(self, call: Call) -> None:
        """Make *call*. Raises what its last attempt raised."""
        for attempt in range(self.ATTEMPTS):
            await self._bucket.acquire()
            try:
                await call()
            except Exception:
                self._errors += 1
                self._successes = 0
                if attempt + 1 == self.ATTEMPTS:
                    raise
                await asyncio.sleep(self.BASE ** min(self._errors, self.MOST))
            else:
                self._successes += 1
                if self._successes >= self.FORGIVEN_AFTER:
                    self._errors, self._successes = max(0, self._errors - 1), 0
                return


async def _run(call: Call) -> None:
    await call()
