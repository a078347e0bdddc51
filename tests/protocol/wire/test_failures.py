"""Error bodies of every shape, and what each failure is."""

from __future__ import annotations

import json

import pytest

from protocol.errors import ErrorKind, Retry
from protocol.wire.failures import KIND_OF_STATUS, read_failure

NOW = 1_800_000_000.0


def fail(status, document=None, headers=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_failure(status, headers or {}, body, NOW)


def error(**fields):
    return {"error": {"message": "no", "type": None, "param": None, "code": None} | fields}


@pytest.mark.parametrize(
    ("status", "retry"),
    [(s, Retry.FATAL) for s in (301, 307, 400, 401, 402, 403, 404, 405, 413, 415, 422, 451, 501, 505)]
    + [(s, Retry.RETRYABLE) for s in (408, 409, 425, 498, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)]
    + [(429, Retry.THROTTLED), (0, Retry.RETRYABLE), (-1, Retry.RETRYABLE), (777, Retry.RETRYABLE)],
)
def test_a_status_alone_decides_as_in_the_table(status, retry):
    assert fail(status, b"").kind.retry is retry


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ErrorKind.AUTHENTICATION),
        (402, ErrorKind.QUOTA),
        (404, ErrorKind.NOT_FOUND),
        (413, ErrorKind.TOO_LARGE),
        (503, ErrorKind.PROVIDER_OVERLOADED),
        (529, ErrorKind.PROVIDER_OVERLOADED),
        (307, ErrorKind.REDIRECT),
    ],
)
def test_a_status_has_its_word(status, kind):
    assert fail(status, error()).kind is kind


@pytest.mark.parametrize(
    ("document", "message", "code"),
    [
        (error(message="m", type="invalid_request_error", code=None), "m", "invalid_request_error"),
        (error(message="m", type="requests", code="rate_limit_exceeded"), "m", "rate_limit_exceeded"),
        ({"error": {"code": "429", "message": "m"}}, "m", "429"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, "m", "overloaded_error"),
        (error(message="m", code=429, metadata={"raw": "upstream says", "error_type": "rl"}), "m: upstream says", "rl"),
        (error(message="m", type="throttling_error", code="429"), "m", "throttling_error"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "m", "badrequesterror"),
        ({"detail": "m"}, "m", None),
        (
            {"detail": [{"loc": ["body", "stop", 0], "msg": "bad", "type": "t"}, {"msg": "worse"}]},
            "body.stop.0: bad; worse",
            None,
        ),
        ({"message": "m"}, "m", None),
        ({"error": "m"}, "m", None),
        ({"error": "m", "code": "c"}, "m", "c"),
        ({"errors": ["m", {"message": "n"}]}, "m; n", None),
        ([{"error": {"code": 400, "message": "m"}}], "m", "400"),
        (error(message=None), "HTTP 400 without a message", None),
        (error(message=[{"message": "deep"}]), "deep", None),
        ({"error": {}}, '{"error": {}}', None),
        ([], "[]", None),
        (b"", "HTTP 400 without a message", None),
        (b"plain\r\n\x00 words", "plain words", None),
        (b"<html><head><title>502 Bad Gateway</title></head>", "502 Bad Gateway", None),
        (b"<html><p>oops", "<html><p>oops", None),
        (b"[" * 5000, "[" * 300, None),
    ],
)
def test_every_shape_gives_message_and_code(document, message, code):
    failure = fail(400, document)
    assert (failure.message, failure.code) == (message, code)


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (429, error(code="insufficient_quota"), ErrorKind.QUOTA),
        (429, error(type="insufficient_quota", code=None), ErrorKind.QUOTA),
        (429, error(code="credit_balance_exhausted"), ErrorKind.QUOTA),
        (400, error(type="budget_exceeded", code="400"), ErrorKind.QUOTA),
        (429, error(type="rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), ErrorKind.QUOTA),
        (402, error(code="in_flight_budget_exhausted"), ErrorKind.RATE_LIMITED),
        (429, error(message="Request too large on TPM: Limit 30000, Requested 30601."), ErrorKind.NEVER_FITS),
        (413, error(message="Request too large: Limit 6,000, Requested 9,001"), ErrorKind.NEVER_FITS),
        (429, error(message="Rate limit on TPM: Limit 30000, Used 29000, Requested 1500."), ErrorKind.RATE_LIMITED),
        (429, error(message="Limit ,, Requested ,"), ErrorKind.RATE_LIMITED),
        (429, error(message="maximum context length"), ErrorKind.RATE_LIMITED),
        (400, error(code="context_length_exceeded"), ErrorKind.CONTEXT_LENGTH),
        (400, error(type="exceed_context_size_error", code=400), ErrorKind.CONTEXT_LENGTH),
        (400, error(message="This model's maximum context length is 4096 tokens."), ErrorKind.CONTEXT_LENGTH),
        (400, error(message="prompt is too long: 210000 tokens > 200000 maximum"), ErrorKind.CONTEXT_LENGTH),
        (400, error(message="litellm.ContextWindowExceededError: ..."), ErrorKind.CONTEXT_LENGTH),
        (400, error(code="content_filter", innererror={"code": "Other"}), ErrorKind.CONTENT_FILTER),
        (400, error(message="bad"), ErrorKind.BAD_REQUEST),
    ],
)
def test_codes_and_telling_messages_say_more_than_the_status(status, document, kind):
    assert fail(status, document).kind is kind


