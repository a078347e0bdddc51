"""The table of all defaults beside the guide's values, as Markdown: ``docs/configuration.md``.

``python -m runtime.config_table > docs/configuration.md`` writes it anew; a test compares the two.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from msgspec import NODEFAULT, structs

from runtime.config import (
    Budget,
    Config,
    Executor,
    Flow,
    Limits,
    Model,
    Price,
    Provider,
    RetryRules,
    Role,
    Routing,
    System,
    Team,
)
from runtime.defaults import ON_EMBEDDED, VARIABLES
from runtime.simulation_settings import FaultShares, Simulation, VendorLimits
from runtime.tables import expected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msgspec import Struct

TABLES: Final[dict[str, type[Struct]]] = {
    "provider.<name>": Provider,
    "model.<name>": Model,
    "model.<name>.price": Price,
    "limits.<provider>": Limits,
    "flows.<name>": Flow,
    "roles.<name>": Role,
    "team": Team,
    "routing": Routing,
    "retry": RetryRules,
    "budget": Budget,
    "executor": Executor,
    "system": System,
    "simulation": Simulation,
    "simulation.limits.<provider>": VendorLimits,
    "simulation.faults": FaultShares,
}
TABLES_INSIDE = {"model.<name>.price", "simulation.limits", "simulation.faults"}
"""Keys whose values have rows of their own."""
TEXTS = ("system_prompt", "prompt", "revise")

GUIDE: Final[dict[str, tuple[str, str]]] = {
    "provider.<name>.base_url": (
        "`https://api.holysheep.ai/v1`",
        "an endpoint is the user's choice; nothing is sent anywhere by default",
    ),
    "model.<name>.name": ("`claude-opus-4-5`", "as above"),
    "limits.<provider>.requests_per_minute": (
        "3600 (60 per second)",
        "vendors publish a minute's limit, each another; what is not stated is learnt from the provider's answers",
    ),
    "limits.<provider>.burst": (
        "100",
        "60 a second and 100 at once are 160 in the first second: a 429 at most vendors",
    ),
    "limits.<provider>.concurrency": (
        "none",
        "the guide's semaphore limits nothing; a socket and a caller per call do",
    ),
    "limits.<provider>.start_per_minute": (
        "-",
        "with none it is 3600, and grows quickly; 1200 is more careful, 10000000 is as good as unpaced",
    ),
    "limits.<provider>.ageing": ("none", "the guide's queue starves what is less urgent"),
    "roles.<name>.temperature": ("0.7", ""),
    "roles.<name>.max_tokens": ("4096", ""),
    "roles.<name>.timeout": ("30.0", ""),
    "roles.<name>.max_retries": ("3", ""),
    "roles.<name>.history_tokens": ("no bound", "a history without a bound outgrows every context window"),
    "roles.coder.timeout": ("45.0", ""),
    "roles.reviewer.temperature": ("0.7", "a verdict should be the same when it is asked for again"),
    "team.plan": ("always", "a plan for a small question costs a call and splits what is one piece"),
    "team.max_rounds": ("none", "the guide names feedback loops, and shows none"),
    "team.accept_score": ("none", "as above"),
    "team.max_subtasks": ("a cap", "the guide drops what is past its cap; here it is merged into the last one"),
    "team.max_parallel": ("5 (3 in its example)", ""),
    "retry.base": (
        "2.0 (waits of 2, 4, 8 s)",
        "most faults are over in less than two seconds; hints of the provider are floors",
    ),
    "retry.factor": ("2.0 inside 1.5", "the guide nests two retry layers, up to 20 calls for one; here there is one"),
    "retry.cap": ("none", "a wait must end; with full jitter, so that callers do not come back together"),
    "budget.usd": ("none", ""),
}
"""What the guide says for a key, and why the default is another where it is."""

HEAD = """\
# Configuration

One TOML file; `python -m runtime init` writes it with comments, `python -m runtime check --config F` checks it. Unknown
keys and impossible values are refused in one line that names the file, the key and what was expected. This page is
generated from `Config()` by `python -m runtime.config_table`; a test compares the two. A dash means that the guide says
nothing about it.

| key | takes | default | the guide's value | why different |
|---|---|---|---|---|
"""

NOTES = """
- With a model of the embedded provider `max_tokens` is {max_tokens}, `keep_truncated` is {keep_truncated} and `rubric`
  is {rubric}, where the file does not say otherwise.
- `[limits."<provider>/<model's name>"]` narrows the limits of a provider to one model; what it does not say is taken
  from the provider's.
