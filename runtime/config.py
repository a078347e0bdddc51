"""The configuration: one TOML file, decoded into frozen structs, with everything unknown or impossible refused.

``Config()`` is valid: the built-in team without a model. What the keys mean stands in ``runtime/template.toml``, the
defaults beside the guide's values in ``docs/configuration.md``. Partner: ``runtime/config_check.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from protocol.errors import ConfigError
from runtime.config_check import check, check_variable, merged
from runtime.defaults import MAX_TOKENS, ON_EMBEDDED, ROLES
from runtime.simulation_settings import Simulation
from runtime.tables import LARGEST_FILE, Wrong, did_you_mean, one_line, parsed, read

if TYPE_CHECKING:
    from runtime.secret import Secret

Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(gt=0, le=1e10)]
Dollars = Annotated[float, Meta(ge=0, le=1e6)]
Kind = Literal["openai", "anthropic", "embedded"]


class Provider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where models are. ``api_key_env`` names the variable with the key; without it no Authorization header is sent."""

    kind: Kind = "openai"
    base_url: Text | None = None
    api_key_env: Text | None = None


class Price(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens; of input read from a cache or written to one, None is the price of input."""

    input: Dollars
    output: Dollars
    cached: Dollars | None = None
    written: Dollars | None = None


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model: the key of its provider, its name there, its rung on the ladder (1 cheap .. 3 strong).

    ``context`` is its window in tokens, None: unknown.
    """

    provider: Text
    name: Text
    tier: Annotated[int, Meta(ge=1, le=3)] = 2
    context: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    price: Price | None = None


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider allows; None is no limit of ours.

    ``burst`` counts requests, ``ageing`` is seconds per priority class. ``start_per_minute`` is the rate of requests to
    begin with where ``requests_per_minute`` is not known; None: 3600, and quickly more.
    """

    requests_per_minute: Annotated[float, Meta(gt=0, le=1e7)] | None = None
    requests_per_day: Annotated[float, Meta(ge=1, le=1e10)] | None = None
    burst: Annotated[int, Meta(ge=1, le=100_000)] = 10
    tokens_per_minute: Rate | None = None
    input_tokens_per_minute: Rate | None = None
    output_tokens_per_minute: Rate | None = None
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 64
    ageing: Seconds = 60.0
    start_per_minute: Annotated[float, Meta(gt=0, le=1e7)] | None = None


class Flow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant's or workflow's share of a contended provider."""

    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0


class Role(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a role works, as in ``protocol.roles.RoleSettings``; the defaults are those of a role of the user's own.

    ``timeout`` is seconds per attempt. ``agent`` is ``package.module:Class``; None is the built-in agent, or one
    registered in code.
    """

    model: Text = "auto"
    system_prompt: str = ""
    prompt: str = "{task}"
    revise: str = ""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = 0.7
    max_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] = MAX_TOKENS
    timeout: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    max_retries: Annotated[int, Meta(ge=0, le=20)] = 3
    history_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] = 8000
    keep_truncated: bool = False
    rubric: bool = True
    coalesce: bool = False
    cache_seconds: Annotated[float, Meta(ge=0, le=604_800)] = 0.0
    instances: Annotated[int, Meta(ge=1, le=1000)] = 1
    agent: Text | None = None


class Team(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a team works together. ``max_rounds`` counts revisions after the first draft, ``accept_score`` is of 10."""

    workflow: Text = "team"
    plan: Literal["auto", "always", "never"] = "auto"
    fan_out: Literal["auto", "max"] = "auto"
    split: Literal["auto", "never"] = "auto"
    max_rounds: Annotated[int, Meta(ge=0, le=20)] = 2
    accept_score: Annotated[int, Meta(ge=0, le=10)] = 7
    stop_rules: Literal["auto", "rounds"] = "auto"
    judge_noise: Annotated[float, Meta(ge=0, le=10)] = 2.5
    progress_guard: Literal["auto", "off"] = "auto"
    max_subtasks: Annotated[int, Meta(ge=1, le=64)] = 32
    max_parallel: Annotated[int, Meta(ge=1, le=1000)] = 5


class Routing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How roles with ``model = "auto"`` choose, as in ``protocol.policies.routing.Rules``; ``memory`` is a file."""

    choose: Literal["auto", "strongest"] = "auto"
    worth: Annotated[float, Meta(ge=0, le=1e6)] = 40.0
    cascade: bool = True
    learn: bool = True
    explore: Annotated[float, Meta(ge=0, le=0.5)] = 0.03
    memory: Text | None = None


class RetryRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The wait before retry n (from 0) is drawn from ``0 .. min(cap, base * factor ** n)`` seconds."""

    base: Annotated[float, Meta(gt=0, le=3600)] = 0.5
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    cap: Annotated[float, Meta(gt=0, le=3600)] = 30.0


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent, in US dollars; None is no bound."""

    usd: Annotated[float, Meta(ge=0, le=1e9)] | None = None


class Executor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether drafts are run; ``auto``: when there is a sandbox."""

    enabled: Literal["auto"] | bool = "auto"


class System(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where actors run: ``shared`` on one loop, ``threads`` one thread each."""

    dispatcher: Literal["shared", "threads"] = "shared"


def built_in_roles() -> dict[str, Role]:
    """Return orchestrator, coder and reviewer as they are without a configuration."""
    return {name: Role(**settings) for name, settings in ROLES.items()}


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a system can be told. Keys of tables are names of the user's choice, beside the built-in roles."""

    provider: dict[str, Provider] = {}
    model: dict[str, Model] = {}
    limits: dict[str, Limits] = {}
    flows: dict[str, Flow] = {}
    roles: dict[str, Role] = field(default_factory=built_in_roles)
    team: Team = Team()
    routing: Routing = Routing()
    retry: RetryRules = RetryRules()
    budget: Budget = Budget()
    executor: Executor = Executor()
    system: System = System()
    simulation: Simulation = Simulation()

    # --- doors

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Config:
        """Return the configuration in the file at *path*.

        Raises ``ConfigError``, one line: file, key, what was expected.
        """
        source = os.fspath(path)
        try:
            with Path(source).open("rb") as file:
                text = file.read(LARGEST_FILE + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "that is no file name"
            raise ConfigError(one_line(f"{source}: cannot be read: {reason}")) from None
        return cls.parse(text, source)

    @classmethod
    def parse(cls, text: bytes, source: str) -> Config:
        """Return the configuration that *text* holds as TOML; *source* names it in errors.

        Raises ``ConfigError`` and nothing else, whatever the bytes are.
        """
        try:
            return from_tables(parsed(text))
        except Wrong as error:
            raise ConfigError(one_line(f"{source}: {error}"), page=error.page) from None

    @classmethod
    def for_endpoint(
        cls, base_url: str, model: str, provider: str = "openai", api_key_env: str | None = None
    ) -> Config:
        """Return the built-in team on one endpoint: ``--base-url`` and ``--model``. Raises ``ConfigError``."""
        return cls().override(base_url=base_url or None, model=model, provider=provider, api_key_env=api_key_env)

    def override(
        self,
        *,
        base_url: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        api_key_env: str | None = None,
        max_cost: float | None = None,
    ) -> Config:
        """Return this configuration under the short options of the command line; None changes nothing.

        *base_url* moves the one provider there is, and leaves its key behind: a key goes to no other URL than it was
        given for. Where there are several, *base_url* and *model* together take the place of them all. *model* is the
        key or the name of a configured model, or a new name at the one provider; every role then uses it. *max_cost*
        is in US dollars. Raises ``ConfigError``.
        """
        config = self if max_cost is None else replace(self, budget=Budget(usd=max_cost))
        try:
            if (base_url, provider, api_key_env) != (None, None, None):
                config = _moved(config, base_url, provider, api_key_env, alone=model is not None)
            config = config if model is None else _on_model(config, model)
            return config.validated("the given options")
        except Wrong as error:
            raise ConfigError(one_line(f"the given options: {error}"), page=error.page) from None

    def validated(self, source: str = "the given Config") -> Config:
        """Return this configuration, checked like a file: for one that was built in code. Raises ``ConfigError``."""
        try:
            return from_tables(_plain(self))
        except Wrong as error:
            raise ConfigError(one_line(f"{source}: {error}"), page=error.page) from None

    # --- questions

    def resolve_model(self, role: str) -> str:
        """Return the key of the model that *role* uses; ``auto`` is the first of the strongest tier.

        Raises ``ConfigError`` when no model is configured.
        """
        wanted = self.roles[role].model if role in self.roles else "auto"
        if wanted != "auto":
            return wanted
        if not self.model:
            text = "no model is configured: add a [model.<name>] table with provider and name"
            raise ConfigError(text, page="no_model")
        return max(self.model, key=lambda key: self.model[key].tier)

    def is_embedded(self, role: str) -> bool:
        """Tell whether *role* uses the embedded model."""
        if not self.model:
            return False
        return self.provider[self.model[self.resolve_model(role)].provider].kind == "embedded"

    def limits_for(self, provider: str, model_name: str | None = None) -> Limits:
        """Return the limits of the model named *model_name* at the provider with this key, else the provider's own."""
        narrow = self.limits.get(f"{provider}/{model_name}")
        return narrow or self.limits.get(provider) or Limits()


def read_key(provider: Provider) -> Secret | None:
    """Return the key from the environment variable that *provider* names, None when it names none.

    Blanks and line breaks around the key are dropped. Raises ``ConfigError``, which does not tell the key.
    """
    from runtime.http import check_key  # noqa: PLC0415 (loading a configuration must not load the HTTP side)
    from runtime.secret import Secret  # noqa: PLC0415 (as above)

    variable = provider.api_key_env
    if variable is None:
        return None
    try:
        check_variable(variable, "api_key_env")
    except Wrong as error:
        raise ConfigError(str(error), page=error.page) from None
    text = os.environ.get(variable, "").strip()
    if not text:
        text = f"the environment variable {variable} is not set or empty; api_key_env says it holds the key"
        raise ConfigError(text, page="api_key")
    try:
        return Secret(check_key(text))
    except ValueError as error:
        raise ConfigError(one_line(f"the environment variable {variable}: {error}"), page="api_key") from None


# --- from bytes to tables to structs


def from_tables(tables: dict[str, Any], *, checked: bool = True) -> Config:
    """Return the configuration in *tables*; roles of the embedded model get its defaults for what is not said.

    Without *checked* what must hold between its keys is left for the caller to ask.
    """
    config = read(Config, merged(tables))
    if checked:
        check(config)
    given = tables.get("roles", {})
    roles = {
        name: replace(role, **{key: ON_EMBEDDED[key] for key in ON_EMBEDDED if key not in given.get(name, {})})
        if checked and config.is_embedded(name)
        else role
        for name, role in config.roles.items()
    }
    return replace(config, roles=roles)


def _plain(config: Config) -> dict[str, Any]:
    """Return a configuration that was built in code as the tables it stands for."""
    try:
        tables: dict[str, Any] = msgspec.to_builtins(config, str_keys=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise Wrong("", f"holds what no configuration can hold: {error}") from None
    return tables


# --- the short options


def _moved(config: Config, base_url: str | None, kind: Any, api_key_env: str | None, *, alone: bool) -> Config:
    """Return *config* with its one provider changed, or with one provider in place of several."""
    if len(config.provider) > 1 and not (alone and base_url):
        names = ", ".join(config.provider)
        raise Wrong("", f"there are several providers ({names}); --base-url and --model together replace them")
    if len(config.provider) == 1:
        name, old = next(iter(config.provider.items()))
        models, limits, roles = config.model, config.limits, config.roles
    else:
        name, old, models = "main", Provider(), {}
        limits = {key: value for key, value in config.limits.items() if key == name}
        roles = {role: replace(how, model="auto") for role, how in config.roles.items()}
    new = _changed(old, base_url, kind, api_key_env)
    if (new.kind == "embedded") != (old.kind == "embedded"):
        roles = {role: _fitted(how, new.kind) for role, how in roles.items()}
    return replace(config, provider={name: new}, model=models, limits=limits, roles=roles)


def _changed(old: Provider, base_url: str | None, kind: Any, api_key_env: str | None) -> Provider:
    if base_url is not None and base_url != old.base_url:
        old = Provider(kind="openai" if old.kind == "embedded" else old.kind, base_url=base_url)
    return replace(old, kind=kind or old.kind, api_key_env=old.api_key_env if api_key_env is None else api_key_env)


def _fitted(role: Role, kind: str) -> Role:
    """Return *role* with the defaults for the embedded model put in or taken out, where it has the others."""
    usual = {key: getattr(Role(), key) for key in ON_EMBEDDED}
    before, after = (usual, ON_EMBEDDED) if kind == "embedded" else (ON_EMBEDDED, usual)
    return replace(role, **{key: after[key] for key in after if getattr(role, key) == before[key]})


def _on_model(config: Config, model: str) -> Config:
    """Return *config* with every role on *model*."""
    key = model if model in config.model else next((k for k, m in config.model.items() if m.name == model), None)
    models = config.model
    if key is None:
        if len(config.provider) != 1:
            raise Wrong("", f"--model names no configured model{did_you_mean(model, models)}")
        key = "command-line" if "main" in models else "main"
        models = {**models, key: Model(provider=next(iter(config.provider)), name=model)}
    roles = {name: replace(role, model=key) for name, role in config.roles.items()}
    return replace(config, model=models, roles=roles)
