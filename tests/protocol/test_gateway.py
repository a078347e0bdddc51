"""The gateway: every call answered exactly once, every lease given back exactly once, one retry layer."""

from __future__ import annotations

import msgspec
import pytest

from protocol.calls import (
    AbortFlight,
    AnswerStep,
    AskLimiter,
    Dismiss,
    Dispatch,
    Hire,
    Later,
    Lost,
    TellLimiter,
    Unset,
)
from protocol.chat import CallFailure, ChatMessage, ChatReply, OutputSchema, Usage
from protocol.errors import ErrorKind
from protocol.gateway import Gateway
from protocol.ladder import Ladder
from protocol.models import ModelInfo, Price, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.policies.retry import MOST_THROTTLED
from protocol.policies.token_estimate import bound_messages
from protocol.signals import (
    Acquire,
    Amount,
    Cancel,
    CancelStep,
    ChatCall,
    Graded,
    Granted,
    Outcome,
    Performed,
    Reaffirm,
    Refused,
    Settle,
)

SCHEMA = OutputSchema(name="Plan", schema=msgspec.Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}'))
STRONG = ModelInfo(key="strong", provider="main", name="gpt-9", prices=(Price(input=5000, output=25000),))
FREE = ModelInfo(key="free", provider="main", name="who-knows", output="json_object")
OK = ChatReply(text="done", usage=Usage(input_tokens=10, output_tokens=4))
CALLER = "caller/main/0"


HI = (ChatMessage(role="user", content="hello"),)


def gateway(*, callers=2, models=(STRONG, FREE), weighed=True, exact=None):
    main = ProviderInfo(key="main", domain="main", domains={"free": "main/free"}, callers=callers, weighed=weighed)
    return Gateway(
        models={model.key: model for model in models},
        providers={"main": main},
        backoff=Backoff(base=1.0, factor=2.0, cap=30.0),
        estimate=lambda messages: sum(len(message.content) for message in messages),
        exact=exact,
    )


def chat(step="run/0", **fields):
    fields = {"messages": HI, "max_tokens": 100, **fields}
    return ChatCall(step=step, fingerprint="chat:coder:1", reply_to="agent/coder/0", role="coder", **fields)


def failure(kind, **fields):
    return CallFailure(kind=kind, message=f"it was {kind}", **fields)


def done(call, outcome=OK, *, caller=CALLER, elapsed_ms=50.0):
    return Performed(call=call, caller=caller, outcome=outcome, elapsed_ms=elapsed_ms)


def some(kind, effects):
    return [effect for effect in effects if isinstance(effect, kind)]


def result_of(effects):
    (effect,) = some(AnswerStep, effects)
    return effect.answer.payload


def told(effects):
    return [effect.message for effect in some(TellLimiter, effects)]


def flying(machine, call=None, *, now=0.0):
    """Bring a call into the air; return the Perform."""
    call = call or chat()
    machine.on_call(call, now)
    (dispatch,) = some(Dispatch, machine.on_granted(Granted(lease=f"{call.step}#1"), now))
    return dispatch.perform


def fail_and_retry(machine, lease, why, now=0.0, roll=0.0):
    """Let the flight fail, the backoff pass, and the next lease be granted."""
    machine.on_performed(done(lease, why), now, roll)
    step, _, number = lease.rpartition("#")
    machine.on_retry_due(step, now)
    machine.on_granted(Granted(lease=f"{step}#{int(number) + 1}"), now)
    return f"{step}#{int(number) + 1}"


# --- the way of a call that goes well


def test_a_call_first_asks_the_limiter_for_what_it_is_expected_to_use():
    (ask,) = gateway().on_call(chat(priority=0, flow="acme"), 0.0)
    assert ask == AskLimiter(
        Acquire(
            lease="run/0#1",
            domain="main",
            amount=Amount(input_tokens=5, output_tokens=100, nano_usd=bound_messages(HI) * 5000 + 100 * 25000),
            priority=0,
            flow="acme",
            holder="gateway",
            reply_to="gateway",
        )
    )


def test_a_granted_call_hires_a_caller_and_is_dispatched_with_a_timer():
    machine = gateway()
    machine.on_call(chat(timeout=10.0, temperature=0.5), 0.0)
    hire, dispatch, later = machine.on_granted(Granted(lease="run/0#1"), 1.0)
    assert hire == Hire("main", 0, CALLER)
    assert (dispatch.caller, dispatch.perform.call, dispatch.perform.timeout) == (CALLER, "run/0#1", 10.0)
    assert (dispatch.perform.reply_to, dispatch.perform.request.model) == ("gateway", "gpt-9")
    assert later == Later("attempt:run/0#1", pytest.approx(10.75))


