"""Error bodies of every shape, as one :class:`~protocol.chat.CallFailure`. Source: wire.md 3.1 to 3.3.

Codes are read before messages, since messages change. The table says what a status means when nothing else does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from protocol.chat import CallFailure
from protocol.errors import ErrorKind
from protocol.wire.hints import asked_wait, wait_hint
from protocol.wire.text import one_line, read_json, word

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND_OF_STATUS: dict[int, ErrorKind] = {
    401: ErrorKind.AUTHENTICATION,
    402: ErrorKind.QUOTA,
    403: ErrorKind.AUTHENTICATION,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.SERVER_ERROR,
    409: ErrorKind.SERVER_ERROR,
    413: ErrorKind.TOO_LARGE,
    425: ErrorKind.SERVER_ERROR,
    429: ErrorKind.RATE_LIMITED,
    498: ErrorKind.PROVIDER_OVERLOADED,
    501: ErrorKind.BAD_REQUEST,
    503: ErrorKind.PROVIDER_OVERLOADED,
    505: ErrorKind.BAD_REQUEST,
    529: ErrorKind.PROVIDER_OVERLOADED,
}
"""What a status means by itself; the others by hundreds: 3xx redirect, 4xx bad request, 5xx server error."""

KIND_OF_CODE: dict[str, ErrorKind] = {
    **dict.fromkeys(
        (
            "insufficient_quota",
            "insufficient_balance",
            "insufficient_credits",
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "enforced_spend_limit_reached",
            "contract_spend_limit_reached",
            "storage_quota_exceeded",
            "organization_on_hold",
            "billing_error",
            "billing_hard_limit_reached",
            "budget_exceeded",
        ),
        ErrorKind.QUOTA,
    ),
    "in_flight_budget_exhausted": ErrorKind.RATE_LIMITED,
    "context_length_exceeded": ErrorKind.CONTEXT_LENGTH,
    "exceed_context_size_error": ErrorKind.CONTEXT_LENGTH,
    "content_filter": ErrorKind.CONTENT_FILTER,
    "content_policy_violation": ErrorKind.CONTENT_FILTER,
}
"""Codes that say more than any status."""

STATUS_OF_CODE: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "throttling_error": 429,
    "slow_down": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_error": 500,
    "timeout_error": 504,
    "unavailable_error": 503,
    "service_unavailable_error": 503,
    "server_is_overloaded": 503,
    "overloaded_error": 529,
}
"""The status that an error inside a 200 would have had."""

_CONTEXT = re.compile(
    r"context[ _](?:length|size|window)|contextwindow|prompt is too long|reduce the length", re.IGNORECASE
)
_LIMIT = re.compile(r"limit:? ?([0-9,]{1,15})\b", re.IGNORECASE)
_REQUESTED = re.compile(r"requested:? ?([0-9,]{1,15})\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,200})", re.IGNORECASE)
_PLAIN_ID = re.compile(r"(?:req|chatcmpl|gen)?[-_]?[A-Fa-f0-9-]{1,100}")
_FIELDS = re.compile(
    r"(?P<response_format>response.?format|json.?schema|json.?object|json mode|structured output|grammar)"
    r"|(?P<temperature>temperature)|(?P<max_completion_tokens>max_completion_tokens)|(?P<max_tokens>max_tokens)"
    r"|(?P<seed>\bseed\b)",
    re.IGNORECASE,
)


class Complaint(Struct, frozen=True, kw_only=True):
    """What an error body says, whatever its shape. ``codes``: its codes and types in lower case, best first."""

    codes: tuple[str, ...] = ()
    message: str = ""
    param: str = ""
    request_id: str = ""
    headers: dict[str, str] = {}


def read_failure(status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallFailure:
    """Return the failure that an answer with *status* outside 2xx is. *now* is in seconds since the epoch."""
    complaint = read_complaint(read_json(body)) or Complaint(message=_plain_text(body))
    return failure_of(status, headers, complaint, body, now)


def inner_failure(
    status: int, headers: Mapping[str, str], complaint: Complaint, body: bytes, now: float
) -> CallFailure:
    """Return the failure that an error inside an answer with a good *status* is; its codes tell the real status.

    Without a telling code it is a bad response, which is retryable.
    """
    return failure_of(_virtual_status(complaint) or status, headers, complaint, body, now)


def bad_response(status: int, headers: Mapping[str, str], message: str, code: str | None = None) -> CallFailure:
    """Return the failure of an answer that makes no sense although its status is good."""
    return CallFailure(
        kind=ErrorKind.BAD_RESPONSE,
        message=one_line(message),
        status=status,
        code=code,
        should_retry=_should_retry(headers),
        request_id=request_id(headers),
    )


def failure_of(status: int, headers: Mapping[str, str], complaint: Complaint, body: bytes, now: float) -> CallFailure:
    """Return *complaint* under *status* as a failure, with the wait that headers or text ask for."""
    kind = kind_of(status, complaint)
    message = one_line(complaint.message)
    known = {**complaint.headers, **headers}
    hint = wait_hint if kind is ErrorKind.RATE_LIMITED else asked_wait
    said = f"{complaint.message[:4000]} {body[:8000].decode('utf-8', 'replace')}"
    return CallFailure(
        kind=kind,
        message=message or f"HTTP {status} without a message",
        status=status,
        code=next((code for code in complaint.codes if not code.isdigit()), next(iter(complaint.codes), None)),
        param=_param(kind, complaint),
        retry_after=hint(known, said, now),
        should_retry=_should_retry(headers),
        request_id=request_id(headers) or complaint.request_id or None,
    )


def kind_of(status: int, complaint: Complaint) -> ErrorKind:
    """Decide what *complaint* under *status* is (wire.md 3.1): by telling codes, telling messages, then the status."""
    for code in complaint.codes:
        if code in KIND_OF_CODE:
            return KIND_OF_CODE[code]
    if status in {413, 429} and _never_fits(complaint.message):
        return ErrorKind.NEVER_FITS
    if status in {400, 413, 422} and _CONTEXT.search(complaint.message):
        return ErrorKind.CONTEXT_LENGTH
    if status in KIND_OF_STATUS:
        return KIND_OF_STATUS[status]
    hundreds = {3: ErrorKind.REDIRECT, 4: ErrorKind.BAD_REQUEST, 5: ErrorKind.SERVER_ERROR}
    return hundreds.get(status // 100, ErrorKind.BAD_RESPONSE)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's name for this call, if it gave one."""
    for name in ("x-request-id", "request-id", "apim-request-id"):
        value = headers.get(name)
        if value:
            return value if _PLAIN_ID.fullmatch(value) else one_line(value, 100) or None
    return None


