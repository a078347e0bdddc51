"""A finding in words: what replays it, the shortest plan that still leads there, and the last messages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.explorer.plants import planted
from tests.explorer.shrink import shrink

if TYPE_CHECKING:
    from tests.explorer.explore import Finding


def told(finding: Finding, plant: str | None = None) -> str:
    """Return *finding*, made with *plant* in place, as text."""
    shortest = shrink(finding, partial(planted, plant))
    command = f"python -m tests.explorer --seed {finding.seed}{f' --plant {plant}' if plant else ''}"
    plan = shortest.plan.encode()
    return (
        f"seed {finding.seed} breaks a law: {finding.text}\n"
        f"replay: {command}\n"
        f"the shortest plan that still fails: {plan}\n"
        f"with it: {shortest.text}\n"
        f"replay: {command} --plan '{plan}'\n"
        f"{shortest.messages}"
    )