def test_a_reply_settles_the_lease_and_answers_the_step():
    machine = gateway()
    flying(machine)
    effects = machine.on_performed(done("run/0#1"), 2.0, 0.0)
    cost = 10 * 5000 + 4 * 25000
    assert told(effects) == [Settle(lease="run/0#1", usage=OK.usage, nano_usd=cost)]
    assert some(Unset, effects) == [Unset("attempt:run/0#1")]
    (answer,) = [effect.answer for effect in some(AnswerStep, effects)]
    assert (answer.to, answer.step, answer.kind, answer.fingerprint) == (
        "agent/coder/0",
        "run/0",
        "chat",
        "chat:coder:1",
    )
    assert (answer.payload.reply, answer.payload.usage, answer.payload.cost) == (OK, OK.usage, cost)
    assert (answer.payload.model, answer.payload.attempts) == ("strong", 1)


def test_queue_time_is_waiting_for_grants_and_callers_and_execution_time_is_http():
    machine = gateway(callers=1)
    flying(machine, chat("other/0"))
    machine.on_call(chat(), 1.0)
    machine.on_granted(Granted(lease="run/0#1"), 3.0)
    machine.on_performed(done("other/0#1"), 7.0, 0.0)
    result = result_of(machine.on_performed(done("run/0#1", elapsed_ms=900.0), 8.0, 0.0))
    assert (result.queue_time_ms, result.execution_time_ms) == (6000.0, 900.0)


def test_who_waits_for_a_caller_gets_the_next_free_one_in_order():
    machine = gateway(callers=1)
    flying(machine, chat("a/0"))
    for step in ("b/0", "c/0"):
        machine.on_call(chat(step), 0.0)
        assert some(Dispatch, machine.on_granted(Granted(lease=f"{step}#1"), 0.0)) == []
    effects = machine.on_performed(done("a/0#1"), 1.0, 0.0)
    assert [d.perform.call for d in some(Dispatch, effects)] == ["b/0#1"]
    assert some(Hire, effects) == []


def test_a_model_may_count_in_a_domain_of_its_own():
    (ask,) = gateway().on_call(chat(model="free"), 0.0)
    assert ask.message.domain == "main/free"


def test_a_model_nobody_configured_fails_with_the_known_ones():
    result = result_of(gateway().on_call(chat(model="nope"), 0.0))
    assert result.failure.kind is ErrorKind.NOT_FOUND
    assert "'nope'" in result.failure.message
    assert "strong, free" in result.failure.message
    assert (result.cost, result.attempts) == (0, 0)


def test_without_any_model_auto_fails_too():
    assert "none" in result_of(gateway(models=()).on_call(chat(), 0.0)).failure.message


def test_a_missing_usage_is_estimated_and_says_so():
    machine = gateway()
    flying(machine)
    result = result_of(machine.on_performed(done("run/0#1", ChatReply(text="four")), 1.0, 0.0))
    assert result.usage == Usage(input_tokens=5, output_tokens=4, exact=False)


def test_the_most_a_call_can_cost_is_reserved_whatever_the_estimate_says():
    messages = (ChatMessage(role="user", content="\u4e2d" * 1000),)
    (ask,) = gateway().on_call(chat(messages=messages), 0.0)
    assert ask.message.amount.nano_usd >= 3000 * 5000 + 100 * 25000


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=100, output_tokens=10), 100 * 5 + 10 * 25),
        (Usage(input_tokens=100, output_tokens=10, reasoning_tokens=9), 100 * 5 + 10 * 25),
        (Usage(input_tokens=100, cached_tokens=60, written_tokens=30), 10 * 5 + 60 * 0.5 + 30 * 6.25),
        (Usage(input_tokens=10, cached_tokens=60), 60 * 0.5),
    ],
)
def test_what_was_cached_has_its_own_price_and_reasoning_that_of_output(usage, cost):
    model = ModelInfo(
        key="m", provider="p", name="n", prices=(Price(input=5.0, output=25.0, cached=0.5, written=6.25),)
    )
    assert model.cost(usage) == round(cost)
    assert model.most(100, 10) == 100 * 6.25 + 10 * 25


def test_where_no_price_of_cached_input_is_known_it_costs_what_input_costs():
    assert STRONG.cost(Usage(input_tokens=100, cached_tokens=60, written_tokens=30)) == 100 * 5000


