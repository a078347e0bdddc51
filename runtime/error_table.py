"""Every error that a user can meet, with cause and cure, as Markdown: ``docs/errors.md``.

``python -m runtime.error_table > docs/errors.md`` writes it anew; a test compares the two, and another asks that each
kind of the taxonomy and each ``page`` that is given to an exception has its entry here.
"""

from __future__ import annotations

import sys
from textwrap import fill
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.errors import ConfigError, ErrorKind, Retry
from runtime.tables import did_you_mean
from runtime.terminal import print_out

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry(NamedTuple):
    """Why it happens, and what to do."""

    cause: str
    cure: str


KINDS: Final[dict[ErrorKind, Entry]] = {
    ErrorKind.CONNECTION: Entry(
        "The provider could not be reached, or the connection broke: refused, no such host, TLS, cut off.",
        "Look at `base_url`, the network and the certificate; `check --online` tries it.",
    ),
    ErrorKind.TIMEOUT: Entry(
        "No whole reply came within the role's `timeout`; the call may have been billed.",
        "Raise `roles.<name>.timeout`, lower `max_tokens`, or take a faster model.",
    ),
    ErrorKind.RATE_LIMITED: Entry(
        "The provider answered 429 for longer than the run could wait.",
        "Set `[limits.<provider>]` to what the provider allows, or give the run more `timeout`.",
    ),
    ErrorKind.QUOTA: Entry(
        "The account at the provider is used up: credit, plan or a day's quota.",
        "Pay, or wait for the next period; trying again does not help.",
    ),
    ErrorKind.AUTHENTICATION: Entry(
        "The provider does not take the key, or the key may not use this model.",
        "Look at the variable that `api_key_env` names, and at what the key is allowed.",
    ),
    ErrorKind.NOT_FOUND: Entry(
        "The provider knows no such model, or there is no API at this URL.",
        "Look at `model.<name>.name`, and whether `base_url` ends as the provider says (often in `/v1`).",
    ),
    ErrorKind.BAD_REQUEST: Entry(
        "The provider refuses what the request holds; its words say which field.",
        "Change that setting of the role: `temperature`, `max_tokens`, a prompt.",
    ),
    ErrorKind.CONTEXT_LENGTH: Entry(
        "Prompt and answer do not fit into the model's window.",
        "Lower `max_tokens` or `history_tokens`, shorten the task, or take a model with a larger `context`.",
    ),
    ErrorKind.SERVER_ERROR: Entry(
        "The provider failed inside, again and again.",
        "Try later; raise `max_retries` where it happens often.",
    ),
    ErrorKind.PROVIDER_OVERLOADED: Entry(
        "The provider has no capacity at the moment, and had none at any retry.",
        "Try later, lower `concurrency`, or configure another model beside it.",
    ),
    ErrorKind.BAD_RESPONSE: Entry(
        "What came back is no reply of a chat model: a web page, half a JSON document, an empty body.",
        "Look at `base_url`; a proxy or a portal may answer in the provider's place.",
    ),
    ErrorKind.REDIRECT: Entry(
        "The URL points elsewhere; it is not followed, since the key would go along.",
        "Set `base_url` to where it points.",
    ),
    ErrorKind.CONTENT_FILTER: Entry(
        "The model or the provider declined to answer.",
        "Reword the task.",
    ),
    ErrorKind.TRUNCATED: Entry(
        "The answer was cut at `max_tokens`.",
        "Raise `max_tokens`, or set `keep_truncated` to take what there is.",
    ),
    ErrorKind.INVALID_OUTPUT: Entry(
        "A structured answer was asked for, and also the repair did not have the form.",
        "Take a stronger model for this role, or ask for less in one answer.",
    ),
    ErrorKind.TOO_LARGE: Entry(
        "A request or reply is larger than is taken.",
        "Shorten the task or the prompt.",
    ),
    ErrorKind.NEVER_FITS: Entry(
        "One call reserves more than a limit lets through in a minute, so that waiting would never end.",
        "Raise the limit, or lower `max_tokens` of the role.",
    ),
    ErrorKind.BUDGET: Entry(
        "The call could cost more than is left of the budget, or its model has no price while a budget is set.",
        "Raise `budget.usd` or `--max-cost`, lower `max_tokens`, or give `price` to the model.",
    ),
    ErrorKind.DEADLINE: Entry(
        "The run's time was over.",
        "Give it more `timeout`, or look at what it waited for: limits show in the progress lines.",
    ),
    ErrorKind.CIRCUIT_OPEN: Entry(
        "A provider or model failed so often that calls to it are held back for a while.",
        "Wait, and look at what failed before; configure another model beside it.",
    ),
    ErrorKind.NO_SUCH_ROLE: Entry(
        "A message was sent to a role that nobody plays.",
        "Name a class in `roles.<name>.agent`, or call `system.register` before `submit`.",
    ),
    ErrorKind.CIRCLE: Entry(
        "An agent asked a role that waits for its answer: they would wait for each other for ever.",
        "Let the question go to another role, or answer without asking back.",
    ),
    ErrorKind.OVERLOADED: Entry(
        "The agents of the role have as much mail as they take.",
        "Raise `instances`, or submit fewer runs at once.",
    ),
    ErrorKind.HANDLER_ERROR: Entry(
        "The code of an agent or workflow raised; the text names the exception.",
        "Mend the code; the log has the traceback.",
    ),
    ErrorKind.FOREIGN_AWAIT: Entry(
        "A coroutine awaited something that is no step, such as asyncio's.",
        "Use `self.call(fn, *args)`, `blocking = True`, or do it outside and submit the result.",
    ),
    ErrorKind.STUCK: Entry(
        "A handler did not return and held up everybody else, so that its agent was replaced.",
        "Move what blocks into `self.call(fn, *args)`, or set `blocking = True`.",
    ),
    ErrorKind.POISON: Entry(
        "The agent had to be restarted several times while it worked on this message.",
        "Look at what it does with it; the log has the reasons of the restarts.",
    ),
    ErrorKind.STOPPED: Entry(
        "The system was stopped while the run was open.",
        "Wait for results before leaving the `with` block.",
    ),
    ErrorKind.CANCELLED: Entry(
        "The run was cancelled: by `handle.cancel()` or a signal.",
        "Nothing is wrong; drafts that were finished stand in the result.",
    ),
    ErrorKind.NON_DETERMINISM: Entry(
        "On resume the code asked for something else than what was recorded.",
        "Finish old runs with the code that began them; take time and chance from `self.now()` and `self.random`.",
    ),
    ErrorKind.INTERNAL: Entry(
        "Something of Troupe itself failed.",
        "Please report it, with the log.",
    ),
}

