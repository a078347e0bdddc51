"""The command line as such: help, what is not built yet, streams in any state, signals in any state."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import NOWHERE, ROOT, environment, in_shell, troupe

pytestmark = pytest.mark.slow
TASK = "Implement an async HTTP client with retries"
LATER = ("resume", "show", "dead-letters", "cost", "replay")


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


@pytest.fixture(scope="module")
def silent_server():
    with FakeServer(Script(latency=60.0)) as running:
        yield running


# --- help, and what is not built yet


@pytest.mark.parametrize(
    "command", ["", "run", "init", "check", "errors", "completion", "fake-server", "simulate", "bench", *LATER]
)
def test_the_help_of_every_command_fits_a_terminal_of_80_by_24(tmp_path, command):
    done = troupe(tmp_path, *command.split(), "--help", COLUMNS="80")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert command in done.out
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24


def test_the_help_of_run_names_every_option_of_the_contract(tmp_path):
    words = troupe(tmp_path, "run", "--help").out.split()
    options = "--tasks --config --base-url --model --provider --api-key-env --id --journal --no-journal --max-cost"
    assert set(f"{options} --timeout --priority --flow --out --events --json --quiet".split()) <= set(words)


@pytest.mark.parametrize(
    "arguments",
    [
        *LATER,
        "resume x --journal f --json", "show x", "dead-letters list", "dead-letters requeue -- x", "cost --json",
        "replay f --config g",
    ],
)  # fmt: skip
def test_a_command_that_is_not_built_says_so_and_exits_2(tmp_path, arguments):
    done = troupe(tmp_path, *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert "is not built yet" in done.one_line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--journal j"])
@pytest.mark.parametrize("order", ["x {} --base-url {} --model m --json", "{} x", "--tasks - {}"])
def test_an_option_that_is_not_built_says_so_and_exits_2(tmp_path, option, order):
    done = troupe(tmp_path, "run", *order.format(option, NOWHERE).split(), stdin="x")
    assert (done.code, done.out) == (2, "")
    assert f"{option.split()[0]} is not built yet" in done.one_line


@pytest.mark.parametrize("kind", ["option", "config"])
def test_anthropic_says_that_it_is_not_built_yet(tmp_path, kind):
    provider = '[provider.a]\nkind = "anthropic"\nbase_url = "https://a.example"\n'
    (tmp_path / "t.toml").write_text(f'{provider}[model.m]\nprovider = "a"\nname = "m"\n')
    where = ["--config", "t.toml"] if kind == "config" else ["--base-url", "https://a.example", "--model", "m"]
    done = troupe(tmp_path, "run", "x", *where, *(["--provider", "anthropic"] if kind == "option" else []))
    assert (done.code, done.out) == (2, "")
    assert "is not built yet" in done.one_line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "rum"),
        (["run", "x"], "--config F, or --base-url U"),
        (["run", "x", "--base-url", NOWHERE], "--model"),
        (["run", "x", "--jso"], "--jso"),
        (["run", "x", "y"], "y"),
        (["run", "x", "--provider", "gopher"], "gopher"),
        (["run", "x", "--priority", "urgent"], "urgent"),
        (["run", "x", "--bad\n\x1b[31m"], "--bad"),
        (
            ["run", "x", "--base-url", NOWHERE, "--model", "m", "--api-key-env", "sk-abcdefgh12345678"],
            "looks like a key",
        ),
        (["check"], "--config"),
        (["fake-server", "--port", "99999"], "99999"),
        (["fake-server", "--script", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(tmp_path, arguments, words):
    done = troupe(tmp_path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.one_line
    assert done.one_line.isprintable()
    assert "sk-abc" not in done.err


def test_help_loads_nothing_that_it_does_not_need(tmp_path):
    code = "import sys\nfrom runtime.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert set(done.stderr.split()) & {"pykka", "requests", "structlog", "asyncio", "ssl"} == set()


def test_an_application_that_imports_the_system_does_not_load_http(tmp_path):
    code = (
        "import sys\nfrom runtime import ActorSystem, Config\nprint(*{'requests', 'urllib3', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert "requests" not in done.stdout
    assert "urllib3" not in done.stdout


# --- standard streams in any state


def shell(home, url, ending, arguments="hello?", **options):
    return in_shell(home, f"run {arguments} --base-url {url} --model m", ending, **options)


@pytest.mark.parametrize("ending", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_from_the_start_change_nothing_but_what_is_seen(tmp_path, server, ending):
    done = shell(tmp_path, server.url, f"--out d --id one {ending}")
    assert done.code == 0
    assert (tmp_path / "d" / "one.md").read_text().startswith("```python")
    assert ("Total Tasks: 2" in done.err) == ("2>&-" not in ending)
    assert done.out.startswith("```python") == (">&-" not in ending.replace("2>&-", ""))
    assert "Traceback" not in done.err
    assert "begins" not in done.out


@pytest.mark.parametrize("ending", ["2>&-", ">&- 2>&-"])
def test_a_wrong_call_with_closed_streams_still_exits_2(tmp_path, ending):
    done = in_shell(tmp_path, "run x --config nowhere.toml", ending)
    assert (done.code, done.out, done.err) == (2, "", "")


@pytest.mark.parametrize("reader", ["head -n 1", "head -c 5", "true", "exec 0<&-"])
def test_a_reader_of_results_that_goes_away_is_no_error_and_loses_no_work(tmp_path, server, reader):
    tasks = "\n".join(f"What is {n}?" for n in range(20))
    ending = f"--json --quiet --out d | {reader}; exit ${{PIPESTATUS[0]}}"
    done = shell(tmp_path, server.url, ending, "--tasks -", stdin=tasks)
    assert (done.code, done.err) == (0, "")
    assert len(list((tmp_path / "d").glob("*.json"))) == 20


def test_a_reader_of_progress_that_goes_away_does_not_touch_the_result(tmp_path, server):
    done = shell(tmp_path, server.url, "2>&1 >out.txt | true; exit ${PIPESTATUS[0]}")
    assert done.code == 0
    assert (tmp_path / "out.txt").read_text().startswith("```python")


@pytest.mark.parametrize(
    ("ending", "what"), [("--quiet >/dev/full", "standard output"), ("--quiet --events /dev/full", "the events file")]
)
def test_a_full_disk_is_one_line_and_exit_1(tmp_path, server, ending, what):
    done = shell(tmp_path, server.url, ending)
    assert done.code == 1
    assert done.one_line == f"troupe: {what} cannot be written: No space left on device [errors.md#output]"
    assert done.out.startswith("```python") == ("events" in what)


@pytest.mark.parametrize("command", ["check --config t.toml", "--help", "run --help", "bench --help"])
def test_short_commands_bear_a_full_disk_and_a_reader_that_has_gone(tmp_path, command):
    (tmp_path / "t.toml").write_text(f'[provider.a]\nbase_url = "{NOWHERE}"\n[model.m]\nprovider = "a"\nname = "m"\n')
    gone = in_shell(tmp_path, command, "| exec 0<&-; exit ${PIPESTATUS[0]}")
    full = in_shell(tmp_path, command, ">/dev/full")
    assert (gone.code, gone.err) == (0, "")
    assert "No space left" in full.one_line
    assert full.code == 1


@pytest.mark.parametrize("option", ["--out /dev/null/x", "--out t.toml", "--events nowhere/e", "--events ."])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_sent(tmp_path, server, option):
    (tmp_path / "t.toml").write_text("")
    before = server.stats().requests
    done = shell(tmp_path, server.url, option)
    assert (done.code, done.out, server.stats().requests) == (2, "", before)
    assert "cannot be written" in done.one_line


def test_a_home_that_is_not_there_and_a_folder_that_has_gone_do_not_matter(tmp_path, server):
    (tmp_path / "gone").mkdir()
    done = in_shell(
        tmp_path, f"run hello? --base-url {server.url} --model m --quiet", "", HOME="/nonexistent", PYTHONSAFEPATH="1"
    )
    assert (done.code, done.err) == (0, "")


# --- signals


@pytest.fixture
def started(tmp_path):
    """Start the command without waiting for its end; none outlives the test."""
    processes = []

    def start(*arguments, **options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = [sys.executable, "-m", "runtime", *arguments]
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ended(process, timeout=12):
    out, err = process.communicate(timeout=timeout)
    assert b"Traceback" not in err
    return process.returncode, out.decode(), err.decode()


CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_one_signal_cancels_what_runs_and_ends_with_its_code(silent_server, started, number, code):
    process = started("run", TASK, "--base-url", silent_server.url, "--model", "m", "--json", "--id", "one")
    assert b"begins" in process.stderr.readline()
    process.send_signal(number)
    returned, out, err = ended(process, 5)
    assert returned == code
    assert '"correlation_id": "one", "success": false' in out
    assert '"error_kind": "cancelled"' in out
    assert f"troupe: {number.name}: cancelling 1 run; once more ends at once\n" in err
    assert "troupe: one failed: cancelled: cancelled [errors.md#cancelled]\n" in err


@pytest.mark.parametrize(("first", "_"), CODES)
@pytest.mark.parametrize(("second", "code"), CODES)
def test_a_second_signal_ends_at_once_with_its_code(tmp_path, silent_server, started, first, second, code, _):
    (tmp_path / "cast.py").write_text(DEAF)
    (tmp_path / "t.toml").write_text(deaf(silent_server.url))
    process = started("run", "x", "--config", "t.toml")
    lines = [process.stderr.readline(), process.stderr.readline()]
    assert b"deaf\n" in lines
    process.send_signal(first)
    assert b"cancelling" in process.stderr.readline()
    process.send_signal(second)
    assert ended(process, 2)[0] == code


DEAF = """
import sys, time
from actors import Agent, Workflow