def test_a_model_without_a_price_has_no_most():
    assert ModelInfo(key="m", provider="p", name="n").most(1, 1) is None


def test_where_nobody_counts_tokens_a_call_is_not_weighed_and_its_cost_is_unknown():
    (ask,) = gateway(weighed=False).on_call(chat(), 0.0)
    assert ask.message.amount == Amount(nano_usd=None)


def test_an_unknown_price_is_no_price():
    machine = gateway()
    flying(machine, chat(model="free"))
    effects = machine.on_performed(done("run/0#1"), 1.0, 0.0)
    assert (result_of(effects).cost, told(effects)[0].nano_usd) == (None, 0)


def test_a_model_whose_tokeniser_is_known_reserves_what_that_counts():
    machine = gateway(exact={"strong": lambda _: 7})
    (ask,) = machine.on_call(chat(), 0.0)
    (other,) = machine.on_call(chat(model="free", step="run/1"), 0.0)
    assert ask.message.amount.input_tokens == 7 != other.message.amount.input_tokens


def test_a_call_without_maximum_reserves_a_usual_answer():
    (ask,) = gateway().on_call(chat(max_tokens=None), 0.0)
    assert ask.message.amount.output_tokens == 4096


def test_a_second_call_for_a_step_under_way_joins_it():
    machine = gateway()
    flying(machine)
    again = msgspec.structs.replace(chat(), reply_to="agent/coder/1")
    assert machine.on_call(again, 1.0) == []
    (effect,) = some(AnswerStep, machine.on_performed(done("run/0#1"), 2.0, 0.0))
    assert effect.answer.to == "agent/coder/1"


# --- failures and retries


@pytest.mark.parametrize(
    ("why", "outcome"),
    [
        (failure(ErrorKind.PROVIDER_OVERLOADED, status=529), Outcome.OVERLOADED),
        (failure(ErrorKind.TIMEOUT), Outcome.AMBIGUOUS),
        (failure(ErrorKind.CONNECTION, sent=False), Outcome.UNSENT),
        (failure(ErrorKind.SERVER_ERROR, status=500), Outcome.REJECTED),
    ],
)
def test_a_passing_failure_gives_lease_and_caller_back_and_rests(why, outcome):
    machine = gateway(callers=1)
    flying(machine)
    effects = machine.on_performed(done("run/0#1", why), 1.0, 0.5)
    assert told(effects) == [Settle(lease="run/0#1", outcome=outcome, kind=why.kind)]
    assert some(Later, effects) == [Later("retry:run/0", 0.5)]
    assert some(AnswerStep, effects) == []
    assert some(Dispatch, machine.on_call(chat("b/0"), 1.0) + machine.on_granted(Granted(lease="b/0#1"), 1.0))


def test_a_retry_goes_through_the_limiter_under_a_lease_of_its_own():
    machine = gateway()
    flying(machine)
    machine.on_performed(done("run/0#1", failure(ErrorKind.SERVER_ERROR, status=500)), 1.0, 0.5)
    assert [ask.message.lease for ask in machine.on_retry_due("run/0", 1.5)] == ["run/0#2"]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_there_are_exactly_one_and_max_retries_attempts(most):
    machine = gateway()
    flying(machine, chat(max_retries=most))
    lease = "run/0#1"
    for _ in range(most):
        lease = fail_and_retry(machine, lease, failure(ErrorKind.SERVER_ERROR, status=500))
    result = result_of(machine.on_performed(done(lease, failure(ErrorKind.SERVER_ERROR, status=500)), 9.0, 0.0))
    assert (result.attempts, result.failure.kind) == (1 + most, ErrorKind.SERVER_ERROR)
    assert result.execution_time_ms == 50.0 * (1 + most)


def test_the_backoff_grows_from_retry_to_retry():
    machine = gateway()
    flying(machine)
    lease, waits = "run/0#1", []
    for n in range(3):
        (later,) = some(Later, machine.on_performed(done(lease, failure(ErrorKind.SERVER_ERROR, status=500)), 0.0, 0.5))
        waits.append(later.seconds)
        lease = f"run/0#{n + 2}"
        machine.on_retry_due("run/0", 0.0)
        machine.on_granted(Granted(lease=lease), 0.0)
    assert waits == [0.5, 1.0, 2.0]


