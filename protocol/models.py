"""The models of a configuration and their providers, as the gateway sees them: what they cost, and where they count."""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from protocol.chat import OutputMode, Usage


class Price(Struct, frozen=True, kw_only=True):
    """What a token costs, in nano-dollars, in a call with more than ``above`` input tokens.

    Of input read from a cache or written to one, None is the price of input.
    """

    above: int = 0
    input: float
    output: float
    cached: float | None = None
    written: float | None = None

    def cost(self, usage: Usage) -> int:
        """Return what *usage* costs in nano-dollars. Reasoning counts as output."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        plain = max(0, usage.input_tokens - usage.cached_tokens - usage.written_tokens)
        inputs = plain * self.input + usage.cached_tokens * cached + usage.written_tokens * written
        return round(inputs + usage.output_tokens * self.output)

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that so many tokens can cost in nano-dollars."""
        dearest = max(self.input, self.cached or 0.0, self.written or 0.0)
        return ceil(input_tokens * dearest + output_tokens * self.output)


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model of the configuration. ``output`` is its best rung, ``context`` its window in tokens, None: unknown.

    ``prices`` are None when they are unknown, else one for calls of any size, and further ones for larger calls.
    """

    key: str
    provider: str
    name: str
    tier: int = 1
    prices: tuple[Price, ...] | None = None
    output: OutputMode = "json_schema"
    context: int | None = None

    @property
    def price(self) -> Price | None:
        """What a token costs in a call of common size, None: unknown."""
        return self.prices[0] if self.prices else None

    def cost(self, usage: Usage) -> int | None:
        """Return what *usage* costs in nano-dollars, None when the price is unknown."""
        reached = self._reached(usage.input_tokens) if self.prices else ()
        return reached[-1].cost(usage) if reached else None

    def most(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return the most that so many tokens, or fewer, can cost in nano-dollars, None when the price is unknown."""
        reached = self._reached(input_tokens)
        return max((price.most(input_tokens, output_tokens) for price in reached), default=None)

    def _reached(self, input_tokens: int) -> list[Price]:
        """Return the prices that so many tokens, or fewer, may be charged at."""
        return [price for price in self.prices or () if price.above < input_tokens or not price.above]


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
