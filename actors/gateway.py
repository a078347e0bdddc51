"""The gateway: owns a model call from request to answer. Partner of ``protocol/gateway.py``, which decides."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, assert_never

from msgspec import Struct

from actors.base import Actor
from actors.caller import AreYouFree, Free
from protocol import ids
from protocol.calls import (
    AbortFlight,
    AnswerStep,
    AskLimiter,
    Dismiss,
    Dispatch,
    Effect,
    Hire,
    Later,
    Lost,
    TellLimiter,
    Unset,
    answer,
)
from protocol.chat import CallFailure
from protocol.errors import ErrorKind
from protocol.policies.recent import Recent
from protocol.signals import (
    Allow,
    CancelStep,
    ChatCall,
    ChatResult,
    ChildFailed,
    ChildRestarted,
    ChildStopped,
    Forget,
    Graded,
    Granted,
    Performed,
    Progress,
    Reaffirm,
    Refused,
    Stop,
)
from protocol.stages import stages

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from actors.caller import Line
    from actors.directory import ActorSpec
    from protocol.gateway import Gateway as Decisions

POISONED = CallFailure(
    kind=ErrorKind.INTERNAL, message="the gateway failed while it handled this call; the log names the error"
)


class Due(Struct, frozen=True, kw_only=True, tag=True):
    """The timer *key* has fired."""

    key: str


class AskAgain(Struct, frozen=True, kw_only=True, tag=True):
    """The call of *step* was under way when an earlier instance failed: ask for it again, if it is still wanted."""

    step: str


class Gateway(Actor):
    """Sends what the machine decides; hires callers with *caller_spec* and hangs up their *lines*.

    *observer* is told of each stage of each call (``protocol/stages.py``).
    """

    def __init__(
        self,
        decide: Decisions,
        caller_spec: Callable[[str, int], ActorSpec],
        lines: MutableMapping[str, Line],
        observer: str | None = None,
    ) -> None:
        super().__init__()
        self._observer = observer
        self._decide = decide
        self._caller_spec = caller_spec
        self._lines = lines
        self._dice = Random(ids.GATEWAY)  # noqa: S311 (jitter, no secret)
        self._answered = Recent()
        self._others: set[str] = set()  # callers that may still report a call of an earlier instance

    def setup(self) -> None:
        """Take over what an earlier instance left: its callers, hung up, and the calls it had not answered.

        The leases are the limiter's again: it is told so behind whatever the earlier instance has told it of leases.
        The call whose turn it failed in is answered as failed: it would fail the next instance too. Each of the others
        gets a turn of its own, so that the next failure names its call as well.
        """
        mailbox = self.actor_inbox
        if mailbox.generation:
            self.tell(ids.LIMITER, Reaffirm(holder=self.address, leases=(), replaced=True))
        mailbox.generation += 1
        for address in [address for address in self._lines if address in self._directory.mailboxes]:
            self._lines[address].hang_up()
            self._others.add(address)
            self.tell(address, AreYouFree(reply_to=self.address))
            self._perform(self._decide.on_caller_back(address, self.clock()))
        culprit, mailbox.failed_on = step_of(mailbox.failed_on), None
        for step, call in list((mailbox.held or {}).items()):
            if step == culprit:
                self._perform([answer(call, ChatResult(failure=POISONED))])
            else:
                self.tell(self.address, AskAgain(step=step))

    def on_receive(self, message: Any) -> None:
        """Ask the machine and do what it says."""
        now, decide = self.clock(), self._decide
        match message:
            case Performed() if message.caller in self._others:
                self._directory.dead_letter(self.address, "its gateway was restarted meanwhile", message)
            case Performed():
                self._perform(decide.on_performed(message, now, self._dice.random()))
            case Granted():
                self._perform(decide.on_granted(message, now))
            case ChatCall() if message.again and message.step in self._answered:
                return  # the answer is on its way
            case ChatCall():
                self._hold(message)
                self._perform(decide.on_call(message, now), message)
            case Graded():
                self._perform(decide.on_graded(message))
            case Refused():
                self._perform(decide.on_refused(message, now))
            case AskAgain():
                call = (self.actor_inbox.held or {}).get(message.step)
                self._perform([] if call is None else decide.on_call(call, now))
            case Allow() | Forget():
                decide.on_bounds(message)
            case Free():
                self._others.discard(message.caller)
            case Due():
                self._perform(decide.on_timer(message.key, now, self._dice.random()))
            case CancelStep():
                self._let_go(message.step)
                self._perform(decide.on_cancel(message, now))
            case ChildRestarted() | ChildFailed() | ChildStopped():
                self._perform(self._heard(message, now))
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)

    def _heard(self, news: ChildRestarted | ChildFailed | ChildStopped, now: float) -> list[Effect]:
        """Return what follows from what became of a caller, or of the limiter."""
        if not isinstance(news, ChildRestarted):
            return self._decide.on_caller_gone(news.address, now, self._dice.random())
        if news.address == ids.LIMITER:
            return self._decide.on_limiter_restarted()
        if news.address in self._others:  # the question may be lost with the instance that had it
            self.tell(news.address, AreYouFree(reply_to=self.address))
        return self._decide.on_caller_back(news.address, now)

    def _perform(self, effects: list[Effect], message: Any = None) -> None:
        if self._observer is not None:
            self._report(effects, message)
        for effect in effects:
            match effect:
                case AskLimiter() | TellLimiter():
                    self.tell(ids.LIMITER, effect.message)
                case Dispatch():
                    self.tell(effect.caller, effect.perform)
                case Later():
                    self.after(effect.seconds, Due(key=effect.key), key=effect.key)
                case Unset():
                    self.cancel_timer(effect.key)
                case AnswerStep():
                    step = effect.answer.step
                    self._let_go(step)
                    self._answered.add(step)
                    self.tell(ids.RECORDER, effect.answer)
                case Hire():
                    self.spawn(self._caller_spec(effect.provider, effect.number))
                case AbortFlight():
                    self._lines[effect.caller].abort(effect.call)
                case Lost():
                    words = "the caller did not come back from its call"
                    self._directory.dead_letter(effect.caller, words, effect.call)
                case Dismiss():
                    self._lines.pop(effect.caller, None)
                    self.tell(effect.caller, Stop(reason="one caller too many"))
                case _:
                    assert_never(effect)

    def _report(self, effects: list[Effect], message: Any) -> None:
        """Tell the observer where calls stand now."""
        for step, (event, facts) in stages(effects, message).items():
            news = Progress(run=ids.run_of(step), event=event, at=self.wall(), facts={"step": step, **facts})
            self.tell(self._observer or "", news)

    def _hold(self, call: ChatCall) -> None:
        """Keep the call in the mailbox, which outlives this instance."""
        mailbox = self.actor_inbox
        if mailbox.held is None:
            mailbox.held = {}
        mailbox.held[call.step] = call

    def _let_go(self, step: str) -> None:
        self.when_done(partial((self.actor_inbox.held or {}).pop, step, None))


def step_of(message: Any) -> str | None:
    """Return the step that *message* was about, None when it was about no call."""
    match message:
        case ChatCall() | AskAgain():
            return message.step
        case Granted() | Refused():
            return message.lease.rpartition("#")[0]
        case Performed():
            return message.call.rpartition("#")[0]
        case Due():
            what, _, which = message.key.partition(":")
            return which.rpartition("#")[0] if what == "attempt" else which
        case _:
            return None
