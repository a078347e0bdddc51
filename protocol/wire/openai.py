"""Chat completions, the format that OpenAI and everybody who is compatible speaks. Source: wire.md 1.1 to 1.8.

Both functions are pure. Decoding tries a narrow typed struct first, which fits nearly every good reply; what does not
fit is read again with patience. The two readings give the same reply wherever both give one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from protocol.chat import (
    OUTPUT_LADDER,
    CallFailure,
    ChatMessage,
    ChatReply,
    ChatRequest,
    OutputMode,
    OutputSchema,
    Usage,
)
from protocol.errors import ErrorKind
from protocol.wire import failures, schema
from protocol.wire.text import mended, one_line, read_json
from protocol.wire.usage import MOST_TOKENS, counted, read_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.wire.profiles import Profile

FINISH = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
"""Finish reasons of OpenAI and its relatives, normalised; any other is ``other``."""

# --- encoding ---------------------------------------------------------------------------------------------------------


class _Turn(Struct, frozen=True, kw_only=True):
    role: str
    content: str


class _JsonSchema(Struct, frozen=True, kw_only=True):
    name: str
    strict: bool
    schema: Raw


class _Format(Struct, frozen=True, kw_only=True):
    type: str
    json_schema: _JsonSchema | UnsetType = UNSET


class _Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str
    messages: tuple[ChatMessage | _Turn, ...]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: _Format | None = None


_ENCODER = msgspec.json.Encoder()


def encode_request(request: ChatRequest, profile: Profile) -> bytes:
    """Return the body of the call, in the dialect of *profile*.

    A rung of the output ladder that the profile does not have becomes the next one it has. Below ``json_schema`` a
    schema that is asked for stands in the prompt instead. Lone surrogates are replaced, since no server takes them.
    """
    body = _body(request, profile)
    try:
        return _ENCODER.encode(body)
    except UnicodeEncodeError:
        turns = tuple(_Turn(role=turn.role, content=mended(turn.content)) for turn in body.messages)
        stop = tuple(mended(text) for text in body.stop)
        return _ENCODER.encode(msgspec.structs.replace(body, model=mended(body.model), messages=turns, stop=stop))


def schema_prompt(wanted: OutputSchema) -> str:
    """Return the words that ask for *wanted* in a prompt, where the endpoint cannot be asked for it."""
    document = bytes(wanted.schema).decode()
    return f"Answer with one JSON object that follows this JSON schema, and with nothing else:\n{document}"


def _body(request: ChatRequest, profile: Profile) -> _Request:
    messages: tuple[ChatMessage | _Turn, ...] = request.messages
    rung = _rung(request.output, profile)
    if request.schema is not None and rung != "json_schema":
        messages = _with_schema(request.messages, schema_prompt(request.schema))
    if profile.system_role != "system":
        messages = tuple(_spoken(turn, profile.system_role) for turn in messages)
    plain = profile.max_tokens_field == "max_tokens"
    return _Request(
        model=request.model,
        messages=messages,
        max_tokens=request.max_tokens if plain else None,
        max_completion_tokens=None if plain else request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        stop=request.stop,
        response_format=_format(request.schema, rung, profile),
    )


def _rung(asked: OutputMode, profile: Profile) -> OutputMode:
    return OUTPUT_LADDER[max(OUTPUT_LADDER.index(asked), OUTPUT_LADDER.index(profile.output))]


def _format(wanted: OutputSchema | None, rung: OutputMode, profile: Profile) -> _Format | None:
    if rung == "json_object":
        return _Format(type="json_object")
    if rung == "text" or wanted is None:
        return None
    document = wanted.schema if profile.keep_constraints else schema.without_constraints(wanted.schema)
    if profile.tight is not None:
        document = schema.tightened(document, *profile.tight)
    return _Format(type="json_schema", json_schema=_JsonSchema(name=wanted.name, strict=True, schema=document))


def _with_schema(messages: tuple[ChatMessage, ...], words: str) -> tuple[ChatMessage, ...]:
    """Add *words* to the system prompt, or make them one."""
    if messages and messages[0].role == "system":
        head = ChatMessage(role="system", content=f"{messages[0].content}\n\n{words}")
        return (head, *messages[1:])
    return (ChatMessage(role="system", content=words), *messages)


def _spoken(turn: ChatMessage | _Turn, system_role: str) -> _Turn:
    return _Turn(role=system_role if turn.role == "system" else turn.role, content=turn.content)


# --- decoding: the narrow way (an error that is not null does not fit, and is read with patience) ---------------------


class _Message(Struct, frozen=True, kw_only=True, gc=False):
    content: str
    refusal: str | None = None
    tool_calls: tuple[Raw, ...] | None = None


class _Choice(Struct, frozen=True, kw_only=True):
    message: _Message
    finish_reason: str | None = None
    error: None = None


class _Details(Struct, frozen=True, kw_only=True, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


_NO_DETAILS = _Details()


class _Usage(Struct, frozen=True, kw_only=True, gc=False):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Completion(Struct, frozen=True, kw_only=True):
    choices: tuple[_Choice, ...]
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: None = None


_DECODER = msgspec.json.Decoder(_Completion)


def decode_response(status: int, headers: Mapping[str, str], body: bytes, now: float) -> ChatReply | CallFailure:
    """Return the reply or the failure that an answer is. Never raises, whatever the answer.

    *headers* have lower-case names; *now* is in seconds since the epoch. ``length`` stays a reply with that
    ``finish_reason``, and so does ``content_filter``; a refusal is a failure of kind ``content_filter``.
    """
    if not 200 <= status <= 299:
        return failures.read_failure(status, headers, body, now)
    try:
        completion = _DECODER.decode(body)
    except (ValueError, RecursionError):
        return _read_patiently(status, headers, body, now)
    return _narrow_reply(completion, headers) or _read_patiently(status, headers, body, now)


def _narrow_reply(completion: _Completion, headers: Mapping[str, str]) -> ChatReply | None:
    """Return the reply of a completion without surprises, otherwise None."""
    if not completion.choices:
        return None
    choice = completion.choices[0]
    message, counts = choice.message, completion.usage
    if message.refusal or choice.finish_reason in _BROKEN:
        return None
    usage = None if counts is None else _narrow_usage(counts)
    if usage is None and counts is not None:
        return None
    return ChatReply(
        text=_answer(message.content),
        finish_reason=_finish(choice.finish_reason, message.tool_calls),
        model=_name(completion.model),
        usage=usage,
        request_id=failures.request_id(headers) or _name(completion.id),
    )


def _narrow_usage(counts: _Usage) -> Usage | None:
    inputs, outputs = counts.prompt_tokens, counts.completion_tokens
    of_input, of_output = counts.prompt_tokens_details or _NO_DETAILS, counts.completion_tokens_details or _NO_DETAILS
    read = of_input.cached_tokens or counts.prompt_cache_hit_tokens or 0
    written, reasoning = of_input.cache_write_tokens or 0, of_output.reasoning_tokens or 0
    if min(inputs, outputs, read, written, reasoning) < 0 or max(inputs, outputs) > MOST_TOKENS:
        return None
    return counted(inputs, outputs, read, written, reasoning, counts.total_tokens)


# --- decoding: the patient way ----------------------------------------------------------------------------------------

_BROKEN = {"error": ErrorKind.BAD_RESPONSE, "insufficient_system_resource": ErrorKind.PROVIDER_OVERLOADED}
"""Finish reasons that mean the provider broke off."""


def _read_patiently(status: int, headers: Mapping[str, str], body: bytes, now: float) -> ChatReply | CallFailure:
    document = read_json(body)
    if document is None:
        return failures.bad_response(status, headers, _unreadable(headers, body))
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    complaint = _complaint(document, choice)
    if complaint is not None:
        return failures.inner_failure(status, headers, complaint, body, now)
    if not isinstance(choice, dict):
        return failures.bad_response(status, headers, "the reply holds no choices")
    return _patient_reply(status, headers, document, choice)


def _complaint(document: Any, choice: Any) -> failures.Complaint | None:
    """Return the error inside a good answer: beside the choices, in the first of them, or instead of any."""
    for place in (document, choice):
        if isinstance(place, dict) and place.get("error"):
            return failures.read_complaint(place)
    return None if isinstance(choice, dict) else failures.read_complaint(document)


def _patient_reply(
    status: int, headers: Mapping[str, str], fields: dict[str, Any], choice: dict[str, Any]
) -> ChatReply | CallFailure:
    message = choice.get("message", {"content": choice["text"]} if "text" in choice else None)
    if not isinstance(message, dict):
        return failures.bad_response(status, headers, "the reply holds no message")
    refusal, finish = _refusal(message), choice.get("finish_reason")
    request_id = failures.request_id(headers) or _name(fields.get("id"))
    if refusal:
        return CallFailure(
            kind=ErrorKind.CONTENT_FILTER,
            message=one_line(refusal),
            status=status,
            code="refusal",
            request_id=request_id,
        )
    if isinstance(finish, str) and finish in _BROKEN:
        return CallFailure(
            kind=_BROKEN[finish],
            message=f"the provider broke off: {finish}",
            status=status,
            code=finish,
            request_id=request_id,
        )
    return ChatReply(
        text=_answer(mended(_text(message.get("content")))),
        finish_reason=_finish(finish, message.get("tool_calls")),
        model=_name(fields.get("model")),
        usage=read_usage(fields.get("usage")),
        request_id=request_id,
    )


def _unreadable(headers: Mapping[str, str], body: bytes) -> str:
    if not body.strip():
        return "the reply is empty"
    html = body.lstrip()[:1] == b"<" or "text/html" in headers.get("content-type", "").lower()
    start = body[:300].decode("utf-8", "replace")
    return f"the reply is {'a web page' if html else 'no JSON'}: {start}"


def _text(content: Any) -> str:
    """Return the text of a content that is null, a text, a part or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    return _part(content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "output_text"):
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _refusal(message: dict[str, Any]) -> str:
    parts = message["content"] if isinstance(message.get("content"), list) else []
    refusals = [message, *(part for part in parts if isinstance(part, dict) and part.get("type") == "refusal")]
    return next((r for r in (place.get("refusal") for place in refusals) if isinstance(r, str) and r), "")


# --- what both ways share ---------------------------------------------------------------------------------------------


def _finish(reason: Any, tool_calls: Any) -> str:
    """Normalise the finish reason; whether tools are called is decided by the list, as servers say ``stop`` with it."""
    if tool_calls:
        return "tool_calls"
    return FINISH.get(reason.lower(), "other") if isinstance(reason, str) else "other"


def _answer(text: str) -> str:
    """Return *text* without the thoughts some local models put before it, ``<think>...</think>``."""
    if "<think>" not in text[:200] or not text.lstrip().startswith("<think>"):
        return text
    thoughts, closing, answer = text.partition("</think>")
    return answer.lstrip() if closing else thoughts


def _name(value: Any) -> str | None:
    return (mended(value[:200]) or None) if isinstance(value, str) else None
