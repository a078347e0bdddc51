"""The test kit: whole teams of real actors in one thread, in virtual time, without network and without sleeping.

The kit runs the very same actors on the simulated dispatcher. A :class:`ScriptedModel` stands where the gateway would;
a :class:`TestProbe` is an actor that keeps what it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from msgspec import Struct

from actors.agent import agent_spec
from actors.base import Actor
from actors.directory import ActorSpec, Directory, answer_to
from actors.recorder import Recorder
from actors.simulation import SimulatedDispatcher
from actors.supervisor import Register, Supervisor
from actors.worker import CREW, Crew
from actors.workflow import DirectWorkflow
from protocol import ids
from protocol.chat import CallFailure, ChatReply, Usage
from protocol.messages import AgentMessage, Priority, TaskResult, WorkflowResult, failed
from protocol.policies.recent import Recent
from protocol.signals import (
    Answer,
    CancelRun,
    CancelStep,
    ChatCall,
    ChatResult,
    DeadLetter,
    Progress,
    Restart,
    RunEnded,
    StartRun,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.agent import Agent
    from actors.workflow import Workflow
    from protocol.errors import ErrorKind
    from protocol.roles import RoleSettings

T = TypeVar("T")

Said = str | ChatReply | CallFailure | Struct
"""What a scripted model may say: a text, a struct (sent as JSON), a whole reply, or a failure."""

HORIZON = 3600.0
"""How many virtual seconds a kit waits for an answer before it says that none came."""


class ScriptedModel(Actor):
    """Stands at the gateway's address and answers model calls by script; an unexpected call fails the test.

    *answers* maps a role to what its model says: one thing for every call, a list used up in order, or a function of
    the call. ``latency`` is in virtual seconds, ``cost`` in nano-dollars a call, None when unknown.
    """

    def __init__(self, answers: dict[str, Any] | None = None, *, latency: float = 0.0) -> None:
        super().__init__()
        self.answers = {role: iter(said) if isinstance(said, list) else said for role, said in (answers or {}).items()}
        self.latency = latency
        self.cost: int | None = None
        self.calls: list[ChatCall] = []
        self.cancelled: list[str] = []
        self.unexpected: list[str] = []
        self.under_way: set[str] = set()
        self._answered = Recent()

    def on_receive(self, message: Any) -> None:
        """Answer a model call."""
        match message:
            case ChatCall() if message.step in self.under_way or (message.again and message.step in self._answered):
                return  # as the gateway does: it joins the call under way, or its answer is on the way already
            case ChatCall():
                self.calls.append(message)
                answer = self._answer(message, self._say(message))
                if self.latency:
                    self.under_way.add(message.step)
                    self.after(self.latency, answer, key=message.step)
                else:
                    self._deliver(answer)
            case Answer():
                self._deliver(message)
            case CancelStep():
                self.under_way.discard(message.step)
                self.cancelled.append(message.step)
                self.cancel_timer(message.step)

    def _deliver(self, answer: Answer) -> None:
        self.under_way.discard(answer.step)
        self._answered.add(answer.step)
        self.tell(ids.RECORDER, answer)

    def _say(self, call: ChatCall) -> Said:
        said = self.answers.get(call.role, _MISSING)
        if callable(said):
            said = said(call)
        elif hasattr(said, "__next__"):
            said = next(said, _MISSING)
        if said is _MISSING:
            asked = f"{call.role} asked ({call.step}): {call.messages[-1].content[:200]}"
            self.unexpected.append(asked)
            raise AssertionError(f"the scripted model has no answer left; {asked}")
        return cast("Said", said)

    def _answer(self, call: ChatCall, said: Said) -> Answer:
        reply, failure = None, None
        if isinstance(said, CallFailure):
            failure = said
        elif isinstance(said, ChatReply):
            reply = said
        else:
            reply = ChatReply(text=said if isinstance(said, str) else msgspec.json.encode(said).decode())
        usage = Usage(input_tokens=sum(len(m.content.split()) for m in call.messages))
        if reply is not None:
            usage += reply.usage or Usage(output_tokens=len(reply.text.split()))
        result = ChatResult(
            reply=reply,
            failure=failure,
            model=call.model,
            usage=usage,
            cost=self.cost,
            attempts=1,
            execution_time_ms=self.latency * 1000.0,
        )
        return Answer(to=call.reply_to, step=call.step, kind="chat", fingerprint=call.fingerprint, payload=result)


_MISSING: Any = object()


class TestProbe(Actor):
    """An actor that keeps what it is told, for a test to look at."""

    __test__ = False

    def __init__(self, kit: ActorTestKit) -> None:
        super().__init__()
        self.kit = kit
        self.received: list[Any] = []

    def on_receive(self, message: Any) -> None:
        """Keep *message*."""
        self.received.append(message)

    def expect(self, wanted: type[T], *, within: float = 0.0) -> T:
        """Return the next message, which must be a *wanted* and come within so many virtual seconds."""
        self.kit.settle()
        if not self.received and within:
            self.kit.advance_until(lambda: bool(self.received), within)
        if not self.received:
            raise AssertionError(f"{self.address} got nothing within {within:g} s; {wanted.__name__} was expected")
        message = self.received.pop(0)
        if not isinstance(message, wanted):
            raise AssertionError(f"{self.address} got {message!r}; {wanted.__name__} was expected")  # noqa: TRY004
        return message

    def expect_nothing(self, *, for_: float = 0.0) -> None:
        """Let *for_* virtual seconds pass, in which no message may come."""
        self.kit.advance(for_)
        if self.received:
            raise AssertionError(f"{self.address} got {self.received!r}; nothing was expected")

    def reply(self, to: AgentMessage, result: str) -> None:
        """Answer the task *to*, which this probe was asked, with the text *result*."""
        self._answer(to, TaskResult(task_id=to.message_id, agent=self.address, success=True, result=result))

    def refuse(self, to: AgentMessage, kind: ErrorKind, error: str) -> None:
        """Answer the task *to*, which this probe was asked, with a failure."""
        self._answer(to, failed(to.message_id, kind, error, agent=self.address))

    def _answer(self, to: AgentMessage, result: TaskResult) -> None:
        self.kit.tell(ids.RECORDER, answer_to(to, result))
        self.kit.settle()


class ActorTestKit:
    """A system of real actors in one thread: supervisor, recorder, workers, and what a test spawns.

    ``seed=None`` delivers in the order of sending, any number shuffles deliveries reproducibly.
    """

    __test__ = False

    def __init__(self, model: ScriptedModel | dict[str, Any] | None = None, *, seed: int | None = None) -> None:
        self.dispatcher = SimulatedDispatcher(seed)
        self.directory = Directory(self.dispatcher)
        self.dead_letters: list[DeadLetter] = []
        self.failures: list[str] = []
        self.progress: list[Progress] = []
        self._ended: dict[str, WorkflowResult] = {}
        self._workflows: dict[str, Callable[[StartRun], Workflow]] = {"direct": DirectWorkflow}
        self.model = model if isinstance(model, ScriptedModel) else ScriptedModel(model)
        self.directory.on_dead_letter = self.dead_letters.append
        self.directory.on_failure = lambda news, action: self.failures.append(
            f"{news.address}: {news.error} ({action})"
        )
        self._sequence = 0
        self._start()

    def _start(self) -> None:
        made = {
            ids.SUPERVISOR: lambda: Supervisor(self._workflows),
            ids.RECORDER: Recorder,
            CREW: Crew,
            ids.GATEWAY: lambda: self.model,
            ids.DESK: lambda: _Desk(self),
        }
        for address, factory in made.items():
            parent = None if address == ids.SUPERVISOR else ids.SUPERVISOR
            self.directory.spawn(ActorSpec(address=address, factory=factory, parent=parent))
        self.settle()

    # --- spawning

    def spawn(self, factory: Callable[[], Actor], address: str, **spec: Any) -> str:
        """Spawn any actor; returns its address."""
        self.directory.spawn(ActorSpec(address=address, factory=factory, parent=ids.SUPERVISOR, **spec))
        self.settle()
        return address

    def register(
        self, agent: type[Agent], *, role: str | None = None, instances: int = 1, settings: RoleSettings | None = None
    ) -> list[str]:
        """Let *instances* of *agent* play *role* (its own when None); returns their addresses.

        Raises ``ValueError`` when the role is played already, or an agent cannot be made.
        """
        name = role or agent.role
        specs = tuple(agent_spec(agent, name, number, settings) for number in range(instances))
        refusal = self.ask_actor(ids.SUPERVISOR, Register(role=name, specs=specs))
        if refusal is not None:
            raise ValueError(refusal)
        return [spec.address for spec in specs]

    def probe(self, address: str = "probe") -> TestProbe:
        """Spawn a probe at *address*."""
        probe = TestProbe(self)
        self.spawn(lambda: probe, address)
        return probe

    # --- talking

    def tell(self, to: str, message: Any) -> None:
        """Send *message* to the address *to*; it is handled at the next :meth:`settle`."""
        self.directory.send(to, message)

    def ask_actor(self, address: str, message: Any) -> Any:
        """Ask an actor through its Pykka ref, as a program outside would; returns or raises what its handler does."""
        actor = self.directory.mailboxes[address].actor
        assert actor is not None
        future = actor.actor_ref.ask(message, block=False)
        self.settle()
        return future.get(timeout=0)

    def restart(self, address: str) -> None:
        """Put a new instance in the place of the actor at *address*, as its supervisor does after a failure."""
        self.directory.send(address, Restart())
        self.settle()

    def ask(
        self, role: str | None, content: str, *, timeout: float | None = None, seconds: float = HORIZON
    ) -> TaskResult:
        """Send a task to *role* and return its result, letting virtual time pass as needed (at most *seconds*)."""
        result = self.run(DirectWorkflow, content, to=role, timeout=timeout, seconds=seconds)
        if not result.results:
            raise AssertionError(f"no task ended within {seconds:g} virtual seconds: {result.error}")
        return result.results[0]

    def submit(
        self,
        workflow: Callable[[StartRun], Workflow],
        task: str,
        *,
        run: str | None = None,
        to: str | None = None,
        timeout: float | None = None,
        priority: int = Priority.NORMAL,
    ) -> str:
        """Start a run and return its correlation id."""
        self._sequence += 1
        name = f"{getattr(workflow, '__name__', 'workflow')}-{self._sequence}"
        self._workflows[name] = workflow
        id_ = run or f"run-{self._sequence}"
        start = StartRun(
            run=id_, task=task, workflow=name, to=to, timeout=timeout, priority=priority, reply_to=ids.DESK
        )
        self.directory.send(ids.SUPERVISOR, start)
        return id_

    def run(
        self, workflow: Callable[[StartRun], Workflow], task: str, *, seconds: float = HORIZON, **options: Any
    ) -> WorkflowResult:
        """Start a run, let virtual time pass until it ends, and return its result."""
        return self.result(self.submit(workflow, task, **options), seconds=seconds)

    def result(self, run: str, *, seconds: float = HORIZON) -> WorkflowResult:
        """Let virtual time pass until *run* has ended."""
        self.advance_until(lambda: run in self._ended, seconds)
        self._strict()
        if run not in self._ended:
            raise AssertionError(f"{run} did not end within {seconds:g} virtual seconds; failures: {self.failures}")
        return self._ended[run]

    def cancel(self, run: str) -> None:
        """Cancel *run*."""
        self.directory.send(ids.SUPERVISOR, CancelRun(run=run))

    # --- time

    def settle(self) -> None:
        """Handle messages until none waits; time stands still."""
        self.dispatcher.settle()

    def advance(self, seconds: float) -> None:
        """Let *seconds* of virtual time pass."""
        self.dispatcher.advance(seconds)

    def advance_until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Let virtual time pass until *holds()*, at most *seconds*, jumping from timer to timer."""
        self.settle()
        end = self.dispatcher.now() + seconds
        while not holds() and (due := self.dispatcher.next_timer()) is not None and due <= end:
            self.dispatcher.run(until=due)

    @property
    def now(self) -> float:
        """Virtual seconds since the kit was made."""
        return self.dispatcher.now()

    def expect_idle(self) -> None:
        """Fail when a message waits, a mailbox holds an unanswered task, or the record of an ended run is kept."""
        self.settle()
        mailboxes = self.directory.mailboxes.values()
        left: dict[str, Any] = {box.address: f"{box.queued()} messages" for box in mailboxes if box.queued()}
        left |= {box.address: list(box.held) for box in mailboxes if box.held and box.address != ids.RECORDER}
        ended = [run for run in self.directory.mailboxes[ids.RECORDER].held or () if run in self._ended]
        left |= {ids.RECORDER: ended} if ended else {}
        if left:
            raise AssertionError(f"still under way: {left}")

    def _strict(self) -> None:
        if self.model.unexpected:
            raise AssertionError(
                "the scripted model was asked something unexpected: " + "; ".join(self.model.unexpected)
            )


class _Desk(Actor):
    """Where runs end in a kit."""

    def __init__(self, kit: ActorTestKit) -> None:
        super().__init__()
        self._kit = kit

    def on_receive(self, message: Any) -> None:
        match message:
            case RunEnded():
                self._kit._ended[message.run] = message.result  # noqa: SLF001 (the kit's own desk)
            case Progress():
                self._kit.progress.append(message)
