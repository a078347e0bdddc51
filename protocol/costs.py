"""What calls cost, by role, model and round, and what was saved: sums that may be added in any order.

Money is integer nano-dollars, None as soon as a price in a sum is unknown. What was saved is an estimate, never a
measurement: nobody has made the other call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NO_ROUND = "none"
"""What stands for a round where there is none: plans, and roles that know no rounds."""


class Sums(Struct, frozen=True, kw_only=True, gc=False):
    """What some calls took. ``calls`` counts HTTP calls, ``served`` answers that took no call of their own.

    ``routing`` is how much more the same tokens would have cost at the strongest model, where the model was chosen;
    ``serving`` what the served answers had cost when they were called for.
    """

    calls: int = 0
    served: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int | None = 0
    routing: int | None = 0
    serving: int | None = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            calls=self.calls + other.calls,
            served=self.served + other.served,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            nano_usd=plus(self.nano_usd, other.nano_usd),
            routing=plus(self.routing, other.routing),
            serving=plus(self.serving, other.serving),
        )


class Place(Struct, frozen=True, gc=False):
    """What a sum is kept for; *round* is None outside of rounds."""

    role: str
    model: str
    round: int | None = None


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """What the calls of one role to one model took in one round."""

    role: str
    model: str
    round: int | None = None
    sums: Sums = Sums()

    @property
    def place(self) -> Place:
        """What it is kept for."""
        return Place(self.role, self.model, self.round)


class Costs(Struct, frozen=True, kw_only=True, gc=False):
    """What a run, or many, took: in all, and by role, by model's key and by round (``"0"`` is the first drafts').

    ``planning`` is what plans that were skipped are estimated to have saved: the call of the planner alone. A run that
    was ended from outside knows nothing of its costs.
    """

    total: Sums = Sums(nano_usd=None, routing=None, serving=None)
    roles: dict[str, Sums] = {}
    models: dict[str, Sums] = {}
    rounds: dict[str, Sums] = {}
    planning: int | None = 0


def book(kept: dict[Place, Sums], place: Place, sums: Sums) -> None:
    """Add *sums* to what is *kept* for *place*."""
    before = kept.get(place)
    kept[place] = sums if before is None else before + sums


def in_order(kept: Mapping[Place, Sums]) -> tuple[Line, ...]:
    """Return all that is *kept*, in an order that does not depend on when it was added."""
    places: Iterable[Place] = kept
    if len(kept) > 1:
        places = sorted(places, key=lambda p: (p.role, p.model, -1 if p.round is None else p.round))
    return tuple([Line(role=p.role, model=p.model, round=p.round, sums=kept[p]) for p in places])


def plus(one: int | None, other: int | None) -> int | None:
    """Return the sum, None as soon as one of them is unknown."""
    return None if one is None or other is None else one + other


def costs_of(lines: Iterable[Line], planning: int | None = 0) -> Costs:
    """Return what *lines* add up to, from each side."""
    total = Sums()
    roles: dict[str, Sums] = {}
    models: dict[str, Sums] = {}
    rounds: dict[str, Sums] = {}
    for line in lines:
        total += line.sums
        number = NO_ROUND if line.round is None else str(line.round)
        for table, key in ((roles, line.role), (models, line.model), (rounds, number)):
            table[key] = table.get(key, Sums()) + line.sums
    return Costs(total=total, roles=roles, models=models, rounds=rounds, planning=planning)


def together(several: Iterable[Costs]) -> Costs:
    """Return the costs of several runs as one."""
    total = Sums()
    planning: int | None = 0
    roles: dict[str, Sums] = {}
    models: dict[str, Sums] = {}
    rounds: dict[str, Sums] = {}
    for costs in several:
        total, planning = total + costs.total, plus(planning, costs.planning)
        for table, more in ((roles, costs.roles), (models, costs.models), (rounds, costs.rounds)):
            _add(table, more)
    return Costs(total=total, roles=roles, models=models, rounds=rounds, planning=planning)


def _add(table: dict[str, Sums], more: Mapping[str, Sums]) -> None:
    for key, sums in more.items():
        table[key] = table.get(key, Sums()) + sums
