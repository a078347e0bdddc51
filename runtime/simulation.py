"""A whole system in virtual time: the real supervisor, recorder, limiter, gateway, agents and workflows.

Only callers and desk are others: the callers speak to a simulated provider, the desk opens the next workflow when one
has ended and keeps sums. One simulated processor does all the work, as the one thread does that may run Python at a
time: while a message is handled virtual time passes, and what else is due waits.
"""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from actors.base import Actor
from actors.directory import ActorSpec, Directory
from actors.limiter import Limiter
from actors.recorder import Recorder
from actors.simulation import MICROS, SimulatedDispatcher
from actors.supervisor import Register, Supervisor
from actors.worker import CREW, Crew
from actors.workflow import DirectWorkflow
from protocol import ids
from protocol.errors import ConfigError, TroupeError
from protocol.signals import Progress, RunEnded, StartRun
from runtime import assembly
from runtime.simulated_caller import SimulatedCaller, SimulatedLine
from runtime.simulated_provider import Dice, Vendor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from actors.fault_plan import FaultPlan
    from actors.mailbox import Mailbox
    from protocol.limiter import DomainLimits
    from protocol.messages import WorkflowResult
    from protocol.signals import ChildFailed
    from runtime.config import Config


class SimulatedModels(assembly.Models):
    """The models of a configuration behind simulated vendors; reads no key and starts no model."""

    def __init__(self, config: Config, directory: Directory, seed: int) -> None:
        super().__init__(config)
        self._directory = directory
        self._seed = seed
        self.vendors = {name: Vendor(name, config, seed) for name in config.provider}

    def open(self) -> None:
        """Know where the providers would be, for what their profiles say."""
        self._urls = {name: provider.base_url or "" for name, provider in self._config.provider.items()}

    def _caller_spec(self, provider: str, number: int) -> ActorSpec:
        address = f"caller/{provider}/{number}"
        dice = Dice(self._seed, address)

        def factory() -> SimulatedCaller:
            self._lines[address] = SimulatedLine(lambda hang_up: self._directory.send(address, hang_up))
            return SimulatedCaller(self.vendors[provider], self._profile(provider), dice)

        return ActorSpec(address=address, factory=factory, parent=ids.SUPERVISOR, pinned=True, watchers=(ids.GATEWAY,))


