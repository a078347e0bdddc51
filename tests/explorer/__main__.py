"""The explorer's command line: many seeds, or one seed again.

python -m tests.explorer --seeds 10000        explore the seeds 0 to 9999; or FROM:TO
python -m tests.explorer --seed 1234          play one seed, and find the shortest plan that still fails
python -m tests.explorer --seed 1234 --plan '{"faults": [...]}'
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain

from tests.explorer.books import Violation
from tests.explorer.plants import PLANTS, planted
from tests.explorer.play import Play
from tests.explorer.report import told
from tests.explorer.scenario import Plan, draw, draw_plan

CHUNK = 50
SHOWN = 5
"""How many findings are shrunk and shown; of the others the seeds are named."""


def main(arguments: list[str] | None = None) -> int:
    """Return 0 for silence, 1 for findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.explorer", description="Explore small teams with faults.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="play this one")
    what.add_argument("--seeds", type=_range, metavar="[FROM:]TO", help="explore these, TO not included")
    parser.add_argument("--plan", type=Plan.decode, help="what goes wrong, in place of what the seed says")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="plant this bug into the real code")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--show", action="store_true", help="print scenario, plan and trace hash of --seed too")
    options = parser.parse_args(arguments)
    if options.seed is None:
        return _many(options.seeds, options.plant, options.jobs)
    if options.show:
        _show(options.seed, options.plan)
    return _one(options.seed, options.plan, options.plant)


def _range(text: str) -> range:
    first, _, last = text.rpartition(":")
    return range(int(first or 0), int(last))


def _show(seed: int, plan: Plan | None) -> None:
    scenario = draw(seed)
    print(scenario, (plan or draw_plan(scenario)).encode(), sep="\n\n")
    play = Play(scenario, plan or draw_plan(scenario), seed, traced=True)
    with suppress(Violation):
        play.go()
    print(f"\n{play.stage.turns} messages, trace_sha256 {play.hash.hexdigest()}")


def _one(seed: int, plan: Plan | None, plant: str | None) -> int:
    finding = planted(plant, seed, plan)
    print(f"seed {seed}: every law holds" if finding is None else told(finding, plant))
    return 0 if finding is None else 1


def _many(seeds: range, plant: str | None, jobs: int) -> int:
    began = time.perf_counter()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(max(1, jobs)) as pool:
        findings = list(chain.from_iterable(pool.map(partial(_chunk, plant), chunks)))
    for finding in findings[:SHOWN]:
        print(told(finding, plant), end="\n\n")
    if findings:
        print("seeds that fail:", *(finding.seed for finding in findings))
        print("by law:", dict(Counter(finding.law for finding in findings)))
    seconds = time.perf_counter() - began
    print(f"{len(seeds)} seeds in {seconds:.1f} s, {len(findings)} of them break a law")
    return 1 if findings else 0


def _chunk(plant: str | None, seeds: range) -> list:
    return [found for seed in seeds if (found := planted(plant, seed)) is not None]


if __name__ == "__main__":
    sys.exit(main())
