"""What must hold between the keys of a configuration: names that name something, templates that can be filled.

Partner of ``runtime/config.py``; every check raises :class:`runtime.tables.Wrong` with the whole key.
"""

from __future__ import annotations

import difflib
import re
from functools import partial
from string import Formatter
from typing import TYPE_CHECKING, Any

from protocol import ids
from protocol.roles import AgentRole
from runtime.defaults import ANY_VARIABLE, NEEDED, OURS, ROLES, VARIABLES
from runtime.tables import Wrong, did_you_mean, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from runtime.config import Config, Model, Provider, RetryRules, Role

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
LOOKS_LIKE_A_KEY = re.compile(
    r"(?i:sk|pk|rk|gsk|xai|hf|ghp|key|r8|pplx|nvapi)-.*|sk_.*|AIza.*|(?=.*[a-z])(?=.*\d)\w{24,}"
)
PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def merged(tables: dict[str, Any]) -> dict[str, Any]:
    """Return *tables* with built-in roles under the given ones, and a provider's limits under those of its models.

    What has the wrong type is left as it is, for the reader to refuse.
    """
    roles, limits = tables.get("roles", {}), tables.get("limits", {})
    if isinstance(roles, dict):
        own = {name: how for name, how in roles.items() if name not in ROLES}
        tables = {**tables, "roles": {name: _over(ROLES[name], roles.get(name, {})) for name in ROLES} | own}
    if isinstance(limits, dict):
        narrowed = {key: _over(limits.get(key.partition("/")[0], {}), table) for key, table in limits.items()}
        tables = {**tables, "limits": narrowed}
    return tables


def _over(below: Any, above: Any) -> Any:
    return {**below, **above} if isinstance(below, dict) and isinstance(above, dict) else above


def check(config: Config) -> None:
    """Raise :class:`Wrong` for the first thing in *config* that cannot be."""
    for wrong in faults(config):
        raise wrong


def faults(config: Config) -> Iterator[Wrong]:
    """Yield everything in *config* that cannot be, as far as one thing does not hide another."""
    for check_one in _checks(config):
        try:
            check_one()
        except Wrong as wrong:
            yield wrong


def _checks(config: Config) -> Iterator[Callable[[], None]]:
    for key, provider in config.provider.items():
        yield partial(_name, "provider", key)
        yield partial(_check_provider, provider, joined("provider", key))
    for key, model in config.model.items():
        yield partial(_name, "model", key)
        yield partial(_check_model, model, joined("model", key), config.provider)
    for key in config.limits:
        yield partial(_check_limits, "limits", key, config)
    for key in config.simulation.limits:
        yield partial(_check_limits, "simulation.limits", key, config)
    yield partial(_check_shares, config.simulation.faults.total)
    for key in config.flows:
        yield partial(_name, "flows", key)
    for key, role in config.roles.items():
        yield from _checks_of_role(key, role, config)
    if config.team.workflow != "team":
        yield partial(_path, "team.workflow", config.team.workflow, "'team' or ")
    yield partial(_check_retry, config.retry)


def _check_shares(total: float) -> None:
    if total > 1.0 + 1e-9:
        raise Wrong("simulation.faults", f"expected shares that are 1 together at most, got {total:g}")


def _check_retry(retry: RetryRules) -> None:
    if retry.cap < retry.base:
        raise Wrong("retry.cap", f"expected at least retry.base, which is {retry.base:g}")


def _name(table: str, key: str) -> None:
    if not NAME.fullmatch(key):
        raise Wrong(joined(table, key), "expected a name of 1 to 64 characters of A-Z a-z 0-9 _ . -")
    if table == "model" and key == "auto":
        raise Wrong("model.auto", "expected another name; a role's model = 'auto' lets Troupe choose")


def _check_provider(provider: Provider, key: str) -> None:
    from runtime.http import check_url  # noqa: PLC0415 (only a configuration with a provider needs it)

    if provider.kind == "embedded":
        for name in ("base_url", "api_key_env"):
            if getattr(provider, name) is not None:
                raise Wrong(f"{key}.{name}", "expected none; the embedded model runs in a child process of its own")
        return
    if provider.base_url is None:
        raise Wrong(f"{key}.base_url", "is missing; expected a URL as in 'https://api.example.com/v1'")
    try:
        check_url(provider.base_url)
    except ValueError as error:
        raise Wrong(f"{key}.base_url", str(error)) from None
    if provider.api_key_env is not None:
        check_variable(provider.api_key_env, f"{key}.api_key_env")


