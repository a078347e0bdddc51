"""How well the limiter's policies adapt to a limit they are told, taught, or have to find: in pure virtual time.

    python benchmarks/adaptation.py [--seeds N] [--json]

500 calls that all wait at once, against a vendor whose limit is drawn around 50 a second and a burst of 10, over ways
of 2 to 40 ms with answers of 50 to 600 ms; then 30 seconds of nothing but 429s for 50 agents. The vendor's log judges.
"""

from __future__ import annotations

import argparse
import json
import sys
from math import inf
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.protocol.test_pace import Held
from tests.protocol.vendor import MODES, Loop, Terms, Vendor, judge, weather

BOUNDS = {"configured": (1.03, 0.005, 0.1), "headers": (1.10, 0.02, 0.1), "refusals": (1.30, 0.05, 0.1)}
FIELDS = ("time over ideal", "share of 429s", "learned rate off by")
KINDS = {
    "a bucket, hints of all kinds": {},
    "a bucket, exact hints": {"hints": "exact"},
    "a bucket, no hints": {"hints": "none"},
    "a bucket, whole seconds": {"hints": "seconds"},
    "a fixed window of 1 s": {"window": 1.0},
    "a fixed window of 10 s": {"window": 10.0},
}


def spread(values):
    """Return median, ninth decile and worst of what was found; ``missing`` counts the runs that found nothing."""
    ordered = sorted(value for value in values if value < inf)
    missing = len(values) - len(ordered)
    if not ordered:
        return {"median": None, "p90": None, "worst": None, "missing": missing}
    figures = {"median": median(ordered), "p90": ordered[int(0.9 * (len(ordered) - 1))], "worst": ordered[-1]}
    return {name: round(figure, 4) for name, figure in figures.items()} | {"missing": missing}


def calls(seeds):
    rows = []
    for kind, fixed in KINDS.items():
        for mode in MODES:
            verdicts = [judge(seed, mode, **fixed) for seed in range(seeds)]
            for index, name in enumerate(FIELDS):
                bound = BOUNDS[mode][index]
                rows.append(
                    {"vendor": kind, "limit": mode, "what": name, "bound": bound}
                    | spread([verdict[index] for verdict in verdicts])
                )
    return rows


def storms(seeds):
    rows = []
    for mode in MODES:
        for hint in (None, 1.0, 5.0):
            results = [weather(seed, mode, hint) for seed in range(seeds)]
            rows.append(
                {
                    "limit": mode,
                    "hint": hint,
                    "under way at its start": max(r.in_flight for r in results),
                    "probes": max(r.probes for r in results),
                    "in ten seconds": max(r.in_ten_seconds for r in results),
                    "shortest gap": min(r.gap for r in results),
                    "back after": spread([r.back for r in results]),
                }
            )
    return rows


ODD = {
    "hardly used": ({"requests_per_minute": 600_000, "burst": 100}, {"rate": 1e6, "burst": 1e6}),
    "used in full": ({"requests_per_minute": 3000, "burst": 10}, {"rate": 50.0, "burst": 10.0}),
    "not known": ({}, {"rate": 1e6, "burst": 1e6}),
}


def odd(seeds):
    """Return the seconds of 500 calls of 50 ms, 64 at once, of which one in twenty is refused for no reason."""
    rows = []
    for name, (limits, terms) in ODD.items():
        took = []
        for seed in range(seeds):
            vendor = Vendor(Terms(odd=0.05, way=0.001, jitter=0.001, service=0.05, spread=0.1, **terms))
            vendor.dice.seed(seed)
            took.append(Loop(Held(None, **limits), vendor, seed, calls=500, agents=64).run().now)
        rows.append({"limit": name, "seconds": spread(took)})
    return rows


def show(result):
    for row in result["odd"]:
        print(f"5 % refused at random, limit {row['limit']}: {row['seconds']['median']:.1f} s")
    print(f"500 calls, {result['seeds']} seeds: median, ninth decile, worst; in brackets the bound for a bucket")
    for row in result["calls"]:
        figures = [row[name] for name in ("median", "p90", "worst")]
        text = "  ".join("     -" if figure is None else f"{figure:6.3f}" for figure in figures)
        missing = f"  {row['missing']} found nothing" if row["missing"] else ""
        print(f"{row['vendor']:30} {row['limit']:11} {row['what']:21} {text}  [{row['bound']}]{missing}")
    print("30 s of 429 for 50 agents: under way at its start, probes, in ten seconds, shortest gap, back after (worst)")
    for row in result["storms"]:
        hint = "no hint" if row["hint"] is None else f"hint {row['hint']:g} s"
        counts = f"{row['under way at its start']:3} {row['probes']:3} {row['in ten seconds']:3}"
        print(f"{row['limit']:11} {hint:9} {counts}  {row['shortest gap']:5.2f} s  {row['back after']['worst']:5.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {"seeds": options.seeds, "calls": calls(options.seeds), "storms": storms(max(1, options.seeds // 2))}
    result["odd"] = odd(max(1, options.seeds // 10))
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
