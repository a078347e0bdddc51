"""The gateway's decisions: a model call from request to answer. Partner of ``actors/gateway.py``.

Every call is answered exactly once, in whatever order things happen; every lease is settled or cancelled exactly once.
The stages of a call stand in ``protocol/attempts.py``, and which calls need not be made in ``protocol/sharing.py``.
The model is chosen by ``protocol/ladder.py``, by what is known here: who may be called now, how long a call would wait,
what money is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import calls, ids
from protocol.attempts import GRACE, WAITED, Attempts
from protocol.calls import Call, Dismiss, Effect, Later, Lost, TellLimiter, Unset
from protocol.chat import CallFailure
from protocol.errors import ErrorKind
from protocol.ladder import Ladder
from protocol.policies.routing import Room
from protocol.policies.token_bucket import TICK
from protocol.sharing import Follower, from_cache, identity
from protocol.signals import Allow, Cancel, CancelStep, ChatCall, Forget, Graded, Granted, Performed, Reaffirm, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.calls import Estimate
    from protocol.ladder import Picked
    from protocol.models import ModelInfo, ProviderInfo
    from protocol.policies.backoff import Backoff
    from protocol.policies.caller_pool import CallerPool
    from protocol.policies.purse import Purse
    from protocol.policies.routing import Router

__all__ = ["GRACE", "Gateway"]


class Gateway(Attempts):
    """Owns every model call. The model ``auto`` is chosen among *models*, by what *router* has learnt.

    *estimate* counts the input tokens of messages, *exact* those of models whose tokeniser is known, by key.
    *now* is monotonic seconds, *roll* a die in [0, 1) everywhere.
    *purse* and *router* may be an earlier instance's.
    """

    def __init__(
        self,
        *,
        models: Mapping[str, ModelInfo],
        providers: Mapping[str, ProviderInfo],
        backoff: Backoff,
        estimate: Estimate,
        exact: Mapping[str, Estimate] | None = None,
        router: Router | None = None,
        purse: Purse | None = None,
        address: str = ids.GATEWAY,
    ) -> None:
        super().__init__(
            models=models,
            providers=providers,
            backoff=backoff,
            estimate=estimate,
            exact=exact,
            purse=purse,
            address=address,
        )
        self._ladder = Ladder(models, router)

    # --- what comes in

    def on_call(self, call: ChatCall, now: float) -> list[Effect]:
        """Take a call over. One for a step that is under way joins it: the answer goes to whoever asked last."""
        if call.step in self._calls:
            self._calls[call.step].call = call
            return []
        if self._sharing.again(call):
            return []
        picked = self._pick(call, now)
        if picked.model is None:
            return [calls.no_model(call, self._models)]
        if not (call.coalesce or call.cache_seconds):
            return self._begin(call, picked, now)
        return self._shared(call, picked.model, picked, now)

    def on_bounds(self, news: Allow | Forget) -> None:
        """A run may spend so much, or is over: models that cost more are not chosen for it."""
        if isinstance(news, Forget):
            self._purse.close(news.run)
        elif news.nano_usd is not None:
            self._purse.allow(news.run, news.nano_usd)

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
        self._head_room.on_granted(self._domain(state.model), state.call.step, now)
        state.pool.wait(state.call.step)
        return self._staff(state.pool, now)

    def on_refused(self, refused: Refused, now: float) -> list[Effect]:
        """The limiter will never let it go in time: the call has failed."""
        state = self._waiting_for(refused.lease)
        if state is None:
            return []
        state.queue_until(now)
        self._head_room.on_left(self._domain(state.model), state.call.step)
        return self._end(
            state, now, failure=CallFailure(kind=refused.kind, message=refused.reason, retry_after=refused.retry_after)
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
        state, follower = self._calls.get(cancel.step), self._sharing.follower(cancel.step)
        if follower is not None:
            self._sharing.leave(cancel.step)
            return [] if follower.call.deadline is None else [Unset(f"deadline:{cancel.step}")]
        return [] if state is None else [*self._part(state, now), *self._forget(state)]

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
        state, follower = self._calls.get(step), self._sharing.follower(step)
        call = follower.call if follower is not None else None if state is None else state.call
        if call is None or call.deadline is None:
            return []
        left = call.deadline - now
        if left >= TICK:  # less comes of rounding, and a timer of 0 s would follow
            return [Later(f"deadline:{step}", left)]
        if follower is not None:
            self._sharing.leave(step)
            return self._answer(follower, now, failure=WAITED)
        assert state is not None
        return self._give_up(state, now)

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

    # --- before a call goes

    def _pick(self, call: ChatCall, now: float) -> Picked:
        """Choose the model of a call, by what is known now."""
        if call.model != "auto" or len(self._models) < 2:
            return self._ladder.pick(call)
        rooms = {
            key: Room(
                open=self._circuit(model).lets_go(now),
                wait=self._head_room.wait(self._domain(model), call.priority, now),
            )
            for key, model in self._models.items()
        }
        patience = None if call.deadline is None else call.deadline - now
        return self._ladder.pick(call, rooms, self._purse.left(ids.run_of(call.step)), patience)

    def _shared(self, call: ChatCall, model: ModelInfo, picked: Picked, now: float) -> list[Effect]:
        """Answer a call without making it, let it wait for an identical one, or let it go and others wait for it.

        What another call brings says nothing new about the model: nothing is learnt of it a second time.
        """
        key = identity(call, model.key)
        kept = self._sharing.remembered(call, key, now)
        if kept is not None:
            self._ladder.forget(call.occasion.task)
            return [calls.answer(call, from_cache(kept, model, picked.why))]
        leader = self._calls.get(self._sharing.leader(call, key) or "")
        if leader is None or (leader.stage != "flying" and call.priority < leader.call.priority):
            if call.coalesce:
                self._sharing.lead(call.step, key)
            return self._begin(call, picked, now)
        self._ladder.forget(call.occasion.task)
        self._sharing.follow(key, Follower(call, model, picked.why, picked.beside, now))
        return [] if call.deadline is None else [Later(f"deadline:{call.step}", max(0.0, call.deadline - now))]

    # --- small questions

    def _waiting_for(self, lease: str) -> Call | None:
        state = self._calls.get(lease.rpartition("#")[0])
        return state if state is not None and state.stage == "waiting" and state.acquire.lease == lease else None

    def _pool_of(self, address: str) -> CallerPool | None:
        path, _, _ = address.rpartition("/")
        return self._pools.get(path.removeprefix("caller/")) if path.startswith("caller/") else None
