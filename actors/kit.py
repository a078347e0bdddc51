"""The kit: a whole system of real actors for a test, driven in virtual time.

By default everything happens in the test's own thread, on the simulated dispatcher, and a test takes a millisecond or
two; ``runtime.testing`` has the same kit on real threads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn, Self

from actors.agent import Agent, agent_spec
from actors.directory import ActorSpec
from actors.fault_plan import FaultPlan
from actors.probe import TestProbe, is_wanted, named
from actors.rig import Rig, Settings
from actors.scripted_model import ScriptedModel
from actors.sequence import brief
from actors.simulation import SimulatedDispatcher
from actors.supervisor import Register
from actors.workflow import DirectWorkflow
from protocol import ids
from protocol.messages import Priority, TaskResult
from protocol.signals import CancelRun, Control, DeadLetter, Restart, StartRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actors.base import Actor
    from actors.fault_plan import Fault
    from actors.rig import Stage
    from actors.workflow import Workflow
    from protocol.limiter import DomainLimits
    from protocol.messages import WorkflowResult
    from protocol.models import ModelInfo
    from protocol.policies.backoff import Backoff
    from protocol.roles import RoleSettings

HORIZON = 3600.0
"""How many virtual seconds a kit waits for an answer before it says that none came."""
SHOWN = 20
"""How many messages a failing assertion shows."""


class Provoke(Control, frozen=True, kw_only=True, tag=True):
    """The message in whose turn an actor is made to fail."""


class ActorTestKit:
    """A system of real actors: supervisor, recorder, limiter, gateway, workers, and what a test spawns.

    *model* is a :class:`ScriptedModel` or what makes one. ``seed=None`` delivers in the order of sending, any number
    shuffles deliveries reproducibly. *faults* is a :class:`FaultPlan` or a list of faults. With *wire* every message is
    written as bytes and read again, as if each actor were on a machine of its own. *limits* are the provider's,
    *models* the keys (or whole ``ModelInfo``) that agents may name. *stage* is another dispatcher.

    Every method that lets something happen fails the test when the model was asked something unexpected.
    """

    __test__ = False

    def __init__(
        self,
        model: Any = None,
        *,
        seed: int | None = None,
        faults: FaultPlan | Sequence[Fault] = (),
        wire: bool = False,
        limits: DomainLimits | None = None,
        models: Sequence[str | ModelInfo] = ("auto",),
        backoff: Backoff | None = None,
        stage: Stage | None = None,
    ) -> None:
        self.model = model if isinstance(model, ScriptedModel) else ScriptedModel(model)
        plan = faults if isinstance(faults, FaultPlan) else FaultPlan(tuple(faults))
        if stage is not None and (seed is not None or plan.faults or wire):
            raise TypeError("seed, faults and wire make a simulation; another stage has its own, or none")
        self.dispatcher = stage or SimulatedDispatcher(seed, faults=plan if plan.faults else None, wire=wire)
        self.rig = Rig(self.dispatcher, self.model, Settings(limits, models, backoff))
        self.router = self.rig.settings.router
        self.directory = self.rig.directory
        self.dead_letters = self.rig.dead_letters
        self.failures = self.rig.failures
        self.progress = self.rig.progress
        self._played = ("" if seed is None else f", seed {seed}") + (f", {plan.encode()}" if plan.faults else "")
        self._opened: list[str] = []
        self._told: str | None = None
        self.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._strict()
        finally:
            self.close()

    def close(self) -> None:
        """Do nothing: on the simulated dispatcher nothing outlives a test."""

    # --- spawning

    def spawn(self, factory: Callable[[], Actor], address: str | None = None, **spec: Any) -> str:
        """Spawn any actor from its class, or a function that makes one; returns its address.

        *spec* are further fields of ``ActorSpec``. Raises what the factory raises.
        """
        if not callable(factory):
            raise TypeError(
                f"spawn() takes a class or a function that makes an actor, not {factory!r}: a restart makes anew"
            )
        place = address or getattr(factory, "__name__", "actor").lower()
        self.directory.spawn(ActorSpec(address=place, factory=factory, **{"parent": ids.SUPERVISOR} | spec))
        self.settle()
        return place

    def register(
        self, agent: type[Agent], *, role: str | None = None, instances: int = 1, settings: RoleSettings | None = None
    ) -> list[str]:
        """Let *instances* of *agent* play *role* (its own when None); returns their addresses.

        Raises ``TypeError`` for what is no agent, ``ValueError`` for a role that cannot be, or is played already.
        """
        if not issubclass(agent, Agent):
            raise TypeError(f"register() takes a subclass of actors.Agent, not {agent!r}")
        name = self._role(role or agent.role, agent.__name__)
        specs = tuple(agent_spec(agent, name, number, settings) for number in range(instances))
        return self._cast(name, specs)

    def probe(self, address: str | None = None, *, role: str | None = None) -> TestProbe:
        """Spawn a probe at *address*; with *role* it plays that role, in the place of an agent."""
        probe = TestProbe(self, role or "")
        if role is None:
            self.spawn(lambda: probe, address or "probe")
        else:
            place = address or f"{self._role(role)}/0"
            self._cast(role, (ActorSpec(address=place, factory=lambda: probe, parent=ids.SUPERVISOR, role=role),))
        return probe

    def actor(self, address: str) -> Any:
        """Return the instance that plays at *address* now, to look at; a restart puts another in its place."""
        mailbox = self.directory.mailboxes.get(address)
        if mailbox is None:
            self.fail(f"nobody lives at {address!r}; there are: {', '.join(sorted(self.directory.mailboxes))}")
        return mailbox.actor

    # --- talking

    def tell(self, to: str, message: Any, *, sender: str = "test") -> None:
        """Send *message* to the address *to*; it is handled at the next :meth:`settle`.

        With ``wire`` raises ``protocol.codec.NotCodable`` for what cannot be sent to another machine.
        """
        self.rig.sequence.said(to, message, sender=sender)
        self.directory.send(to, self.dispatcher.across(message))

    def ask_actor(self, address: str, message: Any) -> Any:
        """Ask an actor through its Pykka ref, as a program outside would; returns or raises what its handler does."""
        future = self.actor(address).actor_ref.ask(message, block=False)
        self.settle()
        return future.get(timeout=0)

    def ask(
        self, role: str | None, content: str, *, timeout: float | None = None, seconds: float = HORIZON
    ) -> TaskResult:
        """Send a task to *role* and return its result, letting virtual time pass as needed (at most *seconds*).

        *timeout* is the run's, in seconds.
        """
        result = self.run(DirectWorkflow, content, to=role, timeout=timeout, seconds=seconds)
        if not result.results:
            self.fail(f"no task ended within {seconds:g} virtual seconds: {result.error}")
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
        number = len(self._opened) + 1
        name = f"{getattr(workflow, '__name__', 'workflow')}-{number}"
        self.rig.workflows[name] = workflow
        id_ = run or f"run-{number}"
        self._opened.append(id_)
        start = StartRun(
            run=id_, task=task, workflow=name, to=to, timeout=timeout, priority=priority, reply_to=ids.DESK
        )
        self.tell(ids.SUPERVISOR, start)
        return id_

    def run(
        self, workflow: Callable[[StartRun], Workflow], task: str, *, seconds: float = HORIZON, **options: Any
    ) -> WorkflowResult:
        """Start a run, let virtual time pass until it ends, and return its result; *options* as in :meth:`submit`."""
        return self.result(self.submit(workflow, task, **options), seconds=seconds)

    def result(self, run: str, *, seconds: float = HORIZON) -> WorkflowResult:
        """Let virtual time pass until *run* has ended, at most *seconds*."""
        self.advance_until(lambda: run in self.rig.ended, seconds)
        if run not in self.rig.ended:
            self.fail(f"{run} did not end within {seconds:g} virtual seconds; failures: {self.failures}")
        return self.rig.ended[run]

    def cancel(self, run: str) -> None:
        """Cancel *run*; it ends at the next :meth:`settle` with what there is."""
        self.tell(ids.SUPERVISOR, CancelRun(run=run))

    # --- failing

    def crash(self, address: str) -> None:
        """Let the actor at *address* fail now, before the mail that waits for it; its supervisor restarts it."""

        def crash(_message: Any) -> NoReturn:
            raise RuntimeError("crashed by the test")

        self.actor(address).on_receive = crash
        self.tell(address, Provoke())
        self.settle()

    def restart(self, address: str) -> None:
        """Put a new instance in the place of the actor at *address*, without a failure that anybody hears of.

        For agents, workflows and actors of your own; parts of the system watch each other's failures: :meth:`crash`.
        """
        self.tell(address, Restart())
        self.settle()

    # --- time

    def settle(self) -> None:
        """Handle messages until none waits; time stands still."""
        self._drive(self.dispatcher.settle)

    def advance(self, seconds: float) -> None:
        """Let *seconds* of virtual time pass."""
        self._drive(lambda: self.dispatcher.advance(seconds))

    def advance_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Let virtual time pass until *holds()*, at most *seconds*; return whether it does.

        Time jumps from timer to timer; where no timer is left, it stands still.
        """
        self.settle()
        end = self.now + seconds
        while not holds() and (due := self.dispatcher.next_timer()) is not None and due <= end:
            self._drive(lambda until=due: self.dispatcher.run(until=until))  # type: ignore[misc]
        return holds()

    @property
    def now(self) -> float:
        """Virtual seconds since the kit was made."""
        return self.dispatcher.now()

    def _drive(self, move: Callable[[], object]) -> None:
        try:
            move()
        except RuntimeError as error:
            self.fail(str(error))
        self._strict()

    # --- what must hold

    def expect_idle(self) -> None:
        """Fail when something is under way: a run, an unanswered task or call, mail, a lease, a record of no run."""
        self.settle()
        boxes = self.directory.mailboxes
        left: dict[str, Any] = {box.address: f"{box.queued()} messages" for box in boxes.values() if box.queued()}
        keepers = {ids.RECORDER, ids.LIMITER}
        left |= {box.address: list(box.held) for box in boxes.values() if box.held and box.address not in keepers}
        ended = [run for run in boxes[ids.RECORDER].held or () if run in self.rig.ended]
        left |= {ids.RECORDER: ended} if ended else {}
        left |= {ids.LIMITER: f"{held} leases"} if (held := self.rig.leases()) else {}
        open_ = [run for run in self._opened if run not in self.rig.ended]
        left |= {"open runs": open_} if open_ else {}
        if left:
            self.fail(f"still under way: {left}")

    def expect_dead_letter(self, wanted: Any = object, *, to: str | None = None, reason: str = "") -> DeadLetter:
        """Take the first dead letter whose message is a *wanted* (or fits the predicate), and return it.

        *to* is the address it was sent to, *reason* a regular expression that its reason contains.
        """
        self.settle()
        for letter in self.dead_letters:
            if is_wanted(letter.message, wanted) and to in {None, letter.to} and re.search(reason, letter.reason):
                self.dead_letters.remove(letter)
                return letter
        facts = [named(wanted)] + ([f"to {to}"] if to else []) + ([f"because of {reason!r}"] if reason else [])
        return self.fail(f"no dead letter is {' '.join(facts)}; there are: {self._letters()}")

    def expect_no_dead_letters(self) -> None:
        """Fail when somebody's message was handled by nobody."""
        self.settle()
        if self.dead_letters:
            self.fail(f"nobody handled: {self._letters()}")

    def fail(self, text: str) -> NoReturn:
        """Fail the test with *text* and the last messages."""
        raise AssertionError(f"{text}\n\n{self.sequence()}")

    def sequence(self, last: int = SHOWN) -> str:
        """Return the *last* messages as a sequence: virtual seconds, from, to, type, id, content.

        Its first line names the seed and the faults that it came from.
        """
        return f"the last {last} messages{self._played}:\n{self.rig.sequence.last(last)}"

    def _letters(self) -> str:
        told = (f"{letter.to}: {brief(letter.message)} ({letter.reason})" for letter in self.dead_letters)
        return "; ".join(told) or "none"

    def _strict(self) -> None:
        blame = self.model.blame() or (self.rig.collapsed if self._told is None else None)
        if blame is not None:
            self._told = self.rig.collapsed
            cause, self.model.errors = self.model.errors, []
            try:
                self.fail(blame)
            except AssertionError as failure:
                raise failure from (cause[0] if cause else None)

    @staticmethod
    def _role(name: str, of: str = "") -> str:
        if not ids.ROLE_NAME.fullmatch(name):
            hint = f"; set {of}.role or pass role=" if of and not name else ""
            raise ValueError(
                f"a role's name is 1 to 32 characters of a-z 0-9 _ - and begins with a letter, not {name!r}{hint}"
            )
        return str(name)

    def _cast(self, role: str, specs: tuple[ActorSpec, ...]) -> list[str]:
        refusal = self.ask_actor(ids.SUPERVISOR, Register(role=role, specs=specs))
        if refusal is not None:
            raise ValueError(refusal)
        return [spec.address for spec in specs]
