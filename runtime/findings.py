"""Whether a team can work as it is configured, found out before a cent is spent: every finding, an error or a warning.

An error is what cannot work; a warning is what works otherwise than it reads. Nothing is sent, and no actor started.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from actors.agent import Agent
from actors.workflow import Workflow
from protocol.domain import RATES, Domain
from protocol.errors import ConfigError
from protocol.ledger import NANO
from protocol.roles import AgentRole
from runtime import assembly, learnt
from runtime.config import Config, from_tables, read_key
from runtime.config_check import faults as between_keys
from runtime.config_check import merged
from runtime.defaults import ANY_VARIABLE
from runtime.executing import Executing
from runtime.own_class import load
from runtime.prices import prices
from runtime.tables import LARGEST_FILE, Wrong, faults, joined, mended, one_line, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.config import Model, Role

NO_MODEL = "no model is configured: add a [model.<name>] table with provider and name"


class Finding(Struct, frozen=True, kw_only=True):
    """One finding: the key it is about, what is so there, and what to do; ``page`` is a heading in ``errors.md``."""

    level: Literal["error", "warning"] = "error"
    where: str
    what: str
    do: str = ""
    page: str = "configuration"

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return one_line(f"{where}{self.what}{f'; {self.do}' if self.do else ''}")


def of_file(path: str) -> tuple[Config | None, list[Finding]]:
    """Return the configuration in the file at *path* and what is found in it; None where there is nothing to look at.

    Where the file is wrong, what is left of it is looked through as well.
    """
    try:
        with Path(path).open("rb") as file:
            tables = parsed(file.read(LARGEST_FILE + 1))
    except (OSError, ValueError) as error:
        if isinstance(error, Wrong):
            return None, [_of(error)]
        reason = getattr(error, "strerror", None) or "that is no file name"
        return None, [Finding(where="", what=f"cannot be read: {reason}")]
    wrong = list(faults(Config, merged(tables)))
    sound = mended(Config, merged(tables)) if wrong else tables
    wrong += between_keys(from_tables(sound, checked=False))
    config = from_tables(sound, checked=not wrong)
    return config, _each_once([*map(_of, wrong), *findings(config)])


def _of(wrong: Wrong) -> Finding:
    return Finding(where=wrong.key, what=wrong.text, page=wrong.page)


def _each_once(found: list[Finding]) -> list[Finding]:
    """Return errors before warnings, and of one key the first error alone: what follows from it is no news."""
    first: dict[str, Finding] = {}
    for each in found:
        if each.level == "error" and each.where:
            first.setdefault(each.where, each)
    errors = [each for each in found if each.level == "error" and first.get(each.where, each) is each]
    return errors + [each for each in found if each.level == "warning" and each.where not in first]


def findings(config: Config) -> Iterator[Finding]:
    """Yield what keeps a team with *config* from working, beyond what the configuration refuses by itself."""
    yield from _providers(config)
    yield from _classes(config)
    yield from _cast(config)
    yield from _prices(config)
    yield from _limits(config)
    yield from _sizes(config)
    yield from _unused(config)
    yield from _executor(config)
    yield from _memory(config)


# --- who is there


def _providers(config: Config) -> Iterator[Finding]:
    for name, provider in config.provider.items():
        key = joined("provider", name)
        if provider.kind == "anthropic":
            yield Finding(where=f"{key}.kind", what="'anthropic' is not built yet in this version", page="not_built")
        if provider.kind == "embedded":
            from runtime.embedded import available  # noqa: PLC0415 (only where it is used)

            if (missing := available()) is not None:
                yield Finding(where=f"{key}.kind", what=missing, page="embedded")
        try:
            read_key(provider)
        except ConfigError as error:
            yield Finding(where=f"{key}.api_key_env", what=str(error), page=error.page)


def _classes(config: Config) -> Iterator[Finding]:
    """Import what the configuration names."""
    wanted: list[tuple[str, str, type[Any]]] = [
        (joined("roles", name) + ".agent", role.agent, Agent) for name, role in config.roles.items() if role.agent
    ]
    if config.team.workflow != "team":
        wanted.append(("team.workflow", config.team.workflow, Workflow))
    for key, path, base in wanted:
        try:
            load(path, base, key)
        except ConfigError as error:
            yield Finding(where=key, what=str(error).removeprefix(f"{key} = "), page=error.page)


def _cast(config: Config) -> Iterator[Finding]:
    built_in = config.team.workflow == "team"
    if not config.model:
        level: Literal["error", "warning"] = "error" if built_in else "warning"
        yield Finding(level=level, where="", what=NO_MODEL, page="no_model")
    for role in assembly.BUILT_IN if built_in else ():
        if role not in config.roles:
            when = f" while team.max_rounds is {config.team.max_rounds}" if role == AgentRole.REVIEWER else ""
            text = f"nobody plays it{when}, and the built-in team needs it"
            yield Finding(where=f"roles.{role}", what=text, do=f"add a [roles.{role}] table")
    for name, table in config.roles.items():
        key = joined("roles", name)
        if table.agent is None and name not in {*assembly.BUILT_IN, AgentRole.EXECUTOR}:
            text = f"no agent plays it: name its class in {key}.agent, or register one in code"
            yield Finding(level="warning", where=key, what=text)
        for variable in ANY_VARIABLE:
            if f"{{{variable}}}" in table.system_prompt:
                text = f"{{{variable}}} in it is sent as it stands"
                where = f"{key}.system_prompt"
                yield Finding(level="warning", where=where, what=text, do="variables are for prompt and revise")


def candidates(config: Config, role: Role) -> dict[str, Model]:
    """Return the models that *role* may call, by their keys."""
    return {key: model for key, model in config.model.items() if role.model in {"auto", key}}


# --- what can never be paid, or never admitted


def gaps(config: Config) -> Iterator[str]:
    """Yield which models a budget leaves out, a line each."""
    if config.budget.usd is not None:
        known = prices(config)
        for name in config.model:
            if name not in known:
                yield f"{joined('model', name)} has no price: its calls are refused while budget.usd is set"


def _prices(config: Config) -> Iterator[Finding]:
    if config.budget.usd is None:
        return
    known = prices(config)
    stranded = [
        name
        for name, role in config.roles.items()
        if (models := candidates(config, role)) and known.keys().isdisjoint(models)
    ]
    for name in config.model:
        if name not in known:
            theirs = [role for role in stranded if name in candidates(config, config.roles[role])]
            who = f", and roles {', '.join(theirs)} have no other" if theirs else ""
            yield Finding(
                level="error" if theirs else "warning",
                where=joined("model", name),
                what=f"has no price: its calls are refused while budget.usd is set{who}",
                do="add price = { input = .., output = .. }",
                page="budget",
            )


def _calls(config: Config) -> Iterator[tuple[str, Role, str, Model]]:
    for (name, role), (key, model) in product(config.roles.items(), config.model.items()):
        if role.model in {"auto", key}:
            yield name, role, key, model


def _limits(config: Config) -> Iterator[Finding]:
    """Ask the limiter's own decision about the smallest call of each role at each model."""
    limits = assembly.limits(config)
    never: dict[str, list[str]] = {}
    for name, role, _, model in _calls(config):
        narrow = f"{model.provider}/{model.name}"
        domain = narrow if narrow in limits else model.provider
        if domain in limits:
            costs = (1, 1 + role.max_tokens, 1, role.max_tokens)
            for index, meter in Domain(domain, limits[domain], {}, empty_at=None).meters:
                if not meter.can_ever_fit(costs[index]):
                    who = f"{name} ({role.max_tokens})"
                    never.setdefault(f"{joined('limits', domain)}.{RATES[index]}", []).append(who)
    for where, roles in never.items():
        who = ", ".join(dict.fromkeys(roles))
        text = f"admits no call of these roles, by their max_tokens: {who}"
        yield Finding(where=where, what=text, do="raise it, or lower max_tokens", page="never_fits")


