"""The child's main of the embedded model: llama.cpp's own HTTP server on loopback, in a process that can be lost.

Stands alone and is run by its path, so it imports nothing of ours; its partner is ``runtime/embedded.py``. Standard
output carries one JSON line, ``{"url": ...}``, and nothing else; what the libraries print goes to standard error.
Its life hangs on its parent's twice: by the kernel's parent-death signal, and by standard input, whose end it obeys.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from importlib import import_module
from threading import Thread
from typing import Any, NamedTuple

PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"
OPENMP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
"""Read when the library is loaded. Threads that spin long starve whoever shares their cores (11 tokens/s instead of 85
beside one busy process); threads that never spin halve the rate of four streams on idle cores (95 instead of 187)."""


class Arguments(NamedTuple):
    """What the parent hands over: the model file, the slots and their context, and the pid whose death is ours.

    ``parent`` is 0 when a thread that may end early started us: the kernel's signal follows that thread.
    """

    model: str
    slots: int
    context: int
    parent: int


def main(argv: list[str]) -> None:
    """Serve until standard input ends or the parent is gone."""
    arguments = Arguments(argv[0], *map(int, argv[1:]))
    if arguments.parent:
        die_with(arguments.parent)
    watcher = Thread(target=exit_at_end_of_input, daemon=True)
    watcher.start()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = serve(arguments)
    print(json.dumps({"url": server.listening_address}), file=answer, flush=True)
    watcher.join()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when *parent* dies, and leave now if it has died already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def exit_at_end_of_input() -> None:
    """Leave, whatever the server is doing, when the parent closes our standard input or dies."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def serve(arguments: Arguments) -> Any:
    """Start the server and return it once it listens."""
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
    xllamacpp = import_module("xllamacpp")  # late: optional, and it reads the environment when it is loaded
    return xllamacpp.Server(parameters(xllamacpp.CommonParams(), arguments))


def parameters(params: Any, arguments: Arguments) -> Any:
    """Fill in llama.cpp's parameters: several slots, one thread for each token, all cores for prompts."""
    params.model.path = arguments.model
    params.model_alias = {"embedded"}
    params.hostnames = [LOOPBACK]
    params.port = free_port()
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.context * arguments.slots
    params.kv_unified = False
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    params.cache_ram_mib = 256
    params.endpoint_metrics = True
    params.sampling.dry_multiplier = 0.8  # a small model repeats itself without end; this makes repeating ever dearer
    params.sampling.dry_allowed_length = 4
    params.sampling.dry_penalty_last_n = 512
    params.offline = True
    params.ui = False
    params.verbosity = 1
    return params


def free_port() -> int:
    """Return a port that nobody listens on now; the server does not choose one itself."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(sys.argv[1:])
