"""The threaded dispatchers: one thread for many, or one for each; a loop outlives whatever runs on it."""

from __future__ import annotations

from threading import Thread, get_ident

import pykka
import pytest

from actors.base import Timed
from actors.mailbox import Mailbox
from protocol.signals import ChildFailed, ChildStopped, Stop
from runtime.channel import Channel
from runtime.loop import FEW, STOP, Clock, Loop, Timers
from tests.runtime.house import TIMEOUT, House


@pytest.fixture
def house():
    house = House()
    yield house
    house.close()


def thread_of(_actor, _message):
    return get_ident()


def echo(_actor, message):
    return message


# --- where actors run


def test_all_actors_of_the_shared_dispatcher_run_in_one_thread(house):
    idents = {house.spawn(address, thread_of).ask(1, timeout=TIMEOUT) for address in "abc"}
    assert idents == {house.shared.loop.thread.ident}


def test_each_pinned_actor_has_a_thread_of_its_own(house):
    idents = {house.spawn(address, thread_of, pinned=True).ask(1, timeout=TIMEOUT) for address in "abc"}
    assert len(idents - {get_ident(), house.shared.loop.thread.ident}) == 3


def test_every_thread_is_a_daemon_with_a_telling_name(house):
    house.spawn("a", echo, pinned=True)
    assert {(thread.name, thread.daemon) for thread in house.threads()} == {
        ("troupe-shared", True),
        ("troupe-a", True),
    }


def test_a_pinned_actor_that_blocks_holds_up_nobody(house):
    gate = house.gate()
    house.spawn("a", lambda *_: gate.hang(), pinned=True).tell(1)
    gate.wait()
    assert house.spawn("b", echo).ask("on", timeout=TIMEOUT) == "on"


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_a_loop_outlives_whatever_a_handler_raises(house, pinned, error):
    def act(_actor, message):
        if message == "bad":
            raise error
        return message

    ref = house.spawn("a", act, pinned=pinned)
    ref.tell("bad")
    assert ref.ask("good", timeout=TIMEOUT) == "good"
    assert house.news.next(ChildFailed).error == f"{error.__name__}: "


# --- timers


@pytest.mark.parametrize("pinned", [False, True])
def test_timers_fire_in_order_of_their_time(house, pinned):
    def made(actor):
        actor.after(0.02, "second", key="b")
        actor.after(0.01, "first", key="a")

    rang = Channel()
    house.spawn("a", lambda _actor, message: rang.put(message), made=made, pinned=pinned)
    assert [rang.get(timeout=TIMEOUT), rang.get(timeout=TIMEOUT)] == ["first", "second"]


def test_a_timer_far_ahead_holds_up_no_message(house):
    ref = house.spawn("a", echo, made=lambda actor: actor.after(1e300, "never", key="k"))
    assert [ref.ask(n, timeout=TIMEOUT) for n in range(3)] == [0, 1, 2]


class Holder:
    """Stands where an actor would, and wants the timers in *wanted*."""

    def __init__(self, wanted=()):
        self.wanted = wanted

    def wants(self, timed):
        return timed in self.wanted


def test_a_stale_timer_becomes_no_mail():
    timers, box = Timers(), Mailbox()
    wanted = Timed("b", 2)
    box.actor = Holder([wanted])
    timers.set(0.0, box, Timed("a", 1))
    timers.set(0.0, box, wanted)
    timers.fire()
    timers.fire()
    assert (box.queued(), box.take()) == (1, wanted)


def test_timers_set_again_and_again_do_not_pile_up():
    timers, box = Timers(), Mailbox()
    box.actor = Holder()
    for n in range(20 * FEW):
        box.actor.wanted = [timed := Timed("k", n)]
        timers.set(3600.0, box, timed)
    assert len(timers.heap) <= FEW + 1
    assert any(entry[3] is timed for entry in timers.heap)


def test_timers_that_are_wanted_are_never_swept_out():
    timers, box = Timers(), Mailbox()
    box.actor = Holder([Timed("k", n) for n in range(3 * FEW)])
    box.actor.wants = lambda _timed: True
    for timed in reversed(box.actor.wanted):
        timers.set(0.0, box, timed)
    while timers.heap:
        timers.fire()
    assert box.queued() == 3 * FEW


def test_the_timers_of_an_actor_that_has_left_are_dropped():
    timers, box = Timers(), Mailbox()
    timers.set(0.0, box, Timed("k", 1))
    timers.fire()
    assert box.empty()


# --- stops


def test_a_loop_ends_at_its_stop_token_and_not_at_a_token_without_an_actor():
    ready = Channel()
    loop = Loop("test", ready, Timers())
    for token in (Mailbox(), STOP, Mailbox()):
        ready.put(token)
    loop.start()
    loop.thread.join(timeout=TIMEOUT)
    assert (loop.thread.is_alive(), ready.qsize()) == (False, 1)


def test_a_stopped_pinned_actor_ends_its_thread(house):
    ref = house.spawn("a", echo, pinned=True)
    (loop,) = house.pinned.loops()
    ref.stop(timeout=TIMEOUT)
    loop.thread.join(timeout=TIMEOUT)
    assert (loop.thread.is_alive(), house.pinned.loops()) == (False, [])


def test_a_pinned_actor_s_thread_is_ended_before_its_address_is_given_back(house, monkeypatch):
    """Otherwise who takes the address at once would have his thread ended in its place."""
    taken = []
    retire = house.pinned.retire

    def watched(box):
        taken.append(box.address in house.directory.mailboxes)
        retire(box)

    monkeypatch.setattr(house.pinned, "retire", watched)
    house.spawn("a", echo, pinned=True).stop(timeout=TIMEOUT)
    house.news.next(ChildStopped)
    assert (taken, house.spawn("a", echo, pinned=True).ask("here", timeout=TIMEOUT)) == ([True], "here")


def test_mail_in_the_channel_of_a_stopped_actor_becomes_dead_letters(house):
    gate = house.gate()
    ref = house.spawn("a", lambda *_: gate.hang())
    ref.tell(1)
    gate.wait()
    box = house.directory.mailboxes["a"]
    house.directory.send("a", Stop())
    for n in range(3):
        box.put(n)
    gate.open()
    house.news.next(ChildStopped)
    box.put(3)
    assert sorted(letter.message for letter in house.directory.dead) == [0, 1, 2, 3]


def test_an_ask_of_a_stopped_actor_gets_actor_dead_error(house):
    ref = house.spawn("a", echo)
    ref.stop(timeout=TIMEOUT)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask(1, timeout=TIMEOUT)


def test_a_machine_that_gives_no_more_threads_leaves_the_address_free(house, monkeypatch):
    def no_more(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            house.spawn("a", echo, pinned=True)
    assert house.pinned.threads() == []
    assert house.spawn("a", echo, pinned=True).ask(1, timeout=TIMEOUT) == 1


def test_a_token_whose_mail_was_drained_meanwhile_is_no_trouble(house):
    gate = house.gate()
    ref = house.spawn("a", lambda _actor, message: gate.hang() if message == "hang" else message)
    ref.tell("hang")
    gate.wait()
    ref.tell("drained")
    house.directory.mailboxes["a"].drain("by another")
    gate.open()
    assert ref.ask("still here", timeout=TIMEOUT) == "still here"


# --- the world's time


def test_the_clock_never_goes_back_and_the_wall_clock_is_the_epoch_s():
    first, second = Clock.now(), Clock.now()
    assert second >= first
    assert Clock.wall() > 1_700_000_000
