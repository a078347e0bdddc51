"""The way of one model call, from stage to stage. Part of ``protocol/gateway.py``, which hears what happens.

A call is in one of five stages, and its deadline or a cancel may end it in any of them:

======== ============================== =================================================
stage    waits for                      then
======== ============================== =================================================
parked   a breaker that is open         waiting; or answered, when that takes too long
waiting  the limiter's grant            ready
ready    a free caller of the provider  flying
flying   the caller's report            answered; or resting, to be tried again; or
                                        waiting, when the failure has taught how to ask,
                                        or was a 429, which the limiter waits out
resting  the end of the backoff, with   waiting, for a new lease
         neither caller nor lease
======== ============================== =================================================

A flight may outlive its call: when nobody waits any more its caller stays busy and its lease held until the caller has
reported, or counts as lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import calls, ids
from protocol.calls import AbortFlight, AskLimiter, Call, Dispatch, Effect, Flight, Hire, Later, TellLimiter, Unset
from protocol.chat import CallFailure, ChatReply
from protocol.circuit import Circuits
from protocol.domain import real_money
from protocol.errors import ErrorKind
from protocol.ladder import Picked
from protocol.outcome import THROTTLED
from protocol.policies import retry
from protocol.policies.caller_pool import CallerPool
from protocol.policies.estimate_calibration import EstimateCalibration
from protocol.policies.head_room import HeadRoom
from protocol.policies.output_ladder import Dialect, learn, render
from protocol.policies.purse import Purse
from protocol.sharing import OWN, Sharing, shared
from protocol.signals import Cancel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.calls import Estimate, Result
    from protocol.circuit import Circuit
    from protocol.models import ModelInfo, ProviderInfo
    from protocol.policies.backoff import Backoff
    from protocol.sharing import Follower
    from protocol.signals import ChatCall, Performed

GRACE = 2.0
"""Seconds that an aborted caller has to report before it counts as lost."""
WAITED = CallFailure(
    kind=ErrorKind.DEADLINE, message="the deadline passed while the call waited for an identical one to be answered"
)


class Attempts:
    """Takes calls from stage to stage. *now* is monotonic seconds, *roll* a die in [0, 1) everywhere."""

    def __init__(
        self,
        *,
        models: Mapping[str, ModelInfo],
        providers: Mapping[str, ProviderInfo],
        backoff: Backoff,
        estimate: Estimate,
        exact: Mapping[str, Estimate] | None = None,
        purse: Purse | None = None,
        address: str = ids.GATEWAY,
    ) -> None:
        self._models = models
        self._providers = providers
        self._backoff = backoff
        self._estimate = estimate
        self._exact = {} if exact is None else exact
        self._address = address
        self._purse = Purse() if purse is None else purse
        self._sharing = Sharing()
        self._head_room = HeadRoom()
        self._dialects = {key: Dialect(output=model.output) for key, model in models.items()}
        self._pools = {key: CallerPool(key, provider.callers) for key, provider in providers.items()}
        self._circuits = Circuits()
        self._calibration = EstimateCalibration()
        self._calls: dict[str, Call] = {}
        self._flights: dict[str, Flight] = {}

    def _counted(self, model: ModelInfo) -> Estimate:
        """Return what counts the tokens of *model*: its own tokeniser where it is known, else the common estimate."""
        return self._exact.get(model.key, self._estimate)

    # --- from stage to stage

    def _acquire(self, state: Call, now: float) -> list[Effect]:
        """Ask for a lease, unless the breaker is in the way."""
        if not state.circuit.lets_go(now):
            return self._park(state, now)
        dialect = self._dialects[state.model.key]
        if state.dialect is not dialect:
            state.dialect, state.request = dialect, render(state.call, state.model.name, dialect)
            weighed = self._providers[state.model.provider].weighed
            state.amount = (
                calls.expected(state, self._counted(state.model), self._calibration) if weighed else calls.UNWEIGHED
            )
        state.stage, state.since = "waiting", now
        return [self._ask(state)]

    def _begin(self, call: ChatCall, picked: Picked, now: float) -> list[Effect]:
        """Let a call go its way to *picked*."""
        model = picked.model
        assert model is not None
        state = self._calls[call.step] = Call(
            call, model, self._pools[model.provider], self._circuit(model), picked.why, picked.beside
        )
        if state.late(now):
            return self._give_up(state, now)
        effects: list[Effect] = self._acquire(state, now)
        if call.deadline is not None and call.step in self._calls:
            effects.append(Later(f"deadline:{call.step}", call.deadline - now))
        return effects

    def _ask(self, state: Call) -> AskLimiter:
        """Ask for the next lease of a call."""
        call = state.call
        state.number += 1
        while f"{call.step}#{state.number}" in self._flights:
            state.number += 1
        domain = self._domain(state.model)
        self._head_room.on_asked(domain, call.step, call.priority, state.since)
        state.acquire = calls.wanted(state, f"{call.step}#{state.number}", domain, self._address)
        return AskLimiter(state.acquire)

    def _park(self, state: Call, now: float) -> list[Effect]:
        """Let a call wait for its breaker, or refuse it."""
        failure = state.circuit.park(state.call.step, state.call.deadline, now)
        if failure is not None:
            return self._end(state, now, failure=calls.no_more(state.last, failure))
        state.stage = "parked"
        return self._watch(state.model.key, now)

    def _watch(self, model: str, now: float) -> list[Effect]:
        due = self._circuits[model].due(now)
        return [] if due is None else [Later(f"circuit:{model}", due)]

    def _release(self, model: str, now: float) -> list[Effect]:
        """A breaker may have changed: let go who may, refuse who would wait too long."""
        free, refused = self._circuits[model].release(now)
        effects: list[Effect] = []
        for state, failure in [(self._calls[step], failure) for step, failure in refused]:
            effects += self._end(state, now, failure=calls.no_more(state.last, failure))
        for step in free:
            effects += self._acquire(self._calls[step], now)
        return effects + self._watch(model, now)

    def _staff(self, pool: CallerPool, now: float) -> list[Effect]:
        """Give free callers to the steps that wait for one."""
        effects: list[Effect] = []
        while (step := pool.first()) is not None:
            state = self._calls[step]
            if state.late(now):
                effects += self._give_up(state, now)
                continue
            if not state.circuit.lets_go(now):
                effects += [*self._withdraw(state, now), *self._park(state, now)]
                continue
            seat = pool.take()
            if seat is None:
                break
            pool.leave(step)
            if seat.hired is not None:
                effects.append(Hire(pool.provider, seat.hired, seat.caller))
            effects += self._dispatch(state, seat.caller, now)
        return effects

    def _dispatch(self, state: Call, caller: str, now: float) -> list[Effect]:
        lease = state.acquire.lease
        state.queue_until(now)
        state.stage = "flying"
        state.attempts += state.counts
        state.counts = True
        self._flights[lease] = calls.flight_of(state, caller, now)
        perform = calls.perform(state, self._address, now)
        return [Dispatch(caller, perform), Later(f"attempt:{lease}", perform.timeout * 1.05 + 0.25)]

    def _landed(
        self, flight: Flight, result: Result, now: float, roll: float, performed: Performed | None = None
    ) -> list[Effect]:
        """Settle the lease of a flight that is over, and go on with its call if there is still one."""
        lease, state = flight.acquire.lease, flight.call
        del self._flights[lease]
        outcome = retry.outcome_of(result)
        usage = calls.used(flight, result, outcome, self._counted(flight.model))
        headers = {} if performed is None else performed.headers
        settle = calls.settlement(flight, result, outcome, usage, headers)
        effects: list[Effect] = [TellLimiter(settle)]
        self._learn(flight, result, now, roll)
        spent = real_money(settle)
        self._purse.spend(ids.run_of(lease), flight.acquire.amount.nano_usd or 0 if spent is None else spent)
        if state is not None:
            state.execution_ms += (now - flight.started) * 1000.0 if performed is None else performed.elapsed_ms
            if usage is not None:
                state.usage += usage
            if isinstance(result, ChatReply):
                failure = retry.verdict(result, structured=state.call.schema is not None)
                effects += self._end(state, now, reply=None if failure else result, failure=failure)
            else:
                effects += self._failed(state, flight, result, now, roll)
        return effects + self._release(flight.model.key, now) if flight.circuit.parked else effects

    def _learn(self, flight: Flight, result: Result, now: float, roll: float) -> None:
        """Tell breaker, retry budget and calibration how a flight has ended."""
        flight.circuit.on_end(flight.passed, result, now, roll, awaited=flight.call is not None)
        if isinstance(result, ChatReply):
            self._circuits.budget(flight.model.provider).on_success(now)
            if result.usage is not None and result.usage.exact:
                self._calibration.learn(flight.model.key, flight.estimate, result.usage.input_tokens)
        elif retry.outcome_of(result) is THROTTLED:
            self._head_room.on_throttled(self._domain(flight.model), now + (result.retry_after or 0.0))

    def _failed(self, state: Call, flight: Flight, failure: CallFailure, now: float, roll: float) -> list[Effect]:
        """Ask differently, wait out a 429, try again later, or fail."""
        state.last, state.stage = failure, "resting"
        if state.late(now):
            return self._give_up(state, now)
        learned = learn(failure, flight.request, self._dialects[state.model.key])
        if learned is not None:
            self._dialects[state.model.key] = learned
            state.counts = False
            return self._acquire(state, now)
        budget = self._circuits.budget(state.model.provider)
        after = calls.next_try(state, failure, self._backoff, budget, now, roll)
        if isinstance(after, CallFailure):
            return self._end(state, now, failure=after)
        return self._acquire(state, now) if after is None else [Later(f"retry:{state.call.step}", after)]

    # --- how a call ends

    def _give_up(self, state: Call, now: float) -> list[Effect]:
        """Answer that the deadline has passed, after leaving the stage the call is in."""
        failure = calls.too_late(state)
        return [*self._part(state, now), *self._end(state, now, failure=failure)]

    def _end(
        self, state: Call, now: float, *, reply: ChatReply | None = None, failure: CallFailure | None = None
    ) -> list[Effect]:
        """Answer a call, and those that waited for it; or let one of them lead (see ``protocol/sharing.py``)."""
        step = state.call.step
        effects = [*self._forget(state), calls.answer(state.call, calls.result_of(state, reply, failure))]
        if reply is not None:
            self._sharing.remember(state.call, state.model, reply, now)
        if failure is not None and (state.cut_short or failure.kind in OWN):
            return effects + self._succeed(step, now)
        for follower in self._sharing.disband(step):
            effects += self._answer(follower, now, reply=reply, failure=failure)
        return effects

    @staticmethod
    def _answer(
        follower: Follower, now: float, *, reply: ChatReply | None = None, failure: CallFailure | None = None
    ) -> list[Effect]:
        """Answer a call that was not made."""
        call = follower.call
        unset: list[Effect] = [] if call.deadline is None else [Unset(f"deadline:{call.step}")]
        return [*unset, calls.answer(call, shared(follower, reply, failure, now))]

    def _part(self, state: Call, now: float) -> list[Effect]:
        """Leave the stage that a call is in since its asker goes: whoever waited for it takes over a flight of it."""
        flight = self._flights.get(state.acquire.lease) if state.stage == "flying" else None
        if flight is None or flight.aborted:
            return [*self._withdraw(state, now), *self._succeed(state.call.step, now)]
        late = self._dismiss_late(state.call.step, now)
        heir = self._sharing.succeed(state.call.step)
        if heir is None:
            return [*late, *self._withdraw(state, now)]
        flight.call = self._calls[heir.call.step] = calls.inherited(state, heir.call, heir.why, heir.since, now)
        return late

    def _succeed(self, step: str, now: float) -> list[Effect]:
        """Let one of those who waited for a call have its own, which the others wait for."""
        late = self._dismiss_late(step, now)
        heir = self._sharing.succeed(step)
        return late if heir is None else late + self._begin(heir.call, Picked(heir.model, heir.why, heir.beside), now)

    def _dismiss_late(self, step: str, now: float) -> list[Effect]:
        """Answer those whose deadline has come while they waited for a call: all at once, since they may be many."""
        effects: list[Effect] = []
        for follower in self._sharing.late(step, now):
            effects += self._answer(follower, now, failure=WAITED)
        return effects

    def _forget(self, state: Call) -> list[Effect]:
        self._calls.pop(state.call.step, None)
        return [] if state.call.deadline is None else [Unset(f"deadline:{state.call.step}")]

    def _withdraw(self, state: Call, now: float) -> list[Effect]:
        """Leave the stage the call is in: give back what it holds, or hang up."""
        match state.stage:
            case "waiting" | "ready":
                state.queue_until(now)
                state.pool.leave(state.call.step)
                self._head_room.on_left(self._domain(state.model), state.call.step)
                return [TellLimiter(Cancel(lease=state.acquire.lease))]
            case "flying":
                flight = self._flights[state.acquire.lease]
                flight.call = None
                state.execution_ms += (now - flight.started) * 1000.0
                state.usage += calls.spent(flight, self._counted(flight.model))
                return [] if flight.aborted else self._abort(flight)
            case "parked":
                state.circuit.leave(state.call.step)
                return []
            case "resting":
                return [Unset(f"retry:{state.call.step}")]
            case _:  # "new": nothing is held yet
                return []

    def _abort(self, flight: Flight) -> list[Effect]:
        flight.aborted = True
        lease = flight.acquire.lease
        return [AbortFlight(flight.caller, lease), Later(f"attempt:{lease}", GRACE)]

    # --- small questions

    def _circuit(self, model: ModelInfo) -> Circuit:
        return self._circuits.of(model.key, f"{model.provider}/{model.name}")

    def _domain(self, model: ModelInfo) -> str:
        return self._providers[model.provider].domain_of(model.key)
