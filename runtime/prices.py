"""What each model costs: first as configured, else as ``genai-prices`` knows it (the extra ``troupe[prices]``).

The package brings its price lists along; nothing is fetched. It is asked by the provider's URL and the model's name: a
relay that it does not know has prices of its own, and an unknown price is never guessed. What runs on this machine has
no price there, so that the package is not even loaded. Prices that change with the
hour are those of the moment of the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from protocol.models import Price
from runtime.http import is_loopback

if TYPE_CHECKING:
    from decimal import Decimal

    from runtime import config as configuration

NANO_PER_TOKEN: Final = 1000.0
"""Nano-dollars a token for a dollar a million tokens."""
FIELDS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "written": "cache_write_mtok",
}


def prices(config: configuration.Config) -> dict[str, tuple[Price, ...]]:
    """Return the prices of the models that have any, by key."""
    found: dict[str, tuple[Price, ...]] = {}
    for key, model in config.model.items():
        provider = config.provider.get(model.provider)
        if model.price is not None:
            found[key] = (_configured(model.price),)
        elif provider is not None and provider.base_url and not is_loopback(urlsplit(provider.base_url).hostname or ""):
            listed = _listed(model.name, provider.base_url)
            if listed is not None:
                found[key] = listed
    return found


def _configured(price: configuration.Price) -> Price:
    return Price(
        input=price.input * NANO_PER_TOKEN,
        output=price.output * NANO_PER_TOKEN,
        cached=None if price.cached is None else price.cached * NANO_PER_TOKEN,
        written=None if price.written is None else price.written * NANO_PER_TOKEN,
    )


def _listed(name: str, url: str) -> tuple[Price, ...] | None:
    """Return what ``genai-prices`` knows of a model, None when it knows nothing or is not installed."""
    try:
        from genai_prices import Usage, calc_price  # noqa: PLC0415 (optional, and a quarter of a second to import)
    except ImportError:
        return None
    try:
        known: Any = calc_price(Usage(input_tokens=1, output_tokens=1), name, provider_api_url=url).model_price
    except (LookupError, ValueError):
        return None
    columns = {field: getattr(known, theirs, None) for field, theirs in FIELDS.items()}
    if columns["input"] is None or columns["output"] is None:
        return None
    starts = {0} | {tier.start for column in columns.values() for tier in getattr(column, "tiers", ())}
    return tuple(
        Price(above=start, **{field: _at(column, start) for field, column in columns.items()})
        for start in sorted(starts)
    )


def _at(column: Any, start: int) -> Any:
    """Return what a column of the price list says from *start* input tokens on: one figure, or one of its steps."""
    if column is None:
        return None
    figure: Decimal = getattr(column, "base", column)
    for tier in getattr(column, "tiers", ()):
        if tier.start <= start:
            figure = tier.price
    return float(figure) * NANO_PER_TOKEN
