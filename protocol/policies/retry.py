"""What a failed call means: for the lease it was made under, and for whether it is tried again.

The one retry layer reads the class of the failure's kind, and the provider's own word (``x-should-retry``) before it.
Source: the decision table of wire.md 3.1; attempts are bounded by a count, by the deadline and by patience.
"""

from __future__ import annotations

from protocol.chat import CallFailure, ChatReply
from protocol.errors import ErrorKind, Retry
from protocol.outcome import AMBIGUOUS, OVERLOADED, REJECTED, SUCCESS, THROTTLED, UNSENT, Outcome

PATIENCE = 120.0
"""A provider that asks for a longer wait, in seconds, is not waited for."""
MOST_THROTTLED = 10
"""How often a call waits out a 429: these are no retries, as the limiter lets it go again, one probe after another."""
MOST_BAD_RESPONSES = 1
"""How often an answer that makes no sense is asked for again: it was probably paid."""

_OUTCOMES = {
    ErrorKind.RATE_LIMITED: THROTTLED,
    ErrorKind.PROVIDER_OVERLOADED: OVERLOADED,
    ErrorKind.TIMEOUT: AMBIGUOUS,
    ErrorKind.BAD_RESPONSE: AMBIGUOUS,
}
_REFUSED_FROM = 300
"""From this status on a call was not answered."""


def outcome_of(result: ChatReply | CallFailure) -> Outcome:
    """Return what *result* means for the lease."""
    if isinstance(result, ChatReply):
        return SUCCESS
    if not result.sent:
        return UNSENT
    known = _OUTCOMES.get(result.kind)
    if known is not None:
        return known
    return REJECTED if (result.status or 0) >= _REFUSED_FROM else AMBIGUOUS


def waits_out(failure: CallFailure, throttled: int, max_retries: int) -> bool:
    """Tell whether a call that was turned away with a 429, the *throttled* before, goes back into the limiter's line.

    A call that must not be tried again at all does not, nor does one that is asked to wait for too long.
    """
    patient = (failure.retry_after or 0.0) <= PATIENCE and failure.should_retry is not False
    return patient and max_retries > 0 and throttled < MOST_THROTTLED


def may_retry(failure: CallFailure, retries: int, max_retries: int, bad_responses: int) -> bool:
    """Tell whether *failure* is tried again after *retries* retries, *bad_responses* of them for bad responses."""
    if retries >= max_retries or (failure.retry_after or 0.0) > PATIENCE:
        return False
    if failure.kind is ErrorKind.BAD_RESPONSE and bad_responses >= MOST_BAD_RESPONSES:
        return False
    if failure.should_retry is not None:
        return failure.should_retry
    return failure.kind.retry is not Retry.FATAL


def verdict(reply: ChatReply, *, structured: bool) -> CallFailure | None:
    """Return why *reply* is no success although it came: cut in half, empty, or filtered. None when it is one."""
    if reply.finish_reason == "length" and (structured or not reply.text.strip()):
        what = "the structured output" if structured else "the reply"
        text = f"{what} was cut at the output token limit after {len(reply.text)} characters; raise max_tokens"
        return CallFailure(kind=ErrorKind.TRUNCATED, message=text, status=200, request_id=reply.request_id)
    if reply.finish_reason == "content_filter":
        text = "the provider's content filter stopped the reply"
        return CallFailure(kind=ErrorKind.CONTENT_FILTER, message=text, status=200, request_id=reply.request_id)
    return None
