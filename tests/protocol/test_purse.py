"""What may still be spent, for whoever chooses a model."""

from protocol.policies.purse import Purse


def test_without_a_bound_nothing_is_left_out():
    purse = Purse()
    purse.spend("run", 10)
    assert purse.left("run") is None


def test_what_is_left_is_the_least_of_the_run_and_the_system_and_never_below_nothing():
    purse = Purse(100)
    purse.allow("run", 30)
    purse.spend("run", 20)
    assert (purse.left("run"), purse.left("other")) == (10, 80)
    purse.spend("other", 75)
    assert purse.left("run") == 5
    purse.spend("run", 7)
    assert (purse.left("run"), purse.left("other")) == (0, 0)


def test_a_run_that_is_bounded_again_has_spent_what_it_has_spent():
    purse = Purse()
    purse.allow("run", 30)
    purse.spend("run", 20)
    purse.allow("run", 30)
    assert purse.left("run") == 10
    purse.close("run")
    purse.allow("run", 30)
    assert purse.left("run") == 30


def test_a_run_that_is_over_has_no_bound_of_its_own_any_more():
    purse = Purse()
    purse.allow("run", 30)
    purse.close("run")
    purse.close("never there")
    assert purse.left("run") is None
