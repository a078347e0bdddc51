"""What a call costs, by what its model costs."""

import pytest

from protocol.chat import Usage
from protocol.models import ModelInfo, Price

SHORT, LONG = Price(input=3.0, output=15.0, cached=0.3), Price(above=200, input=6.0, output=22.5, cached=0.6)
TIERED = ModelInfo(key="m", provider="p", name="n", prices=(SHORT, LONG))


@pytest.mark.parametrize(("tokens", "price"), [(0, SHORT), (200, SHORT), (201, LONG)])
def test_a_long_call_costs_the_dearer_price_for_all_its_tokens(tokens, price):
    usage = Usage(input_tokens=tokens, output_tokens=10)
    assert TIERED.cost(usage) == price.cost(usage)


def test_the_most_that_a_call_can_cost_is_at_the_dearest_price_that_it_can_reach():
    assert (TIERED.most(200, 10), TIERED.most(201, 10)) == (200 * 3 + 150, 201 * 6 + 225)


def test_a_longer_call_may_be_cheaper_and_then_the_shorter_is_the_most():
    model = ModelInfo(
        key="m", provider="p", name="n", prices=(Price(input=6.0, output=22.5), Price(above=500, input=1.0, output=1.0))
    )
    assert model.most(600, 10) == 600 * 6 + 225


def test_what_a_call_costs_is_unknown_without_a_price():
    model = ModelInfo(key="m", provider="p", name="n")
    assert (model.price, model.cost(Usage(input_tokens=1)), model.most(1, 1)) == (None, None, None)
