"""Callers are hired lazily, up to a maximum; the lost make room."""

from __future__ import annotations

from protocol.policies.caller_pool import CallerPool, Seat


def test_callers_are_hired_only_when_none_is_free_and_up_to_the_maximum():
    pool = CallerPool("main", 2)
    assert [pool.take(), pool.take(), pool.take()] == [Seat("caller/main/0", 0), Seat("caller/main/1", 1), None]
    pool.free("caller/main/0")
    assert pool.take() == Seat("caller/main/0", None)


def test_the_caller_that_was_free_last_is_taken_first():
    pool = CallerPool("main", 2)
    for seat in (pool.take(), pool.take()):
        pool.free(seat.caller)
    assert pool.take().caller == "caller/main/1"


def test_a_lost_caller_makes_room_for_another_and_is_not_used_again():
    pool = CallerPool("main", 1)
    pool.take()
    assert (pool.lose("caller/main/0"), pool.lose("caller/main/0")) == (True, False)
    pool.free("caller/main/0")
    assert pool.take() == Seat("caller/main/1", 1)


def test_an_idle_caller_can_be_lost():
    pool = CallerPool("main", 1)
    pool.free(pool.take().caller)
    pool.lose("caller/main/0")
    assert (pool.idle, pool.size) == (0, 0)


def test_a_caller_that_comes_back_is_adopted_while_there_is_room():
    pool = CallerPool("main", 2)
    assert [pool.adopt("caller/main/7"), pool.take(), pool.take()] == [
        True,
        Seat("caller/main/7", None),
        Seat("caller/main/8", 8),
    ]
    assert (pool.adopt("caller/main/5"), pool.size) == (False, 2)


def test_nobody_is_hired_under_the_name_of_a_caller_there_was_no_room_for():
    pool = CallerPool("main", 1)
    pool.adopt("caller/main/0")
    assert not pool.adopt("caller/main/1")
    pool.lose("caller/main/0")
    assert pool.take() == Seat("caller/main/2", 2)


def test_steps_wait_in_the_order_they_came():
    pool = CallerPool("main", 1)
    for step in "abc":
        pool.wait(step)
    pool.leave("a")
    pool.leave("nobody")
    assert pool.first() == "b"
