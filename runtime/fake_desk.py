"""Behind the scripted server's door: who gets in, what is counted, how each call is answered. No sockets in here."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, json

from runtime import fake_team

if TYPE_CHECKING:
    from runtime.fake_script import Fault, RateLimit, Script

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>the upstream is away</body></html>"
JSON = b"application/json"
CODES = {
    400: ("invalid_request_error", "invalid_request", "The request was refused."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("insufficient_quota", "insufficient_quota", "Payment is required."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
    503: ("service_unavailable_error", "server_is_overloaded", "The server is overloaded."),
    529: ("overloaded_error", "overloaded", "The server is overloaded."),
}


class Reply(Struct, kw_only=True):
    """What to send, and how: ``delay`` seconds from now, ``drip`` seconds between bytes, or not at all."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    content_type: bytes = JSON
    delay: float = 0.0
    drip: float = 0.0
    hang: bool = False
    reset: bool = False


class Stats(Struct, kw_only=True):
    """What has come in and gone out; ``statuses`` counts replies (0: cut off without one), tokens only those billed.

    ``arrivals`` are seconds on the server's clock, kept only when the script records.
    """

    requests: int = 0
    by_role: dict[str, int] = {}
    input_tokens: int = 0
    output_tokens: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    statuses: dict[int, int] = {}
    arrivals: list[float] = []

    def copy(self) -> Stats:
        """Return a copy that no longer changes."""
        copied = msgspec.structs.asdict(self)
        copied |= {"by_role": dict(self.by_role), "statuses": dict(self.statuses), "arrivals": list(self.arrivals)}
        return Stats(**copied)


