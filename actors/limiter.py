"""The limiter: hands out tokens.

Partner of ``protocol/limiter.py``, which decides; this shell sends what was decided.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from actors.base import Actor
from protocol import ids
from protocol.errors import ErrorKind
from protocol.limiter import Effect, Ignored, Learnt, LeaseExpired, Reply, Wake
from protocol.limiter import Limiter as Decisions
from protocol.signals import (
    Acquire,
    Allow,
    Cancel,
    ChildFailed,
    ChildRestarted,
    Forget,
    Reaffirm,
    Refused,
    Settle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.domain import DomainLimits
    from protocol.policies.budget import Budget

LOOK_EVERY = 1.0
LOOK = "/look"
"""The key of the timer; no domain is called so."""
POISONED = "the limiter failed on this request; the log names the error"


class Due(Struct, frozen=True, kw_only=True, tag=True):
    """The timer of *domain* has fired."""

    domain: str


class Look(Struct, frozen=True, kw_only=True, tag=True):
    """Somebody has had to wait; see who still does."""


class Limiter(Actor):
    """The only actor that knows the limits.

    A restarted one (``fresh=False``) starts with empty buckets and is told who holds what; the *budget* outlives it.
    While somebody waits, *observer* is told how the domains stand, every :data:`LOOK_EVERY` seconds; never otherwise.
    """

    def __init__(
        self,
        limits: Mapping[str, DomainLimits],
        *,
        flows: Mapping[str, float] | None = None,
        budget: Budget | None = None,
        fresh: bool = True,
        observer: str | None = None,
    ) -> None:
        super().__init__()
        self._observer = observer
        self._looking = observer is None  # with a timer set, or nobody to tell
        self._decide = Decisions(limits, flows=flows, budget=budget, fresh=fresh)
        self._dice = Random(ids.LIMITER)  # noqa: S311 (jitter, no secret)

    def setup(self) -> None:
        """Remember the step whose request an earlier instance failed on: it would fail this one too.

        A settlement that was lost so counts as spent.
        """
        mailbox = self.actor_inbox
        culprit, mailbox.failed_on = mailbox.failed_on, None
        if isinstance(culprit, Acquire):
            mailbox.held = {**(mailbox.held or {}), step_of(culprit): None}
        elif isinstance(culprit, Settle | Cancel):
            self._decide.on_lost(culprit.lease)

    def on_receive(self, message: Any) -> None:
        """Ask the machine and send what it says."""
        now = self.clock()
        match message:
            case Settle():
                self._perform(self._decide.on_settle(message, now, self._dice.random()))
            case Acquire() if self.actor_inbox.held and step_of(message) in self.actor_inbox.held:
                self.tell(message.reply_to, Refused(lease=message.lease, kind=ErrorKind.INTERNAL, reason=POISONED))
            case Acquire():
                self._perform(effects := self._decide.on_acquire(message, now))
                if not (self._looking or any(isinstance(effect, Reply) for effect in effects)):
                    self._look_later()
            case Cancel():
                self._perform(self._decide.on_cancel(message, now))
            case Due():
                self._perform(self._decide.on_wake(message.domain, now))
            case Look():
                self._look(now)
            case Reaffirm():
                self._perform(self._decide.on_reaffirm(message, now))
            case ChildFailed():
                self._perform(self._decide.on_holder_gone(message.address, now))
            case Allow():
                self._perform(self._decide.on_allow(message, now))
            case Forget():
                self._decide.on_run_ended(message.run)
            case ChildRestarted():
                pass  # it says itself that it holds nothing, behind what the instance before it has sent
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)

    def _look_later(self) -> None:
        self._looking = True
        self.after(LOOK_EVERY, Look(), key=LOOK)

    def _look(self, now: float) -> None:
        """Tell the observer who waits, and look again; when nobody does, not before somebody has to wait again."""
        self._looking = False
        seen = self._decide.snapshot(now)
        if seen.domains and self._observer is not None:
            self.tell(self._observer, seen)
            self._look_later()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply():
                    self.tell(effect.to, effect.message)
                case Wake(after=None):
                    self.cancel_timer(effect.domain)
                case Wake(after=float(after)):
                    self.after(after, Due(domain=effect.domain), key=effect.domain)
                case Ignored():
                    self._directory.dead_letter(self.address, f"settlement ignored: {effect.reason}", effect.lease)
                case Learnt():
                    self._directory.tell_lesson(effect.domain, effect.limit)
                case LeaseExpired():
                    words = f"{effect.holder} never settled this lease"
                    self._directory.dead_letter(self.address, words, effect.lease)


def step_of(request: Acquire) -> str:
    """Return the step that *request* is for, whichever attempt it is."""
    return request.lease.rpartition("#")[0]