def read_complaint(document: Any) -> Complaint | None:
    """Return what the error in *document* says; None when there is none in it.

    Knows ``{error: {...}}``, ``{error: "text"}``, the flat error of older vLLM, ``{detail}``, ``{message}``,
    ``{errors}`` and the same inside a list.
    """
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict) and error:
        return _structured(error, document)
    if isinstance(error, str) and error:
        return Complaint(message=error, codes=_codes(document), request_id=word(document.get("request_id")))
    if isinstance(document.get("message"), str):
        return _structured(document, document)
    details = document.get("detail", document.get("errors"))
    return None if details is None else Complaint(message=_joined(details), param=_located(details))


def _structured(error: dict[str, Any], document: dict[str, Any]) -> Complaint:
    metadata = _dict(error.get("metadata"))
    message, raw = error.get("message"), metadata.get("raw")
    texts = [text for text in (message, raw) if isinstance(text, str) and text]
    headers = {k.lower(): v for k, v in _dict(metadata.get("headers")).items() if isinstance(v, str)}
    return Complaint(
        codes=_codes(_dict(error.get("details")), metadata, error, _dict(error.get("innererror"))),
        message=": ".join(text[:2000] for text in texts) or _joined(message),
        param=word(error.get("param")),
        request_id=word(document.get("request_id")),
        headers=headers,
    )


def _codes(*places: dict[str, Any]) -> tuple[str, ...]:
    found = (word(place.get(key)).lower() for place in places for key in ("error_code", "error_type", "code", "type"))
    return tuple(dict.fromkeys(code for code in found if code))


def _joined(details: Any) -> str:
    """Return the messages of FastAPI's ``detail`` or a list of errors as one text."""
    if isinstance(details, list):
        return "; ".join(filter(None, (_joined(detail) for detail in details[:10] if not isinstance(detail, list))))
    if isinstance(details, dict):
        text = details.get("msg", details.get("message"))
        where = details.get("loc")
        path = ".".join(filter(None, map(word, where[:10]))) if isinstance(where, list) else ""
        return ": ".join(filter(None, (path, text[:2000] if isinstance(text, str) else "")))
    return details[:2000] if isinstance(details, str) else ""


def _located(details: Any) -> str:
    """Return the request field that FastAPI's ``detail`` points at."""
    for detail in details if isinstance(details, list) else ():
        where = detail.get("loc") if isinstance(detail, dict) else None
        if isinstance(where, list) and len(where) > 1 and where[0] == "body":
            return word(where[1])
    return ""


def _param(kind: ErrorKind, complaint: Complaint) -> str | None:
    """Return the request field that was objected to: one whose refusal teaches something, if any is named."""
    known = _FIELDS.search(complaint.param)
    if known is None and kind is ErrorKind.BAD_REQUEST:
        known = _FIELDS.search(complaint.message[:4000])
    return (known.lastgroup if known else complaint.param) or None


def _never_fits(message: str) -> bool:
    limit, requested = _LIMIT.search(message), _REQUESTED.search(message)
    if limit is None or requested is None:
        return False
    allowed, wanted = (int(match[1].replace(",", "") or 0) for match in (limit, requested))
    return wanted > allowed


def _virtual_status(complaint: Complaint) -> int | None:
    for code in complaint.codes:
        if code in STATUS_OF_CODE:
            return STATUS_OF_CODE[code]
        if len(code) == 3 and code.isdecimal() and 400 <= int(code) <= 599:
            return int(code)
    return None


def _should_retry(headers: Mapping[str, str]) -> bool | None:
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _plain_text(body: bytes) -> str:
    text = body[:4000].decode("utf-8", "replace")
    title = _TITLE.search(text)
    return title[1] if title else text


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
