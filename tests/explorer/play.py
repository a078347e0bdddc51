"""One play of a scenario: the real actors on the simulated dispatcher, the books beside them, and what is left over."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import replace

from actors import Agent, Coder, Orchestrator, Reviewer, TeamWorkflow
from actors.agent import agent_spec
from actors.base import Actor, unwrap
from actors.directory import ActorSpec
from actors.fault_plan import Crash, FaultPlan, Faults, Lose, Stall
from actors.gateway import step_of
from actors.simulation import SimulatedDispatcher
from actors.supervisor import Register
from actors.testing import ActorTestKit, Backoff, ScriptedModel
from actors.workflow import DirectWorkflow
from protocol import ids
from protocol.messages import AgentMessage
from protocol.roles import AgentRole
from protocol.signals import Acquire, CancelRun, Restart, StartRun
from tests.explorer.books import OUTSIDE, Books, Violation
from tests.explorer.left_over import expect_nothing_left
from tests.explorer.players import Player, Script
from tests.explorer.provider import Provider
from tests.explorer.scenario import Plan, RestartAt

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.mailbox import Mailbox
    from actors.workflow import Workflow
    from protocol.messages import WorkflowResult
    from tests.explorer.scenario import Run, Scenario

ENOUGH = 2500.0
"""Virtual seconds within which every run has ended."""
MANY = 20_000
"""Turns that no play needs."""
CAST: dict[str, type[Agent]] = {
    AgentRole.ORCHESTRATOR: Orchestrator,
    AgentRole.CODER: Coder,
    AgentRole.REVIEWER: Reviewer,
}


class Stage(SimulatedDispatcher):
    """The simulated dispatcher, with the books looking on and restarts from the plan."""

    def __init__(self, seed: int, *, wire: bool, trace: Callable[[bytes], object] | None) -> None:
        super().__init__(seed, wire=wire, trace=trace)
        self.books: Books | None = None
        self.struck: list[tuple[Any, Any]] = []  # a fault that cost an instance, and the message it struck at
        self._restarts: list[RestartAt] = []

    def begin(self, books: Books, plan: Plan) -> None:
        """Keep *books* and go by *plan* from now on; the first instances have their places already."""
        self.books = books
        books.leases.may_be_late = lambda: any(isinstance(f, Stall) and f.address == ids.GATEWAY for f in self.fired)
        self._restarts = [fault for fault in plan.faults if isinstance(fault, RestartAt)]
        self._faults = Faults(FaultPlan(tuple(fault for fault in plan.faults if not isinstance(fault, RestartAt))))

    def _turn(self, mailbox: Mailbox, item: Any, fault: Any) -> None:
        books = self.books
        if books is None:
            super()._turn(mailbox, item, fault)
            return
        if fault is not None:
            self.struck.append((fault, unwrap(item)[0]))
        books.takes(mailbox, item)
        super()._turn(mailbox, item, fault)
        books.ends(mailbox)
        if self.turns > MANY:
            raise Violation("no end", f"more than {MANY} messages")
        for restart in [each for each in self._restarts if each.at <= self.turns]:
            place = books.directory.mailboxes.get(restart.address)
            if place is not None and not place.suspended:
                self._restarts.remove(restart)
                self.struck.append((restart, None))
                books.directory.send(restart.address, Restart())


class Outsider(Actor):
    """The world outside: starts runs, cancels them, tells agents something."""

    def __init__(self, letters: list[tuple[float, str, Any]]) -> None:
        super().__init__()
        self._letters = letters

    def setup(self) -> None:
        for number, (at, to, message) in enumerate(self._letters):
            self.after(at, (to, message), key=f"letter {number}")

    def on_receive(self, message: Any) -> None:
        to, letter = message
        self.tell(to, letter)


class Play:
    """A scenario under way with one plan, in the order of events that *seed* gives."""

    def __init__(self, scenario: Scenario, plan: Plan, seed: int, *, traced: bool = False) -> None:
        self.scenario = scenario
        self.hash = hashlib.sha256()
        self.provider = Provider(scenario)
        self.stage = Stage(seed, wire=scenario.wire, trace=self.hash.update if traced else None)
        backoff = Backoff(base=0.25, factor=2.0, cap=2.0)
        self.model = ScriptedModel(self.provider)
        self.kit = ActorTestKit(self.model, stage=self.stage, limits=scenario.limits, backoff=backoff)
        self.most_at_once = 0
        self._count_calls()
        self._engage()
        self._keep_books(plan)
        self.kit.directory.spawn(ActorSpec(address=OUTSIDE, factory=lambda: Outsider(self._letters())))

    def _engage(self) -> None:
        scenario = self.scenario
        for role, count in scenario.roles.items():
            agent = CAST.get(role, Player)
            own = replace(agent.settings, timeout=5.0, max_retries=scenario.retries, max_tokens=40)
            specs = tuple(agent_spec(agent, role, n, own, cap=scenario.cap) for n in range(count))
            refusal = self.kit.ask_actor(ids.SUPERVISOR, Register(role=role, specs=specs))
            assert refusal is None, refusal
        for run in scenario.runs:
            self.kit.rig.workflows[run.id] = self._workflow(run)

    def _workflow(self, run: Run) -> Callable[[StartRun], Workflow]:
        def factory(start: StartRun) -> Workflow:
            if run.kind == "team":
                return TeamWorkflow(start, self.scenario.rules)
            workflow = Script(start) if run.kind == "script" else DirectWorkflow(start)
            workflow.max_parallel = run.parallel
            return workflow

        return factory

    def _letters(self) -> list[tuple[float, str, Any]]:
        letters: list[tuple[float, str, Any]] = []
        for run in self.scenario.runs:
            start = StartRun(
                run=run.id,
                task=run.task,
                workflow=run.id,
                to=run.to,
                priority=run.priority,
                flow=run.flow,
                timeout=run.timeout,
                reply_to=ids.DESK,
            )
            letters.append((run.at, ids.SUPERVISOR, start))
            if run.cancelled_at is not None:
                letters.append((run.cancelled_at, ids.SUPERVISOR, CancelRun(run=run.id)))
        for told in self.scenario.told:
            message = AgentMessage(
                sender=OUTSIDE, recipient=told.role, content=told.do.label, data=Raw(encode(told.do))
            )
            letters.append((told.at, ids.SUPERVISOR, message))
        return letters

    def _keep_books(self, plan: Plan) -> None:
        directory, rig = self.kit.directory, self.kit.rig
        self.books = Books(directory, concurrency=self.scenario.limits.concurrency)
        send, died = directory.send, directory.on_dead_letter

        def on_turn(sender: str, timers: Any, outbox: Any) -> None:
            self.books.left(sender, timers, outbox)
            rig.sequence.turn(sender, timers, outbox)

        def sending(to: str, message: Any) -> None:
            self.books.sends(to, message)
            send(to, message)

        def on_dead_letter(letter: Any) -> None:
            self.books.died(letter)
            died(letter)

        directory.on_turn, directory.on_dead_letter, directory.send = on_turn, on_dead_letter, sending
        self.stage.begin(self.books, plan)

    def _count_calls(self) -> None:
        answer, under_way = self.model.answer, self.model.under_way

        def counted(call: Any) -> Any:
            self.most_at_once = max(self.most_at_once, len(under_way) + 1)
            return answer(call)

        self.model.answer = counted

    # --- playing

    def go(self) -> Play:
        """Play to the end. Raises a :class:`Violation`."""
        try:
            self.stage.run(until=ENOUGH)
        except RuntimeError as error:
            raise Violation("no end", str(error)) from None
        blame = self.model.blame() or self.kit.rig.collapsed
        if blame is not None:
            raise Violation("blame", blame)
        if self.provider.crossed:
            raise Violation("nonces", f"a reviewer is shown a draft of another subtask: {self.provider.crossed[0]!r}")
        open_ = [run.id for run in self.scenario.runs if run.id not in self.kit.rig.ended]
        if open_:
            held = f"; held leases: {sorted(self.books.leases.open)}" if self.books.leases.open else ""
            raise Violation("no end", f"{', '.join(open_)} did not end within {ENOUGH:g} s{held}")
        self.books.close()
        expect_nothing_left(self.kit)
        self._calls()
        return self

    def _calls(self) -> None:
        """Check what the provider has seen, where nobody who makes the calls met a fault."""
        if self._met("caller", ids.GATEWAY, ids.LIMITER):
            return
        most = self.scenario.limits.concurrency
        if most is not None and self.most_at_once > most:
            raise Violation("law 4", f"{self.most_at_once} calls were under way at once, {most} may be")
        twice = [step for step, times in self.provider.ended.items() if times > 1]
        if twice:
            raise Violation("paid twice", f"{twice[0]} was asked again after its last answer")

    def _met(self, *addresses: str) -> bool:
        fired = (*self.stage.fired, *(fault for fault, _ in self.stage.struck))
        return any(fault.address.startswith(addresses) for fault in fired)

    # --- law 6

    def comparable(self) -> bool:
        """Tell whether nothing went wrong that may change an answer; :func:`harmless` says what may.

        Where the breaker or the retry budget has kept calls from being made, there were other replies.
        """
        undisturbed = all(harmless(fault, message) for fault, message in self.stage.struck)
        return self.scenario.strict and undisturbed and not self.books.turned_away

    def turned_away(self) -> bool:
        """Tell whether a breaker refused a call: that hangs on which calls came before, and so on the order of events.

        All runs share it, as they share the provider that it stands for, so law 6 does not speak of this.
        """
        said = repr(self.books.ended.values())
        return "not sent, as an earlier call" in said or "not sent: main/" in said or "too many calls end so" in said

    def answers(self) -> dict[str, Any]:
        """Return what each run has come to, without the fields that tell of time, cost or place."""
        return {run: _answer(result) for run, result in self.books.ended.items()}


def harmless(fault: Any, message: Any) -> bool:
    """Tell whether *fault*, which struck at *message*, must not change any answer.

    A crash fails the one request that the crashed actor had in hand where it cannot know whether that request would
    crash it again: the supervisor's task, the limiter's request for a lease, the gateway's call, the worker's
    function. Everything else is done again or resumed. So it is with restarts of anybody, and with lost callers. Stalls
    and delays are not among what is asked here: a strict scenario has no timeout that they could reach.
    """
    if isinstance(fault, RestartAt):
        return True
    if isinstance(fault, Lose):
        return fault.address.startswith("caller/")
    assert isinstance(fault, Crash)
    match fault.address:
        case ids.SUPERVISOR:
            return not isinstance(message, AgentMessage)
        case ids.LIMITER:
            return not isinstance(message, Acquire)
        case ids.GATEWAY:
            return step_of(message) is None
        case _:
            return not fault.address.startswith("worker/")


def _answer(result: WorkflowResult) -> Any:
    tasks = Counter((r.task_id, r.success, r.result, r.error, r.error_kind) for r in result.results)
    return result.output, result.success, result.error, result.error_kind, result.accepted, tasks
