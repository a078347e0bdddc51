"""Write tables and plots of ``docs/adaptive.md`` from the figures in ``benchmarks/results``.

    python benchmarks/adaptive.py [--check]

Plots are SVG, written here line by line. With ``--check`` nothing is written, and the exit code is 1 when a file is not
what its figures say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "adaptive.md"
MARKED = re.compile(r"(<!-- table:(?P<name>[a-z_]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
INK, FAINT, SOFT = "#222222", "#666666", "#999999"
COLOURS = {
    "ours": "#0b6e4f",
    "rules": "#c77d0a",
    "thompson": "#6a4c93",
    "mix": "#999999",
    "oracle": "#1d4e89",
    "cheap": "#999999",
    "strong": "#999999",
    "clairvoyant": "#c0c0c0",
    "default": "#0b6e4f",
    "off": "#c77d0a",
    "best of two": "#6a4c93",
    "simple": "#1d4e89",
    "complex": "#c77d0a",
}


# --- tables


def complexity(result):
    """Return the counts of planned tasks."""
    lines = ["| author | half | label | right | share | German ones right |", "|---|---|---|---:|---:|---:|"]
    for row in result["counts"]:
        share = f"{row['right'] / row['of']:.0%}"
        lines.append(
            f"| {row['author']} | {row['half']} | {row['label']} | {row['right']} of {row['of']} | {share} |"
            f" {row['german'][0]} of {row['german'][1]} |"
        )
    ms = result["ms"]
    times = f"{ms['median']:.2f} ms a task in the median, {ms['most']:.2f} at most"
    pages = f"a page {ms['page']:.2f}, a book {ms['book']:.2f} (bound 1 ms)"
    return "\n".join([*lines, "", f"{times}; {pages}, at {result['commit']}."])


def routing(result):
    """Return the figures of the ten worlds, and their medians against the bounds."""
    head = "world | cost at equal quality | over oracle | above the mix | ours | rules alone | Thompson | oracle"
    lines = [f"| {head} |", "|---|---:|---:|---:|---|---|---|---|"]
    for world in result["worlds"]:
        v, strong = world["verdicts"], world["strong"]
        points = " | ".join(
            f"{world[name]['cost'] / strong['cost']:.0%}, {100 * (world[name]['quality'] - strong['quality']):+.1f}"
            for name in ("ours", "rules", "thompson", "oracle")
        )
        name = {0: "0 (cheap = strong)", 1: "1 (cheap useless)"}.get(world["seed"], str(world["seed"]))
        bounds = f"{v['cost_at_equal_quality']:.0%} | {v['over_oracle']:+.0%} | {100 * v['above_mix']:+.1f}"
        lines.append(f"| {name} | {bounds} | {points} |")
    rows = [world["verdicts"] for world in result["worlds"]]
    for key, name, bound in (
        ("cost_at_equal_quality", "cost at equal quality, of always strong", "60%"),
        ("over_oracle", "over the oracle's cost", "10%"),
    ):
        values = [row[key] for row in rows]
        lines.append("")
        lines.append(
            f"{name}: {median(values):.0%} in the median world (bound {bound}), {max(values):.0%} in the worst of ten."
        )
    note = (
        "Cells of the last four columns: share of always strong's cost, points of quality against it. "
        f"{result['tasks']} tasks a stream, {result['rounds']} streams a world, second halves; at {result['commit']}."
    )
    return "\n".join([*lines, "", note])


def depends(result):
    """Return what the figures depend on."""
    lines = ["| what | value | cost at equal quality | over oracle |", "|---|---:|---:|---:|"]
    names = {"tested": "share of tasks with tests", "ratio": "strong costs so many times cheap"}
    for row in result["sensitivity"]:
        figures_ = f"{row['cost_at_equal_quality']:.0%} | {row['over_oracle']:+.0%}"
        lines.append(f"| {names[row['what']]} | {row['value']:g} | {figures_} |")
    return "\n".join(lines)


def feedback(result):
    """Return quality and cost for each reviewer and set of rules."""
    lines = ["| reviewer | rules | quality | gain | noise | cost | rounds |", "|---|---|---:|---:|---:|---:|---:|"]
    for row in result["reviewers"]:
        noise = f"{row['noise']:.3f}" if "noise" in row and row["rules"] != "round 0" else ""
        rounds = f"{row['rounds']:.2f}, at most {row['most_rounds']}" if "rounds" in row else ""
        gained = f"{row['quality']:.3f} | {row['gain']:+.3f} | {noise}"
        lines.append(f"| {row['reviewer']} | {row['rules']} | {gained} | {row['cost']:.2f} | {rounds} |")
    return "\n".join([*lines, "", f"{result['runs']} tasks a row; at {result['commit']}."])


def loops(result):
    """Return how models that get nowhere end."""
    lines = [
        "| model | ended | with a result | most rounds | most USD of 40 | calls |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["loops"]:
        ended = f"{row['ended']} of {row['seeds']} | {row['with_partial']} | {row['most_rounds']} of 4"
        lines.append(f"| {row['kind']} | {ended} | {row['most_usd']:.0f} | {row['mean_calls']:.1f} |")
    return "\n".join(lines)


TABLES = {
    "complexity": ("complexity", complexity),
    "routing": ("routing", routing),
    "depends": ("routing", depends),
    "feedback": ("feedback", feedback),
    "loops": ("feedback", loops),
}


# --- plots


class Svg:
    """A drawing: shapes as lines of text."""

    def __init__(self, width: int, height: int, title: str) -> None:
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif"'
        self.lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<title>{title}</title>"]
        self.bar(0, 0, width, height, fill="#ffffff")

    def text(self, x, y, words, *, size=11, anchor="start", fill=INK):
        """Write *words*."""
        look = f'font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
        self.lines.append(f'<text x="{x:.1f}" y="{y:.1f}" {look}>{words}</text>')

    def path(self, points, *, stroke, width=1.5, dash=""):
        """Draw a line through *points*."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.lines.append(f'<polyline points="{shown}" fill="none" stroke="{stroke}" stroke-width="{width}"{dashes}/>')

    def dot(self, x, y, *, fill, r=3.5):
        """Draw a dot."""
        self.lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{fill}"/>')

    def bar(self, x, y, width, height, *, fill):
        """Draw a filled box."""
        self.lines.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>')

    def written(self) -> str:
        """Return the file's text."""
        return "\n".join([*self.lines, "</svg>", ""])


