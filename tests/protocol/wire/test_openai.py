"""Chat completions: what is sent, and what is made of whatever comes back."""

from __future__ import annotations

import json
import time
import timeit

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.chat import OUTPUT_LADDER, CallFailure, ChatMessage, ChatReply, ChatRequest, Usage
from protocol.errors import ErrorKind, Retry
from protocol.plan import Plan, Review
from protocol.wire import openai
from protocol.wire.openai import decode_response, encode_request
from protocol.wire.profiles import DEFAULT, PROFILES, Profile
from protocol.wire.schema import strict_schema

NOW = 1_800_000_000.0
ASK = ChatRequest(
    model="m", messages=(ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Hi"))
)
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def completion(message=None, **fields):
    message = {"role": "assistant", "content": "Hello"} if message is None else message
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "model": "m-1", "choices": [choice], "usage": USAGE} | fields


def decode(document, status=200, headers=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_response(status, headers or {}, body, NOW)


def with_choice(**fields):
    return completion(choices=[completion()["choices"][0] | fields])


def sent(request, profile=DEFAULT):
    return json.loads(encode_request(request, profile))


# --- encoding


def test_only_what_was_asked_for_is_sent():
    assert sent(ASK) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }


def test_temperature_zero_and_seed_zero_are_sent():
    body = sent(msgspec.structs.replace(ASK, temperature=0.0, seed=0, stop=("END",), max_tokens=0))
    assert (body["temperature"], body["seed"], body["stop"], body["max_tokens"]) == (0.0, 0, ["END"], 0)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_profile_names_the_field_for_the_output_tokens(field):
    body = sent(msgspec.structs.replace(ASK, max_tokens=7), Profile(name="p", max_tokens_field=field))
    assert {name: body[name] for name in body if "tokens" in name} == {field: 7}


def test_the_profile_names_the_role_of_the_system_prompt():
    roles = [m["role"] for m in sent(ASK, Profile(name="p", system_role="developer"))["messages"]]
    assert roles == ["developer", "user"]


def test_a_schema_is_sent_strict_and_with_its_constraints_where_they_are_kept():
    body = sent(msgspec.structs.replace(ASK, schema=strict_schema(Plan), output="json_schema"))
    wanted = body["response_format"]["json_schema"]
    assert body["response_format"]["type"] == "json_schema"
    assert (wanted["name"], wanted["strict"]) == ("Plan", True)
    assert wanted["schema"]["properties"]["subtasks"]["maxItems"] == 64
    assert body["messages"] == sent(ASK)["messages"]


def test_a_schema_is_sent_without_constraints_where_they_are_refused():
    request = msgspec.structs.replace(ASK, schema=strict_schema(Plan), output="json_schema")
    wanted = sent(request, PROFILES["api.openai.com"])["response_format"]["json_schema"]["schema"]
    assert wanted["properties"]["subtasks"] == {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize("asked", OUTPUT_LADDER)
@pytest.mark.parametrize("able", OUTPUT_LADDER)
def test_the_lower_of_what_is_asked_and_what_the_endpoint_can_is_sent(asked, able):
    request = msgspec.structs.replace(ASK, schema=strict_schema(Review), output=asked)
    body = sent(request, Profile(name="p", output=able))
    lower = max(asked, able, key=OUTPUT_LADDER.index)
    assert body.get("response_format", {"type": "text"})["type"] == lower
    assert ("JSON schema" in body["messages"][0]["content"]) == (lower != "json_schema")


def test_a_schema_in_the_prompt_becomes_a_system_prompt_where_there_is_none():
    request = ChatRequest(model="m", messages=ASK.messages[1:], schema=strict_schema(Plan), output="json_object")
    body = sent(request)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert bytes(strict_schema(Plan).schema).decode() in body["messages"][0]["content"]


@given(st.text(st.characters(exclude_categories=()), max_size=30))
@example("\ud83d")
@example("cut \ud83d\ude00 pair")
def test_any_text_can_be_sent(text):
    request = ChatRequest(model="m", messages=(ChatMessage(role="user", content=text),))
    content = sent(request)["messages"][0]["content"]
    assert content == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- good replies


def test_a_plain_reply_is_read():
    assert decode(completion()) == ChatReply(
        text="Hello", model="m-1", usage=Usage(input_tokens=9, output_tokens=3), request_id="c1"
    )


def test_the_request_id_of_the_headers_goes_first():
    assert decode(completion(), headers={"x-request-id": "req_7"}).request_id == "req_7"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("", ""),
        ([{"type": "text", "text": "a"}, {"type": "image"}, "b", 7, {"type": "output_text", "text": "c"}], "abc"),
        ({"text": "d"}, "d"),
        ([{"type": ["odd"], "text": "a"}], ""),
        ({"text": 5}, ""),
        (12, ""),
        ("<think>hm, {1}</think>\n\nyes", "yes"),
        ("<think>never ends", "<think>never ends"),
        ("tags: <think>x</think>", "tags: <think>x</think>"),
    ],
)
def test_content_of_any_shape_becomes_text(content, text):
    reply = decode(completion({"role": "assistant", "content": content}))
    assert (type(reply), getattr(reply, "text", None)) == (ChatReply, text)