def test_what_the_provider_asks_for_is_a_floor():
    machine = gateway()
    flying(machine)
    why = failure(ErrorKind.PROVIDER_OVERLOADED, status=503, retry_after=8.0)
    effects = machine.on_performed(done("run/0#1", why), 1.0, 0.5)
    assert some(Later, effects) == [Later("retry:run/0", pytest.approx(8.4))]


def test_a_429_is_told_to_the_limiter_and_waited_out_in_its_line():
    machine = gateway()
    flying(machine)
    why = failure(ErrorKind.RATE_LIMITED, status=429, retry_after=8.0)
    effects = machine.on_performed(done("run/0#1", why), 1.0, 0.5)
    throttled = Settle(lease="run/0#1", outcome=Outcome.THROTTLED, retry_after=8.0, kind=ErrorKind.RATE_LIMITED)
    assert told(effects) == [throttled]
    assert [ask.message.lease for ask in some(AskLimiter, effects)] == ["run/0#2"]
    assert some(Later, effects) == []


def throttled_until_it_ends(machine, **fields):
    """Turn every attempt of a call away with a 429; return how it ended."""
    flying(machine, chat(**fields))
    why = failure(ErrorKind.RATE_LIMITED, status=429)
    for number in range(1, 50):
        effects = machine.on_performed(done(f"run/0#{number}", why), float(number), 0.0)
        if some(AnswerStep, effects):
            return result_of(effects)
        machine.on_granted(Granted(lease=f"run/0#{number + 1}"), float(number))
    return None


@pytest.mark.parametrize(("most", "attempts"), [(0, 1), (1, 1 + MOST_THROTTLED), (3, 1 + MOST_THROTTLED)])
def test_so_many_429s_are_waited_out_whatever_max_retries_says_except_none(most, attempts):
    result = throttled_until_it_ends(gateway(), max_retries=most)
    assert (result.attempts, result.failure.kind) == (attempts, ErrorKind.RATE_LIMITED)


def test_429s_that_were_waited_out_leave_all_retries_to_the_other_failures():
    machine = gateway()
    flying(machine, chat(max_retries=1))
    for number in (1, 2):
        machine.on_performed(done(f"run/0#{number}", failure(ErrorKind.RATE_LIMITED, status=429)), 1.0, 0.0)
        machine.on_granted(Granted(lease=f"run/0#{number + 1}"), 1.0)
    lease = fail_and_retry(machine, "run/0#3", failure(ErrorKind.SERVER_ERROR, status=500))
    result = result_of(machine.on_performed(done(lease, failure(ErrorKind.SERVER_ERROR, status=500)), 9.0, 0.0))
    assert (result.attempts, result.failure.kind) == (4, ErrorKind.SERVER_ERROR)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, failure(ErrorKind.BAD_REQUEST, status=400)),
        ({}, failure(ErrorKind.QUOTA, status=429)),
        ({}, failure(ErrorKind.RATE_LIMITED, status=429, retry_after=121.0)),
        ({}, failure(ErrorKind.SERVER_ERROR, status=500, should_retry=False)),
        ({"deadline": 20.0}, failure(ErrorKind.RATE_LIMITED, status=429, retry_after=19.5)),
        ({"deadline": 1.5}, failure(ErrorKind.SERVER_ERROR, status=500)),
    ],
)
def test_what_cannot_help_is_not_tried_and_fails_at_once(fields, why):
    machine = gateway()
    flying(machine, chat(**fields))
    result = result_of(machine.on_performed(done("run/0#1", why), 1.0, 0.9))
    assert (result.failure, result.attempts) == (why, 1)


def test_a_bad_response_is_tried_again_once():
    machine = gateway()
    flying(machine)
    why = failure(ErrorKind.BAD_RESPONSE, status=200)
    lease = fail_and_retry(machine, "run/0#1", why)
    assert result_of(machine.on_performed(done(lease, why), 1.0, 0.0)).attempts == 2


def test_an_ambiguous_attempt_counts_as_spent_as_far_as_it_can_be_known():
    machine = gateway()
    flying(machine)
    lease = fail_and_retry(machine, "run/0#1", failure(ErrorKind.TIMEOUT))
    result = result_of(machine.on_performed(done(lease), 1.0, 0.0))
    assert result.usage == Usage(input_tokens=15, output_tokens=4, exact=False)


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_half_an_output_is_a_failure_that_was_paid(finish):
    machine = gateway()
    flying(machine, chat(schema=SCHEMA))
    cut = ChatReply(text='{"a": "', finish_reason=finish, usage=OK.usage)
    effects = machine.on_performed(done("run/0#1", cut), 1.0, 0.0)
    result = result_of(effects)
    kinds = {"length": ErrorKind.TRUNCATED, "content_filter": ErrorKind.CONTENT_FILTER}
    assert (result.reply, result.failure.kind, result.usage) == (None, kinds[finish], OK.usage)
    assert told(effects)[0].outcome is Outcome.SUCCESS


