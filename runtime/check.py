"""The check command: says whether a configuration can work, before anything is spent."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from protocol.errors import ConfigError
from runtime import assembly
from runtime.config import Config, read_key
from runtime.executing import Executing
from runtime.terminal import complain, print_out

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_MODEL = "no model is configured: add a [model.<name>] table with provider and name"


@contextmanager
def of_file(path: str | None) -> Iterator[None]:
    """Let a ``ConfigError`` name the file at *path* that it comes from; None: there is none."""
    try:
        yield
    except ConfigError as error:
        if path is None or str(error).startswith(f"{path}: "):
            raise
        raise ConfigError(f"{path}: {error}", page=error.page) from None


def check(path: str) -> int:
    """Check the file at *path*: print what it says and return 0.

    Raises ``ConfigError`` for the first thing that cannot work.
    """
    with of_file(path):
        config = Config.load(path)
        for name, provider in config.provider.items():
            if provider.kind == "anthropic":
                raise ConfigError(f"provider.{name}.kind = 'anthropic' is not built yet in this version")
            read_key(provider)
        pools = assembly.agents(config)
        assembly.workflows(config)
        if not config.model:
            raise ConfigError(NO_MODEL)
        executing = Executing(config)
        executing.open()
    if executing.running.reason:
        complain(f"{path}: drafts are not run: {executing.running.reason}")
    for line in report(config, {role: len(specs) for role, specs in pools.items()}):
        print_out(line)
    return 0


def gaps(config: Config) -> Iterator[str]:
    """Yield what *config* asks for and will not get, a line each."""
    if config.budget.usd is not None:
        for name, model in config.model.items():
            if model.price is None:
                yield f"model.{name} has no price: its calls are refused while budget.usd is set"


def report(config: Config, pools: dict[str, int]) -> Iterator[str]:
    """Yield what the configuration says, a line each."""
    for name, provider in config.provider.items():
        key = f"key from {provider.api_key_env}" if provider.api_key_env else "no key"
        yield f"provider {name}: {provider.kind}, {provider.base_url or 'in a child process'}, {key}"
    for name, model in config.model.items():
        price = (
            "no price"
            if model.price is None
            else f"{model.price.input:g}/{model.price.output:g} USD per million tokens"
        )
        yield f"model {name}: {model.name} at {model.provider}, tier {model.tier}, {price}"
    for role, table in config.roles.items():
        nobody = f"no agent: name its class in roles.{role}.agent, or register one in code"
        played = f"{pools[role]} agent(s), model {table.model}" if role in pools else nobody
        yield f"role {role}: {played}"
    if config.budget.usd is not None:
        yield f"budget: {config.budget.usd:g} USD in all"
    routing = config.routing
    kept = f"kept in {routing.memory}" if routing.memory else "gone when the process ends"
    yield f"routing: {routing.choose}, what is learnt is {kept if routing.learn else 'nothing'}"
    yield f"team: workflow {config.team.workflow}, plan {config.team.plan}, {config.team.max_rounds} rounds at most"
    yield from gaps(config)
    yield "ok"
