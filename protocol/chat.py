"""The vendor-neutral model call: what is asked, what comes back, how it fails.

``protocol/wire/`` turns a :class:`ChatRequest` into bytes and bytes into a :class:`ChatReply` or a
:class:`CallFailure`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from protocol.errors import ErrorKind

Speaker = Literal["system", "user", "assistant"]


class ChatMessage(Struct, frozen=True, kw_only=True, gc=False):
    """One turn of a chat."""

    role: Speaker
    content: str


class OutputSchema(Struct, frozen=True, kw_only=True, gc=False):
    """The JSON schema a reply must follow: strict subset, encoded once (see ``protocol/wire/schema.py``)."""

    name: str
    schema: Raw


OutputMode = Literal["json_schema", "json_object", "text"]
"""How structured output is asked for, best first; the gateway steps down and remembers per model."""

OUTPUT_LADDER: tuple[OutputMode, ...] = ("json_schema", "json_object", "text")


class ChatRequest(Struct, frozen=True, kw_only=True, gc=False):
    """One model call. ``temperature`` is sent only when set; ``max_tokens`` counts output tokens."""

    model: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: OutputSchema | None = None
    output: OutputMode = "text"


class Occasion(Struct, frozen=True, kw_only=True, gc=False):
    """What a call is for, where its model is to be chosen.

    ``task`` is the task whose agent calls, ``complexity`` (0..1) that of what is to be done, None: to be read from the
    prompt. ``rounds`` drafts may still be written, this one among them; 0: nobody will review it. ``tried`` are the
    models whose drafts of it were rejected, ``stronger`` asks for one above them; ``last`` is the one that this
    conversation is with. ``round`` is the number of the round that it belongs to, None outside of rounds; ``checked``
    says that tests will judge the result.
    """

    task: str = ""
    complexity: float | None = None
    rounds: int = 0
    tried: tuple[str, ...] = ()
    stronger: bool = False
    last: str | None = None
    round: int | None = None
    checked: bool = False


class Usage(Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one or many calls.

    ``cached_tokens`` (read from a cache) and ``written_tokens`` (written to one) are part of ``input_tokens``, and
    ``reasoning_tokens`` are part of ``output_tokens``, as at OpenAI. ``exact`` is False when any figure in it is an
    estimate because the provider sent none.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    exact: bool = True
    written_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            exact=self.exact and other.exact,
            written_tokens=self.written_tokens + other.written_tokens,
        )


class ChatReply(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A model's answer.

    ``finish_reason`` is normalised: ``stop``, ``length``, ``tool_calls``, ``content_filter``, ``other``.

    ``usage`` is None when the provider sent none.
    """

    text: str
    finish_reason: str = "stop"
    model: str | None = None
    usage: Usage | None = None
    request_id: str | None = None


class CallFailure(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """A call that failed: what kind, in the provider's words (no secret in them), and what the provider asks for.

    ``retry_after`` is in seconds; ``should_retry`` is the provider's own word (``x-should-retry``) and overrides the
    kind. ``param`` names the request field a provider objected to. ``sent`` is False when surely nothing has reached
    it.
    """

    kind: ErrorKind
    message: str
    status: int | None = None
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    should_retry: bool | None = None
    request_id: str | None = None
    sent: bool = True
