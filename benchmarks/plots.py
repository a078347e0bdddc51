"""Draw the plots of ``docs/limiter.md``: rate, queue and level over time, from simulations of the whole system.

    python benchmarks/plots.py [--out docs/images]

Plain SVG; the same on every machine. ``known`` has the right limit configured; ``wrong`` has twice what the provider
allows, so that refusals have to teach it.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

from protocol import ids
from runtime.config import Config
from runtime.simulation import SimulatedSystem

HERE = Path(__file__).parent
STEP = 1.0
WORKFLOWS = 16
TEAM = """
[provider.main]
base_url = "https://api.example.com/v1"
[model.m]
provider = "main"
name = "m"
[limits.main]
requests_per_minute = {configured}
burst = 10
concurrency = 64
[simulation.limits.main]
requests_per_minute = 240
burst = 10
[team]
plan = "always"
max_parallel = 16
"""
SCENES = {
    "known": (240, "the limit is configured: 240 a minute, 10 at once"),
    "wrong": (480, "twice the limit is configured: 480 a minute; the provider allows 240"),
}


class Sample(NamedTuple):
    """One second: what the provider let in and refused, and how the limiter stood at its end."""

    at: float
    admitted: float
    refused: float
    waiting: float
    level: float
    rate: float


def samples(configured: int, workflows: int = WORKFLOWS) -> list[Sample]:
    """Simulate *workflows* at once; return a sample for each second until all have ended."""
    system = SimulatedSystem(Config.parse(TEAM.format(configured=configured).encode(), "plots"), workflows)
    gate = system.models.vendors["main"].gates["main"]
    found, before = [], (0, 0)
    for step in itertools.count(1):
        system.dispatcher.run(until=step * STEP)
        domain = system.directory.mailboxes[ids.LIMITER].actor._decide._domains.get("main")
        level, rate = (0.0, 0.0) if domain is None else standing(domain, system.dispatcher.now())
        now = (gate.used[0], gate.refused)
        found.append(
            Sample(
                step * STEP,
                (now[0] - before[0]) / STEP,
                (now[1] - before[1]) / STEP,
                0 if domain is None else len(domain.line),
                level,
                rate,
            )
        )
        before = now
        if system.sums.over == workflows:
            return found
    return found


def standing(domain, now: float) -> tuple[float, float]:
    """Return how many calls could go at once, and the rate that is kept to."""
    meter, pace = dict(domain.meters)[0], domain.pace.rates[0]
    return max(0.0, min(meter.level(now), pace.level(now))), min(meter.rate, pace.rate)


# --- drawing

WIDTH, LEFT, RIGHT, TOP, PANEL, GAP = 720, 44, 60, 52, 100, 46
FONT = 'font-family="sans-serif" font-size="12"'
BLUE, RED, GREY, INK, FAINT = "#2b6cb0", "#c53030", "#8a94a3", "#1a202c", "#4a5568"
ALLOWED = 4.0
"""Calls a second that the provider allows."""


def drawn(title: str, found: list[Sample]) -> str:
    """Return the plot of *found* as SVG: three panels over one axis of time."""
    end = found[-1].at
    panels = (
        (
            "calls a second",
            {
                ("let in", BLUE): [s.admitted for s in found],
                ("refused", RED): [s.refused for s in found],
                ("rate kept to", GREY): [s.rate for s in found],
            },
        ),
        ("calls in line", {("", BLUE): [s.waiting for s in found]}),
        ("level: calls that could go at once", {("", BLUE): [s.level for s in found]}),
    )
    height = TOP + len(panels) * (PANEL + GAP) - 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" {FONT} fill="{INK}">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{title}</text>',
    ]
    for number, (name, lines) in enumerate(panels):
        parts += panel(name, lines, end, TOP + number * (PANEL + GAP), ALLOWED if number == 0 else None)
    return "\n".join([*parts, "</svg>", ""])


def panel(
    name: str, lines: dict[tuple[str, str], list[float]], end: float, top: float, allowed: float | None
) -> list[str]:
    """Return one panel: a frame, its scale, what is *allowed*, and a line for each of *lines* with its colour."""
    most = scale(max(max(line) for line in lines.values()))
    right, bottom = WIDTH - RIGHT, top + PANEL
    parts = [
        f'<text x="{LEFT}" y="{top - 8}" fill="{FAINT}">{name}</text>',
        f'<path d="M{LEFT} {top}V{bottom}H{right}" fill="none" stroke="{GREY}"/>',
        f'<text x="{LEFT - 6}" y="{top + 5}" text-anchor="end">{most:g}</text>',
        f'<text x="{LEFT - 6}" y="{bottom + 4}" text-anchor="end">0</text>',
    ]
    for mark in range(0, int(end) + 1, max(1, int(end) // 60 * 10 or 5)):
        x = LEFT + (right - LEFT) * mark / end
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="{FAINT}">{mark} s</text>')
    if allowed is not None:
        y = bottom - PANEL * allowed / most
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" fill="none" stroke="{FAINT}" stroke-dasharray="4 3"/>')
        parts.append(f'<text x="{right + 5}" y="{y + 4:.1f}" fill="{FAINT}">allowed</text>')
    for place, (label, colour) in enumerate(lines):
        if label:
            x = right - 110 * (len(lines) - place)
            parts.append(f'<rect x="{x}" y="{top - 13}" width="14" height="3" fill="{colour}"/>')
            parts.append(f'<text x="{x + 20}" y="{top - 8}" fill="{FAINT}">{label}</text>')
    for (_, colour), line in reversed(lines.items()):
        points = " ".join(
            f"{LEFT + (right - LEFT) * (n + 1) / len(line):.1f},{bottom - PANEL * value / most:.1f}"
            for n, value in enumerate(line)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts


def scale(most: float) -> float:
    """Return a round number that is not below *most*, for the end of an axis."""
    return next((n for n in (1, 2, 4, 6, 8, *range(10, 400, 5)) if n >= most), most)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (configured, title) in SCENES.items():
        (options.out / f"limiter-{name}.svg").write_text(drawn(title, samples(configured)), encoding="utf-8")


if __name__ == "__main__":
    main()
