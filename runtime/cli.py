"""The command line: what each command and option is, and which of them are built.

Exit codes: 0 done, 1 a workflow failed, 2 usage or configuration, 3 journal damaged or in use, 130/143 signals. A
user's error is one line on standard error, never a traceback. Standard output holds results alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DONE, FAILED, USAGE = 0, 1, 2
NOT_BUILT = "is not built yet in this version"
LATER_COMMANDS = {
    "init": "write a commented team.toml",
    "simulate": "run a team in virtual time",
    "bench": "compare schedulers under a rate limit",
    "resume": "finish interrupted runs from the journal",
    "show": "show a recorded run",
    "dead-letters": "list or requeue dead letters",
    "cost": "what runs have cost",
    "replay": "run a record against another configuration",
}
LATER_OPTIONS = ("journal", "max_cost", "flow")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        options = _parser().parse_args(argv)
        code = _dispatch(options)
        sys.stdout.flush()
    except ConfigError as error:
        sys.stderr.write(f"troupe: {error}\n")
        return USAGE
    except BrokenPipeError:
        _swallow_stdout()
        return DONE
    return code


def _dispatch(options: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _swallow_stdout() -> None:
    """Let nothing more be written to a standard output that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- commands


def _demo(options: argparse.Namespace) -> int:
    from runtime.demo import demo  # noqa: PLC0415 (each command loads what it needs)

    return demo(options)


def _run(options: argparse.Namespace) -> int:
    for name in LATER_OPTIONS:
        if getattr(options, name, None) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} {NOT_BUILT}")
    from runtime.run import run  # noqa: PLC0415

    return run(options)


def _check(options: argparse.Namespace) -> int:
    if options.online:
        raise ConfigError(f"check --online {NOT_BUILT}")
    from runtime.check import check  # noqa: PLC0415

    return check(options.config)


def _fake_server(options: argparse.Namespace) -> int:
    from runtime.fake_server import main as serve  # noqa: PLC0415

    arguments = ["--port", str(options.port), *(["--script", options.script] if options.script else [])]
    return serve(arguments)


def _later(options: argparse.Namespace) -> int:
    raise ConfigError(f"{options.name} {NOT_BUILT}")


# --- the parser


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m runtime",
        description="Troupe: teams of LLM agents as actors. Without a command: the demo.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=20),
        epilog="Exit codes: 0 done, 1 a workflow failed, 2 usage. Keys: environment only.",
    )
    parser.set_defaults(command=_demo, task=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(commands)
    check = commands.add_parser("check", help="check a configuration before anything is spent")
    check.add_argument("--config", metavar="F", required=True, help="the TOML file")
    check.add_argument("--online", action="store_true", help="one tiny call per model (not built yet)")
    check.set_defaults(command=_check)
    fake = commands.add_parser("fake-server", help="serve a scripted OpenAI-compatible team on loopback")
    fake.add_argument("--port", type=_port, default=0, metavar="N", help="0 (the default) chooses a free one")
    fake.add_argument("--script", metavar="F", help="TOML or JSON file with latencies and faults")
    fake.set_defaults(command=_fake_server)
    for name, text in LATER_COMMANDS.items():
        later = commands.add_parser(name, help=f"{text} (not built yet)", add_help=False, prefix_chars="\0")
        later.add_argument("rest", nargs="*")
        later.set_defaults(command=_later, name=name)
    return parser


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser("run", help="run one task, or many with --tasks")
    run.add_argument("task", nargs="?", metavar="TASK", help="the task; - reads it from standard input")
    run.add_argument(
        "--tasks",
        metavar="F",
        help="one task a line, or JSON lines {task, id?, priority?, flow?, timeout?}; - is standard input",
    )
    where = run.add_argument_group("where the model is")
    where.add_argument("--config", metavar="F", help="a TOML configuration")
    where.add_argument("--base-url", metavar="U", help="an OpenAI-compatible endpoint")
    where.add_argument("--model", metavar="M", help="the model's name there")
    where.add_argument("--provider", choices=["openai", "anthropic"], help="its kind (default: openai)")
    where.add_argument("--api-key-env", metavar="NAME", help="the environment variable that holds the key")
    how = run.add_argument_group("how it runs")
    how.add_argument("--id", metavar="ID", help="correlation id of the run")
    how.add_argument("--timeout", type=_seconds, metavar="S", help="seconds for the whole run")
    how.add_argument("--priority", choices=["high", "normal", "low"], default="normal", help="only normal is built yet")
    how.add_argument("--flow", metavar="NAME", help="tenant for fair scheduling (not built yet)")
    how.add_argument("--max-cost", metavar="USD", help="hard budget (not built yet)")
    how.add_argument("--journal", metavar="F", help="keep a journal (not built yet)")
    how.add_argument("--no-journal", action="store_true", help="accepted: there is no journal yet")
    out = run.add_argument_group("what comes out")
    out.add_argument("--json", action="store_true", help="one JSON document per workflow on standard output")
    out.add_argument("--out", metavar="DIR", help="write each output and result into DIR")
    out.add_argument("--events", metavar="F", help="write events to F as JSON lines")
    out.add_argument("--quiet", action="store_true", help="no progress and no summary")
    run.set_defaults(command=_run)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value
