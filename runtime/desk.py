"""The desk: the edge of the system, where runs are opened from outside and their ends and events are handed out.

It runs on the shared loop like any actor, so that "is there a run with this id already?" is decided by one actor, not
under a lock. Outside threads reach it through Pykka's ``ask`` with a timeout (``runtime/system.py``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from actors.base import Actor
from protocol import ids
from protocol.errors import ErrorKind
from protocol.signals import CancelRun, Progress, RunEnded, StartRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.messages import WorkflowResult
    from runtime.handle import Handle

ENDED_KEPT = 10_000
"""How many ended runs keep their handle, so that the same id and task give the same handle."""
EVENTS_KEPT = 1000


class Open(Struct, frozen=True, kw_only=True):
    """Open a run; answered with its handle, or with the reason why not.

    Holds a handle, so it never leaves the process.
    """

    start: StartRun
    handle: Any


class Subscribe(Struct, frozen=True, kw_only=True):
    """Call *sink* with each event of *run*, those that were there already first, and with its RunEnded last."""

    run: str
    sink: Any


class Close(Struct, frozen=True, kw_only=True):
    """Open nothing any more, and cancel what runs."""

    reason: str


class Run:
    """What the desk keeps of one run; it outlives the desk's instances."""

    __slots__ = ("events", "handle", "result", "sinks", "start")

    def __init__(self, start: StartRun, handle: Handle) -> None:
        self.start = start
        self.handle = handle
        self.result: WorkflowResult | None = None
        self.events: list[Progress] = []
        self.sinks: list[Callable[[Progress | RunEnded], object]] = []

    def hand_out(self, event: Progress | RunEnded) -> None:
        """Call every sink; one that raises (its event loop is closed, say) is dropped."""
        for sink in list(self.sinks):
            try:
                sink(event)
            except Exception:  # noqa: BLE001 (a watcher's fault is not the run's)
                self.sinks.remove(sink)

    def replay(self, sink: Callable[[Progress | RunEnded], object]) -> None:
        """Give *sink* what there was, and the end if it has come; keep it for the rest otherwise."""
        with suppress(Exception):  # a watcher's fault is not the run's
            for event in self.events:
                sink(event)
            if self.result is not None:
                sink(RunEnded(run=self.start.run, result=self.result))
                return
        self.sinks.append(sink)


class Desk(Actor):
    """Keeps the handles."""

    def __init__(self, runs: dict[str, Run]) -> None:
        super().__init__()
        self._runs: dict[str, Run] = runs
        self._closed: str | None = None

    def on_receive(self, message: Any) -> Any:
        """Open, hand out, close."""
        match message:
            case Open():
                return self._open(message)
            case Progress():
                self._progress(message)
            case RunEnded():
                self._ended(message)
            case Subscribe() if message.run in self._runs:
                self._runs[message.run].replay(message.sink)
            case Close():
                self._close(message)
            case CancelRun():
                self.tell(ids.SUPERVISOR, message)
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)
        return None

    def _open(self, request: Open) -> Handle | str:
        start = request.start
        known = self._runs.get(start.run)
        if known is not None:
            same = (known.start.task, known.start.workflow, known.start.to) == (start.task, start.workflow, start.to)
            return known.handle if same else f"run {start.run!r} exists already with another task"
        if self._closed is not None:
            return f"the system is {self._closed}"
        self._runs[start.run] = Run(start, request.handle)
        self._forget_old()
        self.tell(ids.SUPERVISOR, start)
        handle: Handle = request.handle
        return handle

    def _forget_old(self) -> None:
        if len(self._runs) <= ENDED_KEPT + ENDED_KEPT // 10:
            return
        for id_ in [id_ for id_, run in self._runs.items() if run.result is not None][: len(self._runs) - ENDED_KEPT]:
            del self._runs[id_]

    def _progress(self, event: Progress) -> None:
        run = self._runs.get(event.run)
        if run is not None and run.result is None:
            if len(run.events) < EVENTS_KEPT:
                run.events.append(event)
            run.hand_out(event)

    def _ended(self, ended: RunEnded) -> None:
        run = self._runs.get(ended.run)
        if run is None or run.result is not None:
            return
        run.result = ended.result
        run.handle.finish(ended.result)
        run.hand_out(ended)
        run.sinks.clear()

    def _close(self, close: Close) -> None:
        self._closed = close.reason
        for id_, run in self._runs.items():
            if run.result is None:
                self.tell(
                    ids.SUPERVISOR, CancelRun(run=id_, reason=f"the system is {close.reason}", kind=ErrorKind.STOPPED)
                )
