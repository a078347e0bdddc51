"""The limiter's shell: what the machine decides is sent, and timers become turns."""

from __future__ import annotations

import pytest

from actors.limiter import LOOK_EVERY, Limiter
from protocol.domain import UNPACED
from protocol.errors import ErrorKind
from protocol.limiter import GRACE, DomainLimits
from protocol.limiter import Limiter as Decisions
from protocol.policies.budget import Budget
from protocol.signals import (
    Acquire,
    Allow,
    Amount,
    Cancel,
    ChildFailed,
    ChildRestarted,
    Forget,
    Granted,
    Reaffirm,
    Refused,
    Settle,
)
from protocol.snapshot import LimitsSnapshot
from tests.actors.players import Stage


class Desk(Stage):
    """A stage with a limiter and a holder that writes what it gets into the log."""

    def __init__(self, *, budget=None, **limits):
        super().__init__()
        self.budget = budget or Budget()
        self.limits = {"main": DomainLimits(**{"start_per_minute": UNPACED, **limits})}
        self.lives = 0
        self.spawn("holder")
        self.spawn("limiter", factory=self.make, watchers=("holder",))
        self.dispatcher.settle()

    def make(self):
        self.lives += 1
        return Limiter(self.limits, flows={"b": 3.0}, budget=self.budget, fresh=self.lives == 1)

    def acquire(self, lease, **options):
        options = {"amount": Amount(input_tokens=10, output_tokens=10), "deadline": None} | options
        return Acquire(lease=lease, domain="main", holder="holder", reply_to="holder", **options)

    def ask(self, *leases, **options):
        self.tell("limiter", *(self.acquire(lease, **options) for lease in leases))

    def granted(self):
        return [said.lease for said in self.log if isinstance(said, Granted)]

    def refused(self):
        return [(said.lease, said.kind) for said in self.log if isinstance(said, Refused)]


def test_a_request_that_fits_is_granted():
    desk = Desk()
    desk.ask("a/0#1")
    assert desk.granted() == ["a/0#1"]


def test_a_request_that_can_never_fit_is_refused_at_once():
    desk = Desk(tokens_per_minute=100)
    desk.ask("a/0#1", amount=Amount(input_tokens=1000))
    assert desk.refused() == [("a/0#1", ErrorKind.NEVER_FITS)]


def test_whoever_waits_is_served_when_the_timer_says_so():
    desk = Desk(requests_per_minute=60, burst=1)
    desk.ask("a/0#1", "a/1#1", "a/2#1")
    assert desk.granted() == ["a/0#1"]
    desk.dispatcher.advance(1.01)
    assert desk.granted() == ["a/0#1", "a/1#1"]
    desk.dispatcher.run(until=10.0)
    assert desk.granted() == ["a/0#1", "a/1#1", "a/2#1"]


def test_whoever_waits_is_served_when_another_settles_or_cancels():
    desk = Desk(concurrency=1)
    desk.ask("a/0#1", "a/1#1", "a/2#1")
    desk.tell("limiter", Settle(lease="a/0#1"))
    assert desk.granted() == ["a/0#1", "a/1#1"]
    desk.tell("limiter", Cancel(lease="a/1#1"))
    assert desk.granted() == ["a/0#1", "a/1#1", "a/2#1"]


def test_a_waiter_is_refused_at_its_deadline():
    desk = Desk(concurrency=1)
    desk.ask("a/0#1")
    desk.ask("a/1#1", deadline=3.0)
    desk.dispatcher.advance(2.9)
    assert desk.refused() == []
    desk.dispatcher.advance(0.2)
    assert desk.refused() == [("a/1#1", ErrorKind.DEADLINE)]


def test_a_timer_that_is_no_longer_needed_is_unset():
    desk = Desk(requests_per_minute=60, burst=1)
    desk.ask("a/0#1", "a/1#1")
    desk.tell("limiter", Cancel(lease="a/1#1"))
    assert desk.dispatcher.next_timer() is None


@pytest.mark.parametrize("message", [Settle(lease="a/0#9"), 42])
def test_what_it_cannot_use_is_a_dead_letter(message):
    desk = Desk()
    desk.tell("limiter", message)
    assert len(desk.directory.dead) == 1


def test_what_a_failed_holder_held_is_taken_back():
    desk = Desk(concurrency=1)
    desk.ask("a/0#1")
    desk.tell("limiter", Acquire(lease="b/0#1", domain="main", amount=Amount(), holder="other", reply_to="holder"))
    desk.tell("limiter", ChildFailed(address="holder", kind=ErrorKind.INTERNAL, error="boom"))
    assert desk.granted() == ["a/0#1", "b/0#1"]


def test_what_a_holder_held_is_taken_back_when_its_next_instance_says_so():
    desk = Desk(concurrency=1)
    desk.ask("a/0#1")
    desk.tell("limiter", ChildRestarted(address="holder"))
    desk.tell("limiter", Reaffirm(holder="holder", leases=(), replaced=True))
    desk.ask("a/1#1")
    assert desk.granted() == ["a/0#1", "a/1#1"]
    assert desk.dead() == []


def crash(desk):
    desk.mailbox("limiter").actor.on_receive = None
    desk.tell("limiter", "anything")


