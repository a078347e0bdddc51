"""Tables and plots of ``docs/adaptive.md`` are made from figures, and the figures hold their bounds."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(name):
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_every_table_and_every_plot_is_what_its_figures_say():
    wanted = script("adaptive").files()
    assert {path.name: path.read_text(encoding="utf-8") for path in wanted} == {p.name: t for p, t in wanted.items()}
    assert len(wanted) == 4


def test_a_table_that_was_edited_by_hand_is_noticed():
    adaptive = script("adaptive")
    page = adaptive.PAGE.read_text(encoding="utf-8")
    assert adaptive.filled(page.replace("| held-out | simple | ", "| held-out | simple | 30, ")) == page


@pytest.mark.parametrize("name", ["complexity", "feedback", "routing"])
def test_the_committed_figures_hold_their_bounds(name):
    assert script(name).broken(result(name)) == []


def test_a_figure_over_its_bound_is_named():
    planned, rounds, chosen = result("complexity"), result("feedback"), result("routing")
    planned["counts"][0].update(right=26)
    rounds["reviewers"][0].update(cost=2.3, gain=-0.5, most_rounds=3)
    rounds["loops"][0].update(ended=499)
    for world in chosen["worlds"]:
        world["verdicts"].update(cost_at_equal_quality=0.61, over_oracle=0.11)
    chosen["worlds"][3]["verdicts"].update(above_mix=-0.5)
    assert script("complexity").broken(planned) == ["author 1, tune simple: 26 of 30, at least 90%"]
    assert len(script("feedback").broken(rounds)) == 4
    assert script("routing").broken(chosen) == [
        "cost_at_equal_quality: 0.610 in the median world, at most 0.6",
        "over_oracle: 0.110 in the median world, at most 0.1",
        "world 3: below the random mix",
    ]


@pytest.mark.slow
def test_a_world_is_the_same_each_time_and_ours_lies_between_cheap_and_strong():
    routing = script("routing")
    sys.modules.pop("routing", None)
    one, other = (routing.contest(routing.World(4), 120, 1) for _ in range(2))
    assert one == other
    assert one["cheap"]["cost"] < one["ours"]["cost"] < one["strong"]["cost"]
