"""What the gateway's machine is made of: its tables, the effects it answers with, and what it keeps of a call."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Literal, cast

from msgspec import Struct
from msgspec.structs import replace

from protocol.chat import CallFailure, ChatMessage, ChatReply, ChatRequest, Usage
from protocol.circuit import Circuit
from protocol.errors import ErrorKind
from protocol.models import ModelInfo
from protocol.outcome import AMBIGUOUS, THROTTLED
from protocol.policies import retry
from protocol.policies.breaker import Passed
from protocol.policies.caller_pool import CallerPool
from protocol.policies.output_ladder import Dialect
from protocol.policies.token_estimate import bound_messages
from protocol.signals import Acquire, Amount, Answer, Cancel, ChatCall, ChatResult, Perform, Reaffirm, Settle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.outcome import Outcome
    from protocol.policies.backoff import Backoff
    from protocol.policies.estimate_calibration import EstimateCalibration
    from protocol.policies.retry_budget import RetryBudget


# --- effects


class AskLimiter(Struct, frozen=True, gc=False):
    """Send *message* to the limiter; it answers with a grant or a refusal."""

    message: Acquire


class TellLimiter(Struct, frozen=True, gc=False):
    """Send *message* to the limiter."""

    message: Settle | Cancel | Reaffirm


class Hire(Struct, frozen=True, gc=False):
    """Spawn caller *number* of *provider* at the address *caller*."""

    provider: str
    number: int
    caller: str


class Dispatch(Struct, frozen=True, gc=False):
    """Send *perform* to *caller*."""

    caller: str
    perform: Perform


class AbortFlight(Struct, frozen=True, gc=False):
    """End the call *call* of *caller* from outside: it is blocked and cannot read its mail."""

    caller: str
    call: str


class Lost(Struct, frozen=True, gc=False):
    """*caller* did not come back from *call*, not even when aborted; another may be hired in its place."""

    caller: str
    call: str


class Dismiss(Struct, frozen=True, gc=False):
    """*caller* is one too many: stop it."""

    caller: str


class Later(Struct, frozen=True, gc=False):
    """Call ``on_timer(key, ...)`` after *seconds*; in place of an earlier timer with this key."""

    key: str
    seconds: float


class Unset(Struct, frozen=True, gc=False):
    """Forget the timer *key*."""

    key: str


class AnswerStep(Struct, frozen=True, gc=False):
    """Send *answer* to the recorder."""

    answer: Answer


Effect = AskLimiter | TellLimiter | Hire | Dispatch | AbortFlight | Lost | Dismiss | Later | Unset | AnswerStep

# --- state

Stage = Literal["new", "parked", "waiting", "ready", "flying", "resting"]

PLACE: dict[Stage, str] = {
    "new": "before the call was made",
    "parked": "while the call waited for a provider that fails again and again",
    "waiting": "while the call waited for the rate limit",
    "ready": "while the call waited for a free caller",
    "flying": "during the call",
    "resting": "while the call waited to be tried again",
}


class Call(Struct, eq=False, gc=False):
    """A call under way: where it stands, and the sums over its attempts.

    ``beside`` is the strongest model, where this one was chosen. ``acquire``, ``amount`` and ``request`` are there once
    it has asked for a lease, ``estimate`` is its input tokens as estimated, before calibration. ``counts`` says whether
    the next flight is an attempt, and not the same one asked differently; ``cut_short`` that it ended by its deadline,
    and there would have been another try.
    """

    call: ChatCall
    model: ModelInfo
    pool: CallerPool
    circuit: Circuit
    why: str = ""
    beside: ModelInfo | None = None
    stage: Stage = "new"
    dialect: Dialect | None = None
    acquire: Acquire = cast("Acquire", None)
    amount: Amount = cast("Amount", None)
    request: ChatRequest = cast("ChatRequest", None)
    number: int = 0
    attempts: int = 0
    retries: int = 0
    bad_responses: int = 0
    throttled: int = 0
    estimate: int = 0
    counts: bool = True
    cut_short: bool = False
    since: float = 0.0
    queued: float = 0.0
    execution_ms: float = 0.0
    usage: Usage = Usage()
    last: CallFailure | None = None

    def queue_until(self, now: float) -> None:
        """Count the time since the stage began as waiting in a queue."""
        self.queued += now - self.since
        self.since = now

    def late(self, now: float) -> bool:
        """Tell whether the deadline has come."""
        deadline = self.call.deadline
        return deadline is not None and deadline <= now


class Flight(Struct, eq=False):
    """An HTTP call under way; *call* is None once nobody waits for it."""

    call: Call | None
    caller: str
    circuit: Circuit
    passed: Passed
    pool: CallerPool
    model: ModelInfo
    acquire: Acquire
    request: ChatRequest
    estimate: int
    started: float
    aborted: bool = False


def flight_of(call: Call, caller: str, now: float) -> Flight:
    """Return the flight of a call that goes now."""
    return Flight(
        call=call,
        caller=caller,
        circuit=call.circuit,
        passed=call.circuit.on_sent(now),
        pool=call.pool,
        model=call.model,
        acquire=call.acquire,
        request=call.request,
        estimate=call.estimate,
        started=now,
    )


# --- what is reserved for a call, and said of one that is over

Result = ChatReply | CallFailure
Estimate = Callable[[tuple[ChatMessage, ...]], int]
"""Counts the input tokens of messages."""
UNWEIGHED = Amount(nano_usd=None)
"""What is asked for where nobody counts tokens or money."""
OUTPUT_UNKNOWN = 4096
"""Output tokens reserved for a call that names no maximum."""


def prompt_of(request: ChatRequest) -> tuple[ChatMessage, ...]:
    """Return what counts as a request's prompt: its messages, and its schema."""
    if request.schema is None:
        return request.messages
    return (*request.messages, ChatMessage(role="system", content=bytes(request.schema.schema).decode()))