def test_after_a_crash_nothing_is_granted_before_a_holder_has_named_its_leases():
    desk = Desk(concurrency=1)
    desk.ask("a/0#1")
    crash(desk)
    assert desk.lives == 2
    assert [type(said) for said in desk.log[1:]] == [ChildFailed, ChildRestarted]
    desk.ask("a/1#1")
    assert desk.granted() == ["a/0#1"]
    desk.tell("limiter", Reaffirm(holder="holder", leases=(desk.acquire("a/0#1"),)))
    assert desk.granted() == ["a/0#1"]
    desk.tell("limiter", Settle(lease="a/0#1"))
    assert desk.granted() == ["a/0#1", "a/1#1"]


def test_the_step_it_failed_on_is_refused_by_the_next_instance_whatever_its_attempt(monkeypatch):
    sound = Decisions.on_acquire

    def on_acquire(self, request, now):
        if request.lease.startswith("bad"):
            raise ZeroDivisionError
        return sound(self, request, now)

    monkeypatch.setattr(Decisions, "on_acquire", on_acquire)
    desk = Desk()
    desk.ask("bad/0#1")
    desk.ask("bad/0#2", "good/0#1")
    assert desk.refused() == [("bad/0#2", ErrorKind.INTERNAL)]
    desk.dispatcher.run(until=10.0)
    assert desk.granted() == ["good/0#1"]
    assert desk.lives == 2


# --- shares and money


def test_flows_get_their_shares():
    desk = Desk(concurrency=1)
    desk.ask("x/0#1")
    for n in range(4):
        for flow in "ab":
            desk.ask(f"{flow}/{n}#1", flow=flow)
    for n in range(4):
        desk.tell("limiter", Settle(lease=desk.granted()[n]))
    assert sorted(lease[0] for lease in desk.granted()[1:]) == ["a", "b", "b", "b"]


def test_a_lease_that_its_holder_never_settles_expires_and_is_a_dead_letter():
    desk = Desk(concurrency=1)
    desk.ask("a/0#1", deadline=5.0)
    desk.ask("a/1#1")
    desk.dispatcher.advance(5.0 + GRACE + 0.1)
    assert desk.granted() == ["a/0#1", "a/1#1"]
    assert [letter.reason for letter in desk.directory.dead] == ["holder never settled this lease"]


def test_a_run_is_bounded_until_it_is_forgotten():
    desk = Desk()
    desk.tell("limiter", Allow(run="a", nano_usd=100))
    desk.ask("a/0#1", amount=Amount(nano_usd=101))
    assert desk.refused() == [("a/0#1", ErrorKind.BUDGET)]
    desk.tell("limiter", Forget(run="a"))
    desk.ask("a/1#1", amount=Amount(nano_usd=101))
    assert desk.granted() == ["a/1#1"]


def test_what_was_spent_is_known_to_the_next_instance():
    desk = Desk(budget=Budget(100))
    desk.ask("a/0#1", amount=Amount(nano_usd=80))
    crash(desk)
    desk.ask("a/1#1", amount=Amount(nano_usd=80))
    desk.tell("limiter", Settle(lease="a/0#1"), Reaffirm(holder="holder", leases=()))
    assert (desk.granted(), desk.refused()) == (["a/0#1"], [("a/1#1", ErrorKind.BUDGET)])


def test_a_settlement_that_it_failed_on_counts_as_spent(monkeypatch):
    def on_settle(_self, _settle, _now):
        raise ZeroDivisionError

    desk = Desk(budget=Budget(100))
    desk.ask("a/0#1", amount=Amount(nano_usd=80))
    monkeypatch.setattr(Decisions, "on_settle", on_settle)
    desk.tell("limiter", Settle(lease="a/0#1"))
    assert (desk.budget.total.spent, desk.budget.total.reserved) == (80, 0)


# --- what is seen of it


def observed(**limits):
    desk = Desk(**limits)
    desk.spawn("watcher")
    desk.spawn("seen", factory=lambda: Limiter(desk.limits, observer="watcher"), watchers=())
    desk.dispatcher.settle()
    return desk


def snapshots(desk):
    return [said for said in desk.log if isinstance(said, LimitsSnapshot)]


def test_the_observer_is_told_every_second_as_long_as_somebody_waits():
    desk = observed(concurrency=1)
    desk.tell("seen", desk.acquire("a/0#1"), desk.acquire("a/1#1"))
    desk.dispatcher.advance(LOOK_EVERY * 3.5)
    assert [seen.domains[0].waiting for seen in snapshots(desk)] == [1, 1, 1]
    desk.tell("seen", Settle(lease="a/0#1"))
    desk.dispatcher.advance(LOOK_EVERY * 5)
    assert len(snapshots(desk)) == 3


def test_no_timer_runs_and_nothing_is_told_where_nobody_waits():
    desk = observed(concurrency=2)
    desk.tell("seen", desk.acquire("a/0#1"), desk.acquire("a/1#1"))
    assert not desk.dispatcher.work(1)
    assert snapshots(desk) == []


def test_who_waits_again_later_is_seen_again():
    desk = observed(concurrency=1)
    for n in range(2):
        desk.tell("seen", desk.acquire(f"a/{n}#1"), desk.acquire(f"b/{n}#1"))
        desk.dispatcher.advance(LOOK_EVERY * 1.5)
        desk.tell("seen", Settle(lease=f"a/{n}#1"), Settle(lease=f"b/{n}#1"))
        desk.dispatcher.advance(LOOK_EVERY * 3.5)
    assert len(snapshots(desk)) == 2


def test_without_an_observer_nobody_looks():
    desk = Desk(concurrency=1)
    desk.ask("a/0#1", "a/1#1")
    assert not desk.dispatcher.work(1)
