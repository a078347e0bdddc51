"""What one of several processes may use of a configuration: limits and budgets hold in one process each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from protocol.errors import ConfigError

if TYPE_CHECKING:
    from runtime.config import Config, Limits

RATES = (
    "requests_per_minute",
    "requests_per_day",
    "tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "start_per_minute",
)
COUNTS = ("burst", "concurrency")


def share(config: Config, processes: int) -> Config:
    """Return *config* for one of *processes* that work side by side on the same keys: a part of each limit and budget.

    All of them together then keep what *config* allows. Raises ``ConfigError`` for what cannot be divided: a ``burst``
    or ``concurrency`` below the number of processes.
    """
    if processes < 1:
        raise ConfigError(f"a configuration is shared by 1 process or more, not {processes}")
    usd = config.budget.usd
    return replace(
        config,
        limits={key: _part(key, limits, processes) for key, limits in config.limits.items()},
        budget=replace(config.budget, usd=None if usd is None else usd / processes),
    )


def _part(key: str, limits: Limits, processes: int) -> Limits:
    for name in COUNTS:
        if (there := getattr(limits, name)) < processes:
            raise ConfigError(f"limits.{key}.{name} = {there} cannot be shared by {processes} processes: raise it")
    rates = {name: rate / processes for name in RATES if (rate := getattr(limits, name)) is not None}
    return replace(limits, **rates, **{name: getattr(limits, name) // processes for name in COUNTS})