@pytest.mark.parametrize(
    ("document", "param"),
    [
        (error(param="response_format"), "response_format"),
        (error(param="response_format.json_schema.strict"), "response_format"),
        (error(message="This response_format type is unavailable now"), "response_format"),
        (error(message="json_schema is not supported by this model", param="model"), "response_format"),
        (error(message="Failed to parse grammar"), "response_format"),
        (error(message="Invalid schema for response_format 'P': 'temperature' is missing"), "response_format"),
        (error(param="temperature"), "temperature"),
        (error(message="Unsupported value: 'temperature' does not support 0.2"), "temperature"),
        (error(param="max_tokens", code="unsupported_parameter"), "max_tokens"),
        (error(message="Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."), "max_tokens"),
        (error(message="Unrecognized request argument: max_completion_tokens"), "max_completion_tokens"),
        ({"detail": [{"loc": ["body", "response_format", "type"], "msg": "no"}]}, "response_format"),
        ({"detail": [{"loc": ["body", "frequency"], "msg": "no"}]}, "frequency"),
        ({"detail": [{"loc": "body", "msg": "no"}, "x"]}, None),
        (error(param="messages[0].content"), "messages[0].content"),
        (error(param=["odd"]), None),
        (error(message="nothing named"), None),
    ],
)
def test_the_field_a_provider_objects_to_is_named(document, param):
    assert fail(400, document).param == param


def test_a_field_that_is_only_mentioned_in_another_failure_is_not_blamed():
    assert fail(500, error(message="temperature of the server room")).param is None


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: {key}.",
        "got 'Authorization: Bearer {key}'",
        '{{"api_key": "{key}"}}',
        "key\n{key}",
    ],
)
@pytest.mark.parametrize("key", ["sk-proj-abc123DEF", "gsk_abc123DEF", "AIzaabc123DEF"])
def test_no_key_is_kept(text, key):
    for document in (
        error(message=text.format(key=key)),
        text.format(key=key).encode(),
        {"detail": text.format(key=key)},
    ):
        failure = fail(401, document)
        assert "123DEF" not in str(failure)
        assert failure.message


def test_a_key_without_a_known_shape_is_scrubbed_after_its_label():
    for text in ("Bearer hunter2hunter2", "api-key: hunter2hunter2", "Incorrect API key provided: hunter2hunter2"):
        assert "hunter2" not in fail(401, error(message=text)).message


def test_words_that_only_look_like_keys_are_kept():
    assert fail(400, error(message="the risk-based task-force")).message == "the risk-based task-force"


def test_messages_are_one_printable_line_of_at_most_300_characters():
    message = fail(500, error(message="a\r\n\tb\u2028c\x1b[31m " + "x" * 5000)).message
    assert message.startswith("a b c[31m x")
    assert (len(message), message.isprintable()) == (300, True)


@pytest.mark.parametrize(("value", "said"), [("true", True), ("False", False), ("maybe", None), ("", None)])
def test_the_providers_own_word_on_retrying_is_kept(value, said):
    assert fail(400, error(), {"x-should-retry": value}).should_retry is said


def test_the_wait_comes_from_headers_text_and_metadata():
    limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
    inner = {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW + 30) * 1000)}}
    assert fail(429, error(), {"retry-after": "7"}).retry_after == 7.0
    assert fail(429, error(message="try again in 9.816s")).retry_after == 9.816
    assert fail(429, {"error": {"message": "x", "details": [{"retryDelay": "34s"}]}}).retry_after == 34.0
    assert fail(429, error(metadata=inner)).retry_after == 30.0
    assert fail(429, error(), limits).retry_after == 360.0
    assert fail(500, error(), limits).retry_after is None


def test_the_call_is_named_by_header_or_body():
    body = error() | {"request_id": "req_b"}
    assert fail(500, body, {"x-request-id": "req_a"}).request_id == "req_a"
    assert fail(500, body, {"request-id": "  weird\nid " + "x" * 200}).request_id == "weird id " + "x" * 91
    assert fail(500, body).request_id == "req_b"
    assert fail(500, error()).request_id is None


def test_every_status_in_the_table_is_an_error():
    assert [status for status in KIND_OF_STATUS if not 400 <= status <= 599] == []
