"""What a simulation would show if a limit were a quarter larger: one more simulation for each limit."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from msgspec import structs

from protocol.errors import TroupeError
from runtime.simulation import SimulatedSystem
from runtime.simulation_report import WhatIf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtime.config import Config
    from runtime.simulation_report import Report

MORE = 1.25
MOST_WORKFLOWS = 200
"""Above this many nothing is simulated again: each limit costs as much as the simulation itself."""
SLICE = 20_000
"""Messages between two looks at whether it is over."""


def what_if(config: Config, shown: Report, tell: Callable[[str], object]) -> Iterator[WhatIf]:
    """Yield what becomes of the makespan of *shown* with a quarter more of each of its limits, one at a time.

    The limits of ours and of the provider are raised together. Nothing for more than :data:`MOST_WORKFLOWS`.
    """
    if shown.workflows > MOST_WORKFLOWS or not shown.makespan_s:
        return
    for use in shown.limits:
        tell(f"simulating again with a quarter more of {use.domain} {use.limit}")
        system = SimulatedSystem(raised(config, use.domain, use.limit), shown.workflows, seed=shown.seed)
        try:
            while system.work(SLICE):
                pass
        except TroupeError as error:
            tell(f"that simulation did not end: {error}")
            continue
        makespan = round(system.sums.ended - system.sums.began, 6)
        yield WhatIf(
            domain=use.domain,
            limit=use.limit,
            makespan_s=makespan,
            change=round(makespan / shown.makespan_s - 1.0, 4),
        )


def raised(config: Config, domain: str, limit: str) -> Config:
    """Return *config* with a quarter more of *limit* wherever it stands for *domain*."""

    def more(table: dict[str, Any]) -> dict[str, Any]:
        before: Any = table.get(domain)
        value = getattr(before, limit, None)
        if value is None:
            return table
        value = ceil(value * MORE) if limit == "concurrency" else value * MORE
        return table | {domain: structs.replace(before, **{limit: value})}

    simulation = structs.replace(config.simulation, limits=more(config.simulation.limits))
    return structs.replace(config, limits=more(config.limits), simulation=simulation)
