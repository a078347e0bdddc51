"""The tables in ``docs/performance.md`` are made from figures, and the figures hold their bounds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_what_its_figures_say():
    table = script("table")
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.filled(page) == page


def test_a_table_that_was_edited_by_hand_is_noticed():
    table = script("table")
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.filled(page.replace("| hop |", "| hop, nearly |")) == page


def test_the_committed_figures_of_the_mailbox_hold_their_bounds():
    result = json.loads((BENCHMARKS / "results" / "mailbox.json").read_text(encoding="utf-8"))
    assert script("mailbox").broken(result) == []


def test_the_committed_figures_of_the_kit_hold_their_bound():
    result = json.loads((BENCHMARKS / "results" / "kit.json").read_text(encoding="utf-8"))
    assert len(result["rows"]) == 6
    assert script("kit").broken(result) == []


def test_a_test_that_costs_more_than_its_bound_is_named():
    result = json.loads((BENCHMARKS / "results" / "kit.json").read_text(encoding="utf-8"))
    result["rows"][0].update(ms=5.5, threads=7.5)
    assert script("kit").broken(result) == ["a reply: 5.5 ms, at most 5.0", "a reply: 7.5 ms, at most 5.0"]


def test_the_committed_figures_of_the_limiter_hold_their_bounds():
    result = json.loads((BENCHMARKS / "results" / "limiter.json").read_text(encoding="utf-8"))
    assert script("limiter").broken(result) == []
    result["rows"][0]["figure"] = 30.1
    assert script("limiter").broken(result) == ["acquire, one flow: 30.1 us, at most 30.0"]


def test_the_shares_of_the_waiting_are_measured_as_the_page_says():
    limiter = script("limiter")
    committed = {
        row["what"]: row["figure"]
        for row in json.loads((BENCHMARKS / "results" / "limiter.json").read_text(encoding="utf-8"))["rows"]
    }
    missed, spread = limiter.fairness()
    assert (round(missed, 4), round(spread, 4)) == (committed["ratio"], committed["spread"])
    assert round(limiter.inversions(), 4) == committed["inversions"]


def test_a_figure_over_its_bound_is_named():
    result = json.loads((BENCHMARKS / "results" / "mailbox.json").read_text(encoding="utf-8"))
    result["rows"][0].update(troupe=2.5, ratio=5.9)
    assert script("mailbox").broken(result) == [
        "hop: 2.5 us CPU, at most 2.0",
        "hop: 5.9 times stock Pykka, at least 6.0",
    ]


def test_the_committed_figures_of_the_simulation_hold_their_bounds():
    result = json.loads((BENCHMARKS / "results" / "simulation.json").read_text(encoding="utf-8"))
    simulation = script("simulation")
    assert simulation.broken(result) == []
    result["agreement"]["rows"][0]["ratio"] = 0.89
    result["speed"]["rows"][-1].update(peak_mb=501, cpu_s=121.0, cpu_ms_per_workflow=20.0)
    result["speed"]["bare_messages_per_s"]["traced"] = 99_999
    assert len(simulation.broken(result)) == 5
