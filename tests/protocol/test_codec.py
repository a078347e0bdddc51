"""Messages as bytes and back: the whole vocabulary crosses, and what cannot is named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import Raw, Struct

from protocol import messages, signals
from protocol.chat import ChatReply
from protocol.codec import NotCodable, decode, encode, whole
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage, TaskResult
from protocol.signals import Answer, ChildFailed, Local, Performed

SAMPLES: dict[Any, Any] = {
    str: "text",
    int: 7,
    float: 0.25,
    bool: True,
    Raw: Raw(b'{"a":1}'),
    datetime: datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    Any: [1, "b", None, {"c": 2}],
    signals.Outcome: signals.Outcome.AMBIGUOUS,
    ErrorKind: ErrorKind.RATE_LIMITED,
}


def sample(type_) -> Any:
    """Return a value of *type_* that is no default."""
    origin, args = getattr(type_, "__origin__", None), get_args(type_)
    if type_ in SAMPLES:
        return SAMPLES[type_]
    if origin is tuple:
        return (sample(args[0]),)
    if origin is dict:
        return {"key": sample(args[1])}
    if args:  # a union or a literal: its first member, which is never None
        return args[0] if isinstance(args[0], str) else sample(args[0])
    return filled(type_)


def filled(type_: type[Struct]) -> Any:
    return type_(**{name: sample(get_type_hints(type_)[name]) for name in type_.__struct_fields__})


def vocabulary() -> list[type[Struct]]:
    named = {**vars(messages), **vars(signals)}.values()
    tagged = {
        each for each in named if isinstance(each, type) and issubclass(each, Struct) and each.__struct_config__.tag
    }
    return sorted(tagged, key=lambda each: each.__name__)


@pytest.mark.parametrize("type_", vocabulary())
def test_every_message_comes_back_as_it_was(type_):
    message = filled(type_)
    again = decode(encode(message), type_)
    assert again == message
    assert encode(again) == encode(message)


def test_the_vocabulary_is_not_empty():
    assert {Answer, AgentMessage, ChildFailed, Performed} <= set(vocabulary())


def test_a_message_without_a_payload_has_none_on_the_other_side_either():
    message = AgentMessage(sender="a", recipient=None, content="c")
    again = decode(encode(message), AgentMessage)
    assert (again, bytes(again.data)) == (message, b"")
    assert bytes(whole(message).data) == b"null"


def test_a_payload_crosses_byte_for_byte():
    message = AgentMessage(sender="a", recipient=None, content="c", data=Raw(b'{"b": 1.50}'))
    assert bytes(decode(encode(message), AgentMessage).data) == b'{"b": 1.50}'


def test_a_union_comes_back_as_the_member_it_was():
    message = Performed(call="run/0#1", caller="caller/0", outcome=ChatReply(text="yes"), elapsed_ms=1.5)
    assert isinstance(decode(encode(message), Performed).outcome, ChatReply)


@pytest.mark.parametrize("value", ["text", 3, None, [1, 2], {"a": 1}, (1, "b")])
def test_plain_values_cross_too(value):
    assert decode(encode(value), type(value)) == value


def test_what_holds_a_function_is_named():
    message = AgentMessage(sender="a", recipient=None, content="c", metadata={"then": print})
    with pytest.raises(NotCodable, match=r"^AgentMessage cannot be sent to another machine: Encoding objects of type"):
        encode(message)


def test_a_text_that_is_none_is_named():
    with pytest.raises(NotCodable, match=r"^TaskResult cannot be sent to another machine: .*surrogates not allowed"):
        encode(TaskResult(task_id="\ud800", success=True))


def test_a_type_that_cannot_be_read_again_is_named():
    class Pair(tuple):
        __slots__ = ()

    with pytest.raises(NotCodable, match=r"^Pair cannot be read by another machine: "):
        decode(encode(Pair((1, 2))), Pair)


def test_bytes_that_are_no_such_message_are_named():
    with pytest.raises(NotCodable, match=r"^Answer cannot be read by another machine: "):
        decode(b'{"type":"Answer"}', Answer)


def test_what_never_leaves_its_process_has_no_tag_of_its_own_here():
    assert Local.__struct_config__.tag is None