class Sums:
    """What is kept of the workflows that have ended, and of the time in which calls waited."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ended = 0.0
        self.succeeded = 0
        self.failed: Counter[str] = Counter()
        self.calls = 0
        self.retries = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd: float | None = 0.0
        self.queue_ms = array("d")
        self.open: set[str] = set()
        self.held_up: Counter[tuple[str, str]] = Counter()  # microseconds, by domain and what was waited for

    @property
    def over(self) -> int:
        """How many workflows have ended."""
        return self.succeeded + self.failed.total()

    def add(self, result: WorkflowResult, now: float) -> None:
        """Add one workflow, which ended at *now*."""
        summary = result.summary
        self.ended = now
        if result.success:
            self.succeeded += 1
        else:
            self.failed[str(result.error_kind)] += 1
        self.calls += summary.llm_calls
        self.retries += summary.retries
        self.input_tokens += summary.input_tokens
        self.output_tokens += summary.output_tokens
        if self.cost_usd is not None:
            self.cost_usd = None if summary.cost_usd is None else self.cost_usd + summary.cost_usd
        self.queue_ms.extend(task.queue_time_ms for task in result.results)


class ObservedLimiter(Limiter):
    """The limiter, and for how long calls wait for each of its limits."""

    def __init__(self, limits: dict[str, DomainLimits], sums: Sums, **options: Any) -> None:
        super().__init__(limits, **options)
        self._sums = sums
        self._obstacles: dict[str, str] = {}
        self._looked = 0.0

    def on_receive(self, message: Any) -> None:
        """As the limiter does; what its lines wait for is asked after each message."""
        now = self.clock()
        passed, self._looked = round((now - self._looked) * MICROS), now
        for pair in self._obstacles.items():
            self._sums.held_up[pair] += passed
        super().on_receive(message)
        self._obstacles = self._decide.obstacles(now)


class Go(Struct, frozen=True, kw_only=True, tag=True):
    """Open the first workflows."""


class SimulatedDesk(Actor):
    """Opens as many workflows as may be open at once, and the next one when one has ended."""

    def __init__(self, config: Config, workflows: Iterator[int], sums: Sums) -> None:
        super().__init__()
        self._config = config
        self._workflows = workflows
        self._sums = sums

    def on_receive(self, message: Any) -> None:
        """Add up what has ended, and open the next."""
        match message:
            case Progress():
                pass  # nobody watches
            case RunEnded() if message.run in self._sums.open:
                self._sums.open.discard(message.run)
                self._sums.add(message.result, self.clock())
                self._open()
            case Go():
                self._sums.began = self.clock()
                for _ in range(self._config.simulation.window):
                    self._open()
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)

    def _open(self) -> None:
        number = next(self._workflows, None)
        if number is not None:
            self._sums.open.add(run := f"sim-{number}")
            start = StartRun(
                run=run,
                task=f"{self._config.simulation.task} (nr {number})",
                workflow=self._config.team.workflow,
                reply_to=ids.DESK,
            )
            self.tell(ids.SUPERVISOR, start)


class SimulatedSystem:
    """The supervision tree of ``runtime/system.py`` on a simulated dispatcher; its desk opens *workflows*.

    Raises ``ConfigError`` for agents and workflows that cannot be made.
    """

    def __init__(
        self,
        config: Config,
        workflows: int,
        *,
        seed: int = 0,
        faults: FaultPlan | None = None,
        wire: bool = False,
        trace: Callable[[bytes], object] | None = None,
    ) -> None:
        self.config = config
        self.workflows = workflows
        self.sums = Sums()
        self.failures: list[str] = []
        self.collapsed: str | None = None
        self.dispatcher = SimulatedDispatcher(None, faults=faults, wire=wire, trace=trace, cost=_cost(config))
        self.directory = Directory(self.dispatcher)
        self.directory.on_failure = lambda news, action: self.failures.append(
            f"{news.address}: {news.error} ({action})"
        )
        self.directory.on_collapse = self._on_collapse
        self.models = SimulatedModels(config, self.directory, seed)
        self.models.open()
        agents = assembly.agents(config)
        for spec in self._tree():
            self.directory.spawn(spec)
        self.dispatcher.settle()
        for role, specs in agents.items():
            self._cast(role, specs)
        self.directory.send(ids.DESK, Go())

    def work(self, turns: int) -> bool:
        """Execute up to *turns* messages; return False when it is over.

        Raises ``TroupeError`` when nothing can go on although workflows are open.
        """
        more = self.dispatcher.work(turns)
        if self.collapsed is not None:
            raise TroupeError(f"the simulated system has collapsed: {self.collapsed}")
        left = self.workflows - self.sums.over
        if left and not more:
            raise TroupeError(f"{left} of {self.workflows} workflows did not end, and nothing is left to do")
        return more

    def _tree(self) -> list[ActorSpec]:
        config, lives = self.config, count()
        numbers = iter(range(1, self.workflows + 1))
        limits, flows, budget = assembly.limits(config), assembly.flows(config), assembly.budget(config)
        workflows = {"direct": DirectWorkflow, **assembly.workflows(config)}

        def child(address: str, factory: Callable[[], Any], *watchers: str) -> ActorSpec:
            return ActorSpec(address=address, factory=factory, parent=ids.SUPERVISOR, watchers=watchers, vital=True)

        def limiter() -> ObservedLimiter:
            return ObservedLimiter(limits, self.sums, flows=flows, budget=budget, fresh=next(lives) == 0)

        return [
            ActorSpec(address=ids.SUPERVISOR, factory=lambda: Supervisor(workflows)),
            child(ids.RECORDER, Recorder),
            child(ids.LIMITER, limiter, ids.GATEWAY),
            child(ids.GATEWAY, self.models.gateway, ids.LIMITER),
            child(CREW, Crew),
            child(ids.DESK, lambda: SimulatedDesk(config, numbers, self.sums)),
        ]

    def _cast(self, role: str, specs: tuple[ActorSpec, ...]) -> None:
        supervisor = self.directory.mailboxes[ids.SUPERVISOR].actor
        assert supervisor is not None
        refusal = supervisor.actor_ref.ask(Register(role=role, specs=specs), block=False)
        self.dispatcher.settle()
        if (reason := refusal.get(timeout=0)) is not None:
            raise ConfigError(reason)

    def _on_collapse(self, news: ChildFailed) -> None:
        self.collapsed = f"{news.address}: {news.error}"


def _cost(config: Config) -> Callable[[Mailbox, Any], int]:
    """Return what a turn costs the processor: half a call for a caller's, which begin and end it, else a message."""
    message = round(config.simulation.cpu_per_message * MICROS)
    half_call = round(config.simulation.cpu_per_call * MICROS / 2)

    def cost(mailbox: Mailbox, _item: Any) -> int:
        return half_call if mailbox.spec is not None and mailbox.spec.pinned else message

    return cost
