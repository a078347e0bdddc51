"""The sandbox: runs a draft's code under bubblewrap, and says what came of it.

There is no other way to run it: where the sandbox cannot be had, nothing is run. The supervising is done out here, so
nothing that the code inside does to its own processes changes it: caps, deadlines, the end of all that it started.
What bubblewrap is told stands in ``runtime/bubblewrap.py``, who reads the runner's words in ``protocol/channel.py``.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from protocol.channel import READY, hear
from protocol.facts import Ending, Job, Ran, SourceFile
from runtime import seccomp
from runtime.bubblewrap import BOX, SCRATCH, Limits, NoSandboxError, command, find_tools
from runtime.kin import children, cpu_seconds, files_in, kin, raise_priority, resident

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from runtime.bubblewrap import Tools

RUNNER: Final = Path(__file__).with_name("sandbox_runner.py")
TICK: Final = 0.05
"""Seconds between two looks at memory, files, and whether somebody asked for the end."""
READY_WITHIN: Final = 5.0
INSIDE: Final = 3
"""Of a run's processes the first are unshare and bubblewrap, outside and in; what comes after is the draft's."""
MOST_DOOMED: Final = 1000
MOST_REPORT: Final = 1024 * 1024
CHUNK: Final = 65536
SECRET: Final = 16
PROBE: Final = Job(id="probe", files=(SourceFile(name="probe.py", text="def test_it():\n    assert True\n"),))


class Sandbox:
    """Runs jobs, each in a sandbox of its own; any number at once, from any thread."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._doomed: set[str] = set()
        self._closed = False

    def obstacle(self) -> str | None:
        """Return why there is no sandbox here, in one line; None when a run of the smallest draft went well."""
        ran = self.run(PROBE)
        if ran.proof is not None and ("passed", "probe.py::test_it", "", "") in ran.proof:
            return None
        return ran.reason or f"the sandbox does not work here: {last_line(ran.output) or ran.ending}"

    def run(self, job: Job) -> Ran:
        """Run *job* and return what came of it, at the latest 2 s after its limit. Blocks; no job makes it raise."""
        try:
            with _Run(find_tools(), self.limits, job) as run:
                return run.supervise(lambda: self._closed or job.id in self._doomed)
        except NoSandboxError as error:
            return Ran(ending=Ending.NO_SANDBOX, reason=str(error))
        finally:
            self._doomed.discard(job.id)

    def kill(self, id_: str) -> None:
        """End the run of job *id_* within a tenth of a second or so, also one that is yet to begin.

        Returns at once; any thread may call.
        """
        if len(self._doomed) > MOST_DOOMED:  # jobs that were given up before they ran
            self._doomed.pop()
        self._doomed.add(id_)

    def close(self) -> None:
        """End every run, now and later. Returns at once; any thread may call."""
        self._closed = True


