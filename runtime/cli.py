"""The command line: what each command and option is, and which of them are built.

Exit codes: 0 done, 1 a workflow failed, 2 usage or configuration, 3 journal damaged or in use, 130/143 signals. A
user's error is one line on standard error, never a traceback. Standard output holds results alone.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from protocol.errors import ConfigError, TroupeError
from runtime.terminal import MOST_LINE, OutputLost, complain, open_all, print_out, printable, program, say, silence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
NOT_BUILT = "is not built yet in this version"
LATER_COMMANDS = {
    "resume": "finish interrupted runs from the journal",
    "show": "show a recorded run",
    "dead-letters": "list or requeue dead letters",
    "cost": "what runs have cost",
    "replay": "run a record against another configuration",
}
LATER_OPTIONS = ("journal",)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit 2; no option may be shortened."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def _print_message(self, message: str, file: Any = None) -> None:
        (say if file is sys.stderr else print_out)(message.rstrip("\n"))

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {printable(message, MOST_LINE)} (see --help) [errors.md#usage]\n")


class _NoKey(argparse.Action):
    """Refuses a key on the command line, where every process of this machine can read it."""

    def __call__(self, *_: Any) -> NoReturn:
        text = "a key is never given on the command line: name its environment variable in --api-key-env"
        raise ConfigError(text, page="api_key")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    open_all()
    try:
        options = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = options.command
        code = command(options)
        sys.stdout.flush()
    except TroupeError as error:
        complain(str(error), error.page)
        return USAGE
    except OutputLost as error:
        complain(f"standard output cannot be written: {error.strerror}", "output")
        return FAILED
    except KeyboardInterrupt:  # only where the caller of main has left Python's own handler
        return INTERRUPTED
    except BrokenPipeError:
        silence(1)
        return DONE
    return code


# --- commands


def _demo(options: argparse.Namespace) -> int:
    from runtime.demo import demo  # noqa: PLC0415 (each command loads what it needs)

    return demo(options)


def _run(options: argparse.Namespace) -> int:
    for name in LATER_OPTIONS:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} {NOT_BUILT}", page="not_built")
    from runtime.run import run  # noqa: PLC0415 (as above)

    return run(options)


def _init(options: argparse.Namespace) -> int:
    from runtime.first_config import init  # noqa: PLC0415 (as above)

    return init(options)


def _completion(options: argparse.Namespace) -> int:
    from runtime.completion import completion  # noqa: PLC0415 (as above)

    print_out(completion(_parser(), options.shell).rstrip("\n"))
    return DONE


def _errors(options: argparse.Namespace) -> int:
    from runtime.error_table import show  # noqa: PLC0415 (as above)

    return show(options.name)


def _check(options: argparse.Namespace) -> int:
    if options.config is None:
        raise ConfigError("check needs --config F", page="usage")
    from runtime.check import check  # noqa: PLC0415 (as above)

    return check(options.config, online=options.online, json=options.json)


def _fake_server(options: argparse.Namespace) -> int:
    from runtime.fake_server import main as serve  # noqa: PLC0415 (as above)

    arguments = ["--port", str(options.port), *(["--script", options.script] if options.script else [])]
    return serve(arguments)


def _simulate(options: argparse.Namespace) -> int:
    from runtime.simulate import simulate  # noqa: PLC0415 (as above)

    return simulate(options)


def _bench(options: argparse.Namespace) -> int:
    from runtime.bench import bench  # noqa: PLC0415 (as above)

    return bench(options)


def _later(options: argparse.Namespace) -> int:
    if {"-h", "--help"} & set(options.rest):
        print_out(f"{program()} {options.name}: {LATER_COMMANDS[options.name]}\n\n{options.name} {NOT_BUILT}")
        return DONE
    raise ConfigError(f"{options.name} {NOT_BUILT}", page="not_built")


# --- the parser


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program(),
        usage="%(prog)s [COMMAND] [options]",
        description="Troupe: teams of LLM agents as actors. Without a command: the demo.",
        formatter_class=_narrow,
        epilog=f"Not built yet: {', '.join(LATER_COMMANDS)}. Exit codes: 0 done, 1 a workflow failed, 2 usage or "
        "configuration. Keys come from the environment only.",
    )
    parser.set_defaults(command=_demo, task=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND [...]", prog=program())
    _add_run(commands)
    _add_configuring(commands)
    fake = commands.add_parser("fake-server", help="serve a scripted OpenAI-compatible team on loopback")
    fake.add_argument("--port", type=_port, default=0, metavar="N", help="0 (the default) chooses a free one")
    fake.add_argument("--script", metavar="F", help="TOML or JSON file with latencies and faults")
    fake.set_defaults(command=_fake_server)
    _add_simulate(commands)
    compared = commands.add_parser("bench", help="compare ways to call under a rate limit (about a minute)")
    compared.add_argument("--json", action="store_true", help="one JSON document on standard output")
    compared.set_defaults(command=_bench)
    for name in LATER_COMMANDS:
        later = commands.add_parser(name, add_help=False, prefix_chars="\0")
        later.add_argument("rest", nargs=argparse.REMAINDER)
        later.set_defaults(command=_later, name=name)
    return parser


def _narrow(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=22)


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add the run command; its help fits a terminal of 80 by 24."""
    usage = "%(prog)s (TASK|- | --tasks F|-) [options]"
    run = commands.add_parser(
        "run", help="run one task, or many with --tasks", usage=usage, add_help=False, formatter_class=_narrow
    )
    add = run.add_argument_group("arguments").add_argument
    add("task", nargs="?", metavar="TASK", help="the task; - reads it from standard input")
    add("--tasks", metavar="F", help="a task a line, or JSON {task, id, priority, ...}")
    add("--config", metavar="F", help="a TOML configuration; the next four override it")
    add("--base-url", metavar="U", help="an OpenAI-compatible endpoint")
    add("--model", metavar="M", help="the model's name there")
    add("--provider", metavar="KIND", choices=["openai", "anthropic"], help="openai; anthropic is not built yet")
    add("--api-key-env", metavar="NAME", help="the environment variable that holds the key")
    add("--id", metavar="ID", help="correlation id of the run")
    add("--timeout", type=_seconds, metavar="S", help="seconds for the whole run")
    add("--json", action="store_true", help="one JSON document per workflow on standard output")
    add("--out", metavar="DIR", help="write each output and result into DIR")
    add("--events", metavar="F", help="write events to F as JSON lines")
    add("--quiet", action="store_true", help="no progress and no summary")
    add("--to", metavar="ROLE", help="straight to an agent of this role, without the team")
    add("--priority", metavar="P", choices=["high", "normal", "low"], help="high, normal or low")
    add("--flow", metavar="NAME", help="tenant whose share it takes; else one of its own")
    add("--max-cost", type=_dollars, metavar="USD", help="hard budget of each workflow")
    add("--journal", metavar="F", help="keep a journal (not built yet)")
    add("--no-journal", action="store_true", help="accepted: there is no journal yet")
    add("-h", "--help", action="help", help="show this help and exit")
    add("--api-key", nargs="?", action=_NoKey, help=argparse.SUPPRESS)
    run.set_defaults(command=_run)


