"""From configuration to actors: what each table of the configuration becomes.

Everything here is wiring: no decision, no state beyond what was opened and must be closed again.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

from actors.agent import Agent, agent_spec
from actors.caller import Caller
from actors.coder import Coder
from actors.directory import ActorSpec
from actors.gateway import Gateway
from actors.orchestrator import Orchestrator
from actors.reviewer import Reviewer
from actors.team import Running, TeamRules, TeamWorkflow
from actors.workflow import Workflow
from protocol import ids
from protocol.errors import ConfigError, TroupeError
from protocol.gateway import Gateway as Decisions
from protocol.ledger import NANO
from protocol.limiter import DomainLimits
from protocol.messages import PRIORITIES
from protocol.models import ModelInfo, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.policies.budget import Budget
from protocol.policies.planning import Planner
from protocol.policies.purse import Purse
from protocol.policies.token_estimate import estimate as tokens_of
from protocol.policies.token_estimate import estimate_messages
from protocol.roles import AgentRole, RoleSettings
from protocol.wire.profiles import EMBEDDED, profile_for
from runtime import learnt
from runtime.config import read_key
from runtime.config_check import NAME
from runtime.line import ProviderLine
from runtime.logs import get_logger, keep_out
from runtime.own_class import load
from runtime.prices import prices
from runtime.tokenizers import tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from actors.caller import Line
    from protocol.calls import Estimate
    from protocol.policies.routing import Router
    from protocol.signals import StartRun
    from protocol.wire.profiles import Profile
    from runtime.config import Config, Limits
    from runtime.secret import Secret

_log = get_logger()

BUILT_IN: dict[str, type[Agent]] = {
    AgentRole.ORCHESTRATOR: Orchestrator,
    AgentRole.CODER: Coder,
    AgentRole.REVIEWER: Reviewer,
}
MOST_DOLLARS = 1e9
"""The largest budget."""
MOST_CALLERS = 64
"""How many calls to one provider are under way at once where the configuration names no concurrency."""


# --- doors: what comes in from outside is checked here


def words(what: str, value: object) -> str:
    """Return *value* when it is text; a number, say the primary key of a row, is refused in words."""
    if not isinstance(value, str):
        raise TroupeError(f"{what} is text, not {value!r}: {what} = str(...)")
    return value


def correlation_id(text: str) -> str:
    """Return *text* when it may name a run; raises ``TroupeError`` otherwise."""
    if not ids.is_correlation_id(words("correlation_id", text)):
        raise TroupeError(f"a correlation id is 1 to 64 characters of A-Z a-z 0-9 _ -, not {text[:80]!r}")
    return text


def task(text: str) -> str:
    """Return *text* when it can be sent anywhere; raises ``TroupeError`` otherwise."""
    if not words("task", text).strip():
        raise TroupeError("the task is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TroupeError(f"the task is not valid text: {error.reason} at character {error.start}") from None
    return text


def known(name: str, workflows: dict[str, Any]) -> str:
    """Return *name* when a workflow is registered by it; raises ``TroupeError`` otherwise."""
    if name not in workflows:
        raise TroupeError(f"no workflow is called {name!r}; there are: {', '.join(sorted(workflows))}")
    return name


def same(one: StartRun, other: StartRun) -> bool:
    """Tell whether two runs of one id do the same."""
    return (one.task, one.workflow, one.to) == (other.task, other.workflow, other.to)


def priority(name: str) -> int:
    """Return the class of *name*: high, normal or low."""
    if name not in PRIORITIES:
        raise TroupeError(f"priority is high, normal or low, not {name!r}")
    return PRIORITIES[name]


def flow(name: str) -> str:
    """Return *name* when it may name a flow; empty: the run is a flow of its own."""
    if words("flow", name) and not NAME.fullmatch(name):
        raise TroupeError(f"a flow is 1 to 64 characters of A-Z a-z 0-9 _ . -, not {name[:80]!r}")
    return name


def money(usd: float | None) -> int | None:
    """Return US dollars as nano-dollars, rounded down."""
    if usd is None:
        return None
    if not (isfinite(usd) and 0.0 <= usd <= MOST_DOLLARS):
        raise TroupeError(f"a budget is a number of US dollars from 0 to {MOST_DOLLARS:.0f}, not {usd}")
    return int((Decimal(str(usd)) * NANO).to_integral_value(ROUND_FLOOR))


def timeout(seconds: float | None) -> float | None:
    """Return *seconds* when they are None or a positive number."""
    try:
        fits = seconds is None or (isfinite(seconds) and seconds > 0.0)
    except TypeError:
        fits = False
    if not fits:
        raise TroupeError(f"a timeout is a number of seconds above 0, not {seconds!r}")
    return seconds


# --- limits, roles, workflows


def limits(config: Config) -> dict[str, DomainLimits]:
    """Return the limits of each domain: a provider's key, or ``provider/model`` where the configuration narrows it.

    A provider without limits has as many calls in flight as there are callers: who is next is decided in one place.
    """
    usual = {provider: DomainLimits(concurrency=MOST_CALLERS) for provider in config.provider}
    return usual | {
        domain: DomainLimits(
            requests_per_minute=table.requests_per_minute,
            requests_per_day=table.requests_per_day,
            burst=table.burst,
            tokens_per_minute=table.tokens_per_minute,
            input_tokens_per_minute=table.input_tokens_per_minute,
            output_tokens_per_minute=table.output_tokens_per_minute,
            concurrency=table.concurrency,
            ageing=table.ageing,
            start_per_minute=table.start_per_minute,
        )
        for domain, table in config.limits.items()
    }


def flows(config: Config) -> dict[str, float]:
    """Return the weight of each flow that the configuration names."""
    return {name: table.weight for name, table in config.flows.items()}


def budget(config: Config) -> Budget:
    """Return the books of a system: they outlive the limiter's instances."""
    return Budget(money(config.budget.usd))


