"""The handle: what :meth:`ActorSystem.submit` gives back for one run.

Safe in any thread, awaitable in any event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pykka

from protocol.signals import CancelRun, Progress, RunEnded
from runtime.channel import Channel
from runtime.desk import Subscribe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from protocol.messages import WorkflowResult


class Handle:
    """One run. ``correlation_id`` names it in every message, log line and event."""

    def __init__(self, correlation_id: str, tell: Callable[[Any], None]) -> None:
        self.correlation_id = correlation_id
        self._tell = tell
        self._future: pykka.ThreadingFuture[WorkflowResult] = pykka.ThreadingFuture()
        self._result: WorkflowResult | None = None

    def __repr__(self) -> str:
        return f"<Handle {self.correlation_id} {'ended' if self.done() else 'running'}>"

    def result(self, timeout: float | None = None) -> WorkflowResult:
        """Wait for the end and return it; failed and cancelled runs are results too. May be called again.

        Raises ``TimeoutError`` after *timeout* seconds; the run goes on.
        """
        try:
            result: WorkflowResult = self._future.get(timeout=timeout)
        except pykka.Timeout:
            raise TimeoutError(f"{self.correlation_id} has not ended within {timeout:g} s; it goes on") from None
        return result

    def done(self) -> bool:
        """Tell whether the run has ended."""
        return self._result is not None

    def cancel(self) -> None:
        """Cancel the run; its result then says so and keeps the drafts that exist. Does nothing after the end."""
        self._tell(CancelRun(run=self.correlation_id))

    def subscribe(self, sink: Callable[[Progress | RunEnded], object]) -> None:
        """Call *sink* with each event from the first on, and the RunEnded last; in the system's thread: never block."""
        self._tell(Subscribe(run=self.correlation_id, sink=sink))

    def events(self) -> Iterator[Progress]:
        """Iterate over the run's events, from its first to its last; blocks between them and ends with the run."""
        channel: Channel[Progress | RunEnded] = Channel()
        self.subscribe(channel.put)
        while not isinstance(event := channel.get(), RunEnded):
            yield event

    async def aevents(self) -> AsyncIterator[Progress]:
        """Iterate over the run's events in the running event loop."""
        queue: asyncio.Queue[Progress | RunEnded] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self.subscribe(lambda event: loop.call_soon_threadsafe(queue.put_nowait, event))
        while not isinstance(event := await queue.get(), RunEnded):
            yield event

    def __await__(self) -> Generator[Any, None, WorkflowResult]:
        """Wait for the end without blocking the running event loop."""
        return self._wait().__await__()

    async def _wait(self) -> WorkflowResult:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[WorkflowResult] = loop.create_future()

        def settle(event: RunEnded) -> None:
            if not ended.done():
                ended.set_result(event.result)

        def sink(event: Progress | RunEnded) -> None:
            if isinstance(event, RunEnded):
                loop.call_soon_threadsafe(settle, event)

        self.subscribe(sink)
        return await ended

    def finish(self, result: WorkflowResult) -> None:
        """Set the result; called once, by the desk."""
        self._result = result
        self._future.set(result)
