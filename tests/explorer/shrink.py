"""The shortest plan that still breaks the law: faults are taken away one by one, then their numbers made smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.explorer.scenario import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.explorer.explore import Finding

MOST_TRIES = 400


def shrink(finding: Finding, explore: Callable[[int, Plan], Finding | None]) -> Finding:
    """Return a finding of the same law from the same seed, whose plan no single step makes any shorter."""
    left = MOST_TRIES
    shrunk = True
    while shrunk:
        shrunk = False
        for plan in _shorter(finding.plan):
            if left == 0:
                return finding
            left -= 1
            found = explore(finding.seed, plan)
            if found is not None and found.law == finding.law:
                finding, shrunk = found, True
                break
    return finding


def _shorter(plan: Plan) -> Iterator[Plan]:
    """Yield plans that are one step shorter, the greatest steps first."""
    faults = plan.faults
    half = len(faults) // 2
    if half > 1:
        yield Plan(faults[:half])
        yield Plan(faults[half:])
    for number in range(len(faults)):
        yield Plan((*faults[:number], *faults[number + 1 :]))
    for number, fault in enumerate(faults):
        for lesser in _lesser(fault):
            yield Plan((*faults[:number], lesser, *faults[number + 1 :]))


def _lesser(fault: object) -> Iterator[object]:
    """Yield *fault*, but earlier or for a shorter time."""
    at: int = fault.at
    for earlier in dict.fromkeys((1, at // 2, at - 10, at - 1)):
        if 1 <= earlier < at:
            yield replace(fault, at=earlier)
    seconds: float = getattr(fault, "seconds", 0.0)
    for shorter in dict.fromkeys((0.0, 1.0, float(round(seconds / 2)), float(int(seconds)), float(int(seconds) - 1))):
        if 0.0 <= shorter < seconds:
            yield replace(fault, seconds=shorter)
