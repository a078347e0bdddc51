"""What the gateway's machine is made of: its tables, the effects it answers with, and what it keeps of a call.

``protocol/gateway.py`` decides over these; its shell ``actors/gateway.py`` performs the effects.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from protocol.chat import CallFailure, ChatMessage, ChatReply, OutputMode, Usage
from protocol.policies.token_estimate import bound_messages
from protocol.signals import Acquire, Amount, Answer, Cancel, Outcome, Perform, Reaffirm, Settle

if TYPE_CHECKING:
    from protocol.chat import ChatRequest
    from protocol.policies.caller_pool import CallerPool
    from protocol.policies.output_ladder import Dialect
    from protocol.signals import ChatCall, ChatResult


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model of the configuration. ``output`` is its best rung, ``context`` its window in tokens, None: unknown.

    Prices are in nano-dollars per token, None: unknown; for input read from a cache or written to one, None: as input.
    """

    key: str
    provider: str
    name: str
    tier: int = 1
    price_in: float | None = None
    price_out: float | None = None
    price_cached: float | None = None
    price_written: float | None = None
    output: OutputMode = "json_schema"
    context: int | None = None

    def cost(self, usage: Usage) -> int | None:
        """Return what *usage* costs in nano-dollars, None when a price is unknown. Reasoning counts as output."""
        if self.price_in is None or self.price_out is None:
            return None
        cached = self.price_in if self.price_cached is None else self.price_cached
        written = self.price_in if self.price_written is None else self.price_written
        plain = max(0, usage.input_tokens - usage.cached_tokens - usage.written_tokens)
        inputs = plain * self.price_in + usage.cached_tokens * cached + usage.written_tokens * written
        return round(inputs + usage.output_tokens * self.price_out)

    def most(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return the most that so many tokens can cost in nano-dollars, None when a price is unknown."""
        if self.price_in is None or self.price_out is None:
            return None
        dearest = max(self.price_in, self.price_cached or 0.0, self.price_written or 0.0)
        return ceil(input_tokens * dearest + output_tokens * self.price_out)


class ProviderInfo(Struct, frozen=True, kw_only=True):
    """A provider: the limiter's domain of its models, and how many callers it has at most.

    ``domains`` names another domain by model key, where the configuration narrows a model's limits. ``weighed`` says
    that somebody counts tokens or money, so that every call is estimated before it goes.
    """

    key: str
    domain: str
    domains: dict[str, str] = {}
    callers: int = 64
    weighed: bool = True

    def domain_of(self, model: str) -> str:
        """Return the domain that calls of the model with this key count in."""
        return self.domains.get(model, self.domain)


# --- effects


class AskLimiter(NamedTuple):
    """Send *message* to the limiter; it answers with a grant or a refusal."""

    message: Acquire


class TellLimiter(NamedTuple):
    """Send *message* to the limiter."""

    message: Settle | Cancel | Reaffirm


class Hire(NamedTuple):
    """Spawn caller *number* of *provider* at the address *caller*."""

    provider: str
    number: int
    caller: str


class Dispatch(NamedTuple):
    """Send *perform* to *caller*."""

    caller: str
    perform: Perform


class AbortFlight(NamedTuple):
    """End the call *call* of *caller* from outside: it is blocked and cannot read its mail."""

    caller: str
    call: str


class Lost(NamedTuple):
    """*caller* did not come back from *call*, not even when aborted; another may be hired in its place."""

    caller: str
    call: str


class Dismiss(NamedTuple):
    """*caller* is one too many: stop it."""

    caller: str


class Later(NamedTuple):
    """Call ``on_timer(key, ...)`` after *seconds*; in place of an earlier timer with this key."""

    key: str
    seconds: float


class Unset(NamedTuple):
    """Forget the timer *key*."""

    key: str


class AnswerStep(NamedTuple):
    """Send *answer* to the recorder."""

    answer: Answer


Effect = AskLimiter | TellLimiter | Hire | Dispatch | AbortFlight | Lost | Dismiss | Later | Unset | AnswerStep

# --- state

Stage = Literal["new", "waiting", "ready", "flying", "resting"]

PLACE: dict[Stage, str] = {
    "new": "before the call was made",
    "waiting": "while the call waited for the rate limit",
    "ready": "while the call waited for a free caller",
    "flying": "during the call",
    "resting": "while the call waited to be tried again",
}


class Call:
    """A call under way: where it stands, and the sums over its attempts."""

    __slots__ = (
        "acquire",
        "amount",
        "attempts",
        "bad_responses",
        "call",
        "counts",
        "dialect",
        "execution_ms",
        "last",
        "model",
        "number",
        "pool",
        "queued",
        "request",
        "retries",
        "since",
        "stage",
        "usage",
        "why",
    )

    acquire: Acquire
    amount: Amount
    request: ChatRequest

    def __init__(self, call: ChatCall, model: ModelInfo, pool: CallerPool, why: str = "") -> None:
        self.call = call
        self.model = model
        self.why = why
        self.pool = pool
        self.stage: Stage = "new"
        self.dialect: Dialect | None = None
        self.number = 0
        self.attempts = self.retries = self.bad_responses = 0
        self.counts = True  # whether the next flight is an attempt, and not the same one asked differently
        self.since = self.queued = self.execution_ms = 0.0
        self.usage = Usage()
        self.last: CallFailure | None = None

    def queue_until(self, now: float) -> None:
        """Count the time since the stage began as waiting in a queue."""
        self.queued += now - self.since
        self.since = now

    def late(self, now: float) -> bool:
        """Tell whether the deadline has come."""
        deadline = self.call.deadline
        return deadline is not None and deadline <= now


class Flight:
    """An HTTP call under way; *call* is None once nobody waits for it."""

    __slots__ = ("aborted", "acquire", "call", "caller", "model", "pool", "request", "started")

    def __init__(self, call: Call, caller: str, now: float) -> None:
        self.call: Call | None = call
        self.caller = caller
        self.pool = call.pool
        self.acquire = call.acquire
        self.request = call.request
        self.model = call.model
        self.started = now
        self.aborted = False


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


def expected(call: ChatCall, request: ChatRequest, model: ModelInfo, estimate: Estimate) -> Amount:
    """Return what *call* is expected to use: the estimated prompt with its schema, and the most it may answer.

    Of money it is the most: a prompt never has more tokens than its bound, whatever the estimate says.
    """
    prompt = prompt_of(request)
    output = OUTPUT_UNKNOWN if call.max_tokens is None else call.max_tokens
    nano = None if model.price_in is None else model.most(bound_messages(prompt), output)
    return Amount(input_tokens=estimate(prompt), output_tokens=output, nano_usd=nano)


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
    return spent(flight, estimate) if outcome is Outcome.AMBIGUOUS else None


def answer(call: ChatCall, result: ChatResult) -> AnswerStep:
    """Return the effect that answers *call* with *result*."""
    return AnswerStep(
        Answer(to=call.reply_to, step=call.step, kind="chat", fingerprint=call.fingerprint, payload=result)
    )


def spent(flight: Flight, estimate: Estimate) -> Usage:
    """Return what a call may have used whose end is unknown: its prompt, as estimated (wire.md 4.4)."""
    tokens = flight.acquire.amount.input_tokens or estimate(prompt_of(flight.request))
    return Usage(input_tokens=tokens, exact=False)


def settlement(flight: Flight, result: Result, outcome: Outcome, usage: Usage | None) -> Settle:
    """Return the one settlement of the flight's lease."""
    lease = flight.acquire.lease
    if isinstance(result, CallFailure):
        return Settle(lease=lease, outcome=outcome, retry_after=result.retry_after)
    return Settle(lease=lease, outcome=outcome, usage=usage, nano_usd=flight.model.cost(usage or Usage()) or 0)