def check_variable(variable: str, key: str) -> None:
    """Refuse what is no name of an environment variable, and what could be a key itself, without showing it."""
    if LOOKS_LIKE_A_KEY.fullmatch(variable):
        text = "looks like a key itself (not shown); expected the name of the variable that holds the key"
        raise Wrong(key, text, page="api_key")
    if not VARIABLE.fullmatch(variable):
        raise Wrong(
            key, "expected the name of an environment variable: A-Z a-z 0-9 _, as in 'OPENAI_API_KEY'", page="api_key"
        )


def _check_model(model: Model, key: str, providers: Iterable[str]) -> None:
    if not model.name.strip():
        raise Wrong(f"{key}.name", "expected the model's name at its provider, got blanks")
    _known(f"{key}.provider", model.provider, providers, "provider")


def _known(key: str, name: str, known: Iterable[str], what: str) -> None:
    if name not in known:
        shown = name[:60]
        raise Wrong(key, f"there is no {what} {shown!r}{did_you_mean(name, known)}")


def _check_limits(table: str, key: str, config: Config) -> None:
    provider, narrowed, name = key.partition("/")
    _known(joined(table, key), provider, config.provider, "provider")
    if narrowed:
        names = [model.name for model in config.model.values() if model.provider == provider]
        _known(joined(table, key), name, names, f"model named at {provider!r}")


# --- roles


def _checks_of_role(name: str, role: Role, config: Config) -> Iterator[Callable[[], None]]:
    key = joined("roles", name)
    yield partial(_check_role, name, role)
    if role.model != "auto":
        yield partial(_known, f"{key}.model", role.model, config.model, "model")
    if role.agent is not None:
        yield partial(_path, f"{key}.agent", role.agent)
    filled_by = name if role.agent is None else OURS.get(role.agent, "")
    for part in ("prompt", "revise"):
        place = f"{filled_by}.{part}"
        yield partial(_check_template, f"{key}.{part}", getattr(role, part), place)


def _check_role(name: str, role: Role) -> None:
    key = joined("roles", name)
    if not ids.ROLE_NAME.fullmatch(name):
        raise Wrong(key, "expected a role's name: 1 to 32 characters of a-z 0-9 _ - that begin with a letter")
    own = name not in tuple(AgentRole)
    close = difflib.get_close_matches(name, tuple(AgentRole), n=1, cutoff=0.8)
    if own and role.agent is None and close:
        raise Wrong(key, f"unknown role; did you mean {str(close[0])!r}? (a role of your own names its agent)")
    if not role.prompt.strip():
        raise Wrong(f"{key}.prompt", "expected a text that is not empty, as in 'Implement: {subtask}'")


def _check_template(key: str, template: str, place: str) -> None:
    """Refuse a template that the agent could not fill, or that would not tell the model what to work on."""
    known = VARIABLES.get(place, ANY_VARIABLE)
    used = _variables(key, template)
    allowed = " ".join(f"{{{name}}}" for name in known)
    for name in used:
        if name not in known:
            text = f"unknown variable {{{name[:60]}}}; allowed are {allowed} (a literal brace is written twice)"
            raise Wrong(key, text, page="template")
    needed = NEEDED.get(place, ())
    if template and needed and not set(needed) & set(used):
        names = " or ".join(f"{{{name}}}" for name in needed)
        raise Wrong(key, f"expected {names} in it; the model would not see it", page="template")


def _variables(key: str, template: str) -> list[str]:
    """Return the variables of *template*, which is filled by ``str.format``."""
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise Wrong(key, f"is no template: {error} (a literal brace is written twice)", page="template") from None
    for _, name, form, conversion in parts:
        if form or conversion:
            text = f"expected a plain {{variable}}, got one with a format: {{{str(name)[:60]}...}}"
            raise Wrong(key, text, page="template")
    return [str(name) for _, name, _, _ in parts]


def _path(key: str, path: str, or_: str = "") -> None:
    if not PATH.fullmatch(path):
        raise Wrong(key, f"expected {or_}a class as 'package.module:Name'")
