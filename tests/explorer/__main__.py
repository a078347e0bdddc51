"""The explorer's command line: many seeds, or one seed again.

python -m tests.explorer --seeds 0:10000      explore; every finding with the command that replays it
python -m tests.explorer --seed 1234          play one seed, and find the shortest plan that still fails
python -m tests.explorer --seed 1234 --plan '{"faults": [...]}'
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.explorer.explore import Finding, explore
from tests.explorer.plants import PLANTS
from tests.explorer.scenario import Plan, draw, draw_plan
from tests.explorer.shrink import shrink

CHUNK = 50
SHOWN = 5
"""How many findings are shrunk and shown; of the others the seeds are named."""


def main(arguments: list[str] | None = None) -> int:
    """Return 0 for silence, 1 for findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.explorer", description="Explore small teams with faults.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="play this one")
    what.add_argument("--seeds", type=_range, metavar="FROM:TO", help="explore these, TO not included")
    parser.add_argument("--plan", type=Plan.decode, help="what goes wrong, in place of what the seed says")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="with this bug planted into the real code")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--show", action="store_true", help="print the scenario and the plan of --seed")
    options = parser.parse_args(arguments)
    if options.show and options.seed is not None:
        print(draw(options.seed), draw_plan(draw(options.seed)).encode(), sep="\n\n")
    if options.seed is not None:
        return _one(options.seed, options.plan, options.plant)
    return _many(*options.seeds, options.plant, options.jobs)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    return int(first), int(last)


def planted(plant: str | None, seed: int, plan: Plan | None = None) -> Finding | None:
    """Explore *seed* with *plant* in place."""
    if plant is None:
        return explore(seed, plan)
    with PLANTS[plant]():
        return explore(seed, plan)


def _one(seed: int, plan: Plan | None, plant: str | None) -> int:
    finding = planted(plant, seed, plan)
    if finding is None:
        print(f"seed {seed}: every law holds")
        return 0
    print(told(finding, plant))
    return 1


def told(finding: Finding, plant: str | None = None) -> str:
    """Return *finding* in words: what replays it, the shortest plan that still fails, and the last messages."""
    shortest = shrink(finding, partial(planted, plant))
    with_ = f" --plant {plant}" if plant else ""
    command = f"python -m tests.explorer --seed {finding.seed}{with_}"
    return (
        f"seed {finding.seed} breaks a law: {finding.text}\n"
        f"replay: {command}\n"
        f"the shortest plan that still fails: {shortest.plan.encode()}\n"
        f"  with it: {shortest.text}\n"
        f"  replay: {command} --plan '{shortest.plan.encode()}'\n"
        f"{shortest.messages}"
    )


def _chunk(plant: str | None, first: int, last: int) -> list[Finding]:
    return [found for seed in range(first, last) if (found := planted(plant, seed)) is not None]


def _many(first: int, last: int, plant: str | None, jobs: int) -> int:
    began = time.perf_counter()
    starts = range(first, last, CHUNK)
    ends = [min(start + CHUNK, last) for start in starts]
    with ProcessPoolExecutor(max(1, jobs)) as pool:
        findings = [found for chunk in pool.map(partial(_chunk, plant), starts, ends) for found in chunk]
    for finding in findings[:SHOWN]:
        print(told(finding, plant), end="\n\n")
    if findings:
        print("seeds that fail:", *(finding.seed for finding in findings))
        print("by law:", dict(Counter(finding.law for finding in findings)))
    seconds = time.perf_counter() - began
    print(f"{last - first} seeds in {seconds:.1f} s, {len(findings)} of them break a law")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
