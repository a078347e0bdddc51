"""The workflow: an actor that runs one task of a user through the team, written as a coroutine.

It lives as long as its run. Its task lies in the factory it was made from and its answers with the recorder, so a
restarted instance resumes where the old one stood.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from actors.asking import Talk
from actors.base import in_words
from actors.conversations import Conversational, as_text, failure_of, guard
from protocol import ids
from protocol.awaited import fingerprint
from protocol.costs import costs_of, in_order
from protocol.errors import Cancelled, ErrorKind
from protocol.ledger import Ledger
from protocol.messages import Accepted, Summary, TaskResult, WorkflowResult
from protocol.signals import (
    Allow,
    Answer,
    CancelRequested,
    CancelRun,
    Forget,
    Progress,
    Recall,
    Recalled,
    RunEnded,
    StartRun,
)

if TYPE_CHECKING:
    from protocol.awaited import Step

OVER = "over"
"""Held by the mailbox of a run that has told its end: it is told once, whoever plays there then."""
OWN = frozenset({"checks", "max_parallel", "run", "salvage"})
"""What a subclass may define."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What a workflow may return in place of a text: its output, and whether the whole counts as a success.

    ``error`` and ``error_kind`` say why not; of a success they are left out. ``planning`` is what a plan that was not
    made is estimated to have saved, in nano-dollars, None where nobody knows.
    """

    output: str
    success: bool = True
    accepted: tuple[Accepted, ...] = ()
    error: str | None = None
    error_kind: ErrorKind | None = None
    planning: int | None = 0


class Deadline(Struct, frozen=True, kw_only=True, tag=True):
    """The run's time is over."""


class Workflow(Conversational):
    """Base of every workflow. Subclasses implement :meth:`run`; ``name`` is what they are registered by."""

    max_parallel: int | None = None
    """How many tasks of one run, and how many of its calls, may be under way at once; None: no bound."""
    checks: frozenset[str] = frozenset()
    """Roles whose answers are checks of what others did: they stand in no result, no sum and no event of a task."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        guard(cls, Workflow, OWN)

    def __init__(self, start: StartRun) -> None:
        super().__init__()
        self._start = start
        self.results: list[TaskResult] = []
        self._began = 0.0
        self._deadline: float | None = None
        self._under_way: set[str] = set()
        self._checking: set[str] = set()
        self._kept_back: deque[tuple[Talk, str, Step[Any]]] = deque()
        self._cancel_kind = ErrorKind.CANCELLED
        self._cancel_reason = "cancelled"
        self._again = False
        self._over = False

    async def run(self, task: str) -> Any:
        """Do the whole task; return the output text, a struct, or an :class:`Outcome`."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def salvage(self) -> Outcome:
        """Return what there is when the run is cancelled or fails; the base has nothing."""
        return Outcome(output="", success=False)

    def report(self, event: str, **facts: Any) -> None:
        """Tell whoever watches that something happened; silent while a resumed run catches up."""
        if not self._running.replaying:
            self.tell(self._start.reply_to, Progress(run=self._start.run, event=event, at=self.wall(), facts=facts))

    # --- life

    def setup(self) -> None:
        """Ask for the record; a new run has none. A run whose code never returned is over: it would not again.

        A run that has told its end is over too. A cancel that the earlier instance failed on is heard by this one.
        """
        start, mailbox = self._start, self.actor_inbox
        self._again = mailbox.generation > 0
        mailbox.generation += 1
        self._began = self.clock()
        self._over = OVER in (mailbox.held or {})
        unfinished, mailbox.failed_on = mailbox.failed_on, None
        if self._over:
            return
        if isinstance(unfinished, CancelRun):
            mailbox.put_back(unfinished)
        if mailbox.stuck is not None:
            error = "its workflow did not return from its code; it may await steps, never block"
            self._end(self._salvaged(ErrorKind.STUCK, error))
            return
        if self._bounded():
            allow = Allow(run=start.run, nano_usd=start.max_cost, calls=self.max_parallel)
            self.tell(ids.LIMITER, allow)
            if start.max_cost is not None:
                self.tell(ids.GATEWAY, allow)
        if start.timeout is not None:
            self._deadline = self._began + start.timeout
            self.after(start.timeout, Deadline(), key="deadline")
        self.tell(ids.RECORDER, Recall(conversation=start.run, reply_to=self.address))

    def teardown(self) -> None:
        """A run whose actor is stopped before its end has failed."""
        if not self._over:
            talk = self._talks.get(self._start.run)
            self._end(self._salvaged(ErrorKind.STOPPED, "the run was stopped"), talk)
            if talk is not None:
                self.drop(talk)

    def on_receive(self, message: Any) -> None:
        """Begin, resume, cancel."""
        match message:
            case Answer() if message.at == 0.0:
                self.on_timer(message)
            case Answer(kind="cancel"):
                self._cancelled(message)
            case Answer():
                self._settled(message.step)
                self.deliver(message)
            case Recalled():
                self._resume(message)
            case CancelRun():
                self._request_cancel(message.kind, message.reason)
            case Deadline():
                self._request_cancel(ErrorKind.DEADLINE, f"the run's {self._start.timeout:g} s are over")
            case _:
                self._directory.dead_letter(
                    self.address, f"a workflow has no use for {type(message).__name__}", message
                )

    def _resume(self, recalled: Recalled) -> None:
        start = self._start
        if start.run in self._talks or self._over:
            return
        talk = Talk(start.run, None, priority=start.priority, flow=start.flow or start.run, deadline=self._deadline)
        for answer in recalled.answers:
            self._note_cancel(answer)
        again = self._again or bool(recalled.answers)
        self.begin(talk, self._outcome(start.task), recalled.began, recalled.answers, again=again)

    def recalling(self, step: str) -> bool:
        """As in the base: every instance asks for the run's record first of all."""
        del step
        return not self._talks and not self._over

    async def _outcome(self, task: str) -> Outcome:
        """Run :meth:`run`; what a user's code returns is made an :class:`Outcome` here, where it may fail."""
        value = await self.run(task)
        return value if isinstance(value, Outcome) else Outcome(output=as_text(value))

    # --- cancelling: a recorded answer like any other

    def _request_cancel(self, kind: ErrorKind, reason: str) -> None:
        if self._over:
            return
        answer = Answer(
            to=self.address,
            step=f"{self._start.run}/cancel",
            kind="cancel",
            fingerprint=fingerprint("cancel", None, ""),
            payload=CancelRequested(reason=f"{kind}: {reason}"),
        )
        self.tell(ids.RECORDER, answer)

    def _cancelled(self, answer: Answer) -> None:
        talk = self._talks.get(self._start.run)
        if talk is None:
            return  # it is part of the record that is on its way, or the run is over
        self._note_cancel(answer)
        self._kept_back.clear()
        self.cancel_talk(talk)

    def _note_cancel(self, answer: Answer) -> None:
        if isinstance(answer.payload, CancelRequested):
            kind, _, reason = answer.payload.reason.partition(": ")
            self._cancel_kind, self._cancel_reason = ErrorKind(kind), reason

    # --- at most max_parallel tasks at once

    def sending(self, talk: Talk, step: str, request: Step[Any]) -> bool:
        """Keep tasks back while as many as are allowed are under way."""
        if request.kind != "ask":
            return True
        waits = self.max_parallel is not None and len(self._under_way) >= self.max_parallel
        if request.recipient in self.checks:
            self._checking.add(step)
        else:
            about = getattr(request.options.get("data"), "subtask", request.content)
            self.report("task.started", step=step, role=request.recipient, content=about, kept_back=waits)
        if waits:
            self._kept_back.append((talk, step, request))
            return False
        self._under_way.add(step)
        return True

    def _settled(self, step: str) -> None:
        self._under_way.discard(step)
        while self._kept_back and (self.max_parallel is None or len(self._under_way) < self.max_parallel):
            talk, next_step, request = self._kept_back.popleft()
            if next_step in self._waiting:
                self._under_way.add(next_step)
                if next_step not in self._checking:
                    self.report("task.sent", step=next_step)
                self.send_step(talk, next_step, request)

    def abandon_step(self, step: str, request: Step[Any]) -> None:
        """As in the base; the step's place is free again."""
        super().abandon_step(step, request)
        self._settled(step)

    # --- the end

    def answered(self, talk: Talk, result: TaskResult) -> None:
        """Book a task's result for the summary."""
        super().answered(talk, result)
        if result.task_id in self._checking:
            return
        self.results.append(result)
        event = "task.finished" if result.success else "task.failed"
        self.report(
            event,
            step=result.task_id,
            agent=result.agent,
            error=result.error,
            execution_ms=result.execution_time_ms,
            input_tokens=result.usage.input_tokens,
            output_tokens=result.usage.output_tokens,
            retries=result.retry_count,
            cost_usd=result.cost_usd,
            model=result.model,
            why_model=result.why_model,
            truncated=result.truncated,
            served=result.served,
        )

    def ended(self, talk: Talk, value: Any, error: BaseException | None) -> None:
        """Put the run's end into a WorkflowResult."""
        cancelled = talk.conversation.cancelled or isinstance(error, Cancelled)
        kind, text = (self._cancel_kind, self._cancel_reason) if cancelled or error is None else failure_of(error)
        if error is not None:
            self._raised(talk, error)
            self._end(self._salvaged(kind, text), talk)
        elif cancelled:
            self._end(replace(value, success=False, error=text, error_kind=kind), talk)
        else:
            self._end(value, talk)

    def _salvaged(self, kind: ErrorKind, error: str) -> Outcome:
        """Return what could be salvaged; a salvage that raises must not keep the run from ending."""
        try:
            saved = self.salvage()
        except BaseException as raised:  # noqa: BLE001 (a user's code; the run ends all the same)
            saved, error = Outcome(output=""), f"{error}; and salvage() raised {in_words(raised)}"
        return replace(saved, success=False, error=error, error_kind=kind)

    def _end(self, outcome: Outcome, talk: Talk | None = None) -> None:
        self._over = True
        self.cancel_timer("deadline")
        result = WorkflowResult(
            correlation_id=self._start.run,
            success=outcome.success,
            output=outcome.output,
            error=None if outcome.success else outcome.error,
            error_kind=None if outcome.success else outcome.error_kind,
            results=tuple(self.results),
            accepted=outcome.accepted,
            summary=self._summary(talk),
            costs=costs_of(() if talk is None else in_order(talk.ledger.kept), outcome.planning),
        )
        self.when_done(partial(setattr, self.actor_inbox, "held", {OVER: None}))
        ended = RunEnded(run=self._start.run, result=result)
        self.tell(self._start.reply_to, ended)
        self.tell(ids.SUPERVISOR, ended)
        if self._bounded():
            over = Forget(run=self._start.run)
            self.tell(ids.LIMITER, over)
            if self._start.max_cost is not None:
                self.tell(ids.GATEWAY, over)

    def _bounded(self) -> bool:
        """Tell whether the limiter, where there is one, has bounds of this run to keep."""
        bounds = (self._start.max_cost, self.max_parallel)
        return bounds != (None, None) and ids.LIMITER in self._directory.mailboxes

    def _summary(self, talk: Talk | None) -> Summary:
        good = sum(1 for result in self.results if result.success)
        ledger = Ledger() if talk is None else talk.ledger
        return Summary(
            total_tasks=len(self.results),
            successful=good,
            failed=len(self.results) - good,
            llm_calls=ledger.calls,
            retries=ledger.retries,
            input_tokens=ledger.usage.input_tokens,
            output_tokens=ledger.usage.output_tokens,
            cost_usd=ledger.cost_usd,
            wall_ms=round((self.clock() - self._began) * 1000.0, 3),
            llm_ms=round(ledger.execution_ms, 3),
        )


class DirectWorkflow(Workflow):
    """Sends the task straight to one role, or to the role that the supervisor chooses, and returns its answer."""

    async def run(self, task: str) -> str:
        """Ask once."""
        return await self.ask(self._start.to, task)