- A budget reserves the most that a call can cost: the bytes of its prompt and `max_tokens` at the model's dearest
  price. `price.cached` and `price.written` are for input read from a prompt cache and written to one, `input` where
  they are not given. Where `price` is not given, `genai-prices` is asked if it is installed
  (`pip install 'troupe[prices]'`): offline, by `base_url` and the model's name, with what it knows of dearer long
  calls. A model whose price nobody knows is not called while a budget is set, and its cost is `null`, never 0.
- `requests_per_day` counts in any 24 hours, and may be used up at once.
- Priorities are `high` (0, the most urgent), `normal` (1) and `low` (2). 0 is the most urgent in the guide, too.
- `roles.<name>.agent` and `team.workflow` name a class as `package.module:Name`: a subclass of `actors.Agent` with
  `async def handle`, or of `actors.Workflow` with `async def run`. Modules are found as `python -m` finds them: in the
  current directory, and where packages are installed. Where Python was started otherwise (a script of another folder,
  the command `troupe`) the current directory is put at the end of `sys.path`, so that no file in it takes the place of
  an installed module; with `-P` or `PYTHONSAFEPATH` it is left out, as Python does. A module that is missing or raises,
  and a class that is none, is one line and exit 2.
- A role of your own that only says other words needs no code: `agent = "actors:Coder"`, with a `system_prompt` and a
  `prompt` such as `"Translate into German: {{task}}"`.
- `roles.<name>` are the defaults of a role of the user's own; the built-in roles differ where they have a row of their
  own.
- `[simulation]` is read by `python -m runtime simulate` alone; [simulation.md](simulation.md) says what it means. A
  limit that `[simulation.limits.<provider>]` does not say is none; without that table the provider enforces `[limits]`.
- Keys come only from the environment variable that `api_key_env` names. Plain `http` goes only to the same machine.

## Before anything is spent

`python -m runtime check --config F` lists everything that cannot work, a line each, on standard error: what the file
says wrong, classes that cannot be loaded, keys that are not set, roles that nobody plays, models without a price under
a budget, limits, budgets and windows that can never take one call of a role by its `max_tokens`. What works otherwise
than it reads is a line with `warning:`. Where nothing is wrong, standard output shows the team; the exit code is 0, and
2 otherwise. `--json` puts all of it into one document.

`check --online` then calls each model once, for one token and with a JSON schema; where the endpoint refuses the schema
a second call goes without. It says how long that took, whether the schema was accepted, and the limits that the headers
told, with a warning where higher ones are configured. A model that does not answer is an error; a provider that is only
busy (429, 500, 503) is a warning. Nothing is retried. The calls may be billed, a few tokens each.

## Templates

`prompt` and `revise` are templates; `system_prompt` is sent as it stands. A template is filled by `str.format` with
plain variables; a literal brace is written twice. The templates of a role with an agent of its own may use `{{task}}`
`{{subtask}}` `{{draft}}` `{{issues}}`.

| template | variables |
|---|---|
{variables}

## The words of the built-in roles

They follow the guide's prompts, which are German; `examples/guide_de.toml` has those.
"""


def configuration_table() -> str:
    """Return the text of ``docs/configuration.md``: each key's default, the guide's value, and why they differ."""
    rows = "\n".join(f"| {' | '.join(row)} |" for row in _rows())
    variables = "\n".join(f"| `roles.{place}` | {_listed(names)} |" for place, names in VARIABLES.items())
    notes = NOTES.format(variables=variables, **{key: _shown(value).strip("`") for key, value in ON_EMBEDDED.items()})
    return HEAD + rows + "\n" + notes + "".join(_words())


def _rows() -> Iterator[tuple[str, ...]]:
    for table, kind in TABLES.items():
        for field in structs.fields(kind):
            if f"{table}.{field.name}" not in TABLES_INSIDE:
                yield _row(f"{table}.{field.name}", expected(field.type), _default(field))
    usual = Role()
    for name, role in Config().roles.items():
        for field in structs.fields(Role):
            value = getattr(role, field.name)
            if field.name not in TEXTS and value != getattr(usual, field.name):
                yield _row(f"roles.{name}.{field.name}", expected(field.type), _shown(value))


def _row(key: str, takes: str, default: str) -> tuple[str, ...]:
    guide, why = GUIDE.get(key, ("-", ""))
    return f"`{key}`", takes, default, guide, why


def _default(field: structs.FieldInfo) -> str:
    return "required" if field.default is NODEFAULT else _shown(field.default)


def _shown(value: Any) -> str:
    """Return *value* as it would stand in TOML."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"{value}"


def _listed(names: tuple[str, ...]) -> str:
    return " ".join(f"`{{{name}}}`" for name in names)


def _words() -> Iterator[str]:
    """Yield the prompts of each built-in role as blocks of text."""
    for name, role in Config().roles.items():
        for part in TEXTS:
            if text := getattr(role, part):
                yield f"\n`roles.{name}.{part}`:\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(configuration_table())
