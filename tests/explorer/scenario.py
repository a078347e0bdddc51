"""A scenario, drawn from one seed: a small team, its runs, its provider's limits and moods; and what goes wrong."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from actors.fault_plan import Crash, Delay, Fault, Lose, Stall
from actors.team import TeamRules
from actors.worker import CREW
from protocol import ids
from protocol.limiter import DomainLimits
from protocol.roles import AgentRole
from tests.explorer.program import FOR_EVER, Author, Do

TEAM = (AgentRole.ORCHESTRATOR, AgentRole.CODER, AgentRole.REVIEWER)


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that starts at *at* and is cancelled at *cancelled_at*, in virtual seconds; *kind* is its workflow."""

    id: str
    kind: str
    at: float
    task: str
    to: str | None = None
    timeout: float | None = None
    cancelled_at: float | None = None
    priority: int = 1
    flow: str = ""
    parallel: int | None = None


class Told(Struct, frozen=True, kw_only=True):
    """Something that an agent is told at *at*, and nobody awaits."""

    at: float
    role: str
    do: Do


class Scenario(Struct, kw_only=True):
    """What is played. A *strict* one must end the same in every order of events and with every harmless fault."""

    seed: int
    strict: bool
    wire: bool
    roles: dict[str, int]
    rules: TeamRules
    runs: tuple[Run, ...]
    told: tuple[Told, ...]
    limits: DomainLimits
    trouble: float
    most_trouble: int
    latency: float
    retries: int
    cap: int | None
    knows_schemas: bool
    fates: dict[str, Any] = {}

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Return who may meet a fault, by kind."""
        return {
            "house": (ids.SUPERVISOR, ids.RECORDER, ids.LIMITER, ids.GATEWAY, CREW),
            "agent": tuple(f"{role}/{n}" for role, count in self.roles.items() for n in range(count)),
            "workflow": tuple(ids.workflow_address(run.id) for run in self.runs),
            "caller": tuple(f"caller/main/{n}" for n in range(3)),
            "worker": ("worker/pinned/0", "worker/pinned/1"),
        }


class RestartAt(Struct, frozen=True, tag="restart"):
    """*address* gets a new instance after turn number *at* of the play, as its supervisor would give it."""

    address: str
    at: int


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong in a play."""

    faults: tuple[Fault | RestartAt, ...] = ()

    def encode(self) -> str:
        """Return the plan as one line of JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Plan:
        """Return the plan that *text* holds."""
        return msgspec.json.decode(text, type=cls)


# --- drawing


def draw(seed: int) -> Scenario:
    """Return the scenario of *seed*: the same on any machine."""
    dice = Random(f"scenario {seed}")
    strict = dice.random() < 0.5
    own = ("writer", "critic", "clerk")[: 1 + int(dice.random() * 3.0)]
    team = dice.random() < 0.35
    roles = {str(role): 1 + int(dice.random() * 2.4) for role in (*own, *(TEAM if team else ()))}
    author = Author(dice, own, strict=strict, budget=10)
    count = 1 + int(dice.random() ** 1.5 * 4.0)
    runs = tuple(_run(dice, author, f"r{n}", team=team and (n == 0 or dice.random() < 0.3)) for n in range(count))
    if not strict:
        runs = tuple(_hurried(dice, run) for run in runs)
    told = ()
    if dice.random() < 0.15:
        told = (Told(at=round(dice.random() * 3.0, 2), role=own[0], do=author.program("t0", agent=True, depth=2)),)
    return Scenario(
        seed=seed,
        strict=strict,
        wire=dice.random() < 0.2,
        roles=roles,
        rules=TeamRules(
            plan=dice.choice(("always", "always", "never")), max_rounds=int(dice.random() * 2.5), accept_score=6
        ),
        runs=runs,
        told=told,
        limits=_limits(dice),
        trouble=dice.choice((0.0, 0.15, 0.4)),
        most_trouble=2,
        latency=dice.choice((0.0, 0.5, 3.0)),
        retries=8 if strict else int(dice.random() * 4.0),
        cap=1 + int(dice.random() * 3.0) if not strict and dice.random() < 0.15 else None,
        knows_schemas=dice.random() < 0.8,
    )


def _run(dice: Random, author: Author, id_: str, *, team: bool) -> Run:
    facts: dict[str, Any] = {
        "id": id_,
        "at": 0.0 if dice.random() < 0.5 else round(dice.random() * 4.0, 2),
        "priority": int(dice.random() * 3.0),
        "flow": dice.choice(("", "acme")),
        "parallel": 1 + int(dice.random() * 3.0) if dice.random() < 0.3 else None,
    }
    if team:
        return Run(kind="team", task=f"build-{id_}", **facts)
    if dice.random() < 0.1:
        return Run(kind="direct", task=id_, to=dice.choice(author.roles), **facts)
    program = author.program(id_)
    roll = dice.random()
    if roll < 0.12:  # it never ends by itself: all else is over long before it is cancelled, or out of time
        program = Do("seq", id_, parts=(program, Do("pause", f"{id_}.z", seconds=FOR_EVER)))
        facts["cancelled_at" if roll < 0.06 else "timeout"] = 400.0
    return Run(kind="script", task=msgspec.json.encode(program).decode(), **facts)


def _hurried(dice: Random, run: Run) -> Run:
    """Return *run*, perhaps cancelled or out of time in the midst of it."""
    roll = dice.random()
    if roll < 0.2:
        return msgspec.structs.replace(run, cancelled_at=round(run.at + dice.random() ** 2 * 12.0, 3))
    if roll < 0.35:
        return msgspec.structs.replace(run, timeout=round(dice.random() * 15.0, 3))
    return run


def _limits(dice: Random) -> DomainLimits:
    return DomainLimits(
        concurrency=dice.choice((1, 1, 2, 3)),
        requests_per_minute=dice.choice((None, None, 30.0, 120.0)),
        burst=1 + int(dice.random() * 3.0),
        tokens_per_minute=dice.choice((None, None, None, 3000.0)),
    )


# --- what goes wrong

MOST = {"house": 3, "agent": 2, "workflow": 3, "caller": 3, "worker": 2}
"""How often one address may meet what costs it an instance: each survives that, the supervisor by the skin of its
teeth, and no message is taken for poison."""
REACH = {"house": 24, "agent": 8, "workflow": 9, "caller": 5, "worker": 2}
"""Among its first so many messages a fault strikes an address of each kind."""


def draw_plan(scenario: Scenario) -> Plan:
    """Return what goes wrong in *scenario*: up to six faults, in a quarter three restarts in a row."""
    dice = Random(f"plan {scenario.seed}")
    if dice.random() < 0.1:
        return Plan()
    places = scenario.addresses()
    seconds = dice.choice((1.0, 10.0, 40.0))
    faults = [_fault(dice, scenario, places, seconds) for _ in range(1 + int(dice.random() * 6.0))]
    if dice.random() < 0.25:
        turn = 1 + int(dice.random() * 150.0)
        faults += [RestartAt(_place(dice, places)[1], turn + int(dice.random() * 8.0)) for _ in range(3)]
    kinds = {address: kind for kind, addresses in places.items() for address in addresses}
    costs: Counter[str] = Counter()
    kept: list[Fault | RestartAt] = []
    for fault in faults:
        kind = kinds[fault.address]
        if not isinstance(fault, Stall | Delay | RestartAt):
            costs[fault.address] += 1
        if kind == "agent" and isinstance(fault, RestartAt):  # mail under way at three restarts is poison
            costs[fault.address] += 1
        if costs[fault.address] <= MOST[kind] or not (scenario.strict or kind == "house"):
            kept.append(fault)
    return Plan(tuple(kept))


def _place(dice: Random, places: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    kind = dice.choices(list(places), (40, 25, 15, 12, 8))[0]
    return kind, dice.choice(places[kind])


_MORTAL = ("agent", "workflow", "worker")


def _fault(dice: Random, scenario: Scenario, places: dict[str, tuple[str, ...]], seconds: float) -> Fault | RestartAt:
    kind, address = _place(dice, places)
    mortal = kind == "caller" or (not scenario.strict and kind in _MORTAL)
    at = 1 + int(dice.random() * REACH[kind])
    match dice.choices(("crash", "stall", "delay", "restart", "lose"), (40, 15, 10, 25, 15 if mortal else 0))[0]:
        case "crash":
            return Crash(address, at)
        case "stall":
            return Stall(address, at, round(dice.random() * seconds, 3))
        case "delay":
            return Delay(address, 1 + int(dice.random() * 5.0), round(dice.random() * seconds, 3))
        case "lose":
            return Lose(address, at)
        case _:
            return RestartAt(address, 1 + int(dice.random() * 200.0))
