"""The desk: the edge of the system, where runs are opened from outside and their events and ends are handed out.

It runs on the shared loop like any actor. What outside threads see of a run lies in its :class:`Run`, which outlives
the desk's instances and the system itself: a handle gives results and events also after the end.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import msgspec
import pykka
from msgspec import Struct

from actors.base import Actor
from protocol import ids
from protocol.errors import ErrorKind
from protocol.ledger import NANO
from protocol.messages import PRIORITIES, WorkflowResult
from protocol.signals import CancelRun, Progress, RunEnded, StartRun
from protocol.snapshot import LimitsSnapshot
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.snapshot import DomainState
    from runtime.handle import Handle

_log = get_logger()

CLASS_NAMES = tuple(sorted(PRIORITIES, key=PRIORITIES.__getitem__))
"""The classes, the most urgent first."""
ENDED_KEPT = 50
"""How many ended runs are kept for whoever submits the same id again; a handle in use is always found."""
EVENTS_KEPT = 10_000
"""How many events of one run are kept for whoever subscribes late; later ones reach only those who are there."""


class Open(Struct, frozen=True, kw_only=True):
    """Start the run; its handle is among the runs already."""

    start: StartRun


class Subscribe(Struct, frozen=True, kw_only=True):
    """Call *sink* with each event of *run*, those that were there already first, and with its RunEnded last.

    Holds a run and a function, so it never leaves the process.
    """

    run: Any
    sink: Any


class Unsubscribe(Struct, frozen=True, kw_only=True):
    """Call *sink* of *run* no more; does nothing when it is not called anyway."""

    run: Any
    sink: Any


class Close(Struct, frozen=True, kw_only=True):
    """Open nothing any more, and cancel what runs."""

    reason: str


class Run:
    """One run as it is seen from outside."""

    __slots__ = ("_ends", "events", "future", "result", "sinks", "start")

    def __init__(self, start: StartRun) -> None:
        self.start = start
        self.result: WorkflowResult | None = None
        self.events: list[Progress] = []
        self.sinks: list[Callable[[Progress | RunEnded], object]] = []
        self.future: pykka.ThreadingFuture[WorkflowResult] = pykka.ThreadingFuture()
        self._ends = [True]

    def add(self, event: Progress) -> None:
        """Keep *event* and hand it out; a sink that raises (its event loop is closed, say) is dropped."""
        if len(self.events) < EVENTS_KEPT:
            self.events.append(event)
        for sink in list(self.sinks):
            try:
                sink(event)
            except Exception:  # noqa: BLE001 (a watcher's fault is not the run's)
                self.sinks.remove(sink)

    def end(self, result: WorkflowResult) -> bool:
        """Set the result, tell every sink, and return True; False when it has ended before. Any thread."""
        try:
            self._ends.pop()
        except IndexError:
            return False
        self.result = result
        self.future.set(result)
        while self.sinks:
            self._tell_end(self.sinks.pop(0))
        return True

    def stop(self, reason: str, kind: ErrorKind) -> bool:
        """End the run from outside, since no actor will."""
        return self.end(WorkflowResult(correlation_id=self.start.run, success=False, error=reason, error_kind=kind))

    def replay(self, sink: Callable[[Progress | RunEnded], object]) -> None:
        """Give *sink* what there was, and keep it for the rest; in the desk's thread, or when there is no desk.

        The run may end in another thread meanwhile: whoever takes the sink out of the list tells it the end.
        """
        try:
            for event in self.events:
                sink(event)
        except Exception:  # noqa: BLE001 (a watcher's fault is not the run's)
            return
        self.sinks.append(sink)
        if self.result is not None:
            with suppress(ValueError):
                self.sinks.remove(sink)
                self._tell_end(sink)

    def forget(self, sink: Callable[[Progress | RunEnded], object]) -> None:
        """Tell *sink* nothing more; in the desk's thread, or when there is no desk."""
        with suppress(ValueError):
            self.sinks.remove(sink)

    def _tell_end(self, sink: Callable[[Progress | RunEnded], object]) -> None:
        assert self.result is not None
        with suppress(Exception):  # a watcher's fault is not the run's
            sink(RunEnded(run=self.start.run, result=self.result))


