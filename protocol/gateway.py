"""The gateway's decisions: a model call from request to answer. Partner of ``actors/gateway.py``.

Every call is answered exactly once, in whatever order things happen; every lease is settled or cancelled exactly once.
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
from protocol.calls import (
    AbortFlight,
    AskLimiter,
    Call,
    Dismiss,
    Dispatch,
    Effect,
    Flight,
    Hire,
    Later,
    Lost,
    TellLimiter,
    Unset,
)
from protocol.chat import CallFailure, ChatReply
from protocol.circuit import Circuits
from protocol.errors import ErrorKind
from protocol.ladder import Ladder
from protocol.policies import retry
from protocol.policies.caller_pool import CallerPool
from protocol.policies.estimate_calibration import EstimateCalibration
from protocol.policies.output_ladder import Dialect, learn, render
from protocol.policies.token_bucket import TICK
from protocol.signals import Cancel, CancelStep, ChatCall, Graded, Granted, Performed, Reaffirm, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.calls import Estimate, Result
    from protocol.models import ModelInfo, ProviderInfo
    from protocol.policies.backoff import Backoff
    from protocol.policies.routing import Router

GRACE = 2.0
"""Seconds that an aborted caller has to report before it counts as lost."""


class Gateway:
    """Owns every model call. The model ``auto`` is chosen among *models*, by what *router* has learnt.

    *estimate* counts the input tokens of messages. *now* is monotonic seconds, *roll* a die in [0, 1) everywhere.
    """

    def __init__(
        self,
        *,
        models: Mapping[str, ModelInfo],
        providers: Mapping[str, ProviderInfo],
        backoff: Backoff,
        estimate: Estimate,
        router: Router | None = None,
        address: str = ids.GATEWAY,
    ) -> None:
        self._models = models
        self._ladder = Ladder(models, router)
        self._providers = providers
        self._backoff = backoff
        self._estimate = estimate
        self._address = address
        self._dialects = {key: Dialect(output=model.output) for key, model in models.items()}
        self._pools = {key: CallerPool(key, provider.callers) for key, provider in providers.items()}
        self._circuits = Circuits()
        self._calibration = EstimateCalibration()
        self._calls: dict[str, Call] = {}
        self._flights: dict[str, Flight] = {}

    # --- what comes in

    def on_call(self, call: ChatCall, now: float) -> list[Effect]:
        """Take a call over. One for a step that is under way joins it: the answer goes to whoever asked last."""
        if call.step in self._calls:
            self._calls[call.step].call = call
            return []
        model, why = self._ladder.pick(call)
        if model is None:
            return [calls.no_model(call, self._models)]
        circuit = self._circuits.of(model.key, f"{model.provider}/{model.name}")
        state = self._calls[call.step] = Call(call, model, self._pools[model.provider], circuit, why)
        if state.late(now):
            return self._give_up(state, now)
        effects: list[Effect] = self._acquire(state, now)
        if call.deadline is not None and call.step in self._calls:
            effects.append(Later(f"deadline:{call.step}", call.deadline - now))
        return effects

    def on_graded(self, graded: Graded) -> list[Effect]:
        """Learn what became of a draft."""
        self._ladder.on_graded(graded)
        return []

    def on_granted(self, granted: Granted, now: float) -> list[Effect]:
        """The call may go as soon as a caller is free. A lease that nobody waits for is returned at once."""
        state = self._waiting_for(granted.lease)
        if state is None:
            return [TellLimiter(Cancel(lease=granted.lease))]
        state.stage = "ready"
        state.queue_until(now)
        state.pool.wait(state.call.step)
        return self._staff(state.pool, now)

    def on_refused(self, refused: Refused, now: float) -> list[Effect]:
        """The limiter will never let it go in time: the call has failed."""
        state = self._waiting_for(refused.lease)
        if state is None:
            return []
        state.queue_until(now)
        return self._end(
            state, failure=CallFailure(kind=refused.kind, message=refused.reason, retry_after=refused.retry_after)
        )

    def on_performed(self, performed: Performed, now: float, roll: float) -> list[Effect]:
        """A caller has reported: settle the lease, answer or try again, and give the caller to whoever waits."""
        flight = self._flights.get(performed.call)
        if flight is None or flight.caller != performed.caller:
            return self.on_caller_back(performed.caller, now)
        result = performed.outcome
        if flight.aborted and isinstance(result, CallFailure):
            result = CallFailure(kind=ErrorKind.TIMEOUT, message=result.message)
        flight.pool.free(flight.caller)
        landed = self._landed(flight, result, now, roll, performed)
        return [Unset(f"attempt:{performed.call}"), *landed, *self._staff(flight.pool, now)]

    def on_cancel(self, cancel: CancelStep, now: float) -> list[Effect]:
        """Nobody waits for the step: end it wherever it is, without an answer."""
        state = self._calls.get(cancel.step)
        return [] if state is None else [*self._withdraw(state, now), *self._forget(state)]

    def on_attempt_timeout(self, lease: str, now: float, roll: float) -> list[Effect]:
        """A caller has not reported in time: abort its call from outside. After the grace, too: it is lost."""
        flight = self._flights.get(lease)
        if flight is None:
            return []
        if not flight.aborted:
            return self._abort(flight)
        flight.pool.lose(flight.caller)
        failure = CallFailure(kind=ErrorKind.TIMEOUT, message=f"{flight.caller} did not come back from the call")
        landed = self._landed(flight, failure, now, roll)
        return [Lost(flight.caller, lease), *landed, *self._staff(flight.pool, now)]

    def on_retry_due(self, step: str, now: float) -> list[Effect]:
        """The backoff is over: ask for a new lease."""
        state = self._calls.get(step)
        return [] if state is None or state.stage != "resting" else self._acquire(state, now)

    def on_deadline(self, step: str, now: float) -> list[Effect]:
        """Answer a call whose deadline has come, wherever it is."""
        state = self._calls.get(step)
        if state is None or state.call.deadline is None:
            return []
        left = state.call.deadline - now
        if left < TICK:  # less comes of rounding, and a timer of 0 s would follow
            return self._give_up(state, now)
        return [Later(f"deadline:{step}", left)]

    def on_timer(self, key: str, now: float, roll: float) -> list[Effect]:
        """The timer *key* has fired."""
        what, _, which = key.partition(":")
        match what:
            case "attempt":
                return self.on_attempt_timeout(which, now, roll)
            case "retry":
                return self.on_retry_due(which, now)
            case "circuit":
                return self._release(which, now)
            case _:
                return self.on_deadline(which, now)

    def on_caller_gone(self, address: str, now: float, roll: float) -> list[Effect]:
        """A caller has failed or stopped; the call it made may have been answered, so it is ambiguous."""
        pool = self._pool_of(address)
        if pool is None or not pool.lose(address):
            return []
        effects: list[Effect] = []
        for lease, flight in [pair for pair in self._flights.items() if pair[1].caller == address]:
            failure = CallFailure(kind=ErrorKind.CONNECTION, message=f"{address} failed during the call")
            effects.append(Unset(f"attempt:{lease}"))
            effects += self._landed(flight, failure, now, roll)
        return effects + self._staff(pool, now)

    def on_caller_back(self, address: str, now: float) -> list[Effect]:
        """A caller that was lost, or is of an earlier life, is there: it joins its pool, or goes when that is full."""
        pool = self._pool_of(address)
        if pool is None or address in pool:
            return []
        return self._staff(pool, now) if pool.adopt(address) else [Dismiss(address)]

    def on_limiter_restarted(self) -> list[Effect]:
        """Name every lease that is held, and ask again for what is waited for: the limiter has forgotten both.

        Under new leases, so that a grant of the limiter before, which may be on its way, is not used unbooked.
        """
        held = [state.acquire for state in self._calls.values() if state.stage == "ready"]
        held += [flight.acquire for flight in self._flights.values()]
        effects: list[Effect] = [TellLimiter(Reaffirm(holder=self._address, leases=tuple(held)))]
        for state in self._calls.values():
            if state.stage == "waiting":
                effects += [TellLimiter(Cancel(lease=state.acquire.lease)), self._ask(state)]
        return effects

    # --- from stage to stage

    def _acquire(self, state: Call, now: float) -> list[Effect]:
        """Ask for a lease, unless the breaker is in the way."""
        if not state.circuit.lets_go(now):
            return self._park(state, now)
        dialect = self._dialects[state.model.key]
        if state.dialect is not dialect:
            state.dialect, state.request = dialect, render(state.call, state.model.name, dialect)
            weighed = self._providers[state.model.provider].weighed
            state.amount = calls.expected(state, self._estimate, self._calibration) if weighed else calls.UNWEIGHED
        state.stage, state.since = "waiting", now
        return [self._ask(state)]

    def _ask(self, state: Call) -> AskLimiter:
        """Ask for the next lease of a call."""
        call = state.call
        state.number += 1
        while f"{call.step}#{state.number}" in self._flights:
            state.number += 1
        domain = self._providers[state.model.provider].domain_of(state.model.key)
        state.acquire = calls.wanted(state, f"{call.step}#{state.number}", domain, self._address)
        return AskLimiter(state.acquire)

    def _park(self, state: Call, now: float) -> list[Effect]:
        """Let a call wait for its breaker, or refuse it."""
        failure = state.circuit.park(state.call.step, state.call.deadline, now)
        if failure is not None:
            return self._end(state, failure=calls.no_more(state.last, failure))
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
            effects += self._end(state, failure=calls.no_more(state.last, failure))
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
        self._flights[lease] = Flight(state, caller, now)
        perform = calls.perform(state, self._address, now)
        return [Dispatch(caller, perform), Later(f"attempt:{lease}", perform.timeout * 1.05 + 0.25)]

    def _landed(
        self, flight: Flight, result: Result, now: float, roll: float, performed: Performed | None = None
    ) -> list[Effect]:
        """Settle the lease of a flight that is over, and go on with its call if there is still one."""
        lease, state = flight.acquire.lease, flight.call
        del self._flights[lease]
        outcome = retry.outcome_of(result)
        usage = calls.used(flight, result, outcome, self._estimate)
        headers = {} if performed is None else performed.headers
        effects: list[Effect] = [TellLimiter(calls.settlement(flight, result, outcome, usage, headers))]
        self._learn(flight, result, now, roll)
        if state is not None:
            state.execution_ms += (now - flight.started) * 1000.0 if performed is None else performed.elapsed_ms
            if usage is not None:
                state.usage += usage
            if isinstance(result, ChatReply):
                failure = retry.verdict(result, structured=state.call.schema is not None)
                effects += self._end(state, reply=None if failure else result, failure=failure)
            else:
                effects += self._failed(state, flight, result, now, roll)
        return effects + self._release(flight.model.key, now)

    def _learn(self, flight: Flight, result: Result, now: float, roll: float) -> None:
        """Tell breaker, retry budget and calibration how a flight has ended."""
        flight.circuit.on_end(flight.passed, result, now, roll, awaited=flight.call is not None)
        if isinstance(result, ChatReply):
            self._circuits.budget(flight.model.provider).on_success(now)
            if result.usage is not None and result.usage.exact:
                self._calibration.learn(flight.model.key, flight.estimate, result.usage.input_tokens)

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
            return self._end(state, failure=after)
        return self._acquire(state, now) if after is None else [Later(f"retry:{state.call.step}", after)]

    # --- how a call ends

    def _give_up(self, state: Call, now: float) -> list[Effect]:
        """Answer that the deadline has passed, after leaving the stage the call is in."""
        failure = calls.too_late(state)
        return [*self._withdraw(state, now), *self._end(state, failure=failure)]

    def _end(self, state: Call, *, reply: ChatReply | None = None, failure: CallFailure | None = None) -> list[Effect]:
        return [*self._forget(state), calls.answer(state.call, calls.result_of(state, reply, failure))]

    def _forget(self, state: Call) -> list[Effect]:
        self._calls.pop(state.call.step, None)
        return [] if state.call.deadline is None else [Unset(f"deadline:{state.call.step}")]

    def _withdraw(self, state: Call, now: float) -> list[Effect]:
        """Leave the stage the call is in: give back what it holds, or hang up."""
        match state.stage:
            case "waiting" | "ready":
                state.queue_until(now)
                state.pool.leave(state.call.step)
                return [TellLimiter(Cancel(lease=state.acquire.lease))]
            case "flying":
                flight = self._flights[state.acquire.lease]
                flight.call = None
                state.execution_ms += (now - flight.started) * 1000.0
                state.usage += calls.spent(flight, self._estimate)
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

    def _waiting_for(self, lease: str) -> Call | None:
        state = self._calls.get(lease.rpartition("#")[0])
        return state if state is not None and state.stage == "waiting" and state.acquire.lease == lease else None

    def _pool_of(self, address: str) -> CallerPool | None:
        path, _, _ = address.rpartition("/")
        return self._pools.get(path.removeprefix("caller/")) if path.startswith("caller/") else None
