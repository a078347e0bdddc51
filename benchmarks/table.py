"""Write the figures in ``benchmarks/results`` into ``docs/performance.md``, between the markers of their tables.

    python benchmarks/table.py [--check]

A table stands between ``<!-- table:NAME -->`` and ``<!-- /table -->`` and is made from a file in ``results/``. With
``--check`` nothing is written, and the exit code is 1 when a table is not what its figures say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
MARKED = re.compile(r"(<!-- table:(?P<name>[a-z_]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def mailbox(result):
    lines = [
        (
            f"Python {result['python']}, Pykka {result['pykka']}, median of {result['rounds']} rounds, "
            f"at {result['commit']}."
        ),
        "",
        "| what | Troupe | lowest - highest | stock Pykka | ratio | bound |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        unit = row["unit"]
        stock = ("", "") if row["pykka"] is None else (shown(row["pykka"], unit), f"{row['ratio']:g}")
        spread = f"{shown(row['lowest'], unit, bare=True)} - {shown(row['highest'], unit, bare=True)}"
        cells = (row["what"], shown(row["troupe"], unit), spread, *stock, shown(row["bound"], unit))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


BOUNDS = {"1": 1.08, "16": 1.2, "128": 1.12}


def team(result):
    lines = [
        (
            f"Server ceiling {result['server_ceiling_per_s']:,} requests/s; {result['slots']} slots; "
            f"{result['latency_s'] * 1000:g} ms a call; at {result['commit']}."
        ),
        "",
        "| contender | W | makespan over ideal | at most | CPU ms a call | added ms, p50 / p99 | peak MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("troupe", "threads", "aiohttp"):
        for workflows, bound in BOUNDS.items():
            row = result[name][workflows]
            added = row["added_ms_p50_p99"]
            cells = (
                name,
                workflows,
                f"{row['over_ideal']:.3f}",
                f"{bound:g}" if name == "troupe" else "",
                f"{row['cpu_ms_per_call']:.3f}",
                f"{added[0]:g} / {added[1]:g}" if added else "",
                f"{result[name]['peak_mb']:g}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def kit(result):
    lines = [
        f"Python {result['python']}, median of {result['rounds']} rounds, in ms.",
        "",
        "| test | simulated | 90 % under | on threads | at most |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        figures = ("" if row[key] is None else f"{row[key]:.2f}" for key in ("ms", "p90", "threads"))
        lines.append(f"| {' | '.join((row['what'], *figures, str(result['bound'])))} |")
    return "\n".join(lines)


def simulation_agreement(result):
    found = result["agreement"]
    lines = [
        f"The server's own overhead, as a bare socket sees it: {found['server_overhead_ms']:g} ms a call.",
        "",
        "| case | W | real s, lowest - highest | simulated s, lowest - highest | simulated / real |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        sides = (spread(row["real_s"], row["real_from_to"]), spread(row["simulated_s"], row["simulated_from_to"]))
        lines.append(f"| {row['name']} | {row['workflows']} | {sides[0]} | {sides[1]} | {row['ratio']:.3f} |")
    return "\n".join(lines)


def simulation_speed(result):
    found = result["speed"]
    lines = [
        "| workflows | calls | messages | CPU s | CPU ms a workflow | messages a CPU second | peak MB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        cells = [f"{row[name]:,}" for name in ("workflows", "calls", "messages")]
        cells += [f"{row['cpu_s']:.2f}", f"{row['cpu_ms_per_workflow']:.2f}"]
        cells += [f"{row['messages_per_cpu_s']:,}", str(row["peak_mb"])]
        lines.append(f"| {' | '.join(cells)} |")
    bare = ", ".join(f"{rate:,} {way}" for way, rate in found["bare_messages_per_s"].items())
    return "\n".join([*lines, "", f"Bare messages a CPU second, between two actors that do nothing else: {bare}."])


def spread(middle, ends):
    return f"{middle:.3f}" if ends[0] == ends[1] else f"{middle:.3f}, {ends[0]:.3f} - {ends[1]:.3f}"


def limiter(result):
    lines = [
        f"Python {result['python']}, {result['waiting']:,} waiting, median of {result['rounds']} rounds.",
        "",
        "| what | where | Troupe | lowest - highest | bound |",
        "|---|---|---:|---:|---:|",
    ]
    for row in result["rows"]:
        unit, digits = row["unit"], 4 if not row["unit"] else 0 if row["unit"] == "bytes" else 1
        figure, low, high = (f"{row[name]:,.{digits}f}" for name in ("figure", "lowest", "highest"))
        spread = f"{low} - {high}" if unit == "us" else ""
        cells = (
            NAMES[row["what"]],
            row["where"],
            f"{figure} {unit}".strip(),
            spread,
            f"{row['bound']:,g} {unit}".strip(),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


NAMES = {
    "acquire": "a request joins, p99",
    "settle": "a call ends and another is granted, p99",
    "timer": "the timer grants, p99",
    "waiter": "a waiter weighs",
    "left": "left of each when all have gone",
    "inversions": "less urgent first",
    "lowest": "the lowest class overstays",
    "ratio": "shares",
    "spread": "difference",
}


def ratelimit(result):
    lines = [
        (
            f"{result['calls']} calls, median of {result['rounds']} runs (lost and duplicates: the most), "
            f"at {result['commit']}."
        ),
        "",
        (
            "| the limit is | server limits | time over ideal | at most | 429s | at most | lost | duplicates "
            "| CPU ms a call | less urgent first |"
        ),
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        bound = RATELIMIT_BOUNDS.get(row["case"], RATELIMIT_BOUNDS["configured"])
        cells = (
            RATELIMIT_NAMES.get(row["case"], row["case"]),
            row["variant"],
            f"{row['over_ideal']:.3f}",
            f"{bound[0]:.2f}",
            f"{row['throttled']:.2%}",
            f"{bound[1]:.1%}",
            str(row["lost"]),
            str(row["duplicates"]),
            f"{row['cpu_ms']:.2f}",
            f"{row['inversions']:.4f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


RATELIMIT_BOUNDS = {
    "configured": (1.03, 0.005),
    "headers": (1.10, 0.02),
    "429s": (1.30, 0.05),
    "429s, careful": (1.30, 0.05),
}
RATELIMIT_NAMES = {
    "headers": "learned from headers",
    "429s": "learned from 429s alone",
    "429s, careful": "the same, `start_per_minute = 1200`",
    "run --tasks": "configured; `run --tasks`",
}


def bench(result):
    lines = []
    for table in result["tables"]:
        lines += [
            (
                f"{table['calls']} calls, {table['per_second']:g} a second and {table['burst']} at once; "
                f"{table['ideal_s']:.2f} s at best:"
            ),
            "",
            "| contender | time over ideal | 429s | lost | duplicates | CPU ms a call | less urgent first |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in table["rows"]:
            of = row["figures"]
            cells = (
                row["contender"],
                f"{of['over_ideal']:.3f}",
                f"{of['throttled']:.1%}",
                str(of["lost"]),
                str(of["duplicates"]),
                f"{of['cpu_ms']:.2f}",
                f"{of['inversions']:.3f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines[:-1])


def shown(figure, unit, *, bare=False):
    """Return *figure* as a reader wants it: bytes whole and with commas, others with two digits."""
    text = f"{figure:,.0f}" if unit == "bytes" else f"{figure:.2f}"
    return text if bare else f"{text} {unit}"


TABLES = {
    "limiter": ("limiter", limiter),
    "bench": ("bench", bench),
    "ratelimit": ("ratelimit", ratelimit),
    "kit": ("kit", kit),
    "mailbox": ("mailbox", mailbox),
    "team": ("team", team),
    "simulation_agreement": ("simulation", simulation_agreement),
    "simulation_speed": ("simulation", simulation_speed),
}
"""By the name of each table: its file of figures, and what makes the table of them."""


def filled(page):
    """Return *page* with every table that has a maker and a result made anew."""

    def fill(match):
        file, make = TABLES.get(match["name"], ("", None))
        path = HERE / "results" / f"{file}.json"
        if make is None or not path.exists():
            return match[0]
        return f"{match[1]}{make(json.loads(path.read_text(encoding='utf-8')))}\n{match[3]}"

    return MARKED.sub(fill, page)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    if options.check:
        return int(filled(page) != page)
    PAGE.write_text(filled(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