@pytest.mark.parametrize(
    ("reason", "normal"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "content_filter"),
        ("function_call", "tool_calls"),
        ("eos", "stop"),
        ("abort", "other"),
        (None, "other"),
        (5, "other"),
    ],
)
def test_finish_reasons_are_normalised(reason, normal):
    assert decode(with_choice(finish_reason=reason)).finish_reason == normal


def test_tool_calls_are_known_by_their_list():
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert decode(completion(message)).finish_reason == "tool_calls"
    assert decode(completion(message | {"content": "x"})).finish_reason == "tool_calls"
    assert decode(completion(message | {"content": "x", "tool_calls": []})).finish_reason == "stop"


def test_length_with_empty_content_stays_a_reply():
    reply = decode(with_choice(message={"content": None}, finish_reason="length"))
    assert (reply.text, reply.finish_reason) == ("", "length")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": 4, "completion_tokens": 2}, Usage(input_tokens=4, output_tokens=2)),
        ({"prompt_tokens": 4.0, "completion_tokens": "2"}, Usage(input_tokens=4, output_tokens=2)),
        ({"prompt_tokens": 4, "completion_tokens": None}, Usage(input_tokens=4, exact=False)),
        ({"completion_tokens": 3, "total_tokens": 10}, Usage(input_tokens=7, output_tokens=3, exact=False)),
        ({"prompt_tokens": 3, "total_tokens": 1}, Usage(input_tokens=3, output_tokens=0, exact=False)),
        ({"input_tokens": 4, "output_tokens": 2}, Usage(input_tokens=4, output_tokens=2)),
        ({"prompt_tokens": -1, "completion_tokens": 2}, Usage(output_tokens=2, exact=False)),
        ({"prompt_tokens": 10**30, "completion_tokens": 2}, Usage(output_tokens=2, exact=False)),
        ({"prompt_tokens": True, "completion_tokens": "many"}, None),
        (
            {"prompt_tokens": 4, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}},
            Usage(input_tokens=4, output_tokens=2, cached_tokens=4),
        ),
        (
            {"prompt_tokens": 4, "completion_tokens": 2, "prompt_cache_hit_tokens": 3},
            Usage(input_tokens=4, output_tokens=2, cached_tokens=3),
        ),
        (
            {"prompt_tokens": 4, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}},
            Usage(input_tokens=4, output_tokens=2, reasoning_tokens=1),
        ),
        (
            {"prompt_tokens": 4, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": -2}},
            Usage(input_tokens=4, output_tokens=2),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
            },
            Usage(input_tokens=9, output_tokens=2, cached_tokens=4, written_tokens=3),
        ),
        (
            {"input_tokens": 4, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 3}},
            Usage(input_tokens=4, output_tokens=2, cached_tokens=3),
        ),
        (
            {
                "input_tokens": 4,
                "output_tokens": 2,
                "cache_read_input_tokens": 30,
                "cache_creation_input_tokens": 20,
            },
            Usage(input_tokens=54, output_tokens=2, cached_tokens=30, written_tokens=20),
        ),
        (
            {
                "prompt_tokens": 4,
                "completion_tokens": 2,
                "total_tokens": 13,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            Usage(input_tokens=4, output_tokens=9, reasoning_tokens=7),
        ),
        (
            {
                "prompt_tokens": "4",
                "completion_tokens": 2,
                "total_tokens": 13,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            Usage(input_tokens=4, output_tokens=9, reasoning_tokens=7),
        ),
    ],
)
def test_usage_of_any_shape_is_read(usage, expected):
    assert decode(completion(usage=usage)).usage == expected


