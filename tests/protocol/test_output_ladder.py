"""The structured-output ladder: how each rung asks, and what each refusal teaches."""

from __future__ import annotations

import msgspec
import pytest

from protocol.chat import CallFailure, ChatMessage, OutputSchema
from protocol.errors import ErrorKind
from protocol.policies.output_ladder import Dialect, learn, render
from protocol.signals import ChatCall

TEXT = b'{"type":"object","properties":{"issues":{"type":"array","items":{"type":"string"}},"score":{"type":"integer"},\
"note":{"type":["string","null"]},"more":{"$ref":"#/$defs/M"}}}'
SCHEMA = OutputSchema(name="Review", schema=msgspec.Raw(TEXT))
USER = ChatMessage(role="user", content="review this")
SYSTEM = ChatMessage(role="system", content="You review.")


def call(*messages, schema=SCHEMA, **fields):
    return ChatCall(
        step="s", fingerprint="f", reply_to="a", role="r", messages=messages or (USER,), schema=schema, **fields
    )


def refusal(param, kind=ErrorKind.BAD_REQUEST):
    return CallFailure(kind=kind, message="", status=400, param=param)


def test_the_best_rung_hands_the_schema_over_and_leaves_the_prompt_alone():
    request = render(call(SYSTEM, USER), "gpt", Dialect())
    assert (request.output, request.schema, request.messages) == ("json_schema", SCHEMA, (SYSTEM, USER))


def test_the_second_rung_puts_the_schema_into_the_system_prompt():
    request = render(call(SYSTEM, USER), "gpt", Dialect(output="json_object"))
    assert (request.output, request.schema) == ("json_object", None)
    assert request.messages[0].content.startswith("You review.\n\n")
    assert request.messages[0].content.endswith(TEXT.decode())
    assert request.messages[1:] == (USER,)


def test_a_prompt_without_a_system_turn_gets_one():
    request = render(call(USER), "gpt", Dialect(output="json_object"))
    assert [turn.role for turn in request.messages] == ["system", "user"]


def test_the_last_rung_names_the_fields_in_few_words():
    request = render(call(USER), "gpt", Dialect(output="text"))
    assert request.output == "text"
    assert request.messages[0].content == (
        'Answer only with a JSON object, no other text. Its fields: "issues" (list of string), "score" (integer), '
        '"note" (string or null), "more" (object).'
    )


def test_a_schema_without_fields_is_asked_for_all_the_same():
    schema = OutputSchema(name="X", schema=msgspec.Raw(b"{}"))
    assert "as described" in render(call(schema=schema), "gpt", Dialect(output="text")).messages[0].content


def test_without_a_schema_nothing_is_added_on_any_rung():
    request = render(call(schema=None, temperature=0.5, max_tokens=9), "gpt", Dialect(output="json_object"))
    assert (request.output, request.messages, request.temperature, request.max_tokens) == ("text", (USER,), 0.5, 9)


def test_each_refusal_of_the_format_steps_one_rung_down():
    known, rungs = Dialect(), []
    while known is not None:
        rungs.append(known.output)
        known = learn(refusal("response_format"), render(call(), "gpt", known), known)
    assert rungs == ["json_schema", "json_object", "text"]


def test_a_refusal_of_a_request_sent_before_the_lesson_teaches_it_no_further():
    early, known = render(call(), "gpt", Dialect()), Dialect(output="json_object")
    assert learn(refusal("response_format"), early, known) == known


@pytest.mark.parametrize(
    ("param", "known"),
    [
        ("temperature", Dialect(temperature=False)),
        ("max_tokens", Dialect(max_tokens=False)),
        ("max_completion_tokens", Dialect(max_tokens=False)),
    ],
)
def test_a_field_the_endpoint_does_not_take_is_dropped_once(param, known):
    asked = call(temperature=0.5, max_tokens=9)
    assert learn(refusal(param), render(asked, "gpt", Dialect()), Dialect()) == known
    assert learn(refusal(param), render(asked, "gpt", known), known) is None


@pytest.mark.parametrize(
    "failure",
    [refusal("seed"), refusal(None), refusal("temperature"), refusal("response_format", ErrorKind.SERVER_ERROR)],
)
def test_other_failures_teach_nothing(failure):
    assert learn(failure, render(call(), "gpt", Dialect()), Dialect()) is None
