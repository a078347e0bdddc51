"""What a scripted model may answer beside a text: each as the real codec reads it from a provider's bytes.

``from actors.testing import rate_limited, timeout, ...``. A retry after ``rate_limited(retry_after=7)`` is therefore
the retry that production makes after a 429 with ``retry-after: 7``.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from protocol.chat import CallFailure, ChatReply, Usage
from protocol.errors import ErrorKind
from protocol.wire.openai import decode_response

if TYPE_CHECKING:
    from collections.abc import Mapping

Answer = str | ChatReply | CallFailure | Struct
"""A text; a struct, which is sent as JSON; a whole reply; a failure; or a :class:`Slow` one of these."""


class Slow(Struct, frozen=True, kw_only=True):
    """*answer*, but *seconds* after it was asked for, whatever the model's latency is."""

    answer: Answer
    seconds: float


def slow(answer: Answer, seconds: float) -> Slow:
    """Answer *answer* after *seconds* of virtual time; past the attempt's timeout nobody hears it."""
    return Slow(answer=answer, seconds=seconds)


def timeout() -> Slow:
    """Say nothing until the caller gives up, at its role's ``timeout`` (seconds an attempt)."""
    return Slow(answer="", seconds=inf)


def rate_limited(retry_after: float | None = None, message: str = "too many requests") -> CallFailure:
    """Answer 429, with a ``retry-after`` header of so many seconds or without one."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return http_error(429, message, code="rate_limit_exceeded", headers=headers)


def server_error(status: int = 500, message: str = "the server failed") -> CallFailure:
    """Answer with a 5xx; tried again."""
    return http_error(status, message)


def overloaded(message: str = "the server is overloaded") -> CallFailure:
    """Answer 503; tried again, and the provider counts as overloaded."""
    return http_error(503, message)


def bad_request(message: str = "the request makes no sense", *, param: str | None = None) -> CallFailure:
    """Answer 400, which is never tried again; *param* names the field that is objected to."""
    return http_error(400, message, param=param)


def unauthorized(message: str = "the API key is wrong") -> CallFailure:
    """Answer 401, which is never tried again."""
    return http_error(401, message, code="invalid_api_key")


def quota_exhausted(message: str = "you have no credit left") -> CallFailure:
    """Answer 429 with the code that says that waiting will not help; never tried again."""
    return http_error(429, message, code="insufficient_quota")


def malformed(body: str = "<html>502 Bad Gateway</html>") -> CallFailure:
    """Answer 200 with a *body* that is no completion; tried again once."""
    answer = http_answer(200, body.encode())
    if isinstance(answer, ChatReply):
        raise ValueError(f"this body is a whole reply: {body[:80]!r}")  # noqa: TRY004 (the type is right)
    return answer


def connection_lost(message: str = "the connection was reset", *, sent: bool = True) -> CallFailure:
    """Break the connection; *sent* False: before anything was sent. Tried again."""
    return CallFailure(kind=ErrorKind.CONNECTION, message=message, sent=sent)


def truncated(text: str) -> ChatReply:
    """Answer *text*, cut at ``max_tokens``."""
    return ChatReply(text=text, finish_reason="length")


def filtered(text: str = "") -> ChatReply:
    """Answer *text*, stopped by the provider's content filter; a failure of kind ``content_filter``."""
    return ChatReply(text=text, finish_reason="content_filter")


def reply(text: str, *, input_tokens: int, output_tokens: int) -> ChatReply:
    """Answer *text* with the token counts that the provider bills; of a mere text the words are counted."""
    return ChatReply(text=text, usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens))


def http_error(
    status: int,
    message: str = "",
    *,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> CallFailure:
    """Answer *status* with an error body as OpenAI-compatible providers send it; header names in lower case."""
    if 200 <= status <= 299:
        raise ValueError(f"{status} is no error; see http_answer()")
    body = msgspec.json.encode({"error": {"message": message, "code": code, "param": param}})
    answer = http_answer(status, body, headers=headers)
    assert isinstance(answer, CallFailure)
    return answer


def http_answer(status: int, body: bytes, *, headers: Mapping[str, str] | None = None) -> ChatReply | CallFailure:
    """Answer with these bytes; header names in lower case."""
    return decode_response(status, dict(headers or {}), body, 0.0)


def as_answer(said: Any) -> ChatReply | CallFailure:
    """Return what a provider's answer *said* is. Raises ``TypeError`` for what can be none."""
    if isinstance(said, ChatReply | CallFailure):
        return said
    if isinstance(said, str):
        return ChatReply(text=said)
    if isinstance(said, Struct):
        return ChatReply(text=msgspec.json.encode(said).decode())
    raise TypeError(f"a scripted model answers a str, a struct, a ChatReply or a failure, not {said!r}")