FAMILIES: Final[dict[str, Entry]] = {
    "usage": Entry(
        "A command, option or call that there is not, or in a way that it cannot be used.",
        "`--help` of the command lists what there is; in code, the docstring of the method does.",
    ),
    "configuration": Entry(
        "A key is unknown, or its value is none that it can have; the line names file, key and what was expected.",
        "[configuration.md](configuration.md) lists every key; `python -m runtime check --config F` lists every fault.",
    ),
    "template": Entry(
        "A prompt uses a variable that its agent does not fill, or lacks the one that it needs.",
        "Use the variables that the line names; a literal brace is written twice: `{{` and `}}`.",
    ),
    "api_key": Entry(
        "The variable that holds the key is not set, cannot be a key, or the key was given in its place.",
        "`export NAME=...` in the same shell, and put the variable's *name* into `api_key_env`.",
    ),
    "no_model": Entry(
        "No model is configured.",
        "Add a `[model.<name>]` table, or use `--base-url U --model M`; `python -m runtime init` writes a file.",
    ),
    "own_class": Entry(
        "The class that `roles.<name>.agent` or `team.workflow` names cannot be used: no such module or name, the "
        "module raises when it is imported, or it is no subclass of `actors.Agent` or `actors.Workflow`.",
        "Modules are found in the current directory and among installed packages. `python -c 'import pkg.module'` "
        "there shows the whole traceback.",
    ),
    "tasks": Entry(
        "A task or a line of `--tasks` cannot be read or run; the line says which and why.",
        "A line is a text, or a JSON object `{task, id?, priority?, flow?, timeout?, max_cost?}`.",
    ),
    "script": Entry(
        "The file that tells the scripted server how to behave cannot be read, or holds a key it does not know.",
        "`docs/providers.md` shows a whole one; the line names the keys that there are.",
    ),
    "output": Entry(
        "A file, folder or standard output cannot be written.",
        "Look at the path, the rights and the room on the disk; results that were printed are not lost.",
    ),
    "system": Entry(
        "The system does not run: it was not started, was stopped, has collapsed, or was started before `os.fork()`.",
        "Use it inside its `with` block, make a new one after `stop()`, and start it in the process that uses it; of a "
        "collapse the log has the reason.",
    ),
    "sandbox": Entry(
        "There is no sandbox on this machine, so that drafts are not run.",
        'Install what the line names, or set `executor.enabled` to `"auto"` or `false`.',
    ),
    "embedded": Entry(
        "The embedded model is not installed, or does not start.",
        "The line has the command that installs it.",
    ),
    "names_clash": Entry(
        "Python finds another package called `actors`, `protocol` or `runtime` before Troupe's: in the current "
        "directory, on `PYTHONPATH`, or of another distribution.",
        "Rename it, or start from another directory. In a directory with a `runtime` of its own `python -m runtime` "
        "starts that one: use the command `troupe` there.",
    ),
    "not_built": Entry(
        "A command, option or kind of provider that is planned and not there yet.",
        "`--help` shows what there is.",
    ),
}
"""What a user can meet before any run: the ``page`` of an exception."""