class _Run:
    """One run: its processes, its pipes, and what came out of it so far."""

    def __init__(self, tools: Tools, limits: Limits, job: Job) -> None:
        self._limits = limits
        self._secret = secrets.token_bytes(SECRET)
        self._to_send = memoryview(as_bytes(job) + self._secret)
        self._kept, self._report = bytearray(), bytearray()
        self._seen = 0
        self._cpu = 0.0
        self._ending: Ending | None = None
        self._handlers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._began = self._looked = time.monotonic()
        self._ready = 0.0
        with ExitStack() as stack:
            self._spawn(tools, stack)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._stack.close()

    def _spawn(self, tools: Tools, stack: ExitStack) -> None:
        job, self._job = _pipe(stack)
        output, out = _pipe(stack)
        words, report = _pipe(stack)
        program, filter_ = _pipe(stack)
        filter_.write(seccomp.program())
        filter_.close()
        bounds = (self._limits.cpu, self._limits.memory, self._limits.processes, self._limits.file)
        inside = [tools.python, "-I", "-B", "-c", runner(), *map(str, (report.fileno(), *bounds, BOX))]
        self._process = subprocess.Popen(  # noqa: S603 (our own command line, no shell)
            command(tools, self._limits, filter_fd=program.fileno(), inside=inside),
            stdin=job,
            stdout=out,
            stderr=out,
            pass_fds=(report.fileno(), program.fileno()),
            env={},  # the launcher is process 1 inside, and what it knows could be read there
            cwd="/",
        )
        stack.callback(self._end)
        ended = os.fdopen(os.pidfd_open(self._process.pid), "rb", 0)
        stack.enter_context(ended)
        for end in (job, out, report, program):
            end.close()
        os.set_blocking(self._job.fileno(), False)
        self._listen(output, lambda: self._on_output(output))
        self._listen(words, lambda: self._on_words(words))
        self._listen(ended, lambda: self._finish(Ending.EXITED))
        self._pipes = (output, words)

    # --- what comes

    def supervise(self, doomed: Callable[[], bool]) -> Ran:
        """Serve the run until it ends, or must."""
        while self._ending is None:
            self._serve()
            now = time.monotonic()
            if now - self._looked >= TICK:
                self._looked = now
                self._look_around(now, doomed)
        wall = time.monotonic() - self._ready if self._ready else 0.0
        status = self._end()
        return self._result(status, wall)

    def _serve(self) -> None:
        for fd, _ in self._poll.poll(TICK * 1000.0):
            self._handlers.get(fd, _nothing)()

    def _finish(self, ending: Ending) -> None:
        self._ending = self._ending or ending

    def _look_around(self, now: float, doomed: Callable[[], bool]) -> None:
        if doomed():
            self._finish(Ending.KILLED)
        elif self._ready and now - self._ready >= self._limits.wall:
            self._finish(Ending.TIMEOUT)
        elif not self._ready and now - self._began >= READY_WITHIN:
            self._finish(Ending.NO_SANDBOX)
        elif self._ready:
            pids = kin(self._process.pid)
            self._cpu = max(self._cpu, cpu_seconds(pids))
            if resident(pids[INSIDE:]) > self._limits.memory:
                self._finish(Ending.MEMORY)
            elif len(pids) >= INSIDE and files_in(pids[INSIDE - 1], SCRATCH, self._limits.disk) > self._limits.files:
                self._finish(Ending.FILES)

    def _on_output(self, pipe: FileIO) -> None:
        chunk = self._read(pipe)
        self._seen += len(chunk)
        self._kept += chunk[: max(0, self._limits.output - len(self._kept))]
        if self._seen > self._limits.most_output:
            self._finish(Ending.OUTPUT)

    def _on_words(self, pipe: FileIO) -> None:
        """Keep what the runner says; its first word means that all is set up, and only then does it get the job.

        Were we to end before that, it would find the pipe closed and end too, whoever was to kill it then.
        """
        self._report += self._read(pipe)
        if not self._ready and self._report.startswith(READY):
            self._ready = time.monotonic()
            self._listen(self._job, self._send, select.POLLOUT)
        if len(self._report) > MOST_REPORT:
            self._finish(Ending.OUTPUT)

    def _send(self) -> None:
        try:
            sent = self._job.write(self._to_send[:CHUNK]) or 0
        except BrokenPipeError:
            sent = len(self._to_send)
        self._to_send = self._to_send[sent:]
        if not self._to_send:
            self._deafen(self._job)
            self._job.close()

    def _read(self, pipe: FileIO) -> bytes:
        chunk = os.read(pipe.fileno(), CHUNK)
        if not chunk:
            self._deafen(pipe)
        return chunk

    def _listen(self, file: FileIO, handler: Callable[[], None], what: int = select.POLLIN) -> None:
        self._handlers[file.fileno()] = handler
        self._poll.register(file, what)

    def _deafen(self, file: FileIO) -> None:
        self._poll.unregister(file)
        del self._handlers[file.fileno()]

    # --- the end

    def _end(self) -> int:
        """End every process of the sandbox, wait until they are gone, and return the exit status."""
        if self._process.returncode is not None:
            return self._process.returncode
        pid = self._process.pid
        os.kill(pid, signal.SIGSTOP)  # so that it begins nothing while its child is looked for
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        born = children(pid)
        raise_priority(kin(pid)[INSIDE:])
        for child in born or [pid]:
            os.kill(child, signal.SIGKILL)  # a child is the first of its namespace: all that is in it goes
        os.kill(pid, signal.SIGCONT)  # it buries the child, and ends
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self._serve()  # it may have a last word, and the pipe be full
        return self._process.wait()

    def _result(self, status: int, wall: float) -> Ran:
        self._drain()
        output = bytes(self._kept).decode(errors="replace")
        heard = hear(bytes(self._report), self._secret)
        ending = self._ending or Ending.EXITED
        if not self._ready and ending is not Ending.KILLED:
            ending = Ending.NO_SANDBOX
        return Ran(
            ending=ending,
            status=status if ending is Ending.EXITED else None,
            output=output,
            cut=self._seen > len(self._kept),
            look=heard.look,
            proof=heard.proof if ending is Ending.EXITED else None,
            begun=heard.begun,
            reason=f"the sandbox does not work here: {last_line(output) or 'it never began'}"
            if ending is Ending.NO_SANDBOX
            else "",
            start=(self._ready or time.monotonic()) - self._began,
            wall=wall,
            cpu=self._cpu,
        )

    def _drain(self) -> None:
        """Read what is left in the pipes; nobody writes any more."""
        for pipe in self._pipes:
            while pipe.fileno() in self._handlers and self._seen + len(self._report) < 2 * MOST_REPORT:
                self._handlers[pipe.fileno()]()


@cache
def runner() -> str:
    """Return the runner's text."""
    return RUNNER.read_text("utf-8")


def as_bytes(job: Job) -> bytes:
    """Return *job* as the runner reads it: how many files, how many bytes, then names and texts in turn."""
    words = [word for file in job.files for word in (file.name, file.text)] + list(job.skip)
    body = "\0".join(word.replace("\0", "\ufffd") for word in words).encode("utf-8", "replace")
    return b"%d %d\n%s" % (len(job.files), len(body), body)


def last_line(text: str) -> str:
    """Return the last line of *text* with something in it, cut."""
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "")


def _pipe(stack: ExitStack) -> tuple[FileIO, FileIO]:
    """Return the two ends of a pipe, to be read and to be written; no other child of ours inherits them."""
    reads, writes = os.pipe()
    return stack.enter_context(os.fdopen(reads, "rb", 0)), stack.enter_context(os.fdopen(writes, "wb", 0))


def _nothing() -> None:
    """The handler of a pipe that was closed while its news was under way."""
