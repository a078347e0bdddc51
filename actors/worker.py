"""Workers: pinned actors that run blocking functions for coroutines, one at a time each.

The crew on the shared loop hands functions to free workers in the order they came, and hires a worker when none is
free.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct

from actors.base import Actor, in_words
from actors.directory import ActorSpec
from protocol import ids
from protocol.errors import ErrorKind
from protocol.policies.recent import Recent
from protocol.signals import Answer, CancelStep, ChildFailed, ChildRestarted, Local, Returned

MOST_WORKERS = 8
CREW = "workers"
WORKER = "worker/pinned/"  # no role has addresses like these


class RunFunction(Local, frozen=True, kw_only=True, tag=True):
    """Run ``fn(*args)`` and answer step *step*. Holds a function, so it never leaves the process.

    *again*: an earlier instance of the asker may have asked for it already.
    """

    step: str
    fingerprint: str
    reply_to: str
    name: str
    fn: Any
    args: tuple[Any, ...] = ()
    again: bool = False


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
        try:
            returned = Returned(value=msgspec.Raw(msgspec.json.encode(message.fn(*message.args))))
        except BaseException as error:  # noqa: BLE001 (a user's function may raise anything, SystemExit too)
            self._directory.tell_raised("function.raised", self.address, message.step, error)
            returned = Returned(error=in_words(error), error_kind=ErrorKind.HANDLER_ERROR)
        self.tell(CREW, FunctionDone(worker=self.address, step=message.step, returned=returned))


class Job:
    """A function that has not been answered, and the worker that runs it; lives in the crew's mailbox."""

    __slots__ = ("function", "worker")

    def __init__(self, function: RunFunction) -> None:
        self.function = function
        self.worker: str | None = None


class Crew(Actor):
    """Hands functions to workers in the order they came."""

    def __init__(self, most: int = MOST_WORKERS) -> None:
        super().__init__()
        self._most = most
        self._jobs: dict[str, Job] = {}
        self._hired: list[str] = []
        self._answered = Recent()

    def setup(self) -> None:
        """Take over the workers and the jobs of an earlier instance, and the news that it failed on.

        The jobs lie in the mailbox, which outlives it.
        """
        mailbox = self.actor_inbox
        if mailbox.held is None:
            mailbox.held = {}
        self._jobs = mailbox.held
        self._hired = [s.address for s in self._directory.children(ids.SUPERVISOR) if s.address.startswith(WORKER)]
        unfinished, mailbox.failed_on = mailbox.failed_on, None
        if isinstance(unfinished, FunctionDone | ChildFailed):
            mailbox.put_back(unfinished)
        self._hand_out()

    def on_receive(self, message: Any) -> None:
        """Queue a function, or book one that is done."""
        match message:
            case RunFunction() if message.again and message.step in self._answered:
                return  # the answer is on its way
            case RunFunction():
                self._queue(message)
            case FunctionDone():
                self._answer(message.step, message.returned)
            case CancelStep():
                self._cancel(message.step)
            case ChildFailed():
                self._lost(message)
            case ChildRestarted():
                pass  # it is free again
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)
        self._hand_out()

    def _queue(self, function: RunFunction) -> None:
        if function.step not in self._jobs:
            self._jobs[function.step] = Job(function)
            self._answered.discard(function.step)

    def _hand_out(self) -> None:
        waiting = [job for job in self._jobs.values() if job.worker is None]
        free = self._free() if waiting else []
        for job in waiting:
            if not free and len(self._hired) >= self._most:
                return
            worker = free.pop() if free else self._hire()
            self.tell(worker, job.function)
            self.when_done(partial(setattr, job, "worker", worker))

    def _free(self) -> list[str]:
        """Return the workers that have nothing to do, and forget those that are gone for good."""
        found = {worker: self._directory.mailboxes.get(worker) for worker in self._hired}
        there = {worker: mailbox for worker, mailbox in found.items() if mailbox is not None}
        self._hired = list(there)
        busy = {job.worker for step, job in self._jobs.items() if step not in self._answered}
        return [worker for worker, mailbox in there.items() if worker not in busy and not mailbox.suspended]

    def _hire(self) -> str:
        places = (f"{WORKER}{number}" for number in count())
        address = next(place for place in places if place not in self._directory.mailboxes)
        self._hired.append(address)
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

    def _cancel(self, step: str) -> None:
        """Drop a function that nobody waits for, unless it runs: nothing can end that."""
        job = self._jobs.get(step)
        if job is not None and job.worker is None:
            del self._jobs[step]

    def _lost(self, news: ChildFailed) -> None:
        for step in [step for step, job in self._jobs.items() if job.worker == news.address]:
            self._answer(step, Returned(error=news.error, error_kind=ErrorKind.INTERNAL))

    def _answer(self, step: str, returned: Returned) -> None:
        job = self._jobs.get(step)
        if job is None or step in self._answered:
            return
        self.when_done(partial(self._jobs.pop, step, None))
        self._answered.add(step)
        asked = job.function
        answer = Answer(to=asked.reply_to, step=step, kind="call", fingerprint=asked.fingerprint, payload=returned)
        self.tell(ids.RECORDER, answer)