@pytest.mark.parametrize("kind", [ErrorKind.NEVER_FITS, ErrorKind.DEADLINE, ErrorKind.BUDGET, ErrorKind.RATE_LIMITED])
def test_what_the_limiter_refuses_has_failed_without_an_attempt(kind):
    machine = gateway()
    machine.on_call(chat(), 0.0)
    effects = machine.on_refused(Refused(lease="run/0#1", kind=kind, reason="no", retry_after=9.0), 4.0)
    result = result_of(effects)
    assert (result.failure.kind, result.failure.message, result.failure.retry_after) == (kind, "no", 9.0)
    assert (result.attempts, result.cost, result.queue_time_ms, told(effects)) == (0, 0, 4000.0, [])


# --- the ladder


def structured(machine, step="run/0", model="strong"):
    return flying(machine, chat(step, schema=SCHEMA, temperature=0.1, model=model)).request


def refuse(machine, lease, param):
    why = failure(ErrorKind.BAD_REQUEST, status=400, param=param)
    return machine.on_performed(done(lease, why), 0.0, 0.0)


def test_a_refused_format_goes_out_again_at_once_one_rung_lower_and_is_no_retry():
    machine = gateway()
    assert structured(machine).output == "json_schema"
    outputs = []
    for n in (1, 2):
        effects = refuse(machine, f"run/0#{n}", "response_format")
        assert [ask.message.lease for ask in some(AskLimiter, effects)] == [f"run/0#{n + 1}"]
        (dispatch,) = some(Dispatch, machine.on_granted(Granted(lease=f"run/0#{n + 1}"), 0.0))
        outputs.append(dispatch.perform.request.output)
    assert outputs == ["json_object", "text"]
    result = result_of(machine.on_performed(done("run/0#3"), 0.0, 0.0))
    assert (result.attempts, result.execution_time_ms) == (1, 150.0)


def test_a_format_refused_on_the_last_rung_has_failed():
    machine = gateway()
    structured(machine)
    for n in (1, 2):
        refuse(machine, f"run/0#{n}", "response_format")
        machine.on_granted(Granted(lease=f"run/0#{n + 1}"), 0.0)
    assert result_of(refuse(machine, "run/0#3", "response_format")).failure.kind is ErrorKind.BAD_REQUEST


def test_what_was_learned_is_known_for_the_next_call_to_that_model_only():
    machine = gateway()
    structured(machine)
    refuse(machine, "run/0#1", "response_format")
    assert structured(machine, "b/0").output == "json_object"
    other = gateway(models=(STRONG, msgspec.structs.replace(STRONG, key="other")))
    structured(other)
    refuse(other, "run/0#1", "response_format")
    assert structured(other, "c/0", "other").output == "json_schema"


def test_a_model_starts_on_the_rung_of_its_profile():
    assert structured(gateway(), model="free").output == "json_object"


def test_two_calls_refused_together_step_down_once():
    machine = gateway()
    structured(machine, "a/0")
    structured(machine, "b/0")
    refuse(machine, "a/0#1", "response_format")
    why = failure(ErrorKind.BAD_REQUEST, status=400, param="response_format")
    machine.on_performed(done("b/0#1", why, caller="caller/main/1"), 0.0, 0.0)
    (dispatch,) = some(Dispatch, machine.on_granted(Granted(lease="b/0#2"), 0.0))
    assert dispatch.perform.request.output == "json_object"


@pytest.mark.parametrize("param", ["temperature", "max_tokens"])
def test_a_field_the_model_does_not_take_is_dropped_once_and_for_all(param):
    machine = gateway()
    structured(machine)
    refuse(machine, "run/0#1", param)
    (dispatch,) = some(Dispatch, machine.on_granted(Granted(lease="run/0#2"), 0.0))
    assert getattr(dispatch.perform.request, param) is None
    assert getattr(structured(machine, "b/0"), param) is None
    assert result_of(refuse(machine, "run/0#2", param)).failure.kind is ErrorKind.BAD_REQUEST


