"""The run command: one task or many, results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import msgspec
from msgspec import Struct

from protocol.errors import ConfigError
from protocol.ids import is_correlation_id
from protocol.messages import PRIORITIES
from protocol.signals import Progress, RunEnded
from runtime.channel import Channel
from runtime.config import Config
from runtime.logs import to_stderr
from runtime.progress import ProgressLines
from runtime.summary import lines, total
from runtime.system import ActorSystem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from protocol.messages import WorkflowResult
    from runtime.handle import Handle

MOST_BYTES = 1_000_000
"""The longest task that is taken, in bytes."""
WINDOW = 512
"""How many runs of one batch are open at once; the limits of the configuration bound the calls."""


class TaskLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of ``--tasks`` as JSON."""

    task: str
    id: str | None = None
    priority: str = "normal"
    flow: str | None = None
    timeout: float | None = None


class Interrupted(Struct, frozen=True):
    """A signal came."""

    number: int


def run(options: argparse.Namespace) -> int:
    """Run what *options* say and return the exit code."""
    to_stderr("WARNING")
    config = configuration(options)
    tasks = read_tasks(options)
    with ExitStack() as stack:
        outlet = Outlet(options, stack, several=options.tasks is not None)
        return Batch(config, outlet).run(tasks)


def configuration(options: argparse.Namespace) -> Config:
    """Return the configuration that the options ask for: a file, an endpoint, or both."""
    if options.config is None and options.base_url is None:
        raise ConfigError("run needs --config F, or --base-url U with --model M")
    if options.config is None:
        if options.model is None:
            raise ConfigError("--base-url needs --model M")
        return Config.for_endpoint(
            options.base_url, options.model, provider=options.provider or "openai", api_key_env=options.api_key_env
        )
    config = Config.load(options.config)
    return config.override(
        base_url=options.base_url, model=options.model, provider=options.provider, api_key_env=options.api_key_env
    )


# --- what is to be done


def read_tasks(options: argparse.Namespace) -> list[TaskLine]:
    """Return the tasks; refuses empty, too long and undecodable ones in one line."""
    if (options.task is None) == (options.tasks is None):
        raise ConfigError("run takes one TASK, or --tasks F")
    if options.priority != "normal":
        raise ConfigError("--priority is not built yet in this version")
    if options.tasks is None:
        text = _read("-", "the task") if options.task == "-" else options.task
        return [checked(TaskLine(task=text, id=options.id, timeout=options.timeout), "the task")]
    if options.id is not None:
        raise ConfigError("--id goes with one TASK; in --tasks give each JSON line its own id")
    source = "standard input" if options.tasks == "-" else options.tasks
    text = _read(options.tasks, source)
    tasks = [_line(line, f"{source}, line {n}", options) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not tasks:
        raise ConfigError(f"{source} holds no task")
    return tasks


def _read(path: str, what: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{what} cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} is not UTF-8 (byte {error.start})") from None


def _line(line: str, where: str, options: argparse.Namespace) -> TaskLine:
    if not line.lstrip().startswith("{"):
        return checked(TaskLine(task=line.strip(), timeout=options.timeout), where)
    try:
        task = msgspec.json.decode(line, type=TaskLine)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where}: {error}") from None
    if task.priority not in PRIORITIES:
        raise ConfigError(f"{where}: priority must be high, normal or low, not {task.priority!r}")
    if task.priority != "normal" or task.flow is not None:
        raise ConfigError(f"{where}: priority and flow are not built yet in this version")
    if task.timeout is None and options.timeout is not None:
        task = msgspec.structs.replace(task, timeout=options.timeout)
    return checked(task, where)


