"""What the system's own actors say to each other; one vocabulary per actor.

Requests are imperatives or nouns, news is past tense. Addresses stand in messages, never refs, so that every message
can be written down, replayed and sent to another machine. Seconds are floats, tokens ints, money integer nano-dollars.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw, Struct

from protocol.chat import CallFailure, ChatMessage, ChatReply, ChatRequest, Occasion, OutputSchema, Usage
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage, Priority, TaskResult, WorkflowResult
from protocol.outcome import Outcome


class Local(Struct, frozen=True, kw_only=True):
    """Base of what holds a function or a factory, and so never leaves its process."""


# --- life and death: the control lane ---------------------------------------------------------------------------------


class Control(Struct, frozen=True, kw_only=True):
    """Base of what travels in the control lane, before any data."""


class Stop(Control, frozen=True, kw_only=True, tag=True):
    """Stop after what was taken already; mail that is left becomes dead letters with *reason*."""

    reason: str = "stopped"


class Restart(Control, frozen=True, kw_only=True, tag=True):
    """Go on with a new instance that keeps address, mailbox and mail."""


class ChildFailed(Control, frozen=True, kw_only=True, tag=True):
    """An actor's own machinery failed while it handled *message*; it is suspended until told to restart or stop."""

    address: str
    kind: ErrorKind
    error: str
    message: str = ""
    traceback: str = ""


class ChildRestarted(Control, frozen=True, kw_only=True, tag=True):
    """A new instance plays at *address*; what the old one held in attributes is gone."""

    address: str
    restarts: int = 0


class ChildStopped(Control, frozen=True, kw_only=True, tag=True):
    """An actor is gone for good; *failed* tells a failure from an orderly end."""

    address: str
    reason: str
    failed: bool = False


# --- steps: every awaited answer passes the recorder ------------------------------------------------------------------


class Returned(Struct, frozen=True, kw_only=True, tag=True):
    """What a blocking function gave back: a value encoded as JSON, or an error."""

    value: Raw = Raw(b"null")
    error: str | None = None
    error_kind: ErrorKind | None = None


class Elapsed(Struct, frozen=True, kw_only=True, tag=True):
    """A pause is over."""


class CancelRequested(Struct, frozen=True, kw_only=True, tag=True):
    """The run was cancelled at this point of its record."""

    reason: str = "cancelled"


