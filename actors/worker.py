"""Workers: pinned actors that run blocking functions for coroutines, one at a time each.

The crew on the shared loop hands functions to free workers in the order they came, and hires a worker when none is
free.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from actors.base import Actor
from actors.directory import ActorSpec
from protocol import ids
from protocol.errors import ErrorKind
from protocol.signals import Answer, ChildFailed, ChildRestarted, Returned

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WORKERS = 8
CREW = "workers"


class RunFunction(Struct, frozen=True, kw_only=True, tag=True):
    """Run ``fn(*args)`` and answer step *step*. Holds a function, so it never leaves the process."""

    step: str
    fingerprint: str
    reply_to: str
    name: str
    fn: Any
    args: tuple[Any, ...] = ()


class FunctionDone(Struct, frozen=True, kw_only=True, tag=True):
    """*worker* has run the function of *step* and is free."""

    worker: str
    step: str
    returned: Returned


class Worker(Actor):
    """Runs one function at a time; what it raises is data."""

    def on_receive(self, message: Any) -> None:
        """Run the function of a :class:`RunFunction`."""
        assert isinstance(message, RunFunction)
        self.tell(CREW, FunctionDone(worker=self.address, step=message.step, returned=run(message.fn, message.args)))


class Crew(Actor):
    """Hands functions to workers in the order they came."""

    def __init__(self, most: int = MOST_WORKERS) -> None:
        super().__init__()
        self._most = most
        self._queue: deque[RunFunction] = deque()
        self._free: list[str] = []
        self._busy: dict[str, RunFunction] = {}
        self._hired = 0

    def on_receive(self, message: Any) -> None:
        """Queue a function, or book one that is done."""
        match message:
            case RunFunction():
                self._queue.append(message)
            case FunctionDone():
                self._done(message)
            case ChildFailed():
                self._lost(message)
            case ChildRestarted():
                self._free.append(message.address)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue and (self._free or self._hired < self._most):
            worker = self._free.pop() if self._free else self._hire()
            function = self._queue.popleft()
            self._busy[worker] = function
            self.tell(worker, function)

    def _hire(self) -> str:
        address = f"worker/{self._hired}"
        self._hired += 1
        self.spawn(
            ActorSpec(
                address=address,
                factory=Worker,
                parent=ids.SUPERVISOR,
                pinned=True,
                watchers=(self.address,),
                stuck_after=None,
            )
        )
        return address

    def _done(self, done: FunctionDone) -> None:
        function = self._busy.pop(done.worker, None)
        self._free.append(done.worker)
        if function is not None:
            self._answer(function, done.returned)

    def _lost(self, news: ChildFailed) -> None:
        function = self._busy.pop(news.address, None)
        if function is not None:
            self._answer(function, Returned(error=news.error, error_kind=ErrorKind.INTERNAL))

    def _answer(self, function: RunFunction, returned: Returned) -> None:
        answer = Answer(
            to=function.reply_to, step=function.step, kind="call", fingerprint=function.fingerprint, payload=returned
        )
        self.tell(ids.RECORDER, answer)


def run(fn: Callable[..., Any], args: tuple[Any, ...]) -> Returned:
    """Call *fn* and put its value, or what it raised, into words that can be recorded."""
    try:
        return Returned(value=msgspec.Raw(msgspec.json.encode(fn(*args))))
    except BaseException as error:  # noqa: BLE001 (a user's function may raise anything, SystemExit too)
        return Returned(error=f"{type(error).__name__}: {error}", error_kind=ErrorKind.HANDLER_ERROR)
