"""The handle: what :meth:`ActorSystem.submit` gives back for one run.

Safe in any thread, awaitable in any event loop.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pykka

from protocol.errors import TroupeError
from protocol.signals import CancelRun, Progress, RunEnded
from runtime.channel import Channel
from runtime.desk import Subscribe, Unsubscribe

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Generator

    from protocol.messages import WorkflowResult
    from runtime.desk import Run

FORKED = "the system was started before os.fork(): threads do not survive a fork; start a system in the child"


class Handle:
    """One run. ``correlation_id`` names it in every message, log line and event."""

    def __init__(self, run: Run, tell: Callable[[Any], None]) -> None:
        self.correlation_id = run.start.run
        self.run = run
        self._tell = tell
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Handle {self.correlation_id} {'ended' if self.done() else 'running'}>"

    def result(self, timeout: float | None = None) -> WorkflowResult:
        """Wait for the end and return it; failed and cancelled runs are results too. May be called again.

        Raises ``TimeoutError`` after *timeout* seconds; the run goes on.
        """
        self._living()
        try:
            result: WorkflowResult = self.run.future.get(timeout=timeout)
        except pykka.Timeout:
            raise TimeoutError(f"{self.correlation_id} has not ended within {timeout:g} s; it goes on") from None
        return result

    def done(self) -> bool:
        """Tell whether the run has ended."""
        return self.run.result is not None

    def cancel(self) -> None:
        """Cancel the run; its result then says so and keeps the drafts that exist. Does nothing after the end."""
        if self._living():
            self._tell(CancelRun(run=self.correlation_id))

    def subscribe(self, sink: Callable[[Progress | RunEnded], object]) -> None:
        """Call *sink* with each event from the first on, and the RunEnded last; in the system's thread: never block."""
        if self._living():
            self._tell(Subscribe(run=self.run, sink=sink))
        else:
            self.run.replay(sink)

    def unsubscribe(self, sink: Callable[[Progress | RunEnded], object]) -> None:
        """Call *sink* no more; what is under way to it may still come. The run goes on."""
        if not self.done() and os.getpid() == self._pid:
            self._tell(Unsubscribe(run=self.run, sink=sink))

    def events(self) -> Generator[Progress, None, None]:
        """Iterate over the run's events, from its first to its last; blocks between them and ends with the run.

        Whoever stops early ends the watching, not the run.
        """
        channel: Channel[Progress | RunEnded] = Channel()
        sink = channel.put  # one object: each access to a method makes another
        self.subscribe(sink)
        try:
            while not isinstance(event := channel.get(), RunEnded):
                yield event
        finally:
            self.unsubscribe(sink)

    async def aevents(self) -> AsyncGenerator[Progress, None]:
        """Iterate over the run's events in the running event loop; whoever stops early ends the watching, not the run.

        A slow reader holds up neither the run nor other readers: what it has not read yet waits for it.
        """
        import asyncio  # noqa: PLC0415 (whoever awaits has it; a program without an event loop never loads it)

        queue: asyncio.Queue[Progress | RunEnded] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def sink(event: Progress | RunEnded) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        self.subscribe(sink)
        try:
            while not isinstance(event := await queue.get(), RunEnded):
                yield event
        finally:
            self.unsubscribe(sink)

    def __await__(self) -> Generator[Any, None, WorkflowResult]:
        """Wait for the end without blocking the event loop; a waiter that is cancelled leaves the run as it is."""
        return self._wait().__await__()

    async def _wait(self) -> WorkflowResult:
        import asyncio  # noqa: PLC0415 (as above)

        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not ended.done():
                ended.set_result(None)

        def sink(event: Progress | RunEnded) -> None:
            if isinstance(event, RunEnded):
                loop.call_soon_threadsafe(settle)

        self.subscribe(sink)
        try:
            await ended
        finally:
            self.unsubscribe(sink)
        return self.result()

    def _living(self) -> bool:
        """Tell whether the run still goes on. Raises ``TroupeError`` where it does so in another process only."""
        if self.done():
            return False
        if os.getpid() != self._pid:
            raise TroupeError(FORKED, page="system")
        return True