def _weighs(table: Limits) -> bool:
    """Tell whether *table* limits tokens."""
    rates = (table.tokens_per_minute, table.input_tokens_per_minute, table.output_tokens_per_minute)
    return any(rate is not None for rate in rates)


def settings(config: Config, role: str) -> RoleSettings:
    """Return how *role* works; a role that the configuration does not name has neutral settings."""
    table = config.roles.get(role)
    if table is None:
        return RoleSettings()
    fields = {name: getattr(table, name) for name in RoleSettings.__struct_fields__ if hasattr(table, name)}
    return RoleSettings(**fields)


def agents(config: Config) -> dict[str, tuple[ActorSpec, ...]]:
    """Return the agents of every role: the built-in ones, and those that the configuration names a class for."""
    pools: dict[str, tuple[ActorSpec, ...]] = {}
    for role, table in config.roles.items():
        kind = load(table.agent, Agent, f"roles.{role}.agent") if table.agent else BUILT_IN.get(role)
        if kind is not None:
            _, pools[role] = pool(config, kind, role, table.instances)
    return pools


def pool(config: Config, agent: type[Agent], role: str | None, instances: int) -> tuple[str, tuple[ActorSpec, ...]]:
    """Return the role's name and the specs of its *instances*. Raises ``ConfigError`` for what cannot be."""
    given: object = agent
    if not (isinstance(given, type) and issubclass(given, Agent)):
        raise ConfigError(f"register takes a subclass of actors.Agent, not {agent!r}")
    name = str(role or agent.role)
    if not ids.ROLE_NAME.fullmatch(name):
        hint = "" if name else f"; set {agent.__name__}.role or pass role="
        raise ConfigError(
            f"a role's name is 1 to 32 characters of a-z 0-9 _ - and begins with a letter, not {name!r}{hint}"
        )
    if instances < 1:
        raise ConfigError(f"a role needs 1 instance or more, not {instances}")
    how = settings(config, name) if name in config.roles else None
    return name, tuple(agent_spec(agent, name, number, how) for number in range(instances))


def workflows(config: Config, running: Running | None = None) -> dict[str, Callable[[StartRun], Workflow]]:
    """Return the workflows that runs can be started by; *running* says whether the team's drafts are run."""
    team = config.team
    coder = config.roles.get(AgentRole.CODER)
    rules = TeamRules(
        **{name: getattr(team, name) for name in TeamRules.__struct_fields__ if hasattr(team, name)},
        budget_usd=config.budget.usd,
        ladder=coder is not None and coder.model == "auto" and len({model.tier for model in config.model.values()}) > 1,
        planner=planner(config),
    )
    known: dict[str, Callable[[StartRun], Workflow]] = {"team": lambda start: TeamWorkflow(start, rules, running)}
    if team.workflow not in known:
        own = load(team.workflow, Workflow, "team.workflow")
        known[team.workflow] = lambda start: _bounded(own(start), team.max_parallel)
    return known


def planner(config: Config) -> Planner:
    """Return what a plan costs: at the orchestrator's model, or the strongest, where it is chosen."""
    role = config.roles.get(AgentRole.ORCHESTRATOR)
    known = prices(config).get(config.resolve_model(AgentRole.ORCHESTRATOR)) if config.model else None
    price = known[0] if known else None
    return Planner(
        0 if role is None else tokens_of(role.system_prompt) + tokens_of(role.prompt),
        None if price is None else price.input,
        None if price is None else price.output,
    )


def _bounded(workflow: Workflow, max_parallel: int) -> Workflow:
    """Return *workflow* with the configured bound, where its class has none of its own."""
    if workflow.max_parallel is None:
        workflow.max_parallel = max_parallel
    return workflow


# --- models and the ways to them