class Runs:
    """The handles of a system by correlation id: of open runs, of the last that ended, and those still in use.

    Any thread may call any method: each relies on single operations of a dict, which are atomic.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Handle] = {}
        self._in_use: WeakValueDictionary[str, Handle] = WeakValueDictionary()
        self._ended: deque[str] = deque()

    def get(self, run: str) -> Handle | None:
        """Return the handle of *run*; one that moves out of what is kept is among those in use before."""
        return self._kept.get(run) or self._in_use.get(run)

    def open(self, handle: Handle) -> Handle:
        """Return the handle that is known by the id of *handle*: itself, when there was none."""
        return self.get(handle.correlation_id) or self._kept.setdefault(handle.correlation_id, handle)

    def ended(self, run: str) -> None:
        """Keep the last that ended, and forget the oldest of them."""
        self._ended.append(run)
        if len(self._ended) > ENDED_KEPT:
            oldest = self._ended.popleft()
            self._in_use[oldest] = self._kept[oldest]
            del self._kept[oldest]

    def unended(self) -> list[Run]:
        """Return the runs that have not ended."""
        return [handle.run for handle in list(self._kept.values()) if handle.run.result is None]


class Desk(Actor):
    """Opens runs and fills them with what the system tells of them."""

    def __init__(self, runs: Runs) -> None:
        super().__init__()
        self._runs = runs
        self._closed: str | None = None

    def on_receive(self, message: Any) -> None:
        """Open, hand out, close."""
        match message:
            case Open():
                self._open(message.start)
            case Progress():
                self._progress(message)
            case RunEnded():
                self._ended(message)
            case LimitsSnapshot():
                self._waiting(message)
            case Subscribe():
                message.run.replay(message.sink)
            case Unsubscribe():
                message.run.forget(message.sink)
            case Close():
                self._close(message)
            case CancelRun():
                self.tell(ids.SUPERVISOR, message)
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)

    def _open(self, start: StartRun) -> None:
        if self._closed is None:
            self.tell(ids.SUPERVISOR, start)
        elif (handle := self._runs.get(start.run)) is not None:
            handle.run.stop(f"the system is {self._closed}", ErrorKind.STOPPED)

    def _progress(self, event: Progress) -> None:
        handle = self._runs.get(event.run)
        if handle is not None and handle.run.result is None:
            handle.run.add(event)

    def _waiting(self, seen: LimitsSnapshot) -> None:
        """Tell each run whose calls wait what they wait for."""
        for domain in seen.domains:
            facts = facts_of(domain, seen)
            _log.debug("limits.snapshot", **facts)
            for run in domain.runs:
                self._progress(Progress(run=run, event="limits.snapshot", at=self.wall(), facts=facts))

    def _ended(self, ended: RunEnded) -> None:
        handle = self._runs.get(ended.run)
        if handle is not None and handle.run.end(ended.result):
            self._runs.ended(ended.run)

    def _close(self, close: Close) -> None:
        self._closed = close.reason
        for run in self._runs.unended():
            reason = f"the system is {close.reason}"
            self.tell(ids.SUPERVISOR, CancelRun(run=run.start.run, reason=reason, kind=ErrorKind.STOPPED))


def facts_of(domain: DomainState, seen: LimitsSnapshot) -> dict[str, Any]:
    """Return what the event ``limits.snapshot`` says: money in dollars, times in seconds."""
    return {
        "domain": domain.domain,
        "waits_for": domain.waits_for,
        "waiting": domain.waiting,
        "classes": dict(zip(CLASS_NAMES, domain.classes, strict=True)),
        "flows": domain.flows,
        "in_flight": domain.in_flight,
        "blocked_s": round(domain.blocked, 3),
        "levels": {name: round(level, 1) for name, level in domain.levels.items()},
        "rates": {name: round(rate, 1) for name, rate in domain.rates.items()},
        "learned": [msgspec.to_builtins(limit) for limit in domain.learned],
        "throttled": round(domain.throttled, 4),
        "spent_usd": seen.spent / NANO,
        "reserved_usd": seen.reserved / NANO,
        "budget_usd": None if seen.budget is None else seen.budget / NANO,
    }
