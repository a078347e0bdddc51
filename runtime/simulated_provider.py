"""A provider without a network: the scripted team behind a vendor's limits, latencies and faults, in virtual time.

What is asked and answered goes through the real wire format both ways, so replies and failures are the same as over
HTTP. The limits are enforced with books of the vendor's own, never with the limiter's policy that they are a check on.
Only ``random()`` and basic arithmetic are used on what is drawn, so that a seed gives the same on any machine.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from protocol.chat import CallFailure, ChatReply, Usage
from protocol.errors import ErrorKind
from protocol.wire.openai import decode_response, encode_request
from runtime import fake_team
from runtime.fake_desk import Desk
from runtime.fake_script import Script
from runtime.simulation_settings import VendorLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protocol.chat import ChatRequest
    from protocol.wire.profiles import Profile
    from runtime.config import Config
    from runtime.simulation_settings import FaultShares, Simulation

NEVER = 1e9
"""How many seconds a reply takes that never comes."""
FULL = 1.0
"""The seconds after which a vendor says to come again when too many calls are in flight."""
ROUNDING = 1e-6
"""Virtual time has whole microseconds: who comes that much too early is in time."""
LONGEST_DRAW = 10.0
TOKEN_BURST = 0.1
TOO_FAST = b'{"error":{"message":"Rate limit reached.","type":"requests","param":null,"code":"rate_limit_exceeded"}}'
BROKEN = b'{"error":{"message":"The server had an error.","type":"server_error","param":null,"code":null}}'


class Said(NamedTuple):
    """How a call will end, and in how many seconds; *gate* is the limit it counts in until then."""

    outcome: ChatReply | CallFailure
    seconds: float
    gate: Gate | None


class Meter:
    """One limit per minute, as its vendor keeps it: a level that refills continuously and may fall below 0."""

    __slots__ = ("at", "burst", "level", "per_minute", "weights")

    def __init__(self, per_minute: float, burst: float, weights: tuple[int, int, int]) -> None:
        self.per_minute = per_minute
        self.burst = self.level = burst
        self.weights = weights
        self.at = 0.0

    def wait(self, call: Weight, now: float) -> float:
        """Return the seconds until *call* may come, 0 for now. What is larger than the burst needs a full level."""
        self.level = min(self.burst, self.level + (now - self.at) * self.per_minute / 60.0)
        self.at = now
        return max(0.0, (min(float(self.cost(call)), self.burst) - self.level) * 60.0 / self.per_minute)

    def take(self, call: Weight) -> None:
        """Count *call*; a negative one is given back."""
        self.level -= self.cost(call)

    def cost(self, call: Weight) -> int:
        """Return what *call* counts here."""
        requests, inputs, outputs = self.weights
        return requests * call[0] + inputs * call[1] + outputs * call[2]


Weight = tuple[int, int, int]
"""A call as the meters see it: 1, its input tokens, its output tokens."""
WEIGHTS = {
    "requests_per_minute": (1, 0, 0),
    "tokens_per_minute": (0, 1, 1),
    "input_tokens_per_minute": (0, 1, 0),
    "output_tokens_per_minute": (0, 0, 1),
}
"""What each limit counts."""


class Gate:
    """The door of one domain: its meters, who is inside, and what has come in so far."""

    def __init__(self, limits: VendorLimits) -> None:
        self.limits = limits
        self.used: Weight = (0, 0, 0)
        self.refused = 0
        self.flight_seconds = 0.0
        self._in_flight = 0
        self._since = 0.0
        self._meters = tuple(
            Meter(rate, float(limits.burst) if name == "requests_per_minute" else max(1.0, rate * TOKEN_BURST), weights)
            for name, weights in WEIGHTS.items()
            if (rate := getattr(limits, name)) is not None
        )

    def enter(self, call: Weight, now: float) -> float:
        """Let *call* in and return 0, or turn it away and return the seconds it should wait; then it counts nowhere."""
        wait = max((meter.wait(call, now) for meter in self._meters), default=0.0)
        if self.limits.concurrency is not None and self._in_flight >= self.limits.concurrency:
            wait = max(wait, FULL)
        if wait > ROUNDING:
            self.refused += 1
            return wait
        self.count(call)
        self._move(1, now)
        return 0.0

    def count(self, call: Weight) -> None:
        """Count what was used beyond what is counted; negative where it was less."""
        self.used = (self.used[0] + call[0], self.used[1] + call[1], self.used[2] + call[2])
        for meter in self._meters:
            meter.take(call)

    def leave(self, now: float) -> None:
        """Count a call out."""
        self._move(-1, now)

    def _move(self, change: int, now: float) -> None:
        self.flight_seconds += self._in_flight * (now - self._since)
        self._since = now
        self._in_flight += change


class Dice:
    """What one caller's calls are dealt: three numbers a call, whatever becomes of it."""

    def __init__(self, seed: int, address: str) -> None:
        self._roll = Random(f"{seed}/{address}").random  # noqa: S311 (reproducible, no secret)

    def deal(self) -> tuple[float, float, float]:
        """Return the next three numbers in [0, 1)."""
        return self._roll(), self._roll(), self._roll()