def test_the_schema_counts_in_the_estimate_on_every_rung():
    machine = gateway()
    (ask,) = some(AskLimiter, machine.on_call(chat(schema=SCHEMA), 0.0))
    assert ask.message.amount.input_tokens == 5 + len(bytes(SCHEMA.schema))


# --- time


def test_an_attempt_is_as_long_as_the_deadline_leaves():
    assert flying(gateway(), chat(timeout=30.0, deadline=12.0), now=2.0).timeout == 10.0


def test_a_caller_that_does_not_report_is_aborted_from_outside():
    machine = gateway()
    flying(machine)
    assert machine.on_attempt_timeout("run/0#1", 31.75, 0.0) == [
        AbortFlight(CALLER, "run/0#1"),
        Later("attempt:run/0#1", 2.0),
    ]


def test_what_an_aborted_caller_reports_is_a_timeout_and_tried_again():
    machine = gateway()
    flying(machine)
    machine.on_attempt_timeout("run/0#1", 31.75, 0.0)
    effects = machine.on_performed(done("run/0#1", failure(ErrorKind.CONNECTION, sent=False)), 32.0, 0.5)
    assert told(effects) == [Settle(lease="run/0#1", outcome=Outcome.AMBIGUOUS, kind=ErrorKind.TIMEOUT)]
    assert some(Later, effects) == [Later("retry:run/0", 0.5)]


def test_a_reply_that_came_in_time_counts_although_it_was_aborted():
    machine = gateway()
    flying(machine)
    machine.on_attempt_timeout("run/0#1", 31.75, 0.0)
    assert result_of(machine.on_performed(done("run/0#1"), 31.8, 0.0)).reply == OK


def test_a_caller_that_never_comes_back_is_lost_and_another_hired_in_its_place():
    machine = gateway(callers=1)
    flying(machine, chat(max_retries=0))
    machine.on_call(chat("b/0"), 0.0)
    machine.on_granted(Granted(lease="b/0#1"), 0.0)
    machine.on_attempt_timeout("run/0#1", 31.75, 0.0)
    effects = machine.on_attempt_timeout("run/0#1", 33.75, 0.0)
    assert effects[0] == Lost(CALLER, "run/0#1")
    assert told(effects) == [Settle(lease="run/0#1", outcome=Outcome.AMBIGUOUS, kind=ErrorKind.TIMEOUT)]
    assert (result_of(effects).failure.kind, result_of(effects).execution_time_ms) == (ErrorKind.TIMEOUT, 33750.0)
    assert some(Hire, effects) == [Hire("main", 1, "caller/main/1")]
    assert machine.on_performed(done("run/0#1"), 99.0, 0.0) == [Dismiss(CALLER)]


def test_a_lost_caller_that_comes_back_is_used_again_when_there_is_room():
    machine = gateway(callers=1)
    flying(machine, chat(max_retries=0))
    machine.on_attempt_timeout("run/0#1", 31.75, 0.0)
    machine.on_attempt_timeout("run/0#1", 33.75, 0.0)
    assert machine.on_performed(done("run/0#1"), 50.0, 0.0) == []
    machine.on_call(chat("b/0"), 51.0)
    assert [d.caller for d in some(Dispatch, machine.on_granted(Granted(lease="b/0#1"), 51.0))] == [CALLER]


def expire(machine, now=10.0):
    effects = machine.on_timer("deadline:run/0", now, 0.0)
    return effects, result_of(effects)


def test_a_deadline_sets_a_timer_that_the_answer_unsets():
    machine = gateway()
    assert some(Later, machine.on_call(chat(deadline=10.0), 4.0)) == [Later("deadline:run/0", 6.0)]
    machine.on_granted(Granted(lease="run/0#1"), 4.0)
    assert Unset("deadline:run/0") in machine.on_performed(done("run/0#1"), 5.0, 0.0)


def test_a_deadline_in_the_limiter_s_line_cancels_the_lease():
    machine = gateway()
    machine.on_call(chat(deadline=10.0), 0.0)
    effects, result = expire(machine)
    assert (result.failure.kind, result.queue_time_ms) == (ErrorKind.DEADLINE, 10000.0)
    assert told(effects) == [Cancel(lease="run/0#1")]


def test_a_deadline_while_waiting_for_a_caller_cancels_the_lease():
    machine = gateway(callers=1)
    flying(machine, chat("other/0"))
    machine.on_call(chat(deadline=10.0), 0.0)
    machine.on_granted(Granted(lease="run/0#1"), 0.0)
    effects, result = expire(machine)
    assert (result.failure.kind, told(effects)) == (ErrorKind.DEADLINE, [Cancel(lease="run/0#1")])
    assert some(Dispatch, machine.on_performed(done("other/0#1"), 11.0, 0.0)) == []