def _add_configuring(commands: argparse._SubParsersAction[_Parser]) -> None:
    first = commands.add_parser("init", help="write a commented team.toml", formatter_class=_narrow)
    add = first.add_argument
    add("file", nargs="?", metavar="F", help="the file (default team.toml); - writes to standard output")
    add("--base-url", metavar="U", help="an OpenAI-compatible endpoint; asked for at a terminal")
    add("--model", metavar="M", help="the model's name there; asked for at a terminal")
    add("--api-key-env", metavar="NAME", help="the environment variable that holds the key")
    first.set_defaults(command=_init)
    check = commands.add_parser("check", help="check a configuration before anything is spent")
    add = check.add_argument
    add("--config", metavar="F", help="the TOML file")
    add("--online", action="store_true", help="call each model, for one token")
    add("--json", action="store_true", help="one JSON document on standard output")
    check.set_defaults(command=_check)
    errors = commands.add_parser("errors", help="say why an error happens, and what to do")
    errors.add_argument("name", nargs="?", metavar="NAME", help="its heading, as in [errors.md#NAME]; else all of them")
    errors.set_defaults(command=_errors)
    shell = commands.add_parser("completion", help="print what a shell needs to complete `troupe`")
    shell.add_argument("shell", choices=["bash", "zsh"], help='in ~/.bashrc: eval "$(troupe completion bash)"')
    shell.set_defaults(command=_completion)


def _add_simulate(commands: argparse._SubParsersAction[_Parser]) -> None:
    simulation = commands.add_parser("simulate", help="run many workflows in virtual time", formatter_class=_narrow)
    add = simulation.add_argument
    add("--config", metavar="F", help="a TOML configuration; without it a built-in one")
    add("--workflows", type=_count, default=100, metavar="N", help="how many (default 100)")
    add("--seed", type=_seed, default=0, metavar="S", help="chooses latencies and faults (default 0)")
    add("--trace", metavar="F", help="write a line for each delivered message to F")
    add("--json", action="store_true", help="one JSON document on standard output")
    simulation.set_defaults(command=_simulate)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workflows (1 to 1000000)")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed (a whole number of 0 or more)")
    return int(text)


def _dollars(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of US dollars from 0 on")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value
