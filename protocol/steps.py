"""The steps driver: runs a coroutine up to its next awaited step, and on again with the answer.

There is no event loop in here. An agent's or workflow's coroutine awaits :class:`Step` objects; :class:`Conversation`
gives each an id, hands it out as an :class:`Ask`, and resumes the branch that waits when the answer comes. The same
code serves a first run and a resumed one: recorded answers are delivered in the order in which they were recorded.

Ids (rule 1): a step is ``parent/ordinal``, counted when it is awaited. ``gather`` takes one ordinal ``n``, its
branches are ``parent/n.0``, ``parent/n.1``, ...; a :class:`Scope` takes one ordinal and is the parent of what is
awaited inside it.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from protocol import ids
from protocol.awaited import Gather, Scope, Step
from protocol.branches import Branch, Join
from protocol.errors import Cancelled, ForeignAwaitError, NonDeterminismError
from protocol.signals import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from random import Random


T = TypeVar("T")

FOREIGN = (
    "{what} was awaited inside a Troupe coroutine, which has no event loop. Await self.call(fn, *args) to run a "
    "blocking function on a worker, set blocking = True on the agent to block on a thread of its own, or do it "
    "outside and submit the result"
)
NO_LOOP = re.compile(r"no running event loop|object (\w+) can't be used in 'await' expression")
"""What Python itself says when a coroutine awaits what only an event loop could run, or what nothing can."""
IDLE: list[Any] = []
"""Stands for the lists of a conversation that does not run: nothing is ever put into it."""
STUBBORN = 1000
"""How often a cancelled coroutine may await again before it is closed by force."""


class Ask(Struct, frozen=True):
    """Effect: send this request; its answer is to name *step*."""

    step: str
    request: Step[Any]


class Abandon(Struct, frozen=True):
    """Effect: nobody waits for *step* any more."""

    step: str
    request: Step[Any]


class Done(Struct, frozen=True):
    """Effect: the conversation has returned *value*."""

    value: Any


class Failed(Struct, frozen=True):
    """Effect: the conversation has raised *error*."""

    error: BaseException


class Unexpected(Struct, frozen=True):
    """Effect: this answer is nobody's (late, double, or of a finished conversation): a dead letter."""

    answer: Answer


Effect = Ask | Abandon | Done | Failed | Unexpected


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