class Models:
    """The providers of a system: keys, lines, the embedded model. Opened at the start, closed at the end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._prices = prices(config)
        self._tokenizers: Mapping[str, Estimate] = {}
        self._keys: dict[str, Secret | None] = {}
        self._urls: dict[str, str] = {}
        self._lines: dict[str, Line] = {}
        self._embedded: Any = None
        self._router: Router | None = None
        self._purse = Purse(money(config.budget.usd))

    def open(self) -> None:
        """Read the keys and start the embedded model where one is wanted. Raises ``ConfigError``.

        A first line to each provider is made and closed: what it loads takes a tenth of a second, in which the loop
        would hold up every actor.
        """
        for name, provider in self._config.provider.items():
            if provider.kind == "anthropic":
                text = f"provider.{name}.kind = 'anthropic' is not built yet in this version"
                raise ConfigError(text, page="not_built")
            key = read_key(provider)
            if key is not None:
                keep_out(key.reveal())
            self._keys[name] = key
            self._urls[name] = self._embedded_url() if provider.kind == "embedded" else provider.base_url or ""
            ProviderLine(self._urls[name], key, self._profile(name)).close()
        weighed = {name for name, provider in self._providers().items() if provider.weighed}
        self._tokenizers = tokenizers({k: m.name for k, m in self._config.model.items() if m.provider in weighed})

    def _embedded_url(self) -> str:
        from runtime.embedded import EmbeddedModel  # noqa: PLC0415 (only where it is used)

        if self._embedded is None:
            self._embedded = EmbeddedModel()
            self._embedded.start()
        url: str = self._embedded.url
        return url

    def abort(self) -> None:
        """Hang up every line whose call is under way, so that its caller can end."""
        for line in list(self._lines.values()):
            line.hang_up()

    def close(self, timeout: float) -> None:
        """Keep what was learnt, and stop the embedded model within *timeout* seconds."""
        if self._router is not None:
            try:
                learnt.write(self._config.routing.memory, self._router.learnt)
            except OSError as error:
                _log.warning("routing.not_kept", error=str(error))
        if self._embedded is not None:
            self._embedded.stop(min(2.0, timeout))

    def gateway(self, observer: str | None = None) -> Gateway:
        """Return a gateway for these models, which tells *observer* of each stage of a call; its actor's factory."""
        retry, models = self._config.retry, self._models()
        if self._router is None:  # it outlives a gateway that fails, and what it has learnt with it
            self._router = learnt.router(self._config.routing, models.values())
        decide = Decisions(
            models=models,
            router=self._router,
            purse=self._purse,
            providers=self._providers(),
            backoff=Backoff(base=retry.base, factor=retry.factor, cap=retry.cap),
            estimate=estimate_messages,
            exact=self._tokenizers,
        )
        return Gateway(decide, self._caller_spec, self._lines, observer=observer)

    def _models(self) -> dict[str, ModelInfo]:
        """Return the models, the strongest first."""
        return {
            key: ModelInfo(
                key=key,
                provider=model.provider,
                name=model.name,
                tier=model.tier,
                context=model.context,
                prices=self._prices.get(key),
                output=self._profile(model.provider).output,
            )
            for key, model in sorted(self._config.model.items(), key=lambda item: -item[1].tier)
        }

    def _providers(self) -> dict[str, ProviderInfo]:
        """Return the providers; a model with limits of its own is a domain of its own, with its own callers."""
        models, table = self._config.model, self._config.limits
        priced = {models[key].provider for key in self._prices}
        narrowed = {key: f"{model.provider}/{model.name}" for key, model in models.items()}
        return {
            provider: ProviderInfo(
                key=provider,
                domain=provider,
                domains=(
                    own := {key: d for key, d in narrowed.items() if d in table and models[key].provider == provider}
                ),
                callers=sum(table[d].concurrency if d in table else MOST_CALLERS for d in {provider, *own.values()}),
                weighed=bool(self._config.flows)
                or provider in priced
                or any(d in table and _weighs(table[d]) for d in (provider, *own.values())),
            )
            for provider in self._config.provider
        }

    def _caller_spec(self, provider: str, number: int) -> ActorSpec:
        """Return the spec of caller *number* of *provider*; every instance gets a line of its own."""
        address = f"caller/{provider}/{number}"

        def factory() -> Caller:
            before = self._lines.get(address)
            if before is not None:
                before.close()  # of an instance that failed: it runs in the caller's own thread
            self._lines[address] = line = ProviderLine(
                self._urls[provider], self._keys[provider], self._profile(provider)
            )
            return Caller(line)

        return ActorSpec(
            address=address,
            factory=factory,
            parent=ids.SUPERVISOR,
            pinned=True,
            watchers=(ids.GATEWAY,),
            stuck_after=None,
        )

    def _profile(self, provider: str) -> Profile:
        """Return how *provider* is spoken to."""
        if self._config.provider[provider].kind == "embedded":
            return EMBEDDED
        return profile_for(self._urls[provider])