HEAD = """\
# Errors

Every line in which Troupe says what went wrong ends in the heading that it has here: `[errors.md#rate_limited]`. In
code that is `error.page` of a `TroupeError`, and `error_kind` of a result. This page is generated from the taxonomy in
`protocol/errors.py` by `python -m runtime.error_table`; a test compares the two. At a terminal
`python -m runtime errors rate_limited` shows an entry.

## Before a run

Raised as `ConfigError` or `TroupeError`; at the command line one line, exit code 2 (1 where output was lost).
"""

RESULTS = """
## In a result

What failed stands in the result: `error_kind` is the heading, `error` the words. Nothing is raised, but for
`TaskFailed` in a coroutine that awaits the task. What is *tried again* failed at every retry before it got here.
"""
TRIED: Final = {
    Retry.RETRYABLE: "tried again",
    Retry.THROTTLED: "waited out and tried again",
    Retry.AMBIGUOUS: "tried again; what may have been billed stays counted",
    Retry.FATAL: "not tried again",
}


def errors_page() -> str:
    """Return the text of ``docs/errors.md``."""
    return HEAD + "".join(_families()) + RESULTS + "".join(_kinds())


def _families() -> Iterator[str]:
    for name, entry in FAMILIES.items():
        yield _section(name, entry.cause, entry.cure)


def _kinds() -> Iterator[str]:
    for kind in ErrorKind:
        entry = KINDS[kind]
        yield _section(kind, f"{entry.cause} ({TRIED[kind.retry]})", entry.cure)


def _section(name: str, cause: str, cure: str) -> str:
    return "\n".join(("", f"### {name}", "", fill(cause, 120), "", fill(f"*What to do:* {cure}", 120), ""))


def show(name: str | None) -> int:
    """Print the entry with this heading, or the whole page. Raises ``ConfigError`` for a name that has none."""
    if name is None:
        print_out(errors_page().rstrip())
        return 0
    sections = dict(zip([*FAMILIES, *map(str, ErrorKind)], [*_families(), *_kinds()], strict=True))
    if name not in sections:
        raise ConfigError(f"there is no error {name[:60]!r}{did_you_mean(name, sections)}", page="usage")
    print_out(sections[name].strip())
    return 0


if __name__ == "__main__":
    sys.stdout.write(errors_page())
