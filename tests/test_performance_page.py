"""The tables in ``docs/performance.md`` are made from figures, and the figures hold their bounds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from xml.etree import ElementTree as ET

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


def test_the_plots_of_the_limiter_hold_three_panels_and_a_sample_for_each_second():
    plots = script("plots")
    found = plots.samples(240, workflows=2)
    root = ET.fromstring(plots.drawn("two teams", found))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 5
    assert {len(line.get("points").split()) for line in lines} == {len(found)}
    assert sum(sample.admitted for sample in found) == 34


def test_no_committed_run_under_a_rate_limit_has_lost_or_doubled_a_call_or_passed_its_budget():
    result = json.loads((BENCHMARKS / "results" / "ratelimit.json").read_text(encoding="utf-8"))
    assert [(row["lost"], row["duplicates"]) for row in result["rows"]] == [(0, 0)] * 9
    assert 0.0 < result["budget"]["spent_usd"] <= result["budget"]["budget_usd"]
    assert result["storm"]["lost"] == 0


def test_what_is_over_its_bound_under_a_rate_limit_is_named():
    ratelimit = script("ratelimit")
    good = {"over_ideal": 1.0, "throttled": 0.0, "inversions": 0.0, "cpu_ms": 0.9, "lost": 0, "duplicates": 0}
    row = {"case": "configured", "variant": "requests", **good}
    assert ratelimit.broken({"rows": [row]}) == []
    assert ratelimit.broken({"rows": [row | {"over_ideal": 1.04, "lost": 1}]}) == [
        "configured, requests: over_ideal 1.04, at most 1.03",
        "configured, requests: lost 1, at most 0",
    ]
    storm = {"most_in_10_s": 4, "most_in_1_s": 1, "lost": 0, "back_at_90_s": 61.0}
    assert ratelimit.broken({"rows": [], "storm": storm}) == [
        "storm: most_in_10_s 4, at most 3",
        "storm: back_at_90_s 61.0, at most 60.0",
    ]
    spent = {"budget_usd": 1.0, "spent_usd": 1.01}
    assert ratelimit.broken({"rows": [], "budget": spent}) == ["budget: 1.01 of 1.0 spent"]


def test_the_probes_and_the_way_back_after_a_storm_are_counted_in_windows():
    ratelimit = script("ratelimit")
    assert ratelimit.most_in([0.0, 4.0, 9.9, 10.0, 30.0], 10.0) == 3
    assert ratelimit.back_at([0.1 * n for n in range(100)], 9.0) == 0.0
    assert ratelimit.back_at([0.1 * n for n in range(50)] + [5.0 + 0.01 * n for n in range(500)], 90.0) == 5.0
    assert ratelimit.back_at([1.0, 20.0], 50.0) is None
