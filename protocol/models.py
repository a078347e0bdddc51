"""The models of a configuration and their providers, as the gateway sees them: what they cost, and where they count."""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from protocol.chat import OutputMode, Usage


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model of the configuration. ``output`` is its best rung, ``context`` its window in tokens, None: unknown.

    Prices are in nano-dollars per token, None: unknown; for input read from a cache or written to one, None: as input.
    """

    key: str
    provider: str
    name: str
    tier: int = 1
    price_in: float | None = None
    price_out: float | None = None
    price_cached: float | None = None
    price_written: float | None = None
    output: OutputMode = "json_schema"
    context: int | None = None

    def cost(self, usage: Usage) -> int | None:
        """Return what *usage* costs in nano-dollars, None when a price is unknown. Reasoning counts as output."""
        if self.price_in is None or self.price_out is None:
            return None
        cached = self.price_in if self.price_cached is None else self.price_cached
        written = self.price_in if self.price_written is None else self.price_written
        plain = max(0, usage.input_tokens - usage.cached_tokens - usage.written_tokens)
        inputs = plain * self.price_in + usage.cached_tokens * cached + usage.written_tokens * written
        return round(inputs + usage.output_tokens * self.price_out)

    def most(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return the most that so many tokens can cost in nano-dollars, None when a price is unknown."""
        if self.price_in is None or self.price_out is None:
            return None
        dearest = max(self.price_in, self.price_cached or 0.0, self.price_written or 0.0)
        return ceil(input_tokens * dearest + output_tokens * self.price_out)


class ProviderInfo(Struct, frozen=True, kw_only=True):
    """A provider: the limiter's domain of its models, and how many callers it has at most.

    ``domains`` names another domain by model key, where the configuration narrows a model's limits. ``weighed`` says
    that somebody counts tokens or money, so that every call is estimated before it goes.
    """

    key: str
    domain: str
    domains: dict[str, str] = {}
    callers: int = 64
    weighed: bool = True

    def domain_of(self, model: str) -> str:
        """Return the domain that calls of the model with this key count in."""
        return self.domains.get(model, self.domain)
