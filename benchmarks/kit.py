"""What a test with the kit costs: the example tests, made and closed each time, in the simulation and on real threads.

The last row is what pytest needs for one more test with the fixtures, everything in: the time of many less that of one.
Exits with 1 when a bound does not hold.

    python benchmarks/kit.py [--rounds N] [--out benchmarks/results/kit.json] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from actors.testing import ActorTestKit, ScriptedModel
from runtime.testing import ThreadedTestKit

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "test_my_agent.py"
BOUND = 5.0
"""The most a test may cost, in ms."""
MANY = 300
"""How many tests pytest runs for the last row."""


def examples():
    spec = importlib.util.spec_from_file_location("example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


def timed(test, kind):
    """Return the milliseconds of one *test* with a kit of its own."""
    began = time.perf_counter()
    model = ScriptedModel()
    with kind(model) as kit:
        test(kit, model)
    return (time.perf_counter() - began) * 1000.0


def measure(rounds):
    tests = examples()
    figures = {name: ([], []) for name in tests}
    for _ in range(rounds):
        for name, test in tests.items():
            for times, kind in zip(figures[name], (ActorTestKit, ThreadedTestKit), strict=True):
                times.append(timed(test, kind))
    rows = [
        {"what": name.removeprefix("test_").replace("_", " "), **facts(simulated), "threads": facts(threaded)["ms"]}
        for name, (simulated, threaded) in figures.items()
    ]
    rows.append({"what": "one more test in pytest", "ms": round(in_pytest(), 3), "p90": None, "threads": None})
    return {"python": platform.python_version(), "rounds": rounds, "bound": BOUND, "rows": rows}


def facts(times):
    return {"ms": round(statistics.median(times), 3), "p90": round(statistics.quantiles(times, n=10)[-1], 3)}


def in_pytest():
    """Return the milliseconds that pytest needs for one more test."""
    rounds = [[pytest_seconds(count) for count in (1, 1 + MANY)] for _ in range(3)]
    return statistics.median((many - one) * 1000.0 / MANY for one, many in rounds)


AGAIN = """
import pytest


@pytest.mark.parametrize("n", range(COUNT))
def test_again(n, actor_kit, scripted_model):
    test_a_retry_after_a_429_in_virtual_time(actor_kit, scripted_model)
"""


def pytest_seconds(count):
    """Return the seconds that pytest needs for the examples and *count* tests more."""
    code = EXAMPLE.read_text(encoding="utf-8") + AGAIN.replace("COUNT", str(count))
    options = ("-q", "-p", "no:cacheprovider", "-p", "runtime.pytest_plugin")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with tempfile.TemporaryDirectory() as home:
        Path(home, "test_many.py").write_text(code, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *options, "test_many.py"]
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=home, env=environment, capture_output=True, timeout=120)
        return time.perf_counter() - began


def broken(result):
    """Return the bounds that do not hold, in words."""
    return [
        f"{row['what']}: {row[mode]} ms, at most {result['bound']}"
        for row in result["rows"]
        for mode in ("ms", "threads")
        if row[mode] is not None and row[mode] > result["bound"]
    ]


def table(result):
    lines = [f"{'':<42}{'ms':>8}{'p90':>8}{'threads':>9}"]
    for row in result["rows"]:
        p90, threads = ("" if row[key] is None else row[key] for key in ("p90", "threads"))
        lines.append(f"{row['what']:<42}{row['ms']:>8}{p90:>8}{threads:>9}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rounds)
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text if options.json else table(result))
    for complaint in broken(result):
        print(f"bound broken: {complaint}", file=sys.stderr)
    return 1 if broken(result) else 0


if __name__ == "__main__":
    sys.exit(main())
