"""The house rules that a machine can check, each with a snippet that must turn its check red."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("actors", "protocol", "runtime")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LOCKS = {"Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier", "Timer"}
QUEUES = {"Queue", "LifoQueue", "PriorityQueue"}


def names(tree: ast.AST) -> set[str]:
    """Return the dotted names that stand in *tree*, imported ones by their origin, whatever they are called here."""
    found: set[str] = set()
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            origins |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{origins.get(node.value.id, node.value.id)}.{node.attr}")
    return found


def locks(tree: ast.AST) -> set[str]:
    """Law 11: what shares state between threads by waiting. ``asyncio``'s own queue lives in one thread and is none."""
    blocking = {f"{module}.{name}" for module in ("threading", "multiprocessing") for name in LOCKS}
    return names(tree) & (blocking | {f"queue.{name}" for name in QUEUES} | {"_thread.allocate_lock"})


def clocks(tree: ast.AST) -> set[str]:
    return {n for n in names(tree) if n.split(".")[0] == "time" or n in {"datetime.now", "datetime.utcnow"}}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def where(check, files=FILES) -> dict[str, set[str]]:
    return {str(path.relative_to(ROOT)): hits for path in files if (hits := check(parsed(path)))}


@pytest.mark.parametrize(
    "snippet",
    [
        *(f"import threading\nthreading.{name}()" for name in sorted(LOCKS)),
        *(f"from queue import {name} as Line" for name in sorted(QUEUES)),
        "import threading as t\nt.RLock()",
        "from threading import Event",
        "import _thread\n_thread.allocate_lock()",
    ],
)
def test_the_check_for_locks_can_turn_red(snippet):
    assert locks(ast.parse(snippet))


def test_law_11_no_lock_stands_anywhere():
    assert where(locks) == {}


def test_law_11_a_simple_queue_stands_in_one_file():
    assert list(where(lambda tree: names(tree) & {"queue.SimpleQueue", "_queue.SimpleQueue"})) == ["runtime/channel.py"]


@pytest.mark.parametrize(
    "snippet",
    ["import time\ntime.sleep(1)", "from time import monotonic", "from datetime import datetime\ndatetime.now()"],
)
def test_the_check_for_clocks_can_turn_red(snippet):
    assert clocks(ast.parse(snippet))


@pytest.mark.parametrize("package", ["actors", "protocol"])
def test_no_clock_is_read_and_nothing_sleeps(package):
    assert where(clocks, sorted((ROOT / package).rglob("*.py"))) == {}


def test_nothing_sleeps_in_the_runtime_either():
    assert where(lambda tree: names(tree) & {"time.sleep"}) == {}


def http(tree: ast.AST) -> set[str]:
    return {n for n in names(tree) if n.split(".")[0] in {"requests", "urllib3", "httpx", "aiohttp"}}


def test_one_file_speaks_http_as_a_client():
    assert list(where(http)) == ["runtime/http.py"]


def private(tree: ast.AST) -> set[str]:
    """Return Pykka's private names."""
    return {n for n in names(tree) if n.startswith("pykka.") and "._" in n}


def registry(tree: ast.AST) -> set[str]:
    """Return what uses Pykka's process-wide list of actors."""
    return {n for n in names(tree) if "ActorRegistry" in n or "stop_all" in n}


def test_pykkas_private_names_are_two_and_stand_in_one_file():
    assert where(private) == {"actors/base.py": {"pykka._envelope.Envelope", "pykka.messages._ActorStop"}}


def test_pykkas_registry_is_never_used():
    assert where(registry) == {}


@pytest.mark.parametrize(
    ("check", "snippet"),
    [
        (http, "import requests"),
        (http, "from requests.adapters import HTTPAdapter"),
        (http, "import urllib3 as u\nu.PoolManager()"),
        (private, "from pykka._envelope import Envelope"),
        (private, "import pykka\npykka._ref"),
        (registry, "from pykka import ActorRegistry"),
        (registry, "import pykka\npykka.ActorRegistry.stop_all()"),
        (registry, "import pykka as p\np.ActorRegistry"),
    ],
)
def test_each_of_these_checks_can_turn_red(check, snippet):
    assert check(ast.parse(snippet))


def test_no_file_is_longer_than_400_lines_and_no_function_than_50():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := p.read_text(encoding="utf-8").count("\n")) > 400}
    assert long == {}
    functions = {
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 50
    }
    assert functions == set()


@pytest.mark.slow
def test_imports_run_one_way():
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout
