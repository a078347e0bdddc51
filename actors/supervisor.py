"""The supervisor: routes by recipient role and correlation id, and restarts what fails.

Partner of ``protocol/supervisor.py``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from actors.base import Actor, in_words
from actors.directory import ActorSpec
from protocol import ids
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage, WorkflowResult
from protocol.policies.restarts import GiveUp
from protocol.policies.restarts import Restart as RestartVerdict
from protocol.signals import (
    CancelRun,
    CancelStep,
    ChildFailed,
    ChildStopped,
    Forget,
    Local,
    Reaffirmed,
    Restart,
    RunEnded,
    StartRun,
    Stop,
    TaskSettled,
    WhoHolds,
)
from protocol.supervisor import NoRoute, Route, Wait
from protocol.supervisor import Supervisor as Decisions

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.workflow import Workflow


class Register(Local, frozen=True, kw_only=True, tag=True):
    """Spawn the agents *specs* and let them play *role*. Holds factories, so it never leaves the process."""

    role: str
    specs: tuple[ActorSpec, ...]


class RestartLater(Struct, frozen=True, kw_only=True, tag=True):
    """The backoff of a failed child is over."""

    address: str


LOST_VERDICT = 1.0
"""Seconds after which a restarted supervisor restarts the children that it finds suspended."""


class Supervisor(Actor):
    """Parent of everything that runs. Rebuilds its books from its children after a restart."""

    def __init__(self, workflows: dict[str, Callable[[StartRun], Workflow]]) -> None:
        super().__init__()
        self._decide = Decisions()
        self._workflows = workflows

    def setup(self) -> None:
        """Learn from the children that are there already who plays what; there are none at the first start.

        The verdicts on those that are suspended may have been lost with the earlier instance, and its last request was.
        """
        for spec in self._directory.children(self.address):
            if spec.role is not None:
                self._decide.on_found(spec.role, spec.address)
                self.tell(spec.address, WhoHolds(reply_to=self.address))
            if (run := _run_at(spec.address)) is not None:
                self._decide.on_run_started(run)
            if self._is_suspended(spec.address):
                self._restart_after(LOST_VERDICT, spec.address)
        lost, self.actor_inbox.failed_on = self.actor_inbox.failed_on, None
        if lost is not None:
            self._take_up(lost)
        self._go_on_routing()

    def _take_up(self, lost: Any) -> None:
        """Fail the request that an earlier instance failed on; hear again what was told it and nobody says twice."""
        error = "the supervisor failed while it handled this; the log names the error"
        match lost:
            case AgentMessage():
                self._directory.bounce(lost, ErrorKind.INTERNAL, error)
                if lost.attempt:  # somebody may work for it already
                    self.tell(self.address, CancelStep(step=lost.message_id))
            case StartRun() if ids.workflow_address(lost.run) not in self._directory.mailboxes:
                self._refuse(lost, error, ErrorKind.INTERNAL)
            case CancelStep() | CancelRun() | RunEnded() | ChildStopped():
                self.actor_inbox.put_back(lost)

    def on_receive(self, message: Any) -> Any:
        """Route, start, cancel, restart; a :class:`Register` is answered with why not, or None."""
        match message:
            case AgentMessage():
                self._route(message)
            case TaskSettled():
                self._decide.on_settled(message.step)
            case CancelStep():
                self._cancel_step(message)
            case StartRun():
                self._start(message)
            case CancelRun():
                self.tell(ids.workflow_address(message.run), message)
            case RunEnded():
                self._run_ended(message)
            case ChildFailed():
                self._child_failed(message)
            case ChildStopped():
                self._gone(message)
            case Reaffirmed() if message.agent in self._directory.mailboxes:
                self._decide.on_reaffirmed(message.agent, message.role, message.steps)
                self._go_on_routing()
            case Reaffirmed():
                return None  # the news that it is gone were quicker
            case RestartLater() if self._is_suspended(message.address):
                self.tell(message.address, Restart())
            case RestartLater():
                return None  # another verdict was quicker
            case Register():
                return self._register(message)
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)
        return None

    def _route(self, message: AgentMessage) -> None:
        decision = self._decide.on_message(message)
        if isinstance(decision, Route):
            self.tell(decision.address, message)
        elif isinstance(decision, NoRoute):
            self._directory.dead_letter(message.recipient or "", decision.reason, message, decision.kind)
        elif isinstance(decision, Wait):
            self._held()[message.message_id] = message

    def _go_on_routing(self) -> None:
        """Take up what waited until every agent had named what it holds."""
        for step, message in [] if self._decide.recovering else self._held().items():
            self.tell(self.address, message)
            self.when_done(partial(self._held().pop, step, None))

    def _held(self) -> dict[str, AgentMessage]:
        """Return what waits; it lies in the mailbox, which outlives this instance."""
        mailbox = self.actor_inbox
        if mailbox.held is None:
            mailbox.held = {}
        return mailbox.held

    def _cancel_step(self, message: CancelStep) -> None:
        self.when_done(partial(self._held().pop, message.step, None))
        for holder in self._decide.holders_of(message.step):
            self.tell(holder, message)

    def _register(self, message: Register) -> str | None:
        """Spawn a role's agents; return why not, when one cannot be."""
        if any(spec.address in self._directory.mailboxes for spec in message.specs):
            return f"the role {message.role!r} is played already"
        for spec in message.specs:
            refusal = self._try_spawn(spec)
            if refusal is not None:
                return refusal
            self._decide.on_registered(message.role, spec.address)
        return None

    def _try_spawn(self, spec: ActorSpec) -> str | None:
        """Spawn an actor of a user's class; return what its constructor raised, which is no failure of ours."""
        try:
            self.spawn(spec)
        except BaseException as error:  # noqa: BLE001 (a user's constructor may raise anything, SystemExit too)
            return f"{spec.address} cannot be made: {in_words(error)}"
        return None

    def _start(self, start: StartRun) -> None:
        factory = self._workflows.get(start.workflow)
        if factory is None:
            known = ", ".join(sorted(self._workflows))
            self._refuse(start, f"no workflow is called {start.workflow!r}; there are: {known}")
            return
        address = ids.workflow_address(start.run)
        if address in self._directory.mailboxes:
            self._directory.dead_letter(self.address, "this run is under way already", start)
            return
        refusal = self._try_spawn(ActorSpec(address=address, factory=lambda: factory(start), parent=self.address))
        if refusal is None:
            self._decide.on_run_started(start.run)
        else:
            self._refuse(start, refusal, ErrorKind.HANDLER_ERROR)

    def _refuse(self, start: StartRun, error: str, kind: ErrorKind = ErrorKind.BAD_REQUEST) -> None:
        result = WorkflowResult(correlation_id=start.run, success=False, error=error, error_kind=kind)
        self.tell(start.reply_to, RunEnded(run=start.run, result=result))

    def _gone(self, news: ChildStopped) -> None:
        self._decide.on_gone(news.address)
        self._go_on_routing()
        run = _run_at(news.address)
        if run is not None:
            self._decide.on_run_ended(run)  # its end may have been heard by an instance before this one
            if news.failed:
                self._mourn(run, news)

    def _mourn(self, run: str, news: ChildStopped) -> None:
        """End the run of a workflow that was given up, and its tasks: it may have been too damaged to do so itself."""
        for step in self._decide.steps_of(run):
            self._cancel_step(CancelStep(step=step))
        error = f"its workflow failed too often: {news.reason}"
        result = WorkflowResult(correlation_id=run, success=False, error=error, error_kind=ErrorKind.INTERNAL)
        self.tell(ids.DESK, RunEnded(run=run, result=result))
        self.tell(ids.RECORDER, Forget(run=run))

    def _run_ended(self, ended: RunEnded) -> None:
        self._decide.on_run_ended(ended.run)
        self.tell(ids.workflow_address(ended.run), Stop(reason="run ended"))
        self.tell(ids.RECORDER, Forget(run=ended.run))

    def _child_failed(self, news: ChildFailed) -> None:
        mailbox = self._directory.mailboxes.get(news.address)
        if mailbox is None or mailbox.spec is None:
            return
        verdict = self._decide.on_child_failed(news.address, mailbox.spec.restarts, self.clock())
        match verdict:
            case RestartVerdict(after=after):
                self._directory.on_failure(news, f"restarted after {after:g} s")
                if after > 0.0:
                    self._restart_after(after, news.address)
                else:
                    self.tell(news.address, Restart())
            case GiveUp():
                self._directory.on_failure(news, "stopped: it failed too often")
                self.tell(news.address, Stop(reason=news.error))
                if mailbox.spec.vital:
                    self._directory.collapse(news)

    def _restart_after(self, seconds: float, address: str) -> None:
        self.after(seconds, RestartLater(address=address), key=f"restart {address}")

    def _is_suspended(self, address: str) -> bool:
        """Tell whether the actor waits for a verdict; one that is about to begin does not."""
        mailbox = self._directory.mailboxes.get(address)
        return mailbox is not None and mailbox.suspended and mailbox.begin is None


def _run_at(address: str) -> str | None:
    """Return the run that plays at *address*, None when it is no workflow's."""
    run = address.removeprefix(ids.workflow_address(""))
    return None if run == address else run