def test_a_deadline_in_the_air_answers_at_once_and_settles_when_the_caller_reports():
    machine = gateway()
    flying(machine, chat(deadline=10.0))
    effects, result = expire(machine)
    assert (result.failure.kind, result.execution_time_ms, result.attempts) == (ErrorKind.DEADLINE, 10000.0, 1)
    assert (some(AbortFlight, effects), told(effects)) == ([AbortFlight(CALLER, "run/0#1")], [])
    effects = machine.on_performed(done("run/0#1", failure(ErrorKind.CONNECTION)), 10.1, 0.0)
    assert told(effects) == [Settle(lease="run/0#1", outcome=Outcome.AMBIGUOUS)]
    assert some(AnswerStep, effects) == []


def test_a_deadline_while_resting_names_the_last_failure():
    machine = gateway()
    flying(machine, chat(deadline=10.0))
    machine.on_performed(done("run/0#1", failure(ErrorKind.SERVER_ERROR, status=500)), 1.0, 0.5)
    effects, result = expire(machine)
    assert Unset("retry:run/0") in effects
    assert "it was server_error" in result.failure.message
    assert machine.on_retry_due("run/0", 10.0) == []


def test_a_failure_after_the_deadline_is_the_deadline_s():
    machine = gateway()
    flying(machine, chat(deadline=10.0))
    result = result_of(machine.on_performed(done("run/0#1", failure(ErrorKind.TIMEOUT)), 10.0, 0.0))
    assert result.failure.kind is ErrorKind.DEADLINE


def test_a_grant_after_the_deadline_is_not_used():
    machine = gateway()
    machine.on_call(chat(deadline=10.0), 0.0)
    effects = machine.on_granted(Granted(lease="run/0#1"), 10.0)
    assert (result_of(effects).failure.kind, told(effects)) == (ErrorKind.DEADLINE, [Cancel(lease="run/0#1")])


def test_a_call_after_its_deadline_is_not_made():
    effects = gateway().on_call(chat(deadline=10.0), 10.0)
    assert (result_of(effects).failure.kind, some(AskLimiter, effects)) == (ErrorKind.DEADLINE, [])


def test_a_deadline_that_a_joining_call_moved_is_waited_for():
    machine = gateway()
    machine.on_call(chat(deadline=10.0), 0.0)
    machine.on_call(chat(deadline=15.0), 1.0)
    assert machine.on_deadline("run/0", 10.0) == [Later("deadline:run/0", 5.0)]


def test_a_deadline_that_rounding_puts_behind_its_own_timer_has_come():
    machine = gateway()
    machine.on_call(chat(deadline=10.0), 0.0)
    assert result_of(machine.on_deadline("run/0", 10.0 - 1e-15)).failure.kind is ErrorKind.DEADLINE


def test_timers_of_what_is_over_do_nothing():
    machine = gateway()
    flying(machine)
    machine.on_performed(done("run/0#1"), 1.0, 0.0)
    keys = ("attempt:run/0#1", "retry:run/0", "deadline:run/0")
    assert [machine.on_timer(key, 2.0, 0.0) for key in keys] == [[], [], []]


# --- cancels and losses


def test_a_cancelled_step_gives_back_its_lease_and_is_not_answered():
    machine = gateway()
    machine.on_call(chat(deadline=9.0), 0.0)
    assert machine.on_cancel(CancelStep(step="run/0"), 1.0) == [
        TellLimiter(Cancel(lease="run/0#1")),
        Unset("deadline:run/0"),
    ]
    assert machine.on_refused(Refused(lease="run/0#1", kind=ErrorKind.DEADLINE, reason=""), 2.0) == []


def test_a_grant_that_crossed_the_cancel_is_returned():
    machine = gateway()
    machine.on_call(chat(), 0.0)
    machine.on_cancel(CancelStep(step="run/0"), 1.0)
    assert machine.on_granted(Granted(lease="run/0#1"), 1.0) == [TellLimiter(Cancel(lease="run/0#1"))]


def test_a_cancel_in_the_air_hangs_up_and_settles_when_the_caller_reports():
    machine = gateway()
    flying(machine)
    assert machine.on_cancel(CancelStep(step="run/0"), 1.0) == [
        AbortFlight(CALLER, "run/0#1"),
        Later("attempt:run/0#1", 2.0),
    ]
    effects = machine.on_performed(done("run/0#1"), 1.1, 0.0)
    assert (told(effects)[0].usage, some(AnswerStep, effects)) == (OK.usage, [])