def expected(state: Call, estimate: Estimate, calibration: EstimateCalibration) -> Amount:
    """Return what a call is expected to use: the estimated prompt with its schema, and the most it may answer.

    The estimate is kept as well as what calibration makes of it. Of money it is the most: a prompt never has more
    tokens than its bound, whatever the estimate says.
    """
    prompt, model, most = prompt_of(state.request), state.model, state.call.max_tokens
    output = OUTPUT_UNKNOWN if most is None else most
    nano = None if model.price is None else model.most(bound_messages(prompt), output)
    state.estimate = estimate(prompt)
    return Amount(input_tokens=calibration.reserve(model.key, state.estimate), output_tokens=output, nano_usd=nano)


def wanted(state: Call, lease: str, domain: str, holder: str) -> Acquire:
    """Return the request for *lease*, which *holder* is to hold."""
    call = state.call
    return Acquire(
        lease=lease,
        domain=domain,
        amount=state.amount,
        priority=call.priority,
        flow=call.flow,
        deadline=call.deadline,
        holder=holder,
        reply_to=holder,
    )


def used(flight: Flight, result: Result, outcome: Outcome, estimate: Estimate) -> Usage | None:
    """Return what a flight has used: as reported, else estimated; None when nothing is billed."""
    if isinstance(result, ChatReply):
        if result.usage is not None:
            return result.usage
        said = estimate((ChatMessage(role="assistant", content=result.text),))
        return replace(spent(flight, estimate), output_tokens=said)
    return spent(flight, estimate) if outcome is AMBIGUOUS else None


def inherited(state: Call, call: ChatCall, why: str, since: float, now: float) -> Call:
    """Return a call that takes over the flight of *state*, with its attempt; it has waited *since* then."""
    heir = Call(call, state.model, state.pool, state.circuit, why=why, beside=state.beside)
    heir.acquire, heir.amount, heir.request = state.acquire, state.amount, state.request
    heir.dialect, heir.number, heir.estimate, heir.stage = state.dialect, state.number, state.estimate, state.stage
    heir.since, heir.queued = now, now - since
    heir.attempts = min(1, state.attempts)
    state.attempts -= heir.attempts
    return heir