def _sizes(config: Config) -> Iterator[Finding]:
    """Compare the most that one call reserves with the budget and with the model's window."""
    budget = config.budget.usd
    known = {} if budget is None else prices(config)
    for name, role, key, model in _calls(config):
        where, alone = joined("roles", name) + ".max_tokens", len(candidates(config, role)) == 1
        level: Literal["error", "warning"] = "error" if alone else "warning"
        if model.context is not None and role.max_tokens >= model.context:
            text = f"{role.max_tokens} leaves no room for a prompt in the window of model {key} ({model.context})"
            yield Finding(level=level, where=where, what=text, do="lower it", page="context_length")
        if budget is not None and key in known:
            least = known[key][0].most(1, role.max_tokens) / NANO
            if least > budget:
                text = f"a call at model {key} reserves ${least:g} for it, and budget.usd is ${budget:g}"
                yield Finding(level=level, where=where, what=text, do="lower it, or raise the budget", page="budget")


# --- what is there for nothing, and what is run


def _unused(config: Config) -> Iterator[Finding]:
    called = {key for _, _, key, _ in _calls(config)}
    for name, model in config.model.items():
        if name not in called and model.provider in config.provider:
            yield Finding(level="warning", where=joined("model", name), what="no role calls it")
    for name in config.provider:
        if config.model and name not in {model.provider for model in config.model.values()}:
            yield Finding(level="warning", where=joined("provider", name), what="no model is at it")


def _executor(config: Config) -> Iterator[Finding]:
    executing = Executing(config)
    try:
        executing.open()
    except ConfigError as error:
        yield Finding(where="executor.enabled", what=str(error), page=error.page)
    if executing.running.reason:
        text = f"drafts are not run: {executing.running.reason}"
        yield Finding(level="warning", where="executor.enabled", what=text, page="sandbox")
    executing.close()


def _memory(config: Config) -> Iterator[Finding]:
    try:
        learnt.read(config.routing.memory)
    except ConfigError as error:
        yield Finding(where="routing.memory", what=str(error).removeprefix("routing.memory: "))