def test_a_step_asked_for_again_while_its_flight_ends_takes_the_next_lease():
    machine = gateway()
    flying(machine)
    machine.on_cancel(CancelStep(step="run/0"), 1.0)
    assert [ask.message.lease for ask in machine.on_call(chat(), 1.0)] == ["run/0#2"]


def test_a_cancel_of_what_nobody_knows_does_nothing():
    assert gateway().on_cancel(CancelStep(step="run/9"), 1.0) == []


def test_a_caller_that_fails_during_a_call_is_replaced_and_the_call_tried_again():
    machine = gateway(callers=1)
    flying(machine)
    effects = machine.on_caller_gone(CALLER, 1.0, 0.5)
    assert told(effects) == [Settle(lease="run/0#1", outcome=Outcome.AMBIGUOUS, kind=ErrorKind.CONNECTION)]
    assert some(Unset, effects) == [Unset("attempt:run/0#1")]
    assert some(Later, effects) == [Later("retry:run/0", 0.5)]
    machine.on_retry_due("run/0", 2.0)
    assert some(Hire, machine.on_granted(Granted(lease="run/0#2"), 2.0)) == [Hire("main", 1, "caller/main/1")]


def test_a_caller_of_an_earlier_life_joins_and_the_next_number_is_free():
    machine = gateway()
    assert machine.on_caller_back("caller/main/4", 0.0) == []
    machine.on_call(chat(), 0.0)
    effects = machine.on_granted(Granted(lease="run/0#1"), 0.0)
    assert (some(Hire, effects), [d.caller for d in some(Dispatch, effects)]) == ([], ["caller/main/4"])
    assert some(Hire, flying_effects(machine, "b/0")) == [Hire("main", 5, "caller/main/5")]


def flying_effects(machine, step):
    machine.on_call(chat(step), 0.0)
    return machine.on_granted(Granted(lease=f"{step}#1"), 0.0)


@pytest.mark.parametrize("address", ["limiter", "worker/0", "caller/other/0", "main/0"])
def test_other_actors_are_no_callers(address):
    machine = gateway()
    assert machine.on_caller_gone(address, 0.0, 0.0) == machine.on_caller_back(address, 0.0) == []


def test_a_report_from_another_caller_than_the_one_asked_changes_nothing():
    machine = gateway(callers=1)
    flying(machine)
    assert machine.on_performed(done("run/0#1", caller="caller/main/7"), 1.0, 0.0) == [Dismiss("caller/main/7")]
    assert result_of(machine.on_performed(done("run/0#1"), 2.0, 0.0)).reply == OK


# --- a limiter that was restarted


def test_a_restarted_limiter_is_told_what_is_held_and_asked_again_for_what_is_waited_for():
    machine = gateway(callers=1)
    flying(machine, chat("air/0"))
    machine.on_call(chat("ready/0"), 0.0)
    machine.on_granted(Granted(lease="ready/0#1"), 0.0)
    (ask,) = machine.on_call(chat("waiting/0"), 0.0)
    tell, forget, again = machine.on_limiter_restarted()
    assert isinstance(tell.message, Reaffirm)
    assert (tell.message.holder, [a.lease for a in tell.message.leases]) == ("gateway", ["ready/0#1", "air/0#1"])
    assert (forget.message, again.message.lease) == (Cancel(lease="waiting/0#1"), "waiting/0#2")
    assert again.message.amount == ask.message.amount


def test_a_grant_of_the_limiter_before_is_not_used():
    machine = gateway()
    machine.on_call(chat(), 0.0)
    machine.on_limiter_restarted()
    assert machine.on_granted(Granted(lease="run/0#1"), 1.0) == [TellLimiter(Cancel(lease="run/0#1"))]
    machine.on_granted(Granted(lease="run/0#2"), 3.0)
    result = result_of(machine.on_performed(done("run/0#2"), 4.0, 0.0))
    assert (result.attempts, result.queue_time_ms) == (1, 3000.0)


def test_what_became_of_a_draft_is_told_to_whoever_chooses_models(monkeypatch):
    heard, graded = [], Graded(task="run/0", good=True)
    monkeypatch.setattr(Ladder, "on_graded", lambda _self, news: heard.append(news))
    assert gateway().on_graded(graded) == []
    assert heard == [graded]
