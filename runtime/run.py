"""The run command: one task or many, results on standard output, everything else on standard error."""

from __future__ import annotations

import secrets
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import ConfigError
from protocol.signals import Progress, RunEnded
from runtime import check
from runtime.channel import Channel, Empty
from runtime.config import Config
from runtime.interrupts import Interrupts
from runtime.logs import to_stderr
from runtime.outlet import Outlet
from runtime.system import ActorSystem
from runtime.tasks import read_tasks
from runtime.terminal import complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from protocol.messages import WorkflowResult
    from runtime.handle import Handle
    from runtime.tasks import TaskLine

WINDOW = 512
"""How many runs of one batch are open at once; the limits of the configuration bound the calls."""


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
        with check.of_file(options.config):
            return Batch(config, outlet).run(tasks)


def configuration(options: argparse.Namespace) -> Config:
    """Return the configuration that the options ask for: a file, an endpoint, or both."""
    if options.config is None and options.base_url is None:
        raise ConfigError("run needs --config F, or --base-url U with --model M", page="usage")
    where = {name: getattr(options, name) for name in ("base_url", "model", "provider", "api_key_env")}
    if options.config is None:
        if options.model is None:
            raise ConfigError("--base-url needs --model M", page="usage")
        return Config.for_endpoint(**{name: value for name, value in where.items() if value is not None})
    config = Config.load(options.config).override(**where)
    if not config.model and config.team.workflow == "team":
        raise ConfigError(f"{options.config}: {check.NO_MODEL}", page="no_model")
    for gap in check.gaps(config):
        complain(f"{options.config}: {gap}", "budget")
    return config


class Batch:
    """Submits tasks, hands out their events and results as they come, and obeys signals.

    The first SIGINT or SIGTERM cancels what runs and lets it end; the second ends the process at once. While the system
    starts, a model's process may have to load, the first does so too.
    """

    def __init__(self, config: Config, outlet: Outlet) -> None:
        self._config = config
        self._outlet = outlet
        self._news: Channel[Progress | RunEnded | Interrupted] = Channel()
        self._open: dict[str, Handle] = {}
        self._results: list[WorkflowResult] = []
        self._interrupted = False

    def run(self, tasks: list[TaskLine]) -> int:
        """Run *tasks* and return the exit code."""
        began = time.monotonic()
        self._outlet.begin(self._config, tasks)
        started = ActorSystem(self._config, watch_calls=True).start()
        with Interrupts(lambda number: self._news.put(Interrupted(number))) as interrupts:
            with started as system:
                self._pump(system, iter(tasks))
            self._outlet.end(self._results, (time.monotonic() - began) * 1000.0)
        if interrupts.number:
            return 128 + interrupts.number
        well = bool(self._results) and all(result.success for result in self._results)
        return 0 if well and not self._outlet.broken else 1

    def _pump(self, system: ActorSystem, tasks: Iterator[TaskLine]) -> None:
        self._fill(system, tasks)
        while self._open:
            match self._next():
                case Progress() as event:
                    self._outlet.event(event)
                case RunEnded() as ended:
                    self._ended(ended)
                    self._fill(system, tasks)
                case Interrupted(number):
                    self._interrupt(number)

    def _next(self) -> Progress | RunEnded | Interrupted:
        """Wait for news, and keep what is shown fresh meanwhile."""
        while True:
            try:
                return self._news.get(timeout=self._outlet.refresh())
            except Empty:
                continue

    def _fill(self, system: ActorSystem, tasks: Iterator[TaskLine]) -> None:
        while not self._interrupted and len(self._open) < WINDOW and (task := next(tasks, None)) is not None:
            id_ = task.id or f"run-{secrets.token_hex(6)}"
            handle = system.submit(
                task.task,
                correlation_id=id_,
                to=task.to,
                priority=task.priority or "normal",
                flow=task.flow or "",
                timeout=task.timeout,
                max_cost=task.max_cost,
            )
            self._open[id_] = handle
            self._outlet.opened(id_, task.task)
            handle.subscribe(self._news.put)

    def _ended(self, ended: RunEnded) -> None:
        """Hand out the result, and keep of it what the sums need."""
        if self._open.pop(ended.run, None) is not None:
            self._outlet.result(ended.result)
            self._results.append(replace(ended.result, output="", results=(), accepted=()))

    def _interrupt(self, number: int) -> None:
        self._interrupted = True
        runs = "1 run" if len(self._open) == 1 else f"{len(self._open)} runs"
        complain(f"{signal.Signals(number).name}: cancelling {runs}; once more ends at once")
        for handle in self._open.values():
            handle.cancel()
