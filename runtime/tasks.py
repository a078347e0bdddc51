"""What the run command is to do: one task, or many from a file; all of it is checked before anything is spent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import ConfigError
from protocol.ids import is_correlation_id
from protocol.messages import PRIORITIES
from runtime.assembly import MOST_DOLLARS
from runtime.config_check import NAME

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

MOST_BYTES = 1_000_000
"""The longest task that is taken."""
MOST_FILE = 256_000_000
"""The longest file of tasks that is taken, in bytes."""
MOST_SECONDS = 1e7
"""The longest timeout of a run."""
OPTIONAL = ("to", "priority", "flow", "timeout", "max_cost")
"""What a line of tasks may say for itself, and the options say for all others."""


class TaskLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of ``--tasks`` as JSON; what it does not say is taken from the options."""

    task: str
    id: str | None = None
    to: str | None = None
    priority: str | None = None
    flow: str | None = None
    timeout: float | None = None
    max_cost: float | None = None


def _refused(text: str) -> ConfigError:
    return ConfigError(text, page="tasks")


def read_tasks(options: argparse.Namespace) -> list[TaskLine]:
    """Return the tasks; refuses empty, too long and undecodable ones with a ``ConfigError`` of one line."""
    if (options.task is None) == (options.tasks is None):
        raise _refused("run takes one TASK, or --tasks F")
    if options.tasks is None:
        text = _read("-", "the task", MOST_BYTES + 3) if options.task == "-" else options.task
        return [checked(_filled(TaskLine(task=text, id=options.id), options), "the task")]
    if options.id is not None:
        raise _refused("--id goes with one TASK; in --tasks give each JSON line its own id")
    source = "standard input" if options.tasks == "-" else options.tasks
    lines = _read(options.tasks, source, MOST_FILE).split("\n")  # splitlines would break at U+2028 inside a JSON text
    tasks = _each_once(
        (f"{source}, line {n}", _line(line, f"{source}, line {n}", options))
        for n, line in enumerate(lines, 1)
        if line.strip()
    )
    if not tasks:
        raise _refused(f"{source} holds no task")
    return tasks


def _read(path: str, what: str, most: int) -> str:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise _refused(f"{what} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most:
        raise _refused(f"{what} is too long: {MOST_BYTES if what == 'the task' else most} bytes are the most")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"{what} is not UTF-8 (byte {error.start})") from None


def _line(line: str, where: str, options: argparse.Namespace) -> TaskLine:
    if not line.lstrip().startswith("{"):
        return checked(_filled(TaskLine(task=line.strip()), options), where)
    try:
        task = msgspec.json.decode(line, type=TaskLine)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise _refused(f"{where}: {error}") from None
    return checked(_filled(task, options), where)


def _filled(task: TaskLine, options: argparse.Namespace) -> TaskLine:
    return replace(task, **{name: getattr(options, name) for name in OPTIONAL if getattr(task, name) is None})


def _each_once(tasks: Iterable[tuple[str, TaskLine]]) -> list[TaskLine]:
    """Return *tasks* without those that stand there twice with one id: the same id and task are the same run."""
    kept: list[TaskLine] = []
    known: dict[str, tuple[str, str]] = {}
    for where, line in tasks:
        before = known.setdefault(line.id, (where, line.task)) if line.id is not None else (where, line.task)
        if before[1] != line.task:
            raise _refused(f"{where}: the id {line.id!r} stands for another task in {before[0].rpartition(', ')[2]}")
        if before[0] == where:
            kept.append(line)
    return kept


def checked(task: TaskLine, where: str) -> TaskLine:
    """Return *task* when it can be run; raises ``ConfigError`` naming *where* it stands."""
    _check_text(task, where)
    if task.priority is not None and task.priority not in PRIORITIES:
        raise _refused(f"{where}: priority must be high, normal or low, not {task.priority[:80]!r}")
    if task.flow is not None and not NAME.fullmatch(task.flow):
        raise _refused(f"{where}: a flow is 1 to 64 characters of A-Z a-z 0-9 _ . -, not {task.flow[:80]!r}")
    if task.timeout is not None and not 0.0 < task.timeout <= MOST_SECONDS:
        raise _refused(f"{where}: timeout is a number of seconds above 0, not {task.timeout}")
    if task.max_cost is not None and not 0.0 <= task.max_cost <= MOST_DOLLARS:
        raise _refused(f"{where}: max_cost is a number of US dollars from 0 on, not {task.max_cost}")
    return task


def _check_text(task: TaskLine, where: str) -> None:
    """Refuse a task, or an id, that cannot be one."""
    if not task.task.strip():
        raise _refused(f"{where} is empty")
    try:
        size = len(task.task.encode())
    except UnicodeEncodeError:
        raise _refused(f"{where} is not valid text: it holds bytes that are no UTF-8") from None
    if size > MOST_BYTES:
        raise _refused(f"{where} is too long: it has {size} bytes, {MOST_BYTES} bytes are the most")
    if task.id is not None and not is_correlation_id(task.id):
        raise _refused(f"{where}: an id is 1 to 64 characters of A-Z a-z 0-9 _ -, not {task.id[:80]!r}")