def test_usage_may_be_missing():
    document = completion()
    del document["usage"]
    assert decode(document).usage is None


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + json.dumps(completion()).encode(),
        b"\r\n\n\n  " + json.dumps(completion()).encode() + b"\n",
        json.dumps(completion(created=float("nan"))).encode(),
        json.dumps(completion(error=None)).encode(),
        json.dumps(completion(error={})).encode(),
    ],
)
def test_a_good_reply_in_an_odd_wrapping_is_read(body):
    assert decode(body) == decode(completion())


def test_lone_surrogates_and_broken_bytes_are_replaced():
    assert decode(json.dumps(completion({"content": "a\ud83d"})).encode()).text == "a\ufffd"
    assert decode(json.dumps(completion({"content": "aX"})).encode().replace(b"aX", b"a\xff")).text == "a\ufffd"


# --- bad replies


@pytest.mark.parametrize(
    "document",
    [
        completion(choices=None),
        completion(choices=[]),
        completion(choices={}),
        completion(choices=[None]),
        completion(choices=["x"]),
        completion(choices=[{}]),
        completion(choices=[{"message": None}]),
        {"id": "c1"},
        [],
        "text",
        7,
        None,
        b"",
        b" \n\n",
        b"<html><body>Bad gateway</body></html>",
        b'{"choices": [{"message": {"content": "cut',
        b"[" * 5000,
        b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"choices":' * 5000 + b"1" + b"}" * 5000,
        with_choice(finish_reason="error"),
        {"error": "something odd"},
        {"error": True},
    ],
)
def test_a_good_status_without_a_reply_is_a_retryable_failure(document):
    failure = decode(document)
    assert (type(failure), failure.kind, failure.kind.retry) == (CallFailure, ErrorKind.BAD_RESPONSE, Retry.RETRYABLE)
    assert failure.message


def test_a_web_page_is_named():
    assert "web page" in decode(b"<html>", headers={"content-type": "text/html"}).message


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"code": 429, "message": "slow"}, ErrorKind.RATE_LIMITED, 429),
        ({"code": "503", "message": "x"}, ErrorKind.PROVIDER_OVERLOADED, 503),
        ({"code": None, "type": "overloaded_error", "message": "x"}, ErrorKind.PROVIDER_OVERLOADED, 529),
        ({"type": "invalid_request_error", "message": "x"}, ErrorKind.BAD_REQUEST, 400),
        ({"code": "insufficient_quota", "message": "x"}, ErrorKind.QUOTA, 200),
        ({"code": 42, "message": "x"}, ErrorKind.BAD_RESPONSE, 200),
    ],
)
def test_an_error_inside_a_good_answer_has_the_status_it_names(error, kind, status):
    for document in ({"error": error}, with_choice(error=error, finish_reason="error"), completion(error=error)):
        failure = decode(document)
        assert (failure.kind, failure.status) == (kind, status)


def test_a_refusal_is_a_failure_in_the_models_words():
    parts = [{"type": "refusal", "refusal": "I cannot."}]
    for message in (
        {"content": None, "refusal": "I cannot."},
        {"content": "", "refusal": "I cannot."},
        {"content": parts},
    ):
        failure = decode(completion(message))
        assert (failure.kind, failure.code, failure.message) == (ErrorKind.CONTENT_FILTER, "refusal", "I cannot.")


