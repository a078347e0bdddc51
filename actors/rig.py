"""The rig of a test: the actors of a running system on one dispatcher, and what a test may look at.

The same tree as in production: supervisor, recorder, limiter, gateway, workers, a desk. What stands in for the world is
the line of each caller, which a :class:`ScriptedModel` answers.
"""

from __future__ import annotations

import traceback as tracebacks
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from actors import sequence
from actors.base import Actor
from actors.directory import ActorSpec, Directory
from actors.dispatcher import Dispatcher
from actors.gateway import Gateway
from actors.limiter import Limiter
from actors.recorder import Recorder
from actors.scripted_line import PatientCaller, ScriptedLine
from actors.supervisor import Supervisor
from actors.worker import CREW, Crew
from actors.workflow import DirectWorkflow
from protocol import ids
from protocol.domain import UNPACED, DomainLimits
from protocol.gateway import Gateway as Decisions
from protocol.ladder import rungs
from protocol.models import ModelInfo, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.policies.routing import Router
from protocol.policies.token_estimate import estimate_messages
from protocol.signals import Progress, RunEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actors.caller import Line
    from actors.scripted_model import ScriptedModel
    from actors.workflow import Workflow
    from protocol.messages import WorkflowResult
    from protocol.signals import ChatCall, ChildFailed, DeadLetter, StartRun

PROVIDER = "main"
"""The only provider of a test: the limiter's domain, and the address of its callers."""
MOST_CALLERS = 64


class Stage(Dispatcher, Protocol):
    """A dispatcher whose time a test moves."""

    def across(self, message: Any) -> Any:
        """Return *message* as its receiver gets it."""
        ...

    def settle(self) -> object:
        """Return when no message waits and no handler runs; time stands still. Raises ``RuntimeError`` for no end."""
        ...

    def next_timer(self) -> float | None:
        """Return when the next live timer fires, in virtual seconds."""
        ...

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, firing timers in order and settling after each."""
        ...

    def run(self, *, until: float) -> None:
        """Settle and skip idle time until no timer is left, or virtual time would pass *until* seconds."""
        ...


class Settings:
    """What a test may set of its system: the limits and models that a configuration names in production.

    Where it sets no start, the scripted provider is not approached carefully: it has the limits that are set.
    """

    def __init__(
        self,
        limits: DomainLimits | None = None,
        models: Sequence[str | ModelInfo] = ("auto",),
        backoff: Backoff | None = None,
    ) -> None:
        limits = limits or DomainLimits()
        self.limits = limits if limits.start_per_minute else replace(limits, start_per_minute=UNPACED)
        infos = [ModelInfo(key=m, provider=PROVIDER, name=m) if isinstance(m, str) else m for m in models]
        self.models = {info.key: info for info in infos}
        self.backoff = backoff or Backoff()
        self.router = Router(rungs(infos))

    def decisions(self) -> Decisions:
        """Return a gateway's machine for these."""
        limits = self.limits
        rates = (limits.tokens_per_minute, limits.input_tokens_per_minute, limits.output_tokens_per_minute)
        provider = ProviderInfo(
            key=PROVIDER,
            domain=PROVIDER,
            callers=limits.concurrency or MOST_CALLERS,
            weighed=any(rate is not None for rate in (*rates, *(model.price for model in self.models.values()))),
        )
        return Decisions(
            models=self.models,
            providers={PROVIDER: provider},
            backoff=self.backoff,
            estimate=estimate_messages,
            router=self.router,
        )


