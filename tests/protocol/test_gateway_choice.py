"""The gateway tells the choice of models what it knows: who may be called, who is throttled, what money is left."""

from __future__ import annotations

from protocol.calls import AnswerStep, AskLimiter
from protocol.chat import CallFailure, ChatMessage, ChatReply, Occasion, OutputSchema, Usage
from protocol.circuit import FATALS
from protocol.errors import ErrorKind
from protocol.gateway import Gateway
from protocol.ladder import rungs
from protocol.models import ModelInfo, Price, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.policies.purse import Purse
from protocol.policies.routing import Router, Rules
from protocol.signals import Allow, ChatCall, Forget, Granted, Performed

SIMPLE = Occasion(rounds=3, complexity=0.0)
OK = ChatReply(text="done", usage=Usage(input_tokens=10, output_tokens=4))


def model(key, tier, price, **fields):
    return ModelInfo(key=key, provider=key, name=key, tier=tier, prices=(Price(input=price, output=price),), **fields)


CHEAP, STRONG = model("cheap", 1, 100.0), model("strong", 3, 1000.0)


def gateway(*models, purse=None):
    models = models or (STRONG, CHEAP)
    return Gateway(
        models={one.key: one for one in models},
        providers={one.key: ProviderInfo(key=one.key, domain=one.key) for one in models},
        backoff=Backoff(base=1.0, factor=2.0, cap=30.0),
        estimate=lambda _: 10,
        router=Router(rungs(models), Rules(worth=15.0, explore=0.0)),
        purse=purse,
    )


def chat(step="run/0", text="hello", **fields):
    fields = {"occasion": SIMPLE, "max_tokens": 100, "messages": (ChatMessage(role="user", content=text),), **fields}
    return ChatCall(step=step, fingerprint="f", reply_to="agent/0", role="coder", **fields)


def chosen(machine, call, now=0.0):
    """Return where the call goes; its lease is told by what it asks for."""
    effects = machine.on_call(call, now)
    return next(effect.message.domain for effect in effects if isinstance(effect, AskLimiter))


def flown(machine, step, outcome, now=0.0, caller="caller/cheap/0"):
    machine.on_granted(Granted(lease=f"{step}#1"), now)
    return machine.on_performed(Performed(call=f"{step}#1", caller=caller, outcome=outcome, elapsed_ms=1.0), now, 0.0)


def result_of(effects):
    return next(effect.answer.payload for effect in effects if isinstance(effect, AnswerStep))


def test_a_simple_draft_goes_to_the_cheap_model_where_nothing_is_in_the_way():
    assert chosen(gateway(), chat()) == "cheap"


def test_a_prompt_that_does_not_fit_the_context_goes_where_it_fits():
    small = model("cheap", 1, 100.0, context=2000)
    assert chosen(gateway(STRONG, small), chat(text="many words " * 1000)) == "strong"


def test_what_needs_a_schema_goes_to_a_model_that_knows_schemas():
    text = model("cheap", 1, 100.0, output="text")
    schema = OutputSchema(name="Plan", schema=b"{}")
    assert chosen(gateway(STRONG, text), chat(schema=schema)) == "strong"


def test_a_model_whose_breaker_is_open_is_not_chosen():
    machine = gateway()
    for n in range(FATALS):
        assert chosen(machine, chat(f"run/{n}")) == "cheap"
        flown(machine, f"run/{n}", CallFailure(kind=ErrorKind.AUTHENTICATION, message="no such key"))
    assert chosen(machine, chat("last/0")) == "strong"


def test_a_model_that_a_429_has_closed_for_long_is_not_chosen_until_it_is_over():
    machine = gateway()
    machine.on_call(chat("a/0", deadline=50.0), 0.0)
    flown(machine, "a/0", CallFailure(kind=ErrorKind.RATE_LIMITED, message="wait", status=429, retry_after=100.0))
    assert chosen(machine, chat("b/0"), 1.0) == "strong"
    assert chosen(machine, chat("c/0"), 99.0) == "cheap"


def test_a_call_that_has_little_time_does_not_wait_for_a_throttled_model():
    machine = gateway()
    machine.on_call(chat("a/0", deadline=50.0), 0.0)
    flown(machine, "a/0", CallFailure(kind=ErrorKind.RATE_LIMITED, message="wait", status=429, retry_after=20.0))
    assert chosen(machine, chat("b/0"), 1.0) == "cheap"
    assert chosen(machine, chat("c/0", deadline=11.0), 1.0) == "strong"


