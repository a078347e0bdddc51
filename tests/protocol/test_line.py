"""Whose turn it is in a line of several classes."""

import pytest

from protocol.line import Line, waiter_of
from protocol.policies.ageing import Turn
from protocol.signals import Acquire, Amount


def waiter(number, priority, since=0.0):
    request = Acquire(
        lease=f"run/{number}#1", domain="main", amount=Amount(requests=1), priority=priority, holder="h", reply_to="h"
    )
    return waiter_of(request, since)


def line(*waiters):
    made = Line(60.0, {})
    for each in waiters:
        made.push(each)
    return made


def test_it_is_nobodys_turn_where_nobody_waits():
    with pytest.raises(ValueError, match="nobody waits"):
        line().turn(0.0)


def test_of_one_class_alone_it_is_the_turn_however_long_it_has_waited():
    assert line(waiter(1, 2), waiter(2, 2)).turn(1000.0) == Turn(2, by_age=False)


def test_a_class_that_has_waited_its_ageing_gets_a_turn_between_those_of_the_more_urgent():
    made = line(waiter(1, 0), waiter(2, 2))
    assert (made.turn(119.0), made.turn(120.0)) == (Turn(0, by_age=False), Turn(2, by_age=True))


def test_it_is_counted_who_waits_whichever_way_somebody_leaves():
    made = line(*(waiter(number, number % 3) for number in range(9)))
    made.pop(made.turn(0.0), 0.0)
    made.remove("run/1#1", 0.0)
    assert (len(made), sum(made.lengths())) == (7, 7)


def test_who_stands_aside_is_not_counted_until_called_in_again():
    made = line(*(waiter(number, 1) for number in range(3)))
    made.step_aside(made.head(made.turn(0.0)))
    aside = len(made)
    made.call_in("run", 5.0)
    assert (aside, len(made), len(list(made))) == (2, 3, 3)
