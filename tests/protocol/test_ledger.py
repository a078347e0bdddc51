"""What a conversation has cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.chat import ChatReply, Usage
from protocol.ledger import Ledger
from protocol.messages import TaskResult
from protocol.signals import ChatResult


def chat(cost: int | None, attempts: int = 1) -> ChatResult:
    usage = Usage(input_tokens=10, output_tokens=5)
    return ChatResult(
        reply=ChatReply(text="x"), model="m", usage=usage, cost=cost, attempts=attempts, execution_time_ms=2.0
    )


def test_a_ledger_adds_calls_and_what_others_did():
    ledger = Ledger()
    ledger.add_call(chat(1_000_000_000, attempts=3))
    ledger.add_task(TaskResult(task_id="t", success=True, calls=1, cost_usd=0.5, usage=Usage(output_tokens=7)))
    result = ledger.settle(TaskResult(task_id="x", success=True))
    assert (result.calls, result.retry_count, result.cost_usd) == (4, 2, 1.5)
    assert result.usage == Usage(input_tokens=10, output_tokens=12)
    assert (result.model, result.execution_time_ms) == ("m", 2.0)


def test_one_unknown_price_makes_the_cost_unknown_and_no_call_costs_nothing():
    ledger = Ledger()
    assert ledger.cost_usd == 0.0
    ledger.add_call(chat(None))
    ledger.add_call(chat(5))
    assert ledger.cost_usd is None


def test_a_task_without_calls_does_not_make_the_cost_unknown():
    ledger = Ledger()
    ledger.add_task(TaskResult(task_id="t", success=True, cost_usd=None))
    assert ledger.cost_usd == 0.0


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**12)), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_booking_changes_nothing(costs, dice):
    def sums(order):
        ledger = Ledger()
        for n, cost in order:
            if n % 2:
                ledger.add_call(chat(cost, attempts=n + 1))
            else:
                dollars = None if cost is None else cost / 1e9
                ledger.add_task(TaskResult(task_id="t", success=True, calls=1, retry_count=n, cost_usd=dollars))
        return ledger.settle(TaskResult(task_id="x", success=True, model="m")).cost_usd, ledger.retries, ledger.calls

    numbered = list(enumerate(costs))
    shuffled = dice.sample(numbered, len(numbered))
    assert sums(shuffled) == sums(numbered)


def test_a_call_that_was_never_made_is_no_retry():
    ledger = Ledger()
    ledger.add_call(chat(0, attempts=0))
    assert (ledger.calls, ledger.retries) == (0, 0)


def test_calls_are_kept_by_role_model_and_round_with_those_that_others_made():
    ledger, inner = Ledger(), Ledger()
    inner.add_call(chat(7), "reviewer", 1)
    ledger.add_call(chat(5), "coder", 0)
    ledger.add_call(chat(6), "coder", 0)
    ledger.add_task(inner.settle(TaskResult(task_id="t", success=True)))
    costs = ledger.settle(TaskResult(task_id="x", success=True)).costs
    assert [(line.role, line.model, line.round, line.sums.calls, line.sums.nano_usd) for line in costs] == [
        ("coder", "m", 0, 2, 11),
        ("reviewer", "m", 1, 1, 7),
    ]


def test_an_answer_that_took_no_call_is_counted_apart_and_one_that_never_was_is_not():
    ledger = Ledger()
    ledger.add_call(ChatResult(model="m", cost=0, served="cache", saved_by_serving=9), "coder")
    ledger.add_call(chat(0, attempts=0), "coder")
    outer = Ledger()
    outer.add_task(ledger.settle(TaskResult(task_id="t", success=True)))
    result = outer.settle(TaskResult(task_id="x", success=True))
    assert (result.calls, result.served, result.cost_usd) == (0, 1, 0.0)
    assert [(line.sums.calls, line.sums.served, line.sums.serving) for line in result.costs] == [(0, 1, 9)]