class Rig:
    """The actors of a system on *stage*, with *model* as their provider."""

    def __init__(self, stage: Stage, model: ScriptedModel, settings: Settings) -> None:
        self.dispatcher = stage
        self.model = model
        self.settings = settings
        self.directory = Directory(stage)
        self.sequence = sequence.Sequence(stage.now)
        self.dead_letters: list[DeadLetter] = []
        self.failures: list[str] = []
        self.raised: list[str] = []
        self.collapsed: str | None = None
        self.progress: list[Progress] = []
        self.ended: dict[str, WorkflowResult] = {}
        self.workflows: dict[str, Callable[[StartRun], Workflow]] = {"direct": DirectWorkflow}
        self._lines: dict[str, Line] = {}
        self._limiters = count()
        self.directory.on_turn = self.sequence.turn
        self.directory.on_dead_letter = self._died
        self.directory.on_failure = self._failed
        self.directory.on_raised = self._raised
        self.directory.on_collapse = self._collapsed
        for spec in self._tree():
            self.directory.spawn(spec)

    def _tree(self) -> list[ActorSpec]:
        def child(address: str, factory: Callable[[], Any], *watchers: str) -> ActorSpec:
            return ActorSpec(address=address, factory=factory, parent=ids.SUPERVISOR, watchers=watchers, vital=True)

        return [
            ActorSpec(address=ids.SUPERVISOR, factory=lambda: Supervisor(self.workflows)),
            child(ids.RECORDER, Recorder),
            child(ids.LIMITER, self._limiter, ids.GATEWAY),
            child(ids.GATEWAY, self._gateway, ids.LIMITER),
            child(CREW, Crew),
            child(ids.DESK, lambda: Desk(self.ended, self.progress)),
        ]

    def _limiter(self) -> Limiter:
        return Limiter({PROVIDER: self.settings.limits}, fresh=next(self._limiters) == 0)

    def _gateway(self) -> Gateway:
        return Gateway(self.settings.decisions(), self._caller_spec, self._lines)

    def _caller_spec(self, provider: str, number: int) -> ActorSpec:
        address = f"caller/{provider}/{number}"

        def factory() -> PatientCaller:
            self._lines[address] = line = ScriptedLine(
                self.model,
                asked=self._asked,
                now=self.dispatcher.now,
                tell=lambda message: self.directory.send(address, message),
            )
            return PatientCaller(line)

        return ActorSpec(address=address, factory=factory, parent=ids.SUPERVISOR, watchers=(ids.GATEWAY,))

    def _asked(self, step: str) -> ChatCall | None:
        """Return who awaits *step*: the gateway holds every call that it has not answered."""
        gateway = self.directory.mailboxes.get(ids.GATEWAY)
        call: ChatCall | None = None if gateway is None else (gateway.held or {}).get(step)
        return call

    def leases(self) -> int:
        """Return how many leases are held of the limiter."""
        mailbox = self.directory.mailboxes.get(ids.LIMITER)
        limiter = None if mailbox is None else mailbox.actor
        return limiter._decide.in_flight(PROVIDER) if isinstance(limiter, Limiter) else 0  # noqa: SLF001 (a look inside)

    # --- what the directory tells

    def _died(self, letter: DeadLetter) -> None:
        self.dead_letters.append(letter)
        self.sequence.said(letter.to, letter.message, note=f"dead letter ({letter.reason}):", sender="nobody")

    def _failed(self, news: ChildFailed, action: str) -> None:
        self.failures.append(f"{news.address}: {news.error} ({action})")
        self.sequence.said(ids.SUPERVISOR, None, note=f"failed: {news.error} ({action})", sender=news.address)

    def _raised(self, event: str, address: str, run: str, error: BaseException) -> None:
        """Keep where a user's handler raised; a function's fault may be meant, and is the handler's when it is not."""
        if event == "handler.raised":
            self.raised.append(f"{address} in {run}:\n{''.join(tracebacks.format_exception(error))}")

    def _collapsed(self, news: ChildFailed) -> None:
        self.collapsed = f"the system has collapsed: {news.address} failed too often: {news.error}"


class Desk(Actor):
    """Where runs end and tell of themselves."""

    def __init__(self, ended: dict[str, WorkflowResult], progress: list[Progress]) -> None:
        super().__init__()
        self._ended = ended
        self._progress = progress

    def on_receive(self, message: Any) -> None:
        """Keep what is told."""
        match message:
            case RunEnded():
                self._ended[message.run] = message.result
            case Progress():
                self._progress.append(message)
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)