class One(Workflow):
    async def run(self, task):
        return await self.ask("deaf", task)

class Deaf(Agent):
    async def handle(self, message):
        print("deaf", file=sys.stderr, flush=True)
        time.sleep(60)
"""


def deaf(url):
    """Return a configuration whose agent hears nothing for a minute, so that no stop can be quick."""
    provider = f'[provider.a]\nbase_url = "{url}"\n[model.m]\nprovider = "a"\nname = "m"\n'
    return f'{provider}[roles.deaf]\nagent = "cast:Deaf"\n[team]\nworkflow = "cast:One"\n'


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_while_tasks_are_read_ends_at_once(started, number, code):
    process = started("run", "-", "--base-url", NOWHERE, "--model", "m", stdin=subprocess.PIPE)
    process.stdin.write(b" " * 65_537)  # a pipe takes 64 kB: the last byte fits when the other side has begun to read
    process.stdin.flush()
    while process.poll() is None:  # CPython does not hear a signal between two reads before the next one
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
    process.stdin.close()
    process.stdin = None
    assert ended(process) == (code, "", "")


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_in_the_middle_of_many_tasks_starts_no_further_one(tmp_path, started, number, code):
    tasks = "".join(f"What is {n}?\n" for n in range(2000))
    (tmp_path / "tasks").write_text(tasks)
    with FakeServer(Script(latency=0.02)) as server:
        base = ("--base-url", server.url, "--model", "m")
        process = started("run", "--tasks", "tasks", *base, "--json", "--quiet")
        first = process.stdout.readline()
        process.send_signal(number)
        returned, out, err = ended(process)
    assert (returned, first[:1]) == (code, b"{")
    assert out.splitlines()[-1].startswith('{"summary":')
    assert 1 <= len(out.splitlines()) < 1900
    assert "cancelling 512 runs" in err


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_ends_the_scripted_server(started, number, code):
    process = started("fake-server")
    assert process.stdout.readline().startswith(b"fake server: http://127.0.0.1:")
    process.send_signal(number)
    assert ended(process, 3) == (code, "", "")


def test_a_signal_at_any_moment_of_the_start_leaves_no_traceback(started, server):
    for milliseconds in range(0, 120, 12):
        process = started("run", "hello?", "--base-url", server.url, "--model", "m", "--quiet")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.02 + milliseconds / 1000)
        process.send_signal(signal.SIGTERM)
        assert ended(process, 5)[0] in {143, -15, 0}


def test_the_examples_folder_stands_where_the_tests_expect_it():
    assert (ROOT / "examples" / "guide_de.toml").exists()
