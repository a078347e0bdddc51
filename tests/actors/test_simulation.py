"""The simulated dispatcher: the same seed gives the same turns, time is virtual and moves only when nothing is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.simulation import EPOCH, MICROS
from tests.actors.players import Stage


def passes_on(stage, log, breath: int = 40):
    """Return an act that writes down who got what, and passes it on to two others while there is breath."""

    def act(actor, message):
        log.append((actor.address, message))
        if len(log) < breath:
            for n in (1, 2):
                actor.tell(f"a{(message + n) % 4}", message + n)

    for n in range(4):
        stage.spawn(f"a{n}", act)


def trace(seed) -> list:
    stage, log = Stage(seed), []
    passes_on(stage, log)
    stage.tell("a0", 0)
    return log


@given(st.integers(0, 2**64))
def test_law_9_the_same_seed_gives_the_same_turns(seed):
    assert trace(seed) == trace(seed)


def test_other_seeds_give_other_orders_of_the_same_mail_and_none_the_order_of_sending():
    assert len({tuple(trace(seed)) for seed in range(20)}) > 15
    stage = Stage(None)
    stage.spawn("a")
    stage.tell("a", *range(50))
    assert stage.log == list(range(50))


def test_two_that_answer_each_other_for_ever_are_found_out():
    stage = Stage()
    for name, other in (("a", "b"), ("b", "a")):
        stage.spawn(name, lambda actor, message, other=other: actor.tell(other, message))
    stage.directory.send("a", "ball")
    with pytest.raises(RuntimeError, match=r"no end after 100 messages at 0\.000000 s"):
        stage.dispatcher.settle(turns=100)


# --- time


def alarm(stage, *seconds):
    """Spawn an actor that sets a timer for each of *seconds* and writes down when it fires."""

    def act(actor, message):
        stage.log.append((message, stage.dispatcher.now()))

    def made(actor):
        for each in seconds:
            actor.after(each, f"after {each}", key=str(each))

    stage.spawn("alarm", act, made=made)


def test_time_stands_still_while_mail_is_handled():
    stage = Stage()
    alarm(stage, 5.0)
    stage.dispatcher.settle()
    assert (stage.log, stage.dispatcher.now()) == ([], 0.0)


def test_timers_fire_in_order_at_their_time():
    stage = Stage()
    alarm(stage, 3.0, 1.0, 2.0)
    stage.dispatcher.advance(2.5)
    assert stage.log == [("after 1.0", 1.0), ("after 2.0", 2.0)]
    assert stage.dispatcher.now() == 2.5
    assert stage.dispatcher.wall() == EPOCH + 2.5
    stage.dispatcher.advance(0.5)
    assert stage.log[-1] == ("after 3.0", 3.0)


def test_a_timer_of_no_time_at_all_fires_at_once_and_time_does_not_go_back():
    stage = Stage()
    alarm(stage, 0.0, -1.0)
    stage.dispatcher.run()
    assert sorted(stage.log) == [("after -1.0", 0.0), ("after 0.0", 0.0)]


def test_a_timer_that_was_set_again_or_cancelled_moves_no_clock():
    stage = Stage()

    def made(actor):
        actor.after(5.0, "old", key="k")
        actor.after(7.0, "new", key="k")
        actor.after(1.0, "never", key="gone")
        actor.cancel_timer("gone")

    stage.spawn("a", made=made)
    stage.dispatcher.settle()
    assert stage.dispatcher.next_timer() == 7.0
    stage.dispatcher.run()
    assert (stage.log, stage.dispatcher.now()) == (["new"], 7.0)
    assert stage.dispatcher.next_timer() is None


def test_to_run_skips_idle_time_up_to_a_bound():
    stage = Stage()
    alarm(stage, 10.0, 1000.0)
    stage.dispatcher.run(until=500.0)
    assert (stage.log, stage.dispatcher.now()) == ([("after 10.0", 10.0)], 10.0)


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20))
def test_time_is_kept_in_whole_microseconds(seconds):
    stage = Stage()
    alarm(stage, *seconds)
    stage.dispatcher.run()
    assert [at for _, at in stage.log] == sorted(round(each * MICROS) / MICROS for each in dict.fromkeys(seconds))