class ChatResult(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """How a model call ended after all its attempts: exactly one of *reply* and *failure* is set.

    ``execution_time_ms`` sums the HTTP time of all attempts, ``queue_time_ms`` what was spent waiting for grants and
    callers. ``cost`` is in nano-dollars, None when the price is unknown.

    ``served``: the answer took no call of its own, has no tokens and costs nothing; ``saved_by_serving`` is what it had
    cost. ``saved_by_routing`` is how much more the tokens would cost at the strongest model, where one was chosen.
    """

    reply: ChatReply | None = None
    failure: CallFailure | None = None
    model: str | None = None
    why_model: str | None = None
    usage: Usage = Usage()
    cost: int | None = None
    attempts: int = 0
    execution_time_ms: float = 0.0
    queue_time_ms: float = 0.0
    served: Literal["", "cache", "shared"] = ""
    saved_by_routing: int | None = 0
    saved_by_serving: int | None = 0


Payload = TaskResult | ChatResult | Returned | Elapsed | CancelRequested
"""What an awaited step can be answered with."""


class Answer(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The answer to step *step* for the actor at *to*; recorded before it is delivered.

    ``kind`` and ``fingerprint`` say what was asked, so that a resumed run can compare. ``at`` is in seconds since the
    epoch, stamped by the recorder.
    """

    to: str
    step: str
    kind: str
    fingerprint: str
    payload: Payload
    at: float = 0.0


class Recall(Struct, frozen=True, kw_only=True, tag=True):
    """Give back what was recorded inside the conversation *conversation* (a step id or a correlation id)."""

    conversation: str
    reply_to: str


class Recalled(Struct, frozen=True, kw_only=True, tag=True):
    """The recorded answers of one conversation, in the order they were recorded.

    ``answered`` tells that nothing is left to do: the conversation has been answered, or its run is over. ``began`` is
    when the record of a run was first asked for, in seconds since the epoch; 0 for a conversation inside a run.
    """

    conversation: str
    answers: tuple[Answer, ...] = ()
    answered: bool = False
    began: float = 0.0


class Forget(Struct, frozen=True, kw_only=True, tag=True):
    """The run, or the conversation of a message that nobody awaits, is over; its record may go from memory."""

    run: str


# --- supervisor -------------------------------------------------------------------------------------------------------


class StartRun(Struct, frozen=True, kw_only=True, tag=True):
    """Start the workflow registered as *workflow* for *run*.

    ``timeout`` in seconds, ``max_cost`` in nano-dollars, None for no bound; ``to`` sends the task straight to a role.
    """

    run: str
    task: str
    workflow: str
    to: str | None = None
    priority: int = Priority.NORMAL
    flow: str = ""
    timeout: float | None = None
    max_cost: int | None = None
    reply_to: str


class CancelRun(Struct, frozen=True, kw_only=True, tag=True):
    """Cancel the run; it ends with the drafts that exist."""

    run: str
    reason: str = "cancelled"
    kind: ErrorKind = ErrorKind.CANCELLED


class RunEnded(Struct, frozen=True, kw_only=True, tag=True):
    """A run is over."""

    run: str
    result: WorkflowResult


class Reaffirmed(Struct, frozen=True, kw_only=True, tag=True):
    """An agent names the tasks it holds, so that a restarted supervisor can rebuild its books."""

    agent: str
    role: str
    steps: tuple[str, ...]


class WhoHolds(Struct, frozen=True, kw_only=True, tag=True):
    """The supervisor was restarted: name the tasks you hold, to the address *reply_to*.

    It comes behind the tasks that were sent before the restart, so that none of these is left out.
    """

    reply_to: str


class Progress(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """One thing that happened in a run, for whoever watches: a dotted event name and its facts."""

    run: str
    event: str
    at: float = 0.0
    facts: dict[str, Any] = {}


class TaskSettled(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """An agent has answered one task: its load goes down by one."""

    agent: str
    step: str


class CancelStep(Struct, frozen=True, kw_only=True, tag=True):
    """Nobody waits for *step* any longer; stop working for it. Sent along the way the request went."""

    step: str


class DeadLetter(Struct, frozen=True, kw_only=True, tag=True):
    """A message nobody handled, and why."""

    to: str
    reason: str
    message: Any


# --- limiter ----------------------------------------------------------------------------------------------------------


class Amount(Struct, frozen=True, kw_only=True, gc=False):
    """What one call is expected to use of each resource; of money the most it can cost, None: nobody knows."""

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int | None = 0


class Acquire(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Ask for a lease, all or nothing.

    ``lease`` is the step id + ``#`` + attempt. ``deadline`` is monotonic seconds.
    """

    lease: str
    domain: str
    amount: Amount
    priority: int = Priority.NORMAL
    flow: str = ""
    deadline: float | None = None
    holder: str
    reply_to: str


class Granted(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The lease is held until it is settled. ``epoch`` is the domain's throttle epoch at the grant."""

    lease: str
    epoch: int = 0
    tokens: Amount = Amount()


class Refused(Struct, frozen=True, kw_only=True, tag=True):
    """No lease. ``kind`` says why in the taxonomy's words; ``retry_after`` (seconds) is None when it can never fit."""

    lease: str
    kind: ErrorKind
    reason: str
    retry_after: float | None = None


class Settle(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Give the lease back, exactly once, with what was really used.

    ``retry_after`` in seconds, as the provider said; ``headers`` are its rate-limit headers, with its ``date``.
    ``kind`` is how the call failed, None where it did not, or where nobody waited for it any more.
    """

    lease: str
    usage: Usage | None = None
    outcome: Outcome = Outcome.SUCCESS
    retry_after: float | None = None
    nano_usd: int = 0
    headers: dict[str, str] = {}
    kind: ErrorKind | None = None


class Cancel(Struct, frozen=True, kw_only=True, tag=True):
    """The asker has gone: forget the waiting request, or return the lease unused."""

    lease: str


class Reaffirm(Struct, frozen=True, kw_only=True, tag=True):
    """A holder names the leases it holds, so that a restarted limiter can rebuild its state.

    ``replaced``: it is a new instance itself; what an earlier one held or waited for is nobody's any more.
    """

    holder: str
    leases: tuple[Acquire, ...]
    replaced: bool = False


class Allow(Struct, frozen=True, kw_only=True, tag=True):
    """*run* may cost so many nano-dollars and have so many calls under way (None: no bound) until :class:`Forget`."""

    run: str
    nano_usd: int | None = None
    calls: int | None = None


# --- gateway and callers ----------------------------------------------------------------------------------------------


class ChatCall(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A model call that an agent awaits as step *step*; answered by an :class:`Answer` with a :class:`ChatResult`.

    ``model`` is a key of the configuration, or ``auto``. ``timeout`` is seconds per attempt, ``deadline`` monotonic
    seconds for all of them. ``again``: an earlier instance of the agent may have asked for it already. With
    ``coalesce`` it may wait for an identical call, with ``cache_seconds`` have an answer that is no older than that.
    """

    step: str
    fingerprint: str
    reply_to: str
    role: str
    model: str = "auto"
    messages: tuple[ChatMessage, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    schema: OutputSchema | None = None
    timeout: float = 30.0
    max_retries: int = 3
    deadline: float | None = None
    priority: int = Priority.NORMAL
    flow: str = ""
    again: bool = False
    occasion: Occasion = Occasion()
    coalesce: bool = False
    cache_seconds: float = 0.0


class Graded(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """What became of the work of *task*: a verdict, or with *fact* what tests and the like say.

    A call that failed on its way is never graded: it says nothing about its model.
    """

    task: str
    good: bool
    fact: bool = False


class Perform(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Make this one HTTP call now. ``call`` is the lease id; ``timeout`` the total seconds of the attempt."""

    call: str
    request: ChatRequest
    timeout: float
    reply_to: str


class Performed(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """One HTTP call is over. ``elapsed_ms`` is its wall time; ``headers`` as in :class:`Settle`, in lower case."""

    call: str
    caller: str
    outcome: ChatReply | CallFailure
    elapsed_ms: float
    headers: dict[str, str] = {}


def is_request(message: object) -> bool:
    """Tell a new request, which a full mailbox may refuse, from what it must always take.

    One that is asked again is not new: it may be under way there.
    """
    return isinstance(message, AgentMessage) and message.attempt == 0
