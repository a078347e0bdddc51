"""``check --online``: one call of one token to each model, over the way that every call takes, and what it tells.

The call asks for a structured answer, so that one call says both whether the model is there and whether the endpoint
takes a JSON schema. Only where it is refused for that a second one goes without. No gateway stands between: nothing is
retried, and no limit of ours holds it back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from protocol.chat import CallFailure, ChatMessage, ChatRequest
from protocol.errors import ErrorKind
from protocol.wire.hints import DAY, MINUTE, windows_of
from protocol.wire.profiles import EMBEDDED, profile_for
from protocol.wire.schema import strict_schema
from runtime.config import read_key
from runtime.findings import Finding
from runtime.line import ProviderLine
from runtime.logs import keep_out
from runtime.tables import joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from protocol.wire.profiles import Profile
    from runtime.config import Config, Model, Provider

TIMEOUT = 30.0
"""Seconds that one call may take."""
ASKED = (ChatMessage(role="user", content='Answer with {"ok": true} as JSON.'),)
BUSY = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.PROVIDER_OVERLOADED, ErrorKind.SERVER_ERROR})
"""A provider that says so is there; whether the model is, it has not said."""
THOUGHT = "output limit was reached"
"""What models say that think before they answer, and have spent the one token on that."""
PERIODS = {1.0: "second", MINUTE: "minute", 3600.0: "hour", DAY: "day"}
FACTOR = 60.0

Schema = Literal["accepted", "refused", "not asked"]


class Answer(Struct, frozen=True):
    """What every model is asked for."""

    ok: bool


class Limit(Struct, frozen=True, kw_only=True):
    """A limit that the headers told: so much of *resource* in *period* seconds, None where they do not say."""

    resource: str
    limit: int
    period: float | None

    def __str__(self) -> str:
        period = "an unsaid time" if self.period is None else PERIODS.get(self.period, f"{self.period:g} s")
        return f"{self.limit} {self.resource.replace('_', ' ')} per {period}"


class Learned(Struct, frozen=True, kw_only=True):
    """What the calls to one model have told: seconds of the last one, what the headers say, how many there were."""

    model: str
    calls: int
    seconds: float
    json_schema: Schema
    limits: tuple[Limit, ...]

    def __str__(self) -> str:
        told = ", ".join(map(str, self.limits)) or "none in its headers"
        calls = "1 call" if self.calls == 1 else f"{self.calls} calls"
        times = f"answers in {self.seconds * 1000.0:.0f} ms ({calls})"
        return f"online {self.model}: {times}, json_schema {self.json_schema}, limits: {told}"


def ask_all(config: Config) -> Iterator[Learned | Finding]:
    """Call each model of *config*; yield what was learnt, and what cannot work or differs. Raises ``ConfigError``."""
    for name, provider in config.provider.items():
        models = {key: model for key, model in config.model.items() if model.provider == name}
        if not models:
            continue
        if provider.kind == "embedded":
            yield from _ask_embedded(config, provider, models)
        else:
            url = provider.base_url or ""
            yield from _ask_provider(config, provider, models, url, profile_for(url))


def _ask_embedded(config: Config, provider: Provider, models: Mapping[str, Model]) -> Iterator[Learned | Finding]:
    from runtime.embedded import EmbeddedModel  # noqa: PLC0415 (only where it is used)

    child = EmbeddedModel()
    try:
        yield from _ask_provider(config, provider, models, child.start().url, EMBEDDED)
    finally:
        child.stop()


def _ask_provider(
    config: Config, provider: Provider, models: Mapping[str, Model], url: str, profile: Profile
) -> Iterator[Learned | Finding]:
    secret = read_key(provider)
    if secret is not None:
        keep_out(secret.reveal())
    line = ProviderLine(url, secret, profile)
    try:
        for key, model in models.items():
            yield from _ask(config, key, model, line, profile)
    finally:
        line.close()


def _ask(config: Config, key: str, model: Model, line: ProviderLine, profile: Profile) -> Iterator[Learned | Finding]:
    schema = profile.output == "json_schema"
    outcome, elapsed, headers = line.call(request(model.name, schema=schema), timeout=TIMEOUT, call=f"check/{key}")
    calls = 1
    refused = schema and isinstance(outcome, CallFailure) and outcome.param == "response_format"
    if refused:
        outcome, elapsed, headers = line.call(request(model.name), timeout=TIMEOUT, call=f"check/{key}/2")
        calls = 2
    if isinstance(outcome, CallFailure) and THOUGHT not in outcome.message:
        busy = outcome.kind in BUSY
        yield Finding(
            level="warning" if busy else "error",
            where=joined("model", key),
            what=f"{'is there, and busy' if busy else outcome.kind.value}: {outcome.message}",
            page=outcome.kind.value,
        )
        return
    windows = windows_of(headers, time.time(), requests_period=profile.requests_period)
    limits = tuple(
        Limit(resource=resource, limit=window.limit, period=window.period)
        for resource, window in windows
        if window.limit is not None
    )
    took: Schema = "refused" if refused else "accepted" if schema else "not asked"
    yield Learned(model=key, calls=calls, seconds=elapsed / 1000.0, json_schema=took, limits=limits)
    yield from _differences(config, model, limits)


def request(model: str, *, schema: bool = False) -> ChatRequest:
    """Return the call: one token, with a schema for it or without."""
    wanted = strict_schema(Answer) if schema else None
    return ChatRequest(
        model=model, messages=ASKED, max_tokens=1, schema=wanted, output="json_schema" if schema else "text"
    )


def _differences(config: Config, model: Model, limits: tuple[Limit, ...]) -> Iterator[Finding]:
    """Yield which limits are configured higher than the provider says they are."""
    narrow = f"{model.provider}/{model.name}"
    domain = narrow if narrow in config.limits else model.provider
    ours = config.limits.get(domain)
    for each in limits if ours is not None else ():
        stated = getattr(ours, f"{each.resource}_per_minute", None)
        if stated is None or each.period is None:
            continue
        theirs = each.limit * FACTOR / each.period
        if stated > theirs:
            where = f"{joined('limits', domain)}.{each.resource}_per_minute"
            yield Finding(
                level="warning",
                where=where,
                what=f"{stated:g} is more than the provider says it allows: {each}",
                page="rate_limited",
            )