def test_a_model_whose_line_has_not_moved_for_long_is_not_chosen_until_it_moves():
    machine = gateway()
    for step in ("a/0", "b/0"):
        assert chosen(machine, chat(step)) == "cheap"
    assert chosen(machine, chat("c/0"), 31.0) == "strong"
    for step in ("a/0", "b/0"):
        machine.on_granted(Granted(lease=f"{step}#1"), 31.0)
    assert chosen(machine, chat("d/0"), 31.0) == "cheap"


HARD = Occasion(rounds=3, complexity=1.0)
DEAREST = (5 + 100 + 100) * 1000  # more than the limiter reserves for a call at the strong model


def test_a_model_that_the_run_cannot_pay_any_more_is_not_chosen():
    machine = gateway()
    assert chosen(machine, chat("run/0", occasion=HARD)) == "strong"
    machine.on_bounds(Allow(run="run", nano_usd=DEAREST // 5))
    assert chosen(machine, chat("run/1", occasion=HARD)) == "cheap"
    assert chosen(machine, chat("other/0", occasion=HARD)) == "strong"
    machine.on_bounds(Forget(run="run"))
    assert chosen(machine, chat("run/2", occasion=HARD)) == "strong"


def test_a_bound_of_calls_alone_is_no_bound_of_money():
    machine = gateway()
    machine.on_bounds(Allow(run="run", calls=1))
    assert chosen(machine, chat("run/1", occasion=HARD)) == "strong"


def test_what_calls_have_cost_counts_against_the_systems_budget_also_where_nobody_knows_how_they_ended():
    purse = Purse(DEAREST * 2)
    machine = gateway(purse=purse)
    assert chosen(machine, chat("a/0", occasion=HARD)) == "strong"
    flown(machine, "a/0", OK, caller="caller/strong/0")
    assert purse.left("a") == DEAREST * 2 - 14 * 1000
    assert chosen(machine, chat("b/0", occasion=HARD, max_retries=0)) == "strong"
    flown(machine, "b/0", CallFailure(kind=ErrorKind.TIMEOUT, message="?"), caller="caller/strong/0")
    assert purse.left("b") < DEAREST * 2 - 14 * 1000 - 100 * 1000
    assert chosen(gateway(purse=Purse(DEAREST // 5)), chat("c/0", occasion=HARD)) == "cheap"


def test_what_is_reserved_counts_the_schema_and_the_most_that_may_be_answered():
    machine = gateway(purse=Purse(DEAREST))
    assert chosen(machine, chat("a/0", occasion=HARD)) == "strong"
    long = OutputSchema(name="Plan", schema=b'{"title":"' + b"x" * 900 + b'"}')
    assert chosen(machine, chat("b/0", occasion=HARD, schema=long)) == "cheap"
    machine = gateway(purse=Purse(500 * 1000))
    assert chosen(machine, chat("c/0", occasion=HARD)) == "strong"
    assert chosen(machine, chat("d/0", occasion=HARD, max_tokens=None)) == "cheap"


def test_under_a_budget_a_model_without_a_price_is_not_chosen():
    priceless = ModelInfo(key="strong", provider="strong", name="strong", tier=3)
    assert chosen(gateway(priceless, CHEAP), chat(occasion=HARD)) == "strong"
    assert chosen(gateway(priceless, CHEAP, purse=Purse(10**9)), chat(occasion=HARD)) == "cheap"


# --- what the choice has saved


def test_a_result_says_how_much_more_its_tokens_would_have_cost_at_the_strongest_model():
    machine = gateway()
    machine.on_call(chat(), 0.0)
    result = result_of(flown(machine, "run/0", OK))
    assert (result.cost, result.saved_by_routing) == (14 * 100, 14 * 900)


def test_a_model_that_was_named_saves_nothing_and_one_without_a_price_nobody_knows_what():
    machine = gateway()
    machine.on_call(chat(model="cheap"), 0.0)
    assert result_of(flown(machine, "run/0", OK)).saved_by_routing == 0
    priceless = ModelInfo(key="strong", provider="strong", name="strong", tier=3)
    machine = gateway(priceless, CHEAP)
    machine.on_call(chat(), 0.0)
    assert result_of(flown(machine, "run/0", OK)).saved_by_routing is None
