"""The simulate command: what a configuration would do with many workflows, in virtual time and without a network."""

from __future__ import annotations

import gc
import hashlib
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from protocol.errors import ConfigError
from runtime import check
from runtime.config import Config
from runtime.simulation import SimulatedSystem
from runtime.simulation_report import duration, lines, report
from runtime.terminal import complain, print_out, say
from runtime.what_if import MOST_WORKFLOWS, what_if

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import BinaryIO

BUILT_IN = """\
[provider.main]
base_url = "https://api.example.com/v1"

[model.strong]
provider = "main"
name = "large-model"
price = { input = 3.0, output = 15.0 }

[limits.main]
requests_per_minute = 1000
burst = 20
tokens_per_minute = 2000000
concurrency = 64

[roles.orchestrator]
max_tokens = 1024
[roles.coder]
max_tokens = 1024
[roles.reviewer]
max_tokens = 1024

[team]
plan = "always"

[simulation.faults]
throttled = 0.002
server_error = 0.005
slow = 0.01
"""
"""What is simulated without ``--config``: limits as a vendor's middle class of customers has them."""
SLICE = 20_000
"""Messages between two looks at the clock."""
EVERY = 2.0
"""Seconds between two lines of progress."""
GARBAGE = (100_000, 50, 50)
"""Thresholds of the collector of cycles: nearly all of what a simulation makes goes without it."""


def simulate(options: argparse.Namespace) -> int:
    """Simulate what *options* say, print what came out, and return the exit code: 1 when a workflow failed."""
    config = configuration(options.config)
    if options.config is None and not options.json:
        print_out(f"{BUILT_IN}")
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    with ExitStack() as stack:
        trace = None
        if options.trace is not None or options.json:
            trace = Trace(None if options.trace is None else stack.enter_context(opened(options.trace)))
        system = SimulatedSystem(
            config, options.workflows, seed=options.seed, trace=None if trace is None else trace.add
        )
        run(system, options.seed)
        digest = None if trace is None else trace.close()
    shown = report(system, options.seed, digest)
    shown = replace(shown, what_if=tuple(what_if(config, shown, say)))
    if shown.limits and not shown.what_if and shown.makespan_s:
        say(f"what more of a limit would bring is simulated for up to {MOST_WORKFLOWS} workflows")
    if options.json:
        print_out(msgspec.json.encode(shown).decode())
    else:
        print_out("\n".join(lines(shown)))
        if options.trace is not None:
            print_out(f"Trace:       {options.trace}, {shown.messages:,} lines, sha256 {digest}")
    return 0 if shown.failed == 0 and not shown.failures else 1


def configuration(path: str | None) -> Config:
    """Return the configuration in the file at *path*, or the built-in one. Raises ``ConfigError``."""
    if path is None:
        return Config.parse(BUILT_IN.encode(), "the built-in configuration")
    config = Config.load(path)
    if not config.model:
        raise ConfigError(f"{path}: {check.NO_MODEL}", page="no_model")
    for gap in check.gaps(config):
        complain(f"{path}: {gap}", "budget")
    return config


def run(system: SimulatedSystem, seed: int, tell: Callable[[str], object] = say) -> None:
    """Let *system* run to its end, with a line of progress now and then."""
    began = told = time.monotonic()
    tell(f"simulating {system.workflows:,} workflows with seed {seed}")
    while system.work(SLICE):
        now = time.monotonic()
        if now - told >= EVERY:
            told = now
            calls = sum(vendor.statuses.total() for vendor in system.models.vendors.values())
            virtual = duration(system.dispatcher.now())
            tell(f"[{now - began:6.1f} s] {calls:,} calls, {system.sums.over:,} workflows ended, {virtual} have passed")
    seconds = time.monotonic() - began
    tell(f"simulated {system.dispatcher.turns:,} messages in {seconds:.1f} s")


def opened(path: str) -> BinaryIO:
    """Open the file for the trace. Raises ``ConfigError``."""
    try:
        return Path(path).open("wb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--trace {path}: cannot be written: {reason}", page="output") from None


class Trace:
    """Hashes the lines of a trace, and writes them where there is a file."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self._kept: list[bytes] = []
        self._sum = hashlib.sha256()

    def add(self, line: bytes) -> None:
        """Add one line."""
        self._kept.append(line)
        if len(self._kept) == 1000:
            self._flush()

    def close(self) -> str:
        """Write what is left; return the hash of all there was."""
        self._flush()
        if self._file is not None:
            self._safely(self._file.close)
        return self._sum.hexdigest()

    def _flush(self) -> None:
        text = b"".join(self._kept)
        self._kept.clear()
        self._sum.update(text)
        if self._file is not None:
            file = self._file
            self._safely(lambda: file.write(text))

    @staticmethod
    def _safely(act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            raise ConfigError(f"the trace cannot be written: {error.strerror}", page="output") from None
