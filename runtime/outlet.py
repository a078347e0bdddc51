"""Where results, events and progress go: standard output, standard error, files."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec

from protocol.costs import together
from protocol.errors import ConfigError
from runtime import time_spent
from runtime.progress import ProgressLines
from runtime.summary import Tally, cost_lines, costs_document, lines, total
from runtime.terminal import complain, print_out, say
from runtime.view import live_view, wanted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from contextlib import ExitStack

    from protocol.messages import WorkflowResult
    from protocol.signals import Progress
    from runtime.config import Config
    from runtime.tasks import TaskLine
    from runtime.view import LiveView

_NOT_IN_A_LINE = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON lets stand raw in a text, and a terminal or a reader of lines stumbles over."""


class Outlet:
    """Hands out what a batch brings.

    A place that cannot be written any more is named once and then left out; ``broken`` says so, and the batch goes on.
    """

    def __init__(self, options: argparse.Namespace, stack: ExitStack, *, several: bool) -> None:
        self.broken = False
        self._json: bool = options.json
        self._quiet: bool = options.quiet
        self._several = several
        self._tally = Tally()
        self._tasks: dict[str, str] = {}  # of the runs that go on
        self._began = time.time()
        self._time = time_spent.TimeSpent(self._began)
        self._lines: ProgressLines | None = None
        self._view: LiveView | None = None
        self._events: TextIO | None = None
        self._out: Path | None = None
        try:
            if options.out is not None:
                self._out = Path(options.out)
                self._out.mkdir(parents=True, exist_ok=True)
            if options.events is not None:
                self._events = Path(options.events).open("w", encoding="utf-8")  # noqa: SIM115 (the stack closes it)
                stack.callback(self._close_events)
        except OSError as error:
            raise ConfigError(f"{error.filename} cannot be written: {error.strerror}", page="output") from None

    def begin(self, config: Config, tasks: list[TaskLine]) -> None:
        """Choose how progress is shown: live on a terminal that can, else as lines."""
        if self._quiet:
            return
        if wanted():
            self._view = live_view(config, len(tasks), self._began, tasks[0].max_cost)
        else:
            self._lines = ProgressLines(self._began, several=self._several)

    def opened(self, run: str, task: str) -> None:
        """Hear of a run that begins."""
        self._tasks[run] = task
        if self._view is not None:
            self._view.on_opened(run, task)

    def refresh(self) -> float | None:
        """Keep what is shown fresh; return the seconds after which it is to be done again, None: never."""
        return None if self._view is None else self._view.refresh()

    def event(self, event: Progress) -> None:
        """Show and write one event."""
        self._time.on_event(event)
        if self._lines is not None:
            self._lines.show(event)
        if self._view is not None:
            self._view.on_event(event)
        if self._events is not None:
            with self._named("the events file"):
                self._write_event(self._events, event)

    def result(self, result: WorkflowResult) -> None:
        """Print one result: its document with --json, else its text alone."""
        self._tally.add(result)
        if self._view is not None:
            self._view.on_ended(result)
        spent = self._time.on_ended(result.correlation_id, result.summary.wall_ms)
        document = encode(result, spent, self._tasks.pop(result.correlation_id, ""))
        if self._out is not None:
            with self._named("the --out folder"):
                self._write_files(self._out, result, document)
        if self._json or result.output:
            self._print(document if self._json else result.output)
        if not result.success:
            complain(f"{result.correlation_id} failed: {result.error_kind}: {result.error}", str(result.error_kind))

    def end(self, results: list[WorkflowResult], wall_ms: float) -> None:
        """Print the closing summary, and with --json --tasks the line of sums."""
        if self._view is not None:
            self._view.close()
        sums, costs = total(results, wall_ms), together(result.costs for result in results)
        spent = self._time.total(wall_ms)
        if self._json and self._several:
            document = {"summary": sums, "costs": costs_document(costs), "time": spent}
            self._print(msgspec.json.encode(document).decode())
        if not self._quiet:
            several = [f"Workflows: {sums.workflows}, failed: {sums.workflows_failed}"] if self._several else []
            more = [*cost_lines(costs), *self._tally.lines(), *several, *time_spent.lines(spent)]
            say("\n".join(lines(sums, more)))

    def _print(self, text: str) -> None:
        with self._named("standard output"):
            print_out(text)

    @contextmanager
    def _named(self, place: str) -> Iterator[None]:
        """Complain about a *place* that cannot be written."""
        try:
            yield
        except OSError as error:
            self.broken = True
            complain(f"{place} cannot be written: {error.strerror or error}", "output")

    def _write_event(self, file: TextIO, event: Progress) -> None:
        try:
            file.write(one_line(msgspec.to_builtins(event)) + "\n")
            file.flush()
        except OSError:
            self._close_events()
            raise

    def _write_files(self, folder: Path, result: WorkflowResult, document: str) -> None:
        self._out = None  # until both are written: a folder that has failed is left out
        (folder / f"{result.correlation_id}.md").write_bytes(result.output.encode("utf-8", "replace"))
        (folder / f"{result.correlation_id}.json").write_bytes(document.encode() + b"\n")
        self._out = folder

    def _close_events(self) -> None:
        """Close the file; what a full disk did not take is lost, and was complained about."""
        file, self._events = self._events, None
        if file is not None:
            with suppress(OSError):
                file.close()


def encode(result: WorkflowResult, spent: dict[str, float], task: str) -> str:
    """Return the *result* of *task* as one line of JSON, with what its wall time was *spent* on."""
    document = {"task": task, **msgspec.to_builtins(result)}
    document["time"] = spent
    document.pop("type", None)
    document["costs"] = costs_document(result.costs)
    for each in document["results"]:
        each.pop("type", None)
        each.pop("costs")  # they are in the sums
    return one_line(document)


def one_line(document: object) -> str:
    """Return *document* as JSON on one line, whatever characters are in it; a lone surrogate becomes ``?``."""
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace").decode()
    return _NOT_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