class _Turn(Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Request(Struct):
    """The part of a chat request that the server reads."""

    model: str
    messages: list[_Turn]
    response_format: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool = False


_decode = json.Decoder(_Request, strict=False).decode
_encode = json.Encoder().encode


class _Bucket:
    """The door's token bucket: starts full, refills continuously."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.level = float(limit.burst)
        self.at = 0.0

    def wait(self, now: float) -> float:
        """Take one token and return 0, or return the seconds until the next is free."""
        self.level = min(float(self.limit.burst), self.level + (now - self.at) * self.limit.per_second)
        self.at = now
        if self.level < 1:
            return (1 - self.level) / self.limit.per_second
        self.level -= 1
        return 0.0

    def headers(self) -> dict[str, str]:
        """Return the limit as OpenAI tells it."""
        return {
            "x-ratelimit-limit-requests": str(round(self.limit.per_second * 60)),
            "x-ratelimit-remaining-requests": str(int(self.level)),
            "x-ratelimit-reset-requests": f"{(self.limit.burst - self.level) / self.limit.per_second:.3f}s",
        }


class Desk:
    """All state of one scripted server; used by its loop's thread alone."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.stats = Stats()
        self.bodies: list[bytes] = []
        self._dice = Random(script.seed)  # noqa: S311 (latency, not secrets)
        self._bucket = _Bucket(script.rate_limit) if script.rate_limit else None
        self._seen = [0] * len(script.faults)

    def take(self, head: bytes, body: bytes, now: float) -> Reply:
        """Count a chat request in and decide what becomes of it. *now* is in seconds on any one clock."""
        self._count_in(body, now)
        reply = self._admit(head, now)
        if reply is None:
            try:
                reply = self._chat(_decode(body))
            except (msgspec.DecodeError, RecursionError) as error:
                reply = _error(400, f"cannot read the request: {error}")
        if self._bucket and self._bucket.limit.headers:
            reply.headers = reply.headers | self._bucket.headers()
        return reply

    def leave(self, status: int) -> None:
        """Count a chat request out."""
        self.stats.in_flight -= 1
        self.stats.statuses[status] = self.stats.statuses.get(status, 0) + 1

    def _count_in(self, body: bytes, now: float) -> None:
        stats = self.stats
        stats.requests += 1
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        if self.script.record:
            stats.arrivals.append(now)
            self.bodies.append(body)

    def _admit(self, head: bytes, now: float) -> Reply | None:
        """Refuse who has the wrong key or comes too fast."""
        key = self.script.api_key
        if key and f"authorization: bearer {key}\r\n".encode().lower() not in head.lower() + b"\r\n":
            return _error(401)
        wait = self._bucket.wait(now) if self._bucket else 0.0
        return _error(429, headers={"retry-after": f"{wait:.3f}"}) if wait else None

    def _chat(self, request: _Request) -> Reply:
        if request.stream:
            return _error(400, "streaming is not scripted", param="stream")
        shape = request.response_format or {}
        mode = shape.get("type", "text")
        support = {"json_schema": self.script.json_schema, "json_object": self.script.json_object}.get(mode, "ignore")
        if support == "reject":
            return _error(400, f"response_format {mode} is not supported by this model", param="response_format")
        schema = (shape.get("json_schema") or {}).get("schema") or {}
        turns = [(turn.role, _text(turn.content)) for turn in request.messages]
        call = fake_team.recognise(turns, schema if support == "yes" else None)
        self.stats.by_role[call.role] = self.stats.by_role.get(call.role, 0) + 1
        reply = self._answer(request, call)
        reply.delay += self._latency()
        return reply

    def _latency(self) -> float:
        latency = self.script.latency
        return self._dice.uniform(*latency) if isinstance(latency, tuple) else latency

    def _answer(self, request: _Request, call: fake_team.Call) -> Reply:
        script, fault = self.script, self._fault(call)
        if fault is not None and _replaces(fault):
            return _misbehave(fault, _spoilt(fault))
        text = fake_team.answer(call, subtasks=script.subtasks, reject=script.reject_first_reviews, seed=script.seed)
        if script.nonce and call.schema is None:
            text = f"{text}\n{fake_team.nonces(call.text)}"
        text, finish = _cut(text, request.max_completion_tokens or request.max_tokens)
        if fault is None:
            return Reply(body=self._completion(request, call, text, finish))
        return _misbehave(fault, Reply(body=self._completion(request, call, text, fault.finish_reason or finish)))

    def _fault(self, call: fake_team.Call) -> Fault | None:
        """Return the first rule that matches and has calls left; a rule counts only the calls that reach it."""
        for number, fault in enumerate(self.script.faults):
            if fault.match and fault.match != call.role and fault.match not in call.text:
                continue
            self._seen[number] += 1
            turn = self._seen[number] - fault.after
            if turn > 0 and (turn <= fault.times or not fault.times):
                return fault
        return None

    def _completion(self, request: _Request, call: fake_team.Call, text: str, finish: str) -> bytes:
        used = fake_team.count_tokens(call.text)
        made = fake_team.count_tokens(text)
        self.stats.input_tokens += used
        self.stats.output_tokens += made
        usage = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
        reply = {
            "id": f"chatcmpl-{self.stats.requests}",
            "object": "chat.completion",
            "created": 0,
            "model": request.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": usage if self.script.usage else None,
        }
        return _encode(reply)


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content or ""


def _cut(text: str, max_tokens: int | None) -> tuple[str, str]:
    """Return the text within *max_tokens*, and the finish reason."""
    if max_tokens is None or fake_team.count_tokens(text) <= max_tokens:
        return text, "stop"
    return text[: max_tokens * 4], "length"


def _error(status: int, message: str = "", *, param: str | None = None, headers: dict[str, str] | None = None) -> Reply:
    kind, code, words = CODES.get(status, ("server_error", None, "The server had an error."))
    error = {"message": message or words, "type": kind, "param": param, "code": code}
    return Reply(status=status, body=_encode({"error": error}), headers=headers or {})


def _replaces(fault: Fault) -> bool:
    return fault.status != 200 or fault.body is not None or fault.html or fault.empty or fault.error_in_200


def _spoilt(fault: Fault) -> Reply:
    """Return what a rule puts in the place of the team's answer."""
    reply = _error(500 if fault.error_in_200 else fault.status)
    reply.status = fault.status
    if fault.body is not None:
        reply.body = fault.body.encode()
    elif fault.html:
        reply.body, reply.content_type = HTML, b"text/html"
    elif fault.empty:
        reply.body = b""
    return reply


def _misbehave(fault: Fault, reply: Reply) -> Reply:
    """Send *reply* as the rule says."""
    if fault.malformed:
        reply.body = reply.body[: len(reply.body) // 2]
    reply.headers, reply.delay, reply.drip = fault.headers, fault.delay, fault.drip
    reply.hang, reply.reset = fault.hang, fault.reset
    return reply
