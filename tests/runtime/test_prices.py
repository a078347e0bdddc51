"""What models cost: as configured, else as the list knows it, else unknown."""

import sys

import pytest

from protocol.chat import Usage
from runtime.config import Config
from runtime.prices import prices

OPENAI, ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com/v1"
RELAY = "https://api.holysheep.ai/v1"


def config(name, url, price=""):
    text = f'[provider.main]\nbase_url = "{url}"\n[model.m]\nprovider = "main"\nname = "{name}"\n{price}\n'
    return Config.parse(text.encode(), "test")


@pytest.fixture
def the_list():
    return pytest.importorskip("genai_prices", reason="the extra troupe[prices] is not installed")


def test_a_configured_price_goes_before_that_of_the_list(the_list):
    (price,) = prices(config("gpt-4o", OPENAI, "price = { input = 1.0, output = 2.0 }"))["m"]
    assert (price.input, price.output, price.cached) == (1000.0, 2000.0, None)


def test_the_list_knows_a_model_at_its_vendor(the_list):
    known = the_list.calc_price(the_list.Usage(input_tokens=10**6), "gpt-4o", provider_api_url=OPENAI)
    (price,) = prices(config("gpt-4o", OPENAI))["m"]
    assert price.cost(Usage(input_tokens=10**6)) == known.total_price * 10**9


@pytest.mark.parametrize("size", [1_000, 200_000, 200_001, 900_000])
def test_dearer_long_calls_cost_what_the_list_says(the_list, size):
    usage = the_list.Usage(input_tokens=size, output_tokens=500, cache_read_tokens=300)
    known = the_list.calc_price(usage, "claude-sonnet-4-5", provider_api_url=ANTHROPIC)
    listed = prices(config("claude-sonnet-4-5", ANTHROPIC))["m"]
    (reached,) = [p for p in listed if p.above < size][-1:]
    assert reached.cost(Usage(input_tokens=size, output_tokens=500, cached_tokens=300)) == known.total_price * 10**9


@pytest.mark.parametrize(
    ("name", "url"), [("claude-opus-4-5", RELAY), ("gpt-4o", "http://127.0.0.1:8080/v1"), ("nobody-knows-it", OPENAI)]
)
def test_a_price_that_nobody_knows_is_never_guessed(the_list, name, url):
    assert prices(config(name, url)) == {}


def test_without_the_list_only_configured_prices_are_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert prices(config("gpt-4o", OPENAI)) == {}