def test_a_provider_that_ran_out_of_resources_is_overloaded():
    assert decode(with_choice(finish_reason="insufficient_system_resource")).kind is ErrorKind.PROVIDER_OVERLOADED


# --- any input

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["x", "429", "stop", "error", "rate_limit_error", "sk-secret", "", "Limit 5, Requested 9"])
LEAF = JSON | WORDS


def shaped(*names, inner=LEAF):
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, inner)) | LEAF


ERRORS = shaped("message", "code", "type", "param", "details", "metadata", "innererror", inner=shaped("raw", "headers"))
MESSAGES = shaped(
    "content", "refusal", "tool_calls", inner=LEAF | st.lists(shaped("type", "text", "refusal"), max_size=2)
)
CHOICES = st.fixed_dictionaries(
    {}, optional={"message": MESSAGES, "finish_reason": LEAF, "error": ERRORS, "text": LEAF}
)
USAGES = shaped(
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
    inner=LEAF | st.integers(0, 9) | shaped("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(CHOICES | LEAF, max_size=2) | LEAF, "usage": USAGES, "model": LEAF, "id": LEAF,
        "error": ERRORS, "message": LEAF, "detail": LEAF | st.lists(shaped("loc", "msg"), max_size=2), "errors": LEAF,
        "request_id": LEAF,
    },
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "date", "x-should-retry", "x-request-id", "content-type"]
        + [f"x-ratelimit-{part}-requests" for part in ("limit", "remaining", "reset")]
    ),
    st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(["nan", "-1", "1e400", "6m0s", "1e9"]),
    max_size=4,
)
STATUSES = st.sampled_from([200, 200, 200, 201, 204, 400, 404, 429, 500]) | st.integers(-5, 1200)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(STATUSES, HEADERS, st.binary(max_size=60) | DOCUMENTS.map(lambda d: json.dumps(d).encode()), st.floats())
def test_no_input_whatsoever_raises(status, headers, body, now):
    outcome = decode_response(status, headers, body, now)
    assert isinstance(outcome, ChatReply | CallFailure)
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=type(outcome)) == outcome
    if isinstance(outcome, CallFailure):
        assert len(outcome.message) <= 300
        assert outcome.message.isprintable()
        assert outcome.retry_after is None or 0 <= outcome.retry_after < float("inf")
    else:
        usage = outcome.usage or Usage()
        assert usage.cached_tokens >= 0
        assert usage.written_tokens >= 0
        assert usage.cached_tokens + usage.written_tokens <= usage.input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS)
@example(completion())
@example(completion(usage={"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 1}))
def test_the_narrow_way_and_the_patient_way_agree(document):
    body = json.dumps(document).encode()
    try:
        narrow = openai._narrow_reply(openai._DECODER.decode(body), {})
    except (ValueError, RecursionError):
        narrow = None
    if narrow is not None:
        assert narrow == openai._read_patiently(200, {}, body, NOW)


def test_a_reply_of_800_bytes_is_decoded_and_a_request_encoded_within_a_few_microseconds():
    body = json.dumps(completion({"role": "assistant", "content": "x" * 600})).encode()
    request = msgspec.structs.replace(ASK, schema=strict_schema(Plan), output="json_schema")
    headers = {"x-request-id": "req_0123456789abcdef"}
    decoding = (
        min(
            timeit.repeat(
                lambda: decode_response(200, headers, body, NOW), timer=time.thread_time, number=200, repeat=5
            )
        )
        / 200
    )
    encoding = (
        min(timeit.repeat(lambda: encode_request(request, DEFAULT), timer=time.thread_time, number=200, repeat=5)) / 200
    )
    assert (
        decoding < 20e-6
    )  # measured 3 us; the bound leaves room for slow machines, none for the patient way twice over
    assert encoding < 20e-6