class Vendor:
    """The server of one provider."""

    def __init__(self, provider: str, config: Config, seed: int) -> None:
        self.provider = provider
        self.settings = config.simulation
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        told = (*config.limits, *config.simulation.limits)
        domains = dict.fromkeys((provider, *(name for name in told if name.partition("/")[0] == provider)))
        self.gates = {domain: Gate(vendor_limits(config, domain)) for domain in domains}
        self._shares = list(_cumulated(self.settings.faults))
        self._desk = Desk(script(self.settings, seed))

    def take(self, request: ChatRequest, profile: Profile, now: float, rolls: tuple[float, float, float]) -> Said:
        """Return how *request*, which comes in at *now*, will end."""
        what = next((name for name, below in self._shares if rolls[0] < below), "")
        gate = self.gates.get(f"{self.provider}/{request.model}") or self.gates[self.provider]
        tokens = sum(fake_team.count_tokens(turn.content) for turn in request.messages)
        most = request.max_tokens or 0
        wait = gate.enter((1, tokens, most), now)
        if wait:
            return self._refuse(wait if self.settings.retry_after else None, None, now)
        if what:
            self.faults[what] += 1
        if what in {"throttled", "throttled_without_hint"}:
            gate.count((0, -tokens, -most))
            return self._refuse(self.settings.faults.hint if what == "throttled" else None, gate, now)
        said = self._answer(request, profile, what, now)
        used = _usage(said)
        gate.count((0, used.input_tokens - tokens, used.output_tokens - most))
        return Said(said, self._seconds(what, used.output_tokens, rolls), gate)

    def _refuse(self, wait: float | None, gate: Gate | None, now: float) -> Said:
        headers = {} if wait is None else {"retry-after": f"{wait:.3f}"}
        self.statuses[429] += 1
        return Said(decode_response(429, headers, TOO_FAST, now), self.settings.round_trip, gate)

    def _answer(self, request: ChatRequest, profile: Profile, what: str, now: float) -> ChatReply | CallFailure:
        if what == "server_error":
            self.statuses[500] += 1
            return decode_response(500, {}, BROKEN, now)
        if what == "timeout":
            self.statuses[0] += 1
            return CallFailure(kind=ErrorKind.TIMEOUT, message="no reply came")
        reply = self._desk.take(b"", encode_request(request, profile), now)
        self.statuses[reply.status] += 1
        body = reply.body[: len(reply.body) // 2] if what == "malformed" else reply.body
        said = decode_response(reply.status, reply.headers, body, now)
        if what == "truncated" and isinstance(said, ChatReply):
            return replace(said, text=said.text[: len(said.text) // 2], finish_reason="length")
        return said

    def _seconds(self, what: str, tokens: int, rolls: tuple[float, float, float]) -> float:
        settings = self.settings
        if what == "timeout":
            return NEVER
        seconds = (settings.latency + settings.per_output_token * tokens) * draw(settings.spread, rolls[1])
        seconds += settings.jitter * rolls[2]
        return seconds * settings.faults.slow_factor if what == "slow" else seconds


def draw(spread: float, roll: float) -> float:
    """Return a factor of median 1: log-logistic of shape 4, drawn towards 1 by ``1 - spread``; never above 10.

    Its quantiles need nothing but a division and two square roots, which are exact on every machine: at a spread of 1
    half the draws lie within 0.76 and 1.32, 5 % above 2.1, 1 % above 3.2.
    """
    return 1.0 + spread * (min(LONGEST_DRAW, sqrt(sqrt(roll / (1.0 - roll)))) - 1.0)


def vendor_limits(config: Config, domain: str) -> VendorLimits:
    """Return what the vendor of *domain* enforces: what ``[simulation.limits]`` says, else what ``[limits]`` says.

    How many calls may be in flight is our own choice in ``[limits]``; a vendor enforces it only where told to.
    """
    if domain in config.simulation.limits:
        return config.simulation.limits[domain]
    table = config.limits.get(domain)
    if table is None:
        return VendorLimits()
    names = [name for name in VendorLimits.__struct_fields__ if name != "concurrency"]
    return VendorLimits(**{name: getattr(table, name) for name in names})


def script(settings: Simulation, seed: int) -> Script:
    """Return what the team behind the vendor's door is told."""
    return Script(seed=seed, subtasks=settings.subtasks, reject_first_reviews=settings.reject)


def _usage(said: ChatReply | CallFailure) -> Usage:
    """Return what the vendor counts for how a call ended: nothing for a failure."""
    return said.usage or Usage() if isinstance(said, ChatReply) else Usage()


def _cumulated(shares: FaultShares) -> Iterator[tuple[str, float]]:
    below = 0.0
    for name, share in shares.shares.items():
        if share:
            below += share
            yield name, below
