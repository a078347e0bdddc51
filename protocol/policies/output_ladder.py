"""How a model is asked, and what its refusals teach: the structured-output ladder, and fields it does not take.

The rungs, best first: ``json_schema`` (the endpoint enforces the schema), ``json_object`` (any JSON; the schema stands
in the prompt), ``text`` (a plain instruction). A refusal names the field it objects to; that is learned once per model,
and the call goes out again without it. What comes back is checked with the real type in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.chat import OUTPUT_LADDER, CallFailure, ChatMessage, ChatRequest, OutputMode, OutputSchema
from protocol.errors import ErrorKind

if TYPE_CHECKING:
    from protocol.signals import ChatCall


class Dialect(Struct, frozen=True, kw_only=True):
    """What is known of a model: the rung for structured output, and whether it takes these fields."""

    output: OutputMode = "json_schema"
    temperature: bool = True
    max_tokens: bool = True


def render(call: ChatCall, model: str, dialect: Dialect) -> ChatRequest:
    """Return the request for *call* to the model that its provider calls *model*."""
    output = "text" if call.schema is None else dialect.output
    return ChatRequest(
        model=model,
        messages=call.messages if call.schema is None else asked(call.messages, call.schema, output),
        max_tokens=call.max_tokens if dialect.max_tokens else None,
        temperature=call.temperature if dialect.temperature else None,
        schema=call.schema if output == "json_schema" else None,
        output=output,
    )


def asked(messages: tuple[ChatMessage, ...], schema: OutputSchema, output: OutputMode) -> tuple[ChatMessage, ...]:
    """Return *messages* with the words that the rung *output* needs in the system prompt."""
    if output == "json_schema":
        return messages
    words = in_full(schema) if output == "json_object" else in_short(schema)
    if messages and messages[0].role == "system":
        head = ChatMessage(role="system", content=f"{messages[0].content}\n\n{words}")
        return (head, *messages[1:])
    return (ChatMessage(role="system", content=words), *messages)


def in_full(schema: OutputSchema) -> str:
    """Ask for *schema* with its whole text."""
    text = bytes(schema.schema).decode()
    return f"Answer with one JSON object that follows this JSON schema, and with nothing else:\n{text}"


def in_short(schema: OutputSchema) -> str:
    """Ask for *schema* in few words: the names of its fields and their types."""
    document = msgspec.json.decode(schema.schema)
    fields = ", ".join(f'"{name}" ({_type(node)})' for name, node in document.get("properties", {}).items())
    return f"Answer only with a JSON object, no other text. Its fields: {fields or 'as described'}."


def learn(failure: CallFailure, request: ChatRequest, known: Dialect) -> Dialect | None:
    """Return what is known of the model after *request* failed; None when the failure teaches nothing.

    A request that was older than what is known already teaches it again: the same dialect comes back. Each lesson takes
    something out of the next request, so there are at most four in a row.
    """
    if failure.kind is not ErrorKind.BAD_REQUEST:
        return None
    match failure.param:
        case "response_format" if request.output != "text":
            below = OUTPUT_LADDER.index(request.output) + 1
            return replace(known, output=OUTPUT_LADDER[max(below, OUTPUT_LADDER.index(known.output))])
        case "temperature" if request.temperature is not None:
            return replace(known, temperature=False)
        case "max_tokens" | "max_completion_tokens" if request.max_tokens is not None:
            return replace(known, max_tokens=False)
    return None


def _type(node: Any) -> str:
    """Name the type of a field in a word or two."""
    kind = node.get("type") if isinstance(node, dict) else None
    if kind == "array":
        return f"list of {_type(node.get('items'))}"
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    return str(kind) if kind else "object"
