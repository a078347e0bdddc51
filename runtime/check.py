"""The check command: says whether a team can work as it is configured, before anything is spent."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from protocol.errors import ConfigError
from runtime import assembly, findings
from runtime.findings import NO_MODEL, Finding, gaps
from runtime.online import Learned, ask_all
from runtime.prices import NANO_PER_TOKEN, prices
from runtime.terminal import complain, print_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runtime.config import Config

__all__ = ["NO_MODEL", "Cast", "Checked", "check", "gaps", "of_file"]
FINE, WRONG = 0, 2
HEADS = ("role", "agent", "model", "instances", "timeout")


class Cast(Struct, frozen=True, kw_only=True):
    """Who plays a role; ``agent`` is None where nobody does, ``timeout`` is seconds per attempt."""

    role: str
    agent: str | None
    model: str
    instances: int
    timeout: float


class Checked(Struct, frozen=True, kw_only=True):
    """What ``check --json`` prints: ``ok`` is True where there is no error."""

    ok: bool
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    team: tuple[Cast, ...]
    online: tuple[Learned, ...]


@contextmanager
def of_file(path: str | None) -> Iterator[None]:
    """Let a ``ConfigError`` name the file at *path* that it comes from; None: there is none."""
    try:
        yield
    except ConfigError as error:
        if path is None or str(error).startswith(f"{path}: "):
            raise
        raise ConfigError(f"{path}: {error}", page=error.page) from None


def check(path: str, *, online: bool = False, json: bool = False) -> int:
    """Check the file at *path* and return 0, or 2 where something cannot work.

    Every finding is a line on standard error, errors first; what the team is stands on standard output. With *json*
    both are one document there. With *online* each model is called, where nothing has been found to be wrong before.
    """
    config, found = findings.of_file(path)
    answers: list[Learned] = []
    if online and config is not None and not any(each.level == "error" for each in found):
        with of_file(path):
            for each in ask_all(config):
                if isinstance(each, Finding):
                    found.append(each)
                else:
                    answers.append(each)
    checked = Checked(
        ok=not any(each.level == "error" for each in found),
        errors=tuple(each for each in found if each.level == "error"),
        warnings=tuple(each for each in found if each.level == "warning"),
        team=() if config is None else cast(config),
        online=tuple(answers),
    )
    if json:
        print_out(msgspec.json.encode(checked).decode())
    else:
        _show(path, config, checked)
    return FINE if checked.ok else WRONG


def _show(path: str, config: Config | None, checked: Checked) -> None:
    for each in checked.errors:
        complain(f"{path}: {each}", each.page)
    for each in checked.warnings:
        complain(f"{path}: warning: {each}", each.page)
    fine = config is not None and checked.ok
    for line in (*(report(config) if config is not None and fine else ()), *map(str, checked.online)):
        print_out(line)
    if fine:
        print_out("ok")


def cast(config: Config) -> tuple[Cast, ...]:
    """Return who plays which role."""
    return tuple(
        Cast(
            role=role,
            agent=table.agent or _built_in(role),
            model=table.model,
            instances=table.instances,
            timeout=table.timeout,
        )
        for role, table in config.roles.items()
    )


def _built_in(role: str) -> str | None:
    kind = assembly.BUILT_IN.get(role)
    return None if kind is None else kind.__name__


def report(config: Config) -> Iterator[str]:
    """Yield what the configuration says, a line each."""
    for name, provider in config.provider.items():
        key = f"key from {provider.api_key_env}" if provider.api_key_env else "no key"
        yield f"provider {name}: {provider.kind}, {provider.base_url or 'in a child process'}, {key}"
    known = prices(config)
    for name, model in config.model.items():
        price = "no price"
        if name in known:
            source = " (genai-prices)" if model.price is None else ""
            rates = (known[name][0].input, known[name][0].output)
            price = "/".join(f"{rate / NANO_PER_TOKEN:g}" for rate in rates) + f" USD per million tokens{source}"
        yield f"model {name}: {model.name} at {model.provider}, tier {model.tier}, {price}"
    for name, limits in config.limits.items():
        said = ((field, getattr(limits, field)) for field in limits.__struct_fields__)
        told = ", ".join(f"{field} {value:g}" for field, value in said if value is not None)
        yield f"limits {name}: {told}"
    if config.budget.usd is not None:
        yield f"budget: {config.budget.usd:g} USD in all"
    routing = config.routing
    kept = f"kept in {routing.memory}" if routing.memory else "gone when the process ends"
    yield f"routing: {routing.choose}, what is learnt is {kept if routing.learn else 'nothing'}"
    yield f"team: workflow {config.team.workflow}, plan {config.team.plan}, {config.team.max_rounds} rounds at most"
    rows = [
        (each.role, each.agent or "none yet", each.model, str(each.instances), f"{each.timeout:g} s")
        for each in cast(config)
    ]
    yield from table(HEADS, rows)


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield *rows* under *heads* in columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
