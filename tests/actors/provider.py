"""A provider without a network: scripted lines, callers that take virtual time, a stage with all that a call needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.base import Actor
from actors.caller import AreYouFree, Caller, Free
from actors.directory import ActorSpec, Directory
from actors.gateway import Gateway
from actors.limiter import Limiter
from actors.recorder import Recorder
from actors.simulation import SimulatedDispatcher
from actors.supervisor import Supervisor
from protocol import ids
from protocol.chat import CallFailure, ChatMessage, ChatReply, Usage
from protocol.errors import ErrorKind
from protocol.gateway import Gateway as Decisions
from protocol.limiter import DomainLimits
from protocol.models import ModelInfo, Price, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.policies.budget import Budget
from protocol.signals import ChatCall, ChildFailed, Perform, Performed
from tests.actors.players import Player

if TYPE_CHECKING:
    from collections.abc import Callable

HUNG_UP = CallFailure(kind=ErrorKind.TIMEOUT, message="hung up from outside")


def reply(text="yes", tokens=5):
    return ChatReply(text=text, usage=Usage(input_tokens=10, output_tokens=tokens))


def fault(kind, **facts):
    return CallFailure(kind=kind, message=str(kind), **facts)


class Provider:
    """Answers with *answers* in order, then with ``reply()``; an exception among them is raised in the caller.

    ``latency`` is in virtual seconds, ``inf`` for a server that says nothing until it is hung up.
    """

    def __init__(self, *answers: Any, latency: float = 0.0) -> None:
        self.answers = list(answers)
        self.latency = latency
        self.lines: dict[str, FakeLine] = {}
        self.performed: list[str] = []
        self.aborted: list[str] = []
        self.hung_up: list[str] = []
        self.closed: list[str] = []

    def say(self, perform_name: str) -> Any:
        self.performed.append(perform_name)
        said = self.answers.pop(0) if self.answers else reply()
        if isinstance(said, BaseException):
            raise said
        return said


class FakeLine:
    """The line of one caller: answers at once, notes what is asked of it from outside."""

    def __init__(self, provider: Provider, address: str, wake: Callable[[str], None]) -> None:
        self.provider, self.address, self.wake = provider, address, wake

    def call(self, request, *, timeout, call):
        return self.provider.say(call), 7.0, {}

    def abort(self, call):
        self.provider.aborted.append(call)
        self.wake(self.address)

    def hang_up(self):
        self.provider.hung_up.append(self.address)
        self.wake(self.address)

    def close(self):
        self.provider.closed.append(self.address)


class SlowCaller(Actor):
    """A caller blocked in its call for virtual time: it takes its next message only after it has reported."""

    def __init__(self, line: FakeLine) -> None:
        super().__init__()
        self.line = line
        self.busy: Perform | None = None
        self.mail: list[Any] = []

    def on_receive(self, message):
        match message:
            case "done" if self.busy is not None:
                self._report(self.line.provider.say(self.busy.call))
            case "hung up" if self.busy is not None:
                self._report(HUNG_UP)
            case str():
                pass
            case _ if self.busy is not None:
                self.mail.append(message)
            case AreYouFree():
                self.tell(message.reply_to, Free(caller=self.address))
            case Perform():
                self.busy = message
                if self.line.provider.latency != float("inf"):
                    self.after(self.line.provider.latency, "done", key="call")

    def _report(self, outcome):
        perform, self.busy = self.busy, None
        self.cancel_timer("call")
        self.tell(perform.reply_to, Performed(call=perform.call, caller=self.address, outcome=outcome, elapsed_ms=7.0))
        mail, self.mail = self.mail, []
        for message in mail:
            self.tell(self.address, message)


class CallStage:
    """Supervisor, recorder, limiter, gateway and an asker; ``answers`` holds what the asker got, in order."""

    def __init__(
        self,
        provider: Provider,
        *,
        seed: int | None = None,
        callers: int = 4,
        budget: Budget | None = None,
        prices: tuple[float, float] = (1.0, 1.0),
        observer: str | None = None,
        **limits: Any,
    ) -> None:
        self.provider = provider
        self.budget = budget or Budget()
        self.prices = (Price(input=prices[0], output=prices[1]),)
        self.observer = observer
        self.dispatcher = SimulatedDispatcher(seed)
        self.directory = Directory(self.dispatcher)
        self.answers: list[Any] = []
        self.times: dict[str, float] = {}
        self.failures: list[str] = []
        self.collapsed: list[ChildFailed] = []
        self.directory.on_failure = lambda news, action: self.failures.append(f"{news.address}: {action}")
        self.directory.on_collapse = self.collapsed.append
        self.limits = {"main": DomainLimits(**limits)}
        self.callers = callers
        self.lives = 0
        self._spawn(ids.SUPERVISOR, lambda: Supervisor({}), parent=None)
        self._spawn(ids.RECORDER, Recorder, vital=True)
        self._spawn(ids.LIMITER, self._limiter, watchers=(ids.GATEWAY,), vital=True)
        self._spawn(ids.GATEWAY, self._gateway, watchers=(ids.LIMITER,), vital=True)
        self._spawn("asker", lambda: Player(self._answered))
        self.dispatcher.settle()

    def _spawn(self, address, factory, *, parent=ids.SUPERVISOR, **options):
        self.directory.spawn(ActorSpec(address=address, factory=factory, parent=parent, **options))

    def _answered(self, _actor, answer):
        self.answers.append(answer)
        self.times[getattr(answer, "step", "")] = self.now

    def _limiter(self):
        self.lives += 1
        return Limiter(self.limits, budget=self.budget, fresh=self.lives == 1)

    def _gateway(self):
        model = ModelInfo(key="m", provider="main", name="model", prices=self.prices)
        provider = ProviderInfo(key="main", domain="main", callers=self.callers)
        backoff = Backoff(base=0.5, factor=2.0, cap=30.0)
        decide = Decisions(models={"m": model}, providers={"main": provider}, backoff=backoff, estimate=lambda _: 10)
        return Gateway(decide, self._caller_spec, self.provider.lines, self.observer)

    def _caller_spec(self, provider, number):
        address = f"caller/{provider}/{number}"

        def factory():
            line = FakeLine(self.provider, address, lambda to: self.directory.send(to, "hung up"))
            self.provider.lines[address] = line
            return SlowCaller(line) if self.provider.latency else Caller(line)

        return ActorSpec(address=address, factory=factory, parent=ids.SUPERVISOR, watchers=(ids.GATEWAY,))

    # --- what a test does

    @property
    def now(self) -> float:
        return self.dispatcher.now()

    def call(self, step="run/0", **options: Any) -> None:
        """Send a model call to the gateway."""
        options = {"max_tokens": 10, "messages": (ChatMessage(role="user", content=step),)} | options
        self.tell(ids.GATEWAY, ChatCall(step=step, fingerprint="f", reply_to="asker", role="coder", **options))

    def tell(self, to, message):
        self.directory.send(to, message)

    def run(self, seconds=1000.0):
        """Let everything happen that will, at most *seconds* of virtual time."""
        self.dispatcher.run(until=self.now + seconds)
        return self

    def advance(self, seconds):
        self.dispatcher.advance(seconds)
        return self

    def actor(self, address):
        return self.directory.mailboxes[address].actor

    def crash(self, address):
        """Let the actor at *address* fail in its next turn; the instance after it is sound."""
        actor = self.actor(address)

        def boom(_message):
            raise RuntimeError("crashed by the test")

        actor.on_receive = boom
        self.tell(address, "anything")
        self.dispatcher.settle()

    def in_flight(self):
        return self.actor(ids.LIMITER)._decide.in_flight("main")

    def outcomes(self):
        """Return each answered step with its text, or the kind of its failure."""
        return [(a.step, a.payload.reply.text if a.payload.reply else a.payload.failure.kind) for a in self.answers]

    def dead(self):
        return [(letter.to, letter.reason) for letter in self.directory.dead]
