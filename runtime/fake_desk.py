"""Behind the scripted server's door: who gets in, what is counted, how each call is answered. No sockets in here."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, json

from runtime import fake_team

if TYPE_CHECKING:
    from runtime.fake_script import Fault, RateLimit, Script

TOKEN_BURST_SECONDS = 6.0
"""Of a limit of tokens so many seconds may come at once, where the script does not say."""
ROUNDING = 1e-9
KEPT_TEXT = 64
"""Characters of a request's last message that the log keeps."""
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


class Arrival(Struct, frozen=True, kw_only=True):
    """One chat request as the server saw it.

    ``at`` is in seconds on the server's clock; ``tokens`` what it was billed; ``text`` the beginning of its last
    message. Nothing in it depends on what a client says of itself.
    """

    at: float
    status: int
    tokens: int
    text: str


class _Bucket:
    """A level that starts full and refills continuously."""

    def __init__(self, name: str, per_second: float, burst: float) -> None:
        self.name = name
        self.per_second = per_second
        self.burst = self.level = float(burst)
        self.at = 0.0

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until *amount* is there, 0 for now; what is larger than the burst needs a full level."""
        self.level = min(self.burst, self.level + (now - self.at) * self.per_second)
        self.at = now
        missing = min(amount, self.burst) - self.level
        return missing / self.per_second if missing > ROUNDING else 0.0

    def headers(self) -> dict[str, str]:
        """Return the limit as OpenAI tells it."""
        return {
            f"x-ratelimit-limit-{self.name}": str(round(self.per_second * 60)),
            f"x-ratelimit-remaining-{self.name}": str(max(0, int(self.level))),
            f"x-ratelimit-reset-{self.name}": f"{(self.burst - self.level) / self.per_second:.3f}s",
        }


class _Door:
    """What a rate limit lets in: a call takes from every bucket, or from none."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.requests = _Bucket("requests", limit.per_second, limit.burst)
        self.tokens: _Bucket | None = None
        self.first: float | None = None
        if limit.tokens_per_second is not None:
            burst = limit.token_burst or limit.tokens_per_second * TOKEN_BURST_SECONDS
            self.tokens = _Bucket("tokens", limit.tokens_per_second, burst)

    def enter(self, tokens: int, now: float) -> float:
        """Let a call in that may use *tokens* and return 0, or return the seconds it should wait."""
        self.first = now if self.first is None else self.first
        wait = max(self.requests.wait(1, now), self._closed(now - self.first))
        if self.tokens is not None:
            wait = max(wait, self.tokens.wait(tokens, now))
        if not wait:
            self.requests.level -= 1
            self.use(tokens)
        return wait

    def _closed(self, since: float) -> float:
        """Return the seconds for which nobody is let in, *since* seconds after the first call."""
        left = self.limit.closed_after + self.limit.closed_for - since
        return max(0.0, left) if since >= self.limit.closed_after else 0.0

    def use(self, tokens: int) -> None:
        """Count *tokens*; a negative number is given back."""
        if self.tokens is not None:
            self.tokens.level -= tokens

    def headers(self) -> dict[str, str]:
        """Return what each reply tells of the limits."""
        return self.requests.headers() | ({} if self.tokens is None else self.tokens.headers())


class Desk:
    """All state of one scripted server; used by its loop's thread alone."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.stats = Stats()
        self.bodies: list[bytes] = []
        self._dice = Random(script.seed)  # noqa: S311 (latency, not secrets)
        self.log: list[Arrival] = []
        self._door = _Door(script.rate_limit) if script.rate_limit else None
        self._seen = [0] * len(script.faults)

    def take(self, head: bytes, body: bytes, now: float) -> Reply:
        """Count a chat request in and decide what becomes of it. *now* is in seconds on any one clock."""
        self._count_in(body, now)
        billed = self.stats.input_tokens + self.stats.output_tokens
        request: _Request | None = None
        try:
            request = _decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            reply = self._admit(head, 0, now) or _error(400, f"cannot read the request: {error}")
        else:
            most = _most(request) if self._door and self._door.tokens else 0
            refusal = self._admit(head, most, now)
            reply = refusal or self._chat(request)
            if refusal is None and self._door:
                self._door.use(self.stats.input_tokens + self.stats.output_tokens - billed - most)
        if self._door and self._door.limit.headers:
            reply.headers = reply.headers | self._door.headers()
        if self.script.record:
            used = self.stats.input_tokens + self.stats.output_tokens - billed
            text = _text(request.messages[-1].content)[:KEPT_TEXT] if request and request.messages else ""
            self.log.append(Arrival(at=now, status=reply.status, tokens=used, text=text))
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

    def _admit(self, head: bytes, tokens: int, now: float) -> Reply | None:
        """Refuse who has the wrong key or comes too fast."""
        key = self.script.api_key
        if key and f"authorization: bearer {key}\r\n".encode().lower() not in head.lower() + b"\r\n":
            return _error(401)
        wait = self._door.enter(tokens, now) if self._door else 0.0
        if not wait:
            return None
        hint = {"retry-after": f"{wait:.3f}"} if self._door and self._door.limit.hint else {}
        return _error(429, headers=hint)

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


def _most(request: _Request) -> int:
    """Return the tokens that a call may use: its prompt, and the longest reply it asks for."""
    prompt = sum(fake_team.count_tokens(_text(turn.content)) for turn in request.messages)
    return prompt + (request.max_completion_tokens or request.max_tokens or 0)


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