def checked(task: TaskLine, where: str) -> TaskLine:
    """Return *task* when it can be run; raises ``ConfigError`` naming *where* it stands."""
    if not task.task.strip():
        raise ConfigError(f"{where} is empty")
    try:
        size = len(task.task.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{where} is not valid text") from None
    if size > MOST_BYTES:
        raise ConfigError(f"{where} has {size} bytes; {MOST_BYTES} are the most")
    if task.id is not None and not is_correlation_id(task.id):
        raise ConfigError(f"{where}: an id is 1 to 64 characters of A-Z a-z 0-9 _ -, not {task.id[:80]!r}")
    if task.timeout is not None and not 0.0 < task.timeout <= 1e7:
        raise ConfigError(f"{where}: timeout is a number of seconds above 0, not {task.timeout}")
    return task


# --- what comes out


class Outlet:
    """Where results, events and progress go."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack, *, several: bool) -> None:
        self.json: bool = options.json
        self.quiet: bool = options.quiet
        self.several = several
        self._progress = None if self.quiet else ProgressLines(time.time(), several=several)
        self._events: TextIO | None = None
        self._out: Path | None = None
        try:
            if options.events is not None:
                events = Path(options.events)
                self._events = stack.enter_context(events.open("w", encoding="utf-8"))
            if options.out is not None:
                self._out = Path(options.out)
                self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None

    def event(self, event: Progress) -> None:
        """Show and write one event."""
        if self._progress is not None:
            self._progress.show(event)
        if self._events is not None:
            self._events.write(json.dumps(msgspec.to_builtins(event), ensure_ascii=False) + "\n")
            self._events.flush()

    def result(self, result: WorkflowResult) -> None:
        """Print one result: its document with --json, else its text alone."""
        document = encode(result)
        if self._out is not None:
            (self._out / f"{result.correlation_id}.md").write_text(_writable(result.output), encoding="utf-8")
            (self._out / f"{result.correlation_id}.json").write_text(document + "\n", encoding="utf-8")
        if self.json:
            print_out(document)
        elif result.output:
            print_out(_writable(result.output))
        if not result.success and not self.quiet:
            say(f"troupe: {result.correlation_id} failed: {result.error_kind}: {result.error}")

    def end(self, results: list[WorkflowResult], wall_ms: float) -> None:
        """Print the closing summary, and with --json --tasks the line of sums."""
        sums = total(results, wall_ms)
        if self.json and self.several:
            print_out(msgspec.json.encode({"summary": sums}).decode())
        if not self.quiet:
            several = [f"Workflows: {sums.workflows}, failed: {sums.workflows_failed}"] if self.several else []
            say("\n".join(lines(sums, several)))


def encode(result: WorkflowResult) -> str:
    """Return *result* as one line of JSON; a lone surrogate in it becomes a replacement character."""
    document = msgspec.to_builtins(result)
    document.pop("type", None)
    for task in document["results"]:
        task.pop("type", None)
    return _writable(json.dumps(document, ensure_ascii=False))


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def print_out(text: str) -> None:
    """Write *text* and a newline to standard output as UTF-8, whatever the locale says."""
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


# --- running


class Batch:
    """Submits tasks, hands out their events and results as they come, and obeys signals.

    The first SIGINT or SIGTERM cancels what runs and lets it end; the second ends the process at once. Handlers only
    put a word into the channel that the main thread waits on.
    """

    def __init__(self, config: Config, outlet: Outlet) -> None:
        self._config = config
        self._outlet = outlet
        self._news: Channel[Progress | RunEnded | Interrupted] = Channel()
        self._open: dict[str, Handle] = {}
        self._results: list[WorkflowResult] = []
        self._signal = 0
        self._stdout_closed = False

    def run(self, tasks: list[TaskLine]) -> int:
        """Run *tasks* and return the exit code."""
        began = time.monotonic()
        with handled(self._on_signal), ActorSystem(self._config) as system:
            self._pump(system, iter(tasks))
        self._guard(lambda: self._outlet.end(self._results, (time.monotonic() - began) * 1000.0))
        if self._signal:
            return 128 + self._signal
        return 0 if self._results and all(result.success for result in self._results) else 1

    def _pump(self, system: ActorSystem, tasks: Iterator[TaskLine]) -> None:
        self._fill(system, tasks)
        while self._open:
            news = self._news.get()
            if isinstance(news, Progress):
                self._outlet.event(news)
            elif isinstance(news, RunEnded):
                if self._open.pop(news.run, None) is not None:
                    self._results.append(news.result)
                    self._guard(lambda result=news.result: self._outlet.result(result))
                if not self._signal:
                    self._fill(system, tasks)
            else:
                self._interrupt(news.number)

    def _fill(self, system: ActorSystem, tasks: Iterator[TaskLine]) -> None:
        while len(self._open) < WINDOW and (task := next(tasks, None)) is not None:
            id_ = task.id or f"run-{secrets.token_hex(4)}"
            if id_ in self._open:
                raise ConfigError(f"the id {id_!r} is used by two tasks")
            handle = system.submit(task.task, correlation_id=id_, timeout=task.timeout)
            self._open[id_] = handle
            handle.subscribe(self._news.put)

    def _guard(self, write: Any) -> None:
        """Go on when nobody reads standard output any more: the work is not lost."""
        try:
            write()
        except BrokenPipeError:
            self._stdout_closed = True
            sys.stdout = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115, PTH123 (lives as long as the process)

    def _on_signal(self, number: int) -> None:
        self._news.put(Interrupted(number))

    def _interrupt(self, number: int) -> None:
        self._signal = number
        say(f"troupe: {signal.Signals(number).name}: cancelling {len(self._open)} runs; once more ends at once")
        for handle in self._open.values():
            handle.cancel()


class handled:  # noqa: N801 (a context manager that reads as a word)
    """Let *on_signal* hear of SIGINT and SIGTERM; the second one ends the process at once."""

    def __init__(self, on_signal: Any) -> None:
        self._on_signal = on_signal
        self._before: dict[int, Any] = {}
        self._count = 0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, _frame: object) -> None:
        self._count += 1
        if self._count > 1:
            import os  # noqa: PLC0415

            os._exit(128 + number)
        self._on_signal(number)
