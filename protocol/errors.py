"""The taxonomy of what can go wrong, and what a caller may do about each.

Every failure in Troupe is one of the kinds below. A kind says which :class:`Retry` class it falls in, and the one retry
layer (``protocol/gateway.py``) reads nothing else. Sources: the error tables of the OpenAI and Anthropic references.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.messages import TaskResult


class Retry(StrEnum):
    """What the retry layer does with a failure."""

    RETRYABLE = "retryable"  # nothing was done for us, or it may be done again: back off and retry
    THROTTLED = "throttled"  # the provider asks everybody on this key to wait
    AMBIGUOUS = "ambiguous"  # it may have been done and billed: retry, and keep the reservation as spent
    FATAL = "fatal"  # the same request can never succeed


class ErrorKind(StrEnum):
    """The stable word for one way to fail; stands as ``error_kind`` in every TaskResult."""

    # the provider, or the way to it
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota_exhausted"
    AUTHENTICATION = "authentication"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    SERVER_ERROR = "server_error"
    PROVIDER_OVERLOADED = "provider_overloaded"
    BAD_RESPONSE = "bad_response"
    REDIRECT = "redirect"
    CONTENT_FILTER = "content_filter"
    TRUNCATED = "truncated"
    # what came back, or what was asked
    INVALID_OUTPUT = "invalid_output"
    TOO_LARGE = "too_large"
    # the limiter, the budget and the breaker
    NEVER_FITS = "never_fits"
    BUDGET = "budget"
    DEADLINE = "deadline"
    CIRCUIT_OPEN = "circuit_open"
    # the actor system
    NO_SUCH_ROLE = "no_such_role"
    CIRCLE = "circle"
    OVERLOADED = "overloaded"
    HANDLER_ERROR = "handler_error"
    FOREIGN_AWAIT = "foreign_await"
    STUCK = "stuck"
    POISON = "poison"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    NON_DETERMINISM = "non_determinism"
    INTERNAL = "internal"

    @property
    def retry(self) -> Retry:
        """The class that decides whether a failure of this kind is tried again."""
        return _RETRY.get(self, Retry.FATAL)


_RETRY = {
    ErrorKind.CONNECTION: Retry.RETRYABLE,
    ErrorKind.SERVER_ERROR: Retry.RETRYABLE,
    ErrorKind.PROVIDER_OVERLOADED: Retry.RETRYABLE,
    ErrorKind.BAD_RESPONSE: Retry.RETRYABLE,
    ErrorKind.RATE_LIMITED: Retry.THROTTLED,
    ErrorKind.TIMEOUT: Retry.AMBIGUOUS,
}


class TroupeError(Exception):
    """Base of every exception that Troupe raises on purpose; ``page`` is its heading in ``docs/errors.md``."""

    page = "usage"

    def __init__(self, text: str, *, page: str | None = None) -> None:
        super().__init__(text)
        if page is not None:
            self.page = page


class ConfigError(TroupeError):
    """The configuration is wrong; the text names the file, the key and what was expected."""

    page = "configuration"


class TaskFailed(TroupeError):  # noqa: N818 (news, not a fault of the program: it reads as `except TaskFailed`)
    """An awaited step failed; :attr:`result` is the whole failed TaskResult."""

    def __init__(self, result: TaskResult) -> None:
        text = f"{result.agent or 'task'}: {result.error_kind}: {result.error}"
        super().__init__(text, page=str(result.error_kind or ErrorKind.INTERNAL))
        self.result = result


class NonDeterminismError(TroupeError):
    """On resume the code asked for something else than what was recorded; the text names both."""

    page = ErrorKind.NON_DETERMINISM.value


class ForeignAwaitError(TroupeError):
    """A coroutine awaited something that is no step; the text names the three right ways."""

    page = ErrorKind.FOREIGN_AWAIT.value


class Cancelled(BaseException):
    """The run was cancelled. A ``BaseException``, so that ``except Exception`` does not swallow it."""