def plot_routing(result):
    """Draw cost against quality, a panel a world; left and up is better."""
    svg = Svg(980, 490, "Cost and quality of choosing a model in ten worlds")
    for number, world in enumerate(result["worlds"]):
        left, top = 50 + (number % 5) * 188, 40 + (number // 5) * 205
        most = max(world[name]["cost"] for name in ("cheap", "strong", "ours", "rules")) * 1.05
        low = min(0.9, world["ours"]["quality"] - 0.08, world["rules"]["quality"] - 0.02)

        def at(point, left=left, top=top, most=most, low=low):
            height = (max(low, point["quality"]) - low) / (1 - low)
            return left + 150 * point["cost"] / most, top + 150 - 150 * height

        svg.path([(left, top), (left, top + 150), (left + 150, top + 150)], stroke=INK, width=1)
        svg.path([at(world["cheap"]), at(world["strong"])], stroke=SOFT, width=1, dash="4 3")
        svg.path(
            [at(point) for point in sorted(world["curve"], key=lambda p: p["cost"])], stroke=COLOURS["ours"], width=1
        )
        for name in ("clairvoyant", "cheap", "strong", "mix", "rules", "thompson", "oracle", "ours"):
            mark(svg, name, *at(world[name]))
        svg.text(left + 75, top - 8, f"world {world['seed']}", anchor="middle")
        svg.text(left - 5, top + 8, "100%", size=9, anchor="end")
        svg.text(left - 5, top + 150, f"{low:.0%}", size=9, anchor="end")
        svg.text(left, top + 162, "0", size=9, anchor="middle")
        svg.text(left + 150, top + 162, f"{most:.1f}", size=9, anchor="end")
    svg.text(50, 425, "upwards: quality; to the right: cost, in drafts of the strong model", fill=FAINT)
    for place, (name, words) in enumerate(SHOWN.items()):
        mark(svg, name, 55 + place % 4 * 235, 448 + place // 4 * 22)
        svg.text(65 + place % 4 * 235, 452 + place // 4 * 22, words)
    return svg.written()


SHOWN = {
    "ours": "ours (line: other settings of it)",
    "rules": "rules alone",
    "thompson": "Thompson sampling",
    "oracle": "oracle: knows each model's odds",
    "clairvoyant": "clairvoyant: knows each draft",
    "cheap": "always cheap",
    "strong": "always strong",
    "mix": "both at random (dashed: any share)",
}
"""What the marks of the plot of routing stand for."""


def mark(svg, name, x, y):
    """Draw the mark of *name*: cheap, strong and their mix are grey, and differ in shape."""
    if name in {"cheap", "strong", "mix"}:
        svg.bar(x - 3.5, y - 3.5, 7, 7, fill=INK if name == "strong" else FAINT)
        if name == "cheap":
            svg.bar(x - 2, y - 2, 4, 4, fill="#ffffff")
    else:
        svg.dot(x, y, fill=COLOURS[name])


def plot_feedback(result):
    """Draw gain and cost of the rounds as bars, a group a reviewer."""
    svg = Svg(810, 330, "What feedback rounds gain and cost")
    rules = ("default", "off", "best of two")
    rows = {(row["reviewer"], row["rules"]): row for row in result["reviewers"]}
    reviewers = list(dict.fromkeys(row["reviewer"] for row in result["reviewers"]))
    for panel, (key, name, most) in enumerate(
        (("gain", "gain over round 0", 0.2), ("cost", "cost: 1 is a draft without rounds", 3.5))
    ):
        left, zero, height = 50 + panel * 365, 250, 200
        svg.text(left, 30, name, size=13)
        svg.path([(left, zero), (left + 325, zero)], stroke=INK, width=1)
        for share in (0.5, 1.0):
            svg.text(left - 4, zero - height * share + 4, f"{most * share:g}", size=9, anchor="end")
        if key == "cost":
            y = zero - height * 2.2 / most
            svg.path([(left, y), (left + 325, y)], stroke=SOFT, width=1, dash="4 3")
            svg.text(left + 329, y + 3, "bound 2.2", size=9, fill=FAINT)
        for group, reviewer in enumerate(reviewers):
            for place, rule in enumerate(rules):
                size = height * rows[reviewer, rule][key] / most
                x = left + 8 + group * 64 + place * 17
                svg.bar(x, zero - max(size, 0), 15, abs(size), fill=COLOURS[rule])
            svg.text(left + 33 + group * 64, zero + 26, reviewer, anchor="middle")
    for place, rule in enumerate(rules):
        svg.bar(60 + place * 190, 305, 12, 12, fill=COLOURS[rule])
        svg.text(78 + place * 190, 315, {"off": "early ends and guard off"}.get(rule, rule))
    return svg.written()


def plot_complexity(result):
    """Draw every labelled task at its score."""
    svg = Svg(760, 200, "Scores of 360 labelled tasks")
    left, width = 130, 600
    for row, (half, label) in enumerate((h, k) for h in ("tune", "held-out") for k in ("simple", "complex")):
        y = 30 + row * 36
        svg.text(left - 12, y + 4, f"{half}, {label}", anchor="end")
        svg.path([(left, y), (left + width, y)], stroke="#dddddd", width=1)
        mine = sorted(r["score"] for r in result["scores"] if (r["half"], r["label"]) == (half, label))
        for n, score in enumerate(mine):
            svg.dot(left + width * score, y + (n % 5 - 2) * 3.5, fill=COLOURS[label], r=2.5)
        for score in sorted(set(mine)):
            if mine.count(score) > 5:
                svg.text(left + width * score + 5, y - 8, str(mine.count(score)), size=9)
    svg.path([(left + width / 2, 12), (left + width / 2, 160)], stroke=INK, width=1, dash="4 3")
    svg.text(left + width / 2, 178, "score; planned from 0.5 on", anchor="middle")
    svg.text(left, 178, "0", anchor="middle")
    svg.text(left + width, 178, "1", anchor="middle")
    return svg.written()


PLOTS = {"routing": plot_routing, "feedback": plot_feedback, "complexity": plot_complexity}


def figures(name):
    """Return the figures called *name*, None where there are none."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def filled(page):
    """Return *page* with every table made anew."""

    def fill(match):
        file, make = TABLES.get(match["name"], ("", None))
        result = figures(file) if make else None
        return match[0] if result is None else f"{match[1]}{make(result)}\n{match[3]}"

    return MARKED.sub(fill, page)


def files():
    """Return what every file has to hold."""
    wanted = {PAGE: filled(PAGE.read_text(encoding="utf-8"))}
    for name, draw in PLOTS.items():
        result = figures(name)
        if result is not None:
            wanted[DOCS / "adaptive" / f"{name}.svg"] = draw(result)
    return wanted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    wanted = files()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if not options.check:
        for path in stale:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
