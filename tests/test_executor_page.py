"""The table in ``docs/executor.md`` is made from figures, and the figures hold their bounds."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from protocol.facts import Checked
from runtime.bubblewrap import MEBI, Limits

ROOT = Path(__file__).parent.parent


def benchmark():
    spec = importlib.util.spec_from_file_location("executor_benchmark", ROOT / "benchmarks" / "executor.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_what_its_figures_say():
    script = benchmark()
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.filled(page, json.loads(script.RESULTS.read_text(encoding="utf-8"))) == page


def test_the_committed_figures_hold_their_bounds():
    script = benchmark()
    result = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    assert script.broken(result) == []
    assert (result["kills"]["kills"], result["beside"]["executions"], result["beside"]["at_once"]) == (200, 100, 8)


def test_a_bound_that_does_not_hold_is_noticed():
    script = benchmark()
    result = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    result["attacks"]["succeed_inside"] = 1
    result["start"]["start_p95_ms"] = 51.0
    result["kills"]["mounts_left"] = 1
    result["hangs"]["over_limit_s"] = 2.5
    result["beside"]["p99_ratio"] = 1.6
    assert script.broken(result) == ["inside", "start", "kills", "hangs", "beside"]


def test_the_page_names_the_limits_and_the_fields_as_they_are():
    page = (ROOT / "docs" / "executor.md").read_text(encoding="utf-8")
    limits = Limits()
    said = re.search(r"\| limits \| (\d+) s in all, (\d+) s of processor time and (\d+) MiB .* (\d+) processes", page)
    assert tuple(map(float, said.groups())) == (limits.wall, limits.cpu, limits.memory / MEBI, limits.processes)
    fields = re.search(r'"facts": \{([^}]*)\}', page)[1]
    assert re.findall(r"\w+", fields) == list(Checked.__struct_fields__)
