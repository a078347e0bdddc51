"""What the live view costs: CPU of the whole process with it, less without, while 64 calls are in flight.

Each run is a process of its own on a pseudo-terminal: 64 tasks against a loopback server that answers after 1 to 3 s.
``quiet`` shows nothing, ``lines`` is ``TERM=dumb``, ``view`` the live view on 160 columns by 50 lines; in turns.

    python benchmarks/view.py [--rounds N] [--out benchmarks/results/view.json]
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import statistics
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TASKS = 64
MOST = 0.05
"""Of a core that the view may take."""
CONFIG = """
[provider.main]
kind = "openai"
base_url = "{url}"
[model.m]
provider = "main"
name = "m"
[limits.main]
concurrency = 64
[executor]
enabled = false
"""
MODES = {"quiet": ("xterm-256color", ["--quiet"]), "lines": ("dumb", []), "view": ("xterm-256color", [])}


def run(mode: str, folder: str) -> tuple[float, float, int]:
    """Return the seconds of wall time and of CPU that a run took, and the bytes that it wrote to its terminal."""
    term, options = MODES[mode]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 160))
    command = [sys.executable, "-m", "runtime", "run", "--tasks", "tasks", "--config", "team.toml", *options]
    written: list[int] = []
    reader = threading.Thread(target=drain, args=(ours, written))
    began = time.monotonic()
    process = os.posix_spawn(
        sys.executable,
        command,
        {**os.environ, "TERM": term, "PYTHONPATH": str(ROOT), "PWD": folder},
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, theirs, 2)],
    )
    os.close(theirs)
    reader.start()
    _, status, used = os.wait4(process, 0)
    wall = time.monotonic() - began
    reader.join()
    os.close(ours)
    assert status == 0, status
    return wall, used.ru_utime + used.ru_stime, sum(written)


def drain(terminal: int, written: list[int]) -> None:
    """Read what comes until the other end is closed."""
    try:
        while data := os.read(terminal, 65536):
            written.append(len(data))
    except OSError:
        return


def broken(result: dict) -> list[str]:
    """Return what *result* breaks of the bound."""
    share = result["view"]["share_of_a_core"]
    if share <= MOST:
        return []
    return [f"the view takes {share * 100:.1f} % of a core, at most {MOST * 100:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    from provenance import commit

    from runtime.fake_script import Script
    from runtime.fake_server import FakeServer

    rows: dict[str, list[tuple[float, float, int]]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as folder, FakeServer(Script(latency=(1.0, 3.0), subtasks=3)) as server:
        os.chdir(folder)
        Path("team.toml").write_text(CONFIG.format(url=server.url))
        tasks = (f"Implement an async HTTP client with retries, nr {n}\n" for n in range(TASKS))
        Path("tasks").write_text("".join(tasks))
        for _ in range(options.rounds):
            for mode, runs in rows.items():
                runs.append(run(mode, folder))
    found = {
        mode: {
            "wall_s": round(statistics.median(wall for wall, _, _ in runs), 2),
            "cpu_s": round(statistics.median(cpu for _, cpu, _ in runs), 3),
            "written_kb": round(statistics.median(written for _, _, written in runs) / 1000.0, 1),
        }
        for mode, runs in rows.items()
    }
    more = found["view"]["cpu_s"] - found["quiet"]["cpu_s"]
    found["view"]["share_of_a_core"] = round(more / found["view"]["wall_s"], 4)
    text = json.dumps({"commit": commit(), **found}, indent=1)
    print(text)
    if options.out is not None:
        (ROOT / options.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
