"""What must not be left when every run has ended and nothing moves any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.caller import Caller
from actors.conversations import Conversational
from protocol import ids
from tests.explorer.books import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actors.testing import ActorTestKit


def expect_nothing_left(kit: ActorTestKit) -> None:
    """Raise a :class:`Violation` that names what is left."""
    try:
        kit.expect_idle()
    except AssertionError as error:
        raise Violation("left over", str(error).partition("\n")[0]) from None
    left = [text for box in kit.directory.mailboxes.values() for text in _of_mailbox(box)]
    due = kit.dispatcher.next_timer()
    if due is not None:
        left.append(f"a timer at {due:g} s")
    if left:
        raise Violation("left over", "; ".join(left))


def _of_mailbox(box: Any) -> Iterator[str]:
    address, actor = box.address, box.actor
    if box.suspended:
        yield f"{address} is suspended"
    if actor._timers:
        yield f"{address} has the timers {sorted(actor._timers)}"
    if address.startswith("workflow/"):
        yield f"{address} has not gone"
    if isinstance(actor, Conversational):
        if actor._talks or actor._waiting:
            yield f"{address} has the conversations {sorted(actor._talks)}, waiting for {sorted(actor._waiting)}"
    elif isinstance(actor, Caller):
        if actor._busy is not None or actor._mail:
            yield f"{address} is busy"
    else:
        yield from _HOUSE.get(address, _nothing)(actor)


def _nothing(_actor: Any) -> Iterator[str]:
    yield from ()


def _supervisor(actor: Any) -> Iterator[str]:
    machine = actor._decide
    if any(machine._load.values()) or machine._holders:
        yield f"the supervisor has the tasks {sorted(machine._holders)}, loads {machine._load}"
    if machine._sticky:
        yield f"the supervisor remembers where {sorted(machine._sticky)} were"


def _recorder(actor: Any) -> Iterator[str]:
    if actor._runs:
        yield f"the recorder keeps {sorted(actor._runs)}"


def _limiter(actor: Any) -> Iterator[str]:
    machine = actor._decide
    if machine._leases or any(domain.in_flight or domain.line for domain in machine._domains.values()):
        yield f"the limiter holds {sorted(machine._leases)}"


def _gateway(actor: Any) -> Iterator[str]:
    machine = actor._decide
    if machine._calls or machine._flights:
        yield f"the gateway has the calls {sorted(machine._calls)}, flights {sorted(machine._flights)}"
    for circuit in machine._circuits._circuits.values():
        if circuit.parked:
            yield f"{sorted(circuit.parked)} wait for a breaker"
    for pool in machine._pools.values():
        if pool._waiting or len(pool._idle) != len(pool._members):
            yield f"of {sorted(pool._members)} only {sorted(pool._idle)} are free, {list(pool._waiting)} wait"
    unheard = sorted(actor._others & set(actor._directory.mailboxes))
    if unheard:
        yield f"the gateway does not hear {unheard}"


def _crew(actor: Any) -> Iterator[str]:
    if actor._jobs:
        yield f"the crew has the jobs {sorted(actor._jobs)}"
    if sorted(actor._free()) != sorted(actor._hired):
        yield f"of {actor._hired} only {actor._free()} are free"


_HOUSE = {
    ids.SUPERVISOR: _supervisor,
    ids.RECORDER: _recorder,
    ids.LIMITER: _limiter,
    ids.GATEWAY: _gateway,
    "workers": _crew,
}
