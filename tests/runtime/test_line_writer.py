"""Lines for a reader that is slow, stuck or gone: who says something never waits for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pytest

from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from runtime.line_writer import LineWriter
from tests.runtime.command import environment

F_SETPIPE_SZ = 1031
SMALL = 4096


@pytest.fixture
def pipe():
    """A pipe of 4 kB that nobody reads yet."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, SMALL)
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def line(n: int) -> bytes:
    return b"%4d %s\n" % (n, b"x" * 94)


def test_lines_are_written_in_the_order_in_which_they_were_put(pipe):
    reader, writer = pipe
    lines = LineWriter(writer)
    for n in range(10):
        lines.put(line(n))
    assert lines.flush(5.0)
    assert os.read(reader, SMALL) == b"".join(line(n) for n in range(10))


def test_putting_never_waits_what_is_too_much_is_dropped_and_the_count_stands_at_its_end(pipe):
    reader, writer = pipe
    lines = LineWriter(writer, most=100)
    for n in range(1000):
        lines.put(line(n))
    assert not lines.flush(0.01)
    read = b""
    while b"dropped" not in read:
        read += os.read(reader, SMALL)
    *kept, said = read.decode().splitlines()
    assert [int(text.split()[0]) for text in kept] == list(range(len(kept)))
    assert said == f"troupe: {1000 - len(kept)} lines were dropped here: nobody read them in time"
    assert 100 <= len(kept) <= 100 + SMALL // 100 + 1
    assert lines.flush(5.0)


def test_one_who_waited_in_vain_does_not_wait_again_before_the_reader_has_caught_up(pipe):
    reader, writer = pipe
    lines = LineWriter(writer)
    for n in range(60):
        lines.put(line(n))
    assert not lines.flush(0.01)
    began = time.monotonic()
    assert not any(lines.flush(60.0) for _ in range(10))
    assert time.monotonic() - began < 10.0
    read = 0
    while read < 60 * len(line(0)):
        read += len(os.read(reader, SMALL))
    assert lines.flush(5.0, again=True)
    assert lines.flush(5.0)


def test_a_reader_that_has_gone_stops_nobody(pipe):
    reader, writer = pipe
    os.close(reader)
    lines = LineWriter(writer)
    for n in range(60):
        lines.put(line(n))
    assert lines.flush(5.0)


def test_a_pipe_that_another_process_has_made_non_blocking_gets_every_line(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    lines = LineWriter(writer)
    for n in range(60):
        lines.put(line(n))
    read = b""
    while len(read) < 60 * len(line(0)):
        read += os.read(reader, SMALL)
    assert read == b"".join(line(n) for n in range(60))


# --- the whole command


def unread(home, *command):
    """Run *command* with a small pipe as standard error that nobody reads until it has ended."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, SMALL)
    with os.fdopen(reader, "rb") as errors:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=home,
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=writer,
            timeout=30,
            check=False,
        )
        os.close(writer)
        return done.returncode, done.stdout.decode(), errors.read().decode(), time.monotonic() - began


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


@pytest.mark.slow
def test_a_run_whose_standard_error_nobody_reads_ends_with_its_results_on_standard_output(tmp_path, server):
    (tmp_path / "tasks").write_text("".join(f"What is {n}?\n" for n in range(100)))
    base = ("--base-url", server.url, "--model", "m")
    code, out, err, seconds = unread(tmp_path, "-m", "runtime", "run", "--tasks", "tasks", *base, "--json")
    assert (code, len(out.splitlines())) == (0, 101)
    assert len(err) <= SMALL
    assert seconds < 15.0


LOGS = """
import sys
from runtime import ActorSystem, Config
from runtime.logs import get_logger, to_stderr

to_stderr("DEBUG")
with ActorSystem(Config.for_endpoint(sys.argv[1], "m")) as system:
    for n in range(100):
        system.directory.send("supervisor", {"n": n})  # it has no use for it: a line in the log each time
    print(system.submit("Hi?").result(10).success)
"""


@pytest.mark.slow
def test_the_loop_that_runs_every_actor_never_waits_for_whoever_reads_the_log(tmp_path, server):
    code, out, err, seconds = unread(tmp_path, "-c", LOGS, server.url)
    assert (code, out) == (0, "True\n")
    assert "letter.died" in err
    assert seconds < 15.0
