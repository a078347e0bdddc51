"""Messages as bytes and back: what another machine would get, and so what may be sent at all.

JSON, since payloads are JSON already. A message that holds a function, an actor or a lock cannot cross; the error names
it. What is declared as ``Any`` comes back as JSON has it: a tuple as a list, a struct as a dict.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from protocol.messages import AgentMessage

T = TypeVar("T")


class NotCodable(TypeError):  # noqa: N818 (says what the message is, as the field's own NotFound and NotImplemented do)
    """A message cannot be written as bytes, or not be read again."""


_NOTHING = Raw(b"null")
_encoder = msgspec.json.Encoder()


def encode(message: Any) -> bytes:
    """Return *message* as JSON. Raises :class:`NotCodable`, one line that names the message and what is wrong in it."""
    try:
        return _encoder.encode(whole(message))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NotCodable(f"{_name(type(message))} cannot be sent to another machine: {error}") from None


def decode(data: bytes, type_: type[T]) -> T:
    """Return the *type_* that *data* holds. Raises :class:`NotCodable`, one line."""
    try:
        message = msgspec.json.decode(data, type=type_)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotCodable(f"{_name(type_)} cannot be read by another machine: {error}") from None
    if isinstance(message, AgentMessage) and message.data == _NOTHING:
        message = replace(message, data=Raw())
    return message


def whole(message: T) -> T:
    """Return *message* with ``null`` for a payload that is not there: an empty ``Raw`` would be no JSON."""
    if isinstance(message, AgentMessage) and not message.data:
        message = replace(message, data=_NOTHING)
    return message


def _name(type_: type[Any]) -> str:
    return type_.__name__