class Conversation:
    """One run of one coroutine, with everything that waits inside it.

    Pure: time comes in with the answers, dice with *dice* (a function from branch path to generator, rule 6). Methods
    return effects for the shell to perform, in order.
    """

    __slots__ = (
        "_abandoned",
        "_asked",
        "_current",
        "_dice",
        "_effects",
        "_ready",
        "_rolls",
        "_root",
        "cancelled",
        "finished",
        "path",
        "waiting",
    )  # a busy team has hundreds of them: a dict, a deque and two sets each would be 1.2 kB

    def __init__(self, path: str, coroutine: Coroutine[Any, Any, Any], *, dice: Callable[[str], Random]) -> None:
        self.path = path
        self.waiting: dict[str, Branch] = {}
        self.finished = False
        self.cancelled = False
        self._root = Branch(path, coroutine, 0.0)
        self._current = self._root
        self._dice = dice
        self._rolls: dict[str, Random] | None = None
        self._effects: list[Effect] = IDLE
        self._ready: list[tuple[Branch, Any, BaseException | None]] = IDLE
        self._asked: set[str] | None = None  # what was asked and abandoned so far, for the time of a resume
        self._abandoned: set[str] | None = None

    # --- what the coroutine may ask while it runs

    def now(self) -> float:
        """Return the time stamped on the last answer that the running branch received, in seconds since the epoch."""
        return self._current.now

    def random(self) -> Random:
        """Return the running branch's own generator, the same on every resume."""
        path = self._current.path
        if self._rolls is None:
            self._rolls = {}
        if path not in self._rolls:
            self._rolls[path] = self._dice(path)
        return self._rolls[path]

    @property
    def memory(self) -> Any:
        """The running branch's own memory: an immutable value, inherited by forks, never flowing back from a gather."""
        return self._current.memory

    @memory.setter
    def memory(self, value: Any) -> None:
        self._current.memory = value

    # --- what the shell tells

    def start(self, now: float) -> list[Effect]:
        """Run to the first steps. *now* is in seconds since the epoch."""
        self._root.now = now
        return self._advance(self._root, None, None)

    def on_answer(self, answer: Answer) -> list[Effect]:
        """Resume the branch that waits for *answer*. The first answer for a step wins (rule 2)."""
        branch = self.waiting.pop(answer.step, None)
        if branch is None:
            return [Unexpected(answer)]
        branch.now = answer.at
        return self._advance(branch, answer.payload, None)

    def cancel(self) -> list[Effect]:
        """Raise ``Cancelled`` in every branch that waits; from now on nothing new is sent (rule 4)."""
        if self.finished:
            return []
        self.cancelled = True
        self._ready, self._effects = [], []
        self._abandon("")
        return self._drain()

    def resume(self, recorded: Iterable[Answer], now: float) -> list[Effect]:
        """Start, then deliver *recorded* answers in order; what is left to ask comes back as effects.

        What was recorded below a step of this conversation belongs to whoever worked for that step, and is passed over.
        Abandoned steps come back too, since the news of them may have been lost. Raises ``NonDeterminismError`` when
        the code no longer asks what was recorded.
        """
        asked: set[str] = set()
        abandoned: set[str] = set()
        self._asked, self._abandoned = asked, abandoned
        effects = self.start(now)
        for answer in recorded:
            if answer.kind == "cancel":
                effects += self.cancel()
                continue
            if not asked.isdisjoint(ids.above(answer.step)):
                continue
            if self.cancelled or self.finished or answer.step in abandoned:
                effects.append(Unexpected(answer))
                continue
            self._compare(answer)
            effects += self.on_answer(answer)
        self._asked = self._abandoned = None
        return [e for e in effects if not isinstance(e, Ask) or e.step in self.waiting]

    def close(self) -> None:
        """Drop the conversation: run its ``finally`` blocks, those of inner branches first; send nothing."""
        self.finished = True
        open_ = {self.path: self._root}
        for waiter in self.waiting.values():
            branch: Branch | None = waiter
            while branch is not None:
                open_[branch.path] = branch
                branch = branch.parent
        self.waiting.clear()
        for path in sorted(open_, key=len, reverse=True):
            self._current = open_[path]
            _close(open_[path].coroutine)

    # --- inside

    def _compare(self, answer: Answer) -> None:
        branch = self.waiting.get(answer.step)
        if branch is None:
            asked = ", ".join(sorted(self.waiting)) or "nothing"
            raise NonDeterminismError(
                f"the record has {answer.kind} {answer.step} ({answer.fingerprint}), the code asks for {asked}"
            )
        expected = branch.request.fingerprint
        if expected != answer.fingerprint:
            raise NonDeterminismError(
                f"at step {answer.step} the record has {answer.fingerprint}, the code asks for {expected}"
            )

    def _advance(self, branch: Branch, value: Any, error: BaseException | None) -> list[Effect]:
        self._ready, self._effects = [(branch, value, error)], []
        return self._drain()

    def _drain(self) -> list[Effect]:
        while self._ready:
            branch, value, error = self._ready.pop(0)
            self._run(branch, value, error)
        effects = self._effects
        self._ready = self._effects = IDLE
        return effects

    def _run(self, branch: Branch, value: Any, error: BaseException | None) -> None:
        self._current = branch
        try:
            awaited = branch.coroutine.send(value) if error is None else branch.coroutine.throw(error)
        except StopIteration as stop:
            self._finish(branch, stop.value, None)
        except BaseException as raised:  # noqa: BLE001 (one branch's SystemExit is that branch's failure)
            self._finish(branch, None, _foreign(raised))
        else:
            self._await(branch, awaited)

    def _await(self, branch: Branch, awaited: object) -> None:
        if self.cancelled or branch.doomed():
            self._refuse(branch, awaited, Cancelled())
        elif isinstance(awaited, Step):
            step = branch.take_ordinal()
            if self._asked is not None:
                self._asked.add(step)
            self.waiting[step], branch.request = branch, awaited
            self._effects.append(Ask(step, awaited))
        elif isinstance(awaited, Gather):
            self._fork(branch, awaited)
        elif isinstance(awaited, Scope):
            step = branch.take_ordinal()
            inner = Branch(step, awaited.coroutine, branch.now, branch, memory=branch.memory)
            self._ready.append((inner, None, None))
        else:
            kind = type(awaited)
            what = "something foreign" if awaited is None else f"{kind.__module__}.{kind.__qualname__}"
            self._refuse(branch, awaited, ForeignAwaitError(FOREIGN.format(what=what)))

    def _refuse(self, branch: Branch, awaited: object, error: BaseException) -> None:
        """Raise *error* where the branch awaits; a branch that goes on awaiting all the same is closed by force."""
        _discard(awaited)
        branch.throws += 1
        if branch.throws < STUBBORN:
            self._ready.append((branch, None, error))
        else:
            _close(branch.coroutine)
            self._finish(branch, None, error)

    def _fork(self, branch: Branch, gather: Gather) -> None:
        step = branch.take_ordinal()
        size = len(gather.awaitables)
        join = Join(step, size, fail_fast=gather.fail_fast, values=[None] * size)
        if not gather.awaitables:
            self._ready.append((branch, (), None))
        for index, awaitable in enumerate(gather.awaitables):
            path = ids.branch(step, index)
            child = Branch(path, _await(awaitable), branch.now, branch, join, index, branch.memory)
            self._ready.append((child, None, None))

    def _finish(self, branch: Branch, value: Any, error: BaseException | None) -> None:
        join, parent = branch.join, branch.parent
        if parent is None:
            self.finished = True
            self._effects.append(Done(value) if error is None else Failed(error))
            return
        if join is None:  # a scope
            parent.now, parent.memory = branch.now, branch.memory
            self._ready.append((parent, value, error))
            return
        join.left -= 1
        if error is None:
            join.values[branch.index] = value
        else:
            join.errors[branch.index] = error
            if join.fail_fast and not join.cancelled:
                join.cancelled = True
                self._abandon(f"{join.step}.")
        if join.left == 0:
            self._joined(parent, join, branch.now)

    def _joined(self, parent: Branch, join: Join, now: float) -> None:
        parent.now = now
        if join.errors:
            self._ready.append((parent, None, join.error(doomed=self.cancelled or parent.doomed())))
        else:
            self._ready.append((parent, tuple(join.values), None))

    def _abandon(self, prefix: str) -> None:
        """Raise ``Cancelled`` in the branches below *prefix* that wait for a step."""
        for step in [step for step in self.waiting if step.startswith(prefix)]:
            branch = self.waiting.pop(step)
            if self._abandoned is not None:
                self._abandoned.add(step)
            self._effects.append(Abandon(step, branch.request))
            self._ready.append((branch, None, Cancelled()))


def _foreign(error: BaseException) -> BaseException:
    """Return *error*, or what names the three right ways in place of Python's own words for a foreign await."""
    found = NO_LOOP.search(str(error)) if isinstance(error, (RuntimeError, TypeError)) else None
    if found is None:
        return error
    named = ForeignAwaitError(FOREIGN.format(what=found[1] or "something of asyncio's"))
    named.__cause__ = error
    return named


def _discard(awaited: object) -> None:
    """Close the coroutines in what nobody will await."""
    if isinstance(awaited, Gather):
        for awaitable in awaited.awaitables:
            _discard(awaitable)
    elif isinstance(awaited, Scope):
        _close(awaited.coroutine)
    elif isinstance(awaited, Coroutine):
        _close(awaited)


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Close a coroutine even when it awaits in a ``finally`` block, and what it awaits there with it.

    It is cancelled like any other: a ``GeneratorExit`` would close the coroutines it awaits without letting us see what
    these await in turn.
    """
    for _ in range(STUBBORN):
        try:
            awaited = coroutine.throw(Cancelled())
        except BaseException:  # noqa: BLE001 (what a dropped coroutine raises concerns nobody)
            return
        _discard(awaited)