def result_of(state: Call, reply: ChatReply | None, failure: CallFailure | None) -> ChatResult:
    """Return how a call has ended, with the sums over its attempts."""
    cost = state.model.cost(state.usage) if state.attempts else 0
    beside = None if state.beside is None else state.beside.cost(state.usage)
    return ChatResult(
        reply=reply,
        failure=failure,
        model=state.model.key,
        why_model=state.why or None,
        usage=state.usage,
        cost=cost,
        saved_by_routing=0 if state.beside is None else None if cost is None or beside is None else beside - cost,
        attempts=state.attempts,
        execution_time_ms=state.execution_ms,
        queue_time_ms=state.queued * 1000.0,
    )


def perform(state: Call, reply_to: str, now: float) -> Perform:
    """Return what the caller of a call that goes now is told."""
    call = state.call
    timeout = min(call.timeout, (inf if call.deadline is None else call.deadline) - now)
    return Perform(call=state.acquire.lease, request=state.request, timeout=timeout, reply_to=reply_to)


def next_try(
    state: Call, failure: CallFailure, backoff: Backoff, budget: RetryBudget, now: float, roll: float
) -> CallFailure | float | None:
    """Count and return what comes after *failure*: seconds until the next attempt, or the last word on the call.

    None: it goes back at once into the limiter's line, which waits out the 429 that it met; that is no retry.
    """
    call, deadline = state.call, inf if state.call.deadline is None else state.call.deadline
    if retry.outcome_of(failure) is THROTTLED:
        if now + (failure.retry_after or 0.0) >= deadline:
            state.cut_short = True
            return failure
        state.throttled += 1
        return None if retry.waits_out(failure, state.throttled - 1, call.max_retries) else failure
    delay = backoff.delay(state.retries, roll, failure.retry_after)
    if not retry.may_retry(failure, state.retries, call.max_retries, state.bad_responses):
        return failure
    if now + delay >= deadline:
        state.cut_short = True
        return failure
    if budget.try_take(now) > 0.0:
        text = f"{failure.message}; not tried again, since the retries to {state.model.provider} are used up"
        return replace(failure, message=text)
    state.retries += 1
    state.bad_responses += failure.kind is ErrorKind.BAD_RESPONSE
    return delay


def no_model(call: ChatCall, models: Iterable[str]) -> AnswerStep:
    """Return the answer to a call whose model is none of *models*."""
    text = f"no model is called {call.model!r} in the configuration; there are: {', '.join(models) or 'none'}"
    return answer(call, ChatResult(failure=CallFailure(kind=ErrorKind.NOT_FOUND, message=text), cost=0))


def too_late(state: Call) -> CallFailure:
    """Return the failure of a call whose deadline has passed: where it was, and what its last attempt met."""
    last = "" if state.last is None else f"; the last attempt failed: {state.last.message}"
    return CallFailure(kind=ErrorKind.DEADLINE, message=f"the deadline passed {PLACE[state.stage]}{last}")


def no_more(last: CallFailure | None, refusal: CallFailure) -> CallFailure:
    """Return the last word on a call that its breaker refuses: what its own attempts have met says more than that."""
    if last is None:
        return refusal
    return replace(last, message=f"{last.message}; not tried again, since too many calls end so")


def answer(call: ChatCall, result: ChatResult) -> AnswerStep:
    """Return the effect that answers *call* with *result*."""
    return AnswerStep(
        Answer(to=call.reply_to, step=call.step, kind="chat", fingerprint=call.fingerprint, payload=result)
    )


def spent(flight: Flight, estimate: Estimate) -> Usage:
    """Return what a call may have used whose end is unknown: its prompt, as estimated (wire.md 4.4)."""
    tokens = flight.acquire.amount.input_tokens or estimate(prompt_of(flight.request))
    return Usage(input_tokens=tokens, exact=False)


def settlement(
    flight: Flight, result: Result, outcome: Outcome, usage: Usage | None, headers: dict[str, str]
) -> Settle:
    """Return the one settlement of the flight's lease."""
    lease = flight.acquire.lease
    if isinstance(result, CallFailure):
        kind = None if flight.call is None else result.kind
        return Settle(lease=lease, outcome=outcome, retry_after=result.retry_after, headers=headers, kind=kind)
    cost = flight.model.cost(usage or Usage()) or 0
    return Settle(lease=lease, outcome=outcome, usage=usage, nano_usd=cost, headers=headers)
