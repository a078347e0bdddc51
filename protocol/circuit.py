"""What stands between the gateway and a model that fails again and again: breaker, retry budget, and who waits.

A call that finds the breaker open waits for it with neither lease nor caller, where that is for :data:`PATIENCE`
seconds at most and ends before its deadline; otherwise it is refused, and hears why and for how long. When the breaker
is half open one of those that wait goes as the probe: another when the probe has ended, or a second later if the one
that was called never went.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from protocol.chat import CallFailure, ChatReply
from protocol.errors import ErrorKind
from protocol.policies.breaker import FATAL, GOOD, NEUTRAL, OPEN, Breaker, BreakerSettings, State, mark_of
from protocol.policies.retry_budget import RetryBudget, RetryShare

if TYPE_CHECKING:
    from protocol.policies.breaker import Passed

PATIENCE = 15.0
"""For how many seconds a call waits for a breaker to let it go."""
AGAIN = 1.0
"""Seconds after which another call goes as the probe, when the one that was called has not."""
BRAKES = BreakerSettings(streak=50, share=0.9, least=100)
"""When a model is left alone: rarely, since each call's retries are bounded anyway, and healthy calls share it."""
FATALS = 5
"""So many refusals of the key in a row, or of its quota, and the model is left alone for long: one may be a mistake."""
RETRIES = RetryShare(share=0.2, floor=1.0, most=50.0)
"""What retries an endpoint is worth: a team's calls have all of theirs, the fiftieth call of an outage has none."""


class Circuit:
    """The breaker of one model at one endpoint, named *name*, and the steps that wait for it.

    ``parked`` holds their deadlines, in the order in which they came.
    """

    __slots__ = ("_breaker", "_fatals", "_last", "name", "parked")

    def __init__(self, name: str) -> None:
        self.name = name
        self._breaker = Breaker(BRAKES)
        self._fatals = 0
        self.parked: dict[str, float] = {}
        self._last: CallFailure | None = None

    def state(self, now: float) -> State:
        """Return where its breaker stands."""
        return self._breaker.state(now)

    def lets_go(self, now: float) -> bool:
        """Tell whether a call may go now."""
        return self._breaker.wait(now) == 0.0

    def on_sent(self, now: float) -> Passed:
        """A call goes; keep what is returned for its end."""
        return self._breaker.on_sent(now)

    def on_end(
        self, passed: Passed, result: ChatReply | CallFailure, now: float, roll: float, *, awaited: bool = True
    ) -> None:
        """A call has ended. A failure says nothing if the call was hung up on since nobody *awaited* it any more."""
        mark = GOOD
        if isinstance(result, CallFailure):
            mark = mark_of(result.kind) if awaited else NEUTRAL
            if mark is not NEUTRAL:
                self._last = result
        self._fatals = self._fatals + 1 if mark is FATAL else self._fatals * (mark is not GOOD)
        if mark is FATAL and self._fatals < FATALS:
            mark = NEUTRAL
        self._breaker.on_end(passed, mark, now, roll)

    # --- who waits

    def park(self, step: str, deadline: float | None, now: float) -> CallFailure | None:
        """Let *step* wait, or say why it is refused."""
        until = inf if deadline is None else deadline
        failure = self._refusal(until, now)
        if failure is None:
            self.parked.setdefault(step, until)
        return failure

    def leave(self, step: str) -> None:
        """*step* waits no longer."""
        self.parked.pop(step, None)

    def due(self, now: float) -> float | None:
        """Return in how many seconds to call :meth:`release` again, None when nobody waits."""
        if not self.parked:
            return None
        return self._breaker.wait(now) if self._breaker.state(now) is OPEN else AGAIN

    def release(self, now: float) -> tuple[list[str], list[tuple[str, CallFailure]]]:
        """Return the steps that may go now, and those that are refused now: all or one, or none of them."""
        if not self.parked:
            return [], []
        match self._breaker.state(now):
            case State.CLOSED:
                free = list(self.parked)
            case State.HALF_OPEN:
                free = list(self.parked)[:1] if self.lets_go(now) else []
            case _:
                free = []
        for step in free:
            del self.parked[step]
        judged = [(step, self._refusal(until, now)) for step, until in self.parked.items()]
        refused = [(step, failure) for step, failure in judged if failure is not None]
        for step, _ in refused:
            del self.parked[step]
        return free, refused

    def _refusal(self, deadline: float, now: float) -> CallFailure | None:
        """Return why nobody with this *deadline* waits; None while it is open for a short time, or a probe is out."""
        if self._breaker.state(now) is not OPEN:
            return None
        wait = self._breaker.wait(now)
        if wait <= PATIENCE and now + wait < deadline:
            return None
        last = "" if self._last is None else self._last.message
        if self._last is not None and mark_of(self._last.kind) is FATAL:
            text = f"not sent, as an earlier call to {self.name} ended so: {last}"
            return CallFailure(kind=self._last.kind, message=text, retry_after=wait, sent=False)
        text = f"not sent: {self.name} fails again and again, and is left alone for {wait:.0f} s; the last time: {last}"
        return CallFailure(kind=ErrorKind.CIRCUIT_OPEN, message=text, retry_after=wait, sent=False)


class Circuits:
    """The circuit of each model by its key, and the retry budget of each provider."""

    __slots__ = ("_budgets", "_circuits")

    def __init__(self) -> None:
        self._circuits: dict[str, Circuit] = {}
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, model: str, name: str) -> Circuit:
        """Return the circuit of *model*; *name* is what a user calls it."""
        return self._circuits.get(model) or self._circuits.setdefault(model, Circuit(name))

    def __getitem__(self, model: str) -> Circuit:
        return self._circuits[model]

    def budget(self, provider: str) -> RetryBudget:
        """Return the retry budget of *provider*."""
        return self._budgets.get(provider) or self._budgets.setdefault(provider, RetryBudget(RETRIES))
