"""How many of the labelled tasks are planned as their label says, and what a look costs.

The rules were tuned on the ``tune`` rows of ``tests/data/tasks.jsonl``; how these were written stands beside them.

    python benchmarks/complexity.py [--out benchmarks/results/complexity.json] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

from protocol.policies.complexity import PLAN_FROM, estimate

LIST = Path(__file__).parent.parent / "tests" / "data" / "tasks.jsonl"
AT_LEAST = 0.9
MOST_MS = 1.0
PAGE = "Build a client, a server and a database, with tests; the client must retry. " * 45


def milliseconds(task: str) -> float:
    """Return the least time of a few looks at *task*: what the machine does besides is not ours.

    Each look is at a text of its own, since a text that comes again is remembered.
    """
    times = []
    for look in range(1, 8):
        text = task + " " * look
        began = time.perf_counter()
        estimate(text)
        times.append((time.perf_counter() - began) * 1000.0)
    return min(times)


def measured():
    """Return the scores, the counts by half and label, and the times."""
    tasks = [json.loads(line) for line in LIST.read_text(encoding="utf-8").splitlines()]
    rows = [
        {**{k: t[k] for k in ("author", "half", "label", "lang")}, "score": round(estimate(t["text"]).score, 3)}
        for t in tasks
    ]
    counts = []
    for author, half in dict.fromkeys((row["author"], row["half"]) for row in sorted(rows, key=_order)):
        for label in ("simple", "complex"):
            mine = [row for row in rows if (row["author"], row["half"], row["label"]) == (author, half, label)]
            right = [row for row in mine if (row["score"] >= PLAN_FROM) == (label == "complex")]
            german = [sum(row["lang"] == "de" for row in some) for some in (right, mine)]
            counts.append(
                {"author": author, "half": half, "label": label, "right": len(right), "of": len(mine), "german": german}
            )
    times = [milliseconds(task["text"]) for task in tasks]
    return {
        "counts": counts,
        "ms": {
            "median": median(times),
            "most": max(times),
            "page": milliseconds(PAGE),
            "book": milliseconds(PAGE * 100),
        },
        "scores": rows,
    }


def _order(row):
    return row["author"], row["half"] == "held-out"


def broken(result):
    """Return the bounds that *result* breaks, in words."""
    found = [
        f"author {row['author']}, {row['half']} {row['label']}: {row['right']} of {row['of']}, at least {AT_LEAST:.0%}"
        for row in result["counts"]
        if row["right"] < AT_LEAST * row["of"]
    ]
    return found + [f"{name}: {ms:.2f} ms, at most {MOST_MS:g}" for name, ms in result["ms"].items() if ms > MOST_MS]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from provenance import commit

    result = measured()
    result = {"commit": commit(), **result, "ms": {name: round(ms, 3) for name, ms in result["ms"].items()}}
    text = json.dumps(result, indent=None if not options.out else 1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    lines = [f"{row['half']:<9} {row['label']:<8} {row['right']} of {row['of']}" for row in result["counts"]]
    print(text if options.json else "\n".join([*lines, str(result["ms"]), *broken(result)]))


if __name__ == "__main__":
    main()
