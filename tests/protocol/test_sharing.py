"""Calls that are not made: identical ones in flight are sent once, and answers may be given again. Both opted in."""

from __future__ import annotations

import msgspec
import pytest

from protocol.calls import AbortFlight, AnswerStep, AskLimiter, Dispatch, Later, TellLimiter, Unset
from protocol.chat import CallFailure, ChatMessage, ChatReply, Occasion, OutputSchema, Usage
from protocol.errors import ErrorKind
from protocol.gateway import Gateway
from protocol.ladder import rungs
from protocol.models import ModelInfo, Price, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.policies.routing import Router, Rules
from protocol.sharing import identity
from protocol.signals import Cancel, CancelStep, ChatCall, Graded, Granted, Performed, Refused

OK = ChatReply(text="done", usage=Usage(input_tokens=10, output_tokens=4))
COST = 10 * 1 + 4 * 2
CALLER = "caller/main/0"
CACHED = {"coalesce": False, "cache_seconds": 60.0}
MODELS = tuple(
    ModelInfo(key=key, provider="main", name=key, tier=tier, prices=(Price(input=1, output=2),))
    for key, tier in (("m", 1), ("other", 3))
)


def gateway(router=None):
    return Gateway(
        models={model.key: model for model in MODELS},
        providers={"main": ProviderInfo(key="main", domain="main", callers=2)},
        backoff=Backoff(base=1.0, factor=2.0, cap=30.0),
        estimate=lambda _: 10,
        router=router,
    )


def chat(step="a/0", text="hello", *, coalesce=True, **fields):
    fields = {"messages": (ChatMessage(role="user", content=text),), "model": "m", "max_tokens": 100, **fields}
    return ChatCall(step=step, fingerprint="f", reply_to=f"agent/{step}", role="coder", coalesce=coalesce, **fields)


def some(kind, effects):
    return [effect for effect in effects if isinstance(effect, kind)]


def answers(effects):
    return {effect.answer.step: effect.answer.payload for effect in some(AnswerStep, effects)}


def done(lease, outcome=OK):
    return Performed(call=lease, caller=CALLER, outcome=outcome, elapsed_ms=50.0)


def three(machine, *, flying=True, **fields):
    """Let a lead, b and c follow; return the machine."""
    for step in ("a/0", "b/0", "c/0"):
        machine.on_call(chat(step, **fields), 0.0)
    if flying:
        machine.on_granted(Granted(lease="a/0#1"), 0.0)
    return machine


# --- identical calls in flight


def test_identical_calls_in_flight_are_sent_once_and_answered_all_and_one_pays():
    machine = three(gateway(), flying=False)
    assert machine.on_call(chat("d/0", "another"), 0.0) != []
    assert len(some(Dispatch, machine.on_granted(Granted(lease="a/0#1"), 1.0))) == 1
    said = answers(machine.on_performed(done("a/0#1"), 3.0, 0.0))
    assert list(said) == ["a/0", "b/0", "c/0"]
    assert {result.reply for result in said.values()} == {OK}
    assert [(r.served, r.attempts, r.cost, r.usage.input_tokens) for r in said.values()] == [
        ("", 1, COST, 10),
        ("shared", 0, 0, 0),
        ("shared", 0, 0, 0),
    ]
    assert [r.saved_by_serving for r in said.values()] == [0, COST, COST]
    assert said["b/0"].queue_time_ms == 3000.0


def test_a_follower_asks_for_no_lease():
    machine = gateway()
    assert len(some(AskLimiter, machine.on_call(chat("a/0"), 0.0))) == 1
    assert machine.on_call(chat("b/0"), 0.0) == []


def test_without_opting_in_each_call_is_made():
    machine = gateway()
    for step in ("a/0", "b/0"):
        assert len(some(AskLimiter, machine.on_call(chat(step, coalesce=False), 0.0))) == 1
    machine.on_granted(Granted(lease="a/0#1"), 0.0)
    assert list(answers(machine.on_performed(done("a/0#1"), 1.0, 0.0))) == ["a/0"]


def test_a_call_that_has_not_opted_in_is_not_waited_for():
    machine = gateway()
    machine.on_call(chat("a/0", coalesce=False), 0.0)
    assert len(some(AskLimiter, machine.on_call(chat("b/0"), 0.0))) == 1
    assert len(some(AskLimiter, machine.on_call(chat("c/0", **CACHED), 0.0))) == 1


SCHEMA = OutputSchema(name="Plan", schema=msgspec.Raw(b"{}"))


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "hello!"},
        {"messages": (ChatMessage(role="system", content="hello"),)},
        {"model": "other"},
        {"temperature": 0.0},
        {"max_tokens": 99},
        {"schema": SCHEMA},
    ],
)
def test_calls_that_differ_in_what_is_asked_are_two(fields):
    machine = gateway()
    machine.on_call(chat("a/0"), 0.0)
    assert len(some(AskLimiter, machine.on_call(chat("b/0", **fields), 0.0))) == 1


def test_who_asks_how_urgently_and_until_when_makes_no_difference():
    one = chat("a/0")
    other = chat("b/0", priority=2, flow="acme", deadline=9.0, timeout=1.0, max_retries=0, again=True)
    assert identity(one, "m") == identity(other, "m")
    assert identity(chat(text="\ud800"), "m") != identity(one, "m")


def test_after_the_answer_the_next_call_is_made():
    machine = three(gateway())
    machine.on_performed(done("a/0#1"), 1.0, 0.0)
    assert len(some(AskLimiter, machine.on_call(chat("d/0"), 2.0))) == 1


def test_a_follower_that_asks_again_is_answered_once_where_it_asked_last():
    machine = three(gateway())
    assert machine.on_call(msgspec.structs.replace(chat("b/0"), reply_to="agent/9", again=True), 1.0) == []
    (said,) = [
        e.answer for e in some(AnswerStep, machine.on_performed(done("a/0#1"), 2.0, 0.0)) if e.answer.step == "b/0"
    ]
    assert (said.to, said.payload.queue_time_ms) == ("agent/9", 2000.0)


# --- who goes


def test_a_cancelled_leader_in_the_air_hands_its_flight_over():
    machine = three(gateway())
    assert machine.on_cancel(CancelStep(step="a/0"), 1.0) == []
    said = answers(machine.on_performed(done("a/0#1"), 3.0, 0.0))
    assert [(step, r.attempts, r.cost, r.served) for step, r in said.items()] == [
        ("b/0", 1, COST, ""),
        ("c/0", 0, 0, "shared"),
    ]
    assert (said["b/0"].queue_time_ms, said["b/0"].execution_time_ms) == (1000.0, 50.0)


def test_a_flight_that_was_handed_over_is_tried_again_under_its_new_name():
    machine = three(gateway())
    machine.on_cancel(CancelStep(step="a/0"), 1.0)
    failed = CallFailure(kind=ErrorKind.SERVER_ERROR, message="no")
    assert some(Later, machine.on_performed(done("a/0#1", failed), 2.0, 0.0)) == [Later("retry:b/0", 0.0)]
    (ask,) = machine.on_retry_due("b/0", 2.0)
    assert ask.message.lease == "b/0#2"


def test_the_most_urgent_follower_takes_over():
    machine = three(gateway(), priority=2)
    assert machine.on_call(chat("d/0", priority=0), 0.0) == []
    machine.on_cancel(CancelStep(step="a/0"), 1.0)
    said = answers(machine.on_performed(done("a/0#1"), 3.0, 0.0))
    assert {step: r.attempts for step, r in said.items()} == {"d/0": 1, "b/0": 0, "c/0": 0}


def test_a_cancelled_leader_in_line_leaves_it_and_the_next_one_asks():
    machine = three(gateway(), flying=False)
    machine.on_call(chat("d/0"), 0.0)
    cancel, ask = machine.on_cancel(CancelStep(step="a/0"), 1.0)
    assert cancel == TellLimiter(Cancel(lease="a/0#1"))
    assert ask.message.lease == "b/0#1"
    machine.on_granted(Granted(lease="b/0#1"), 1.0)
    assert list(answers(machine.on_performed(done("b/0#1"), 2.0, 0.0))) == ["b/0", "c/0", "d/0"]


def test_a_flight_that_is_being_hung_up_is_not_handed_over():
    machine = three(gateway())
    assert some(AbortFlight, machine.on_attempt_timeout("a/0#1", 40.0, 0.0)) == [AbortFlight(CALLER, "a/0#1")]
    (ask,) = some(AskLimiter, machine.on_cancel(CancelStep(step="a/0"), 41.0))
    assert ask.message.lease == "b/0#1"


def test_a_cancelled_leader_that_nobody_waits_for_is_hung_up():
    machine = gateway()
    machine.on_call(chat(), 0.0)
    machine.on_granted(Granted(lease="a/0#1"), 0.0)
    assert len(some(AbortFlight, machine.on_cancel(CancelStep(step="a/0"), 1.0))) == 1
    assert len(some(AskLimiter, machine.on_call(chat("b/0"), 1.0))) == 1


def test_a_cancelled_follower_goes_alone():
    machine = three(gateway(), flying=False)
    machine.on_call(chat("d/0", deadline=9.0), 0.0)
    assert machine.on_cancel(CancelStep(step="b/0"), 1.0) == []
    assert machine.on_cancel(CancelStep(step="d/0"), 1.0) == [Unset("deadline:d/0")]
    machine.on_granted(Granted(lease="a/0#1"), 1.0)
    assert list(answers(machine.on_performed(done("a/0#1"), 2.0, 0.0))) == ["a/0", "c/0"]


# --- time


def test_each_asker_has_its_own_deadline():
    machine = gateway()
    machine.on_call(chat("a/0"), 0.0)
    assert machine.on_call(chat("b/0", deadline=5.0), 0.0) == [Later("deadline:b/0", 5.0)]
    assert machine.on_deadline("b/0", 4.0) == [Later("deadline:b/0", 1.0)]
    said = answers(machine.on_deadline("b/0", 5.0))
    assert (said["b/0"].failure.kind, said["b/0"].cost, said["b/0"].attempts) == (ErrorKind.DEADLINE, 0, 0)
    assert machine.on_deadline("b/0", 5.0) == []


def test_a_leader_whose_deadline_comes_fails_alone_and_its_flight_goes_on():
    machine = gateway()
    machine.on_call(chat("a/0", deadline=5.0), 0.0)
    machine.on_call(chat("b/0", deadline=50.0), 0.0)
    machine.on_granted(Granted(lease="a/0#1"), 1.0)
    effects = machine.on_deadline("a/0", 5.0)
    result = answers(effects)["a/0"]
    assert (result.failure.kind, result.attempts, result.cost, some(AbortFlight, effects)) == (
        ErrorKind.DEADLINE, 0, 0, [],
    )  # fmt: skip
    effects = machine.on_performed(done("a/0#1"), 6.0, 0.0)
    assert (answers(effects)["b/0"].cost, Unset("deadline:b/0") in effects) == (COST, True)


def test_a_follower_that_leads_too_late_fails_as_well():
    machine = gateway()
    machine.on_call(chat("a/0", deadline=5.0), 0.0)
    machine.on_call(chat("b/0", deadline=5.0), 0.0)
    said = answers(machine.on_deadline("a/0", 5.0))
    assert [said[step].failure.kind for step in ("a/0", "b/0")] == [ErrorKind.DEADLINE] * 2


@pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.RATE_LIMITED])
def test_a_leader_that_has_no_time_to_try_again_fails_alone(kind):
    machine = gateway()
    machine.on_call(chat("a/0", deadline=5.0), 0.0)
    machine.on_call(chat("b/0", deadline=50.0), 0.0)
    machine.on_granted(Granted(lease="a/0#1"), 1.0)
    failed = CallFailure(kind=kind, message="no", retry_after=9.0)
    effects = machine.on_performed(done("a/0#1", failed), 4.9, 0.5)
    assert {step: result.failure.kind for step, result in answers(effects).items()} == {"a/0": kind}
    assert [ask.message.lease for ask in some(AskLimiter, effects)] == ["b/0#1"]


@pytest.mark.parametrize("flying", [False, True])
def test_a_thousand_that_are_late_together_are_answered_together(flying):
    machine = gateway()
    for n in range(1000):
        machine.on_call(chat(f"run{n}/0", deadline=5.0), 0.0)
    machine.on_call(chat("last/0", deadline=9.0), 0.0)
    if flying:
        machine.on_granted(Granted(lease="run0/0#1"), 0.0)
    effects = machine.on_deadline("run0/0", 5.0)
    assert len(answers(effects)) == 1000
    assert [ask.message.lease for ask in some(AskLimiter, effects)] == ([] if flying else ["last/0#1"])
    assert len(some(Unset, effects)) == 1000


def test_who_is_more_urgent_waits_for_nobody_in_line_but_for_a_call_in_the_air():
    machine = gateway()
    machine.on_call(chat("a/0", priority=2), 0.0)
    machine.on_call(chat("b/0", priority=2), 0.0)
    (ask,) = machine.on_call(chat("c/0", priority=0), 0.0)
    assert (ask.message.lease, ask.message.priority) == ("c/0#1", 0)
    assert machine.on_call(chat("d/0", priority=2), 0.0) == []
    machine.on_granted(Granted(lease="c/0#1"), 0.0)
    assert machine.on_call(chat("e/0", priority=0), 0.0) == []
    assert list(answers(machine.on_performed(done("c/0#1"), 1.0, 0.0))) == ["c/0", "d/0", "e/0"]
    machine.on_granted(Granted(lease="a/0#1"), 1.0)
    assert list(answers(machine.on_performed(done("a/0#1"), 2.0, 0.0))) == ["a/0", "b/0"]


# --- failures


def test_what_fails_a_leader_fails_its_followers_and_is_not_multiplied():
    machine = three(gateway())
    wrong = CallFailure(kind=ErrorKind.AUTHENTICATION, message="no such key")
    effects = machine.on_performed(done("a/0#1", wrong), 1.0, 0.0)
    assert {step: result.failure for step, result in answers(effects).items()} == dict.fromkeys(
        ("a/0", "b/0", "c/0"), wrong
    )
    assert [r.served for r in answers(effects).values()] == ["", "", ""]
    assert some(AskLimiter, effects) == []


@pytest.mark.parametrize("kind", [ErrorKind.BUDGET, ErrorKind.DEADLINE])
def test_a_leader_who_has_no_money_or_no_time_left_lets_another_ask(kind):
    machine = three(gateway(), flying=False)
    refused = Refused(lease="a/0#1", kind=kind, reason="of its own")
    effects = machine.on_refused(refused, 1.0)
    assert list(answers(effects)) == ["a/0"]
    assert [ask.message.lease for ask in some(AskLimiter, effects)] == ["b/0#1"]


# --- answers that are given again


def answered(machine, call, reply=OK, now=1.0):
    machine.on_call(call, now)
    machine.on_granted(Granted(lease=f"{call.step}#1"), now)
    return answers(machine.on_performed(done(f"{call.step}#1", reply), now, 0.0))[call.step]


def test_an_answer_is_given_again_for_its_seconds_without_a_lease_and_costs_nothing():
    machine = gateway()
    answered(machine, chat("a/0", **CACHED))
    (effect,) = machine.on_call(chat("b/0", deadline=99.0, **CACHED), 60.9)
    result = effect.answer.payload
    assert (result.reply, result.served, result.cost, result.attempts, result.model) == (OK, "cache", 0, 0, "m")
    assert (result.saved_by_serving, result.usage, effect.answer.to) == (COST, Usage(), "agent/b/0")
    assert len(some(AskLimiter, machine.on_call(chat("c/0", **CACHED), 61.0))) == 1


def test_without_opting_in_nothing_is_kept_and_nothing_is_given_again():
    machine = gateway()
    answered(machine, chat("a/0", coalesce=False))
    assert len(some(AskLimiter, machine.on_call(chat("b/0", **CACHED), 2.0))) == 1
    machine = gateway()
    answered(machine, chat("a/0", **CACHED))
    assert len(some(AskLimiter, machine.on_call(chat("b/0", coalesce=False), 2.0))) == 1
    assert len(some(AskLimiter, machine.on_call(chat("c/0"), 2.0))) == 1


@pytest.mark.parametrize(
    ("reply", "schema"),
    [
        (ChatReply(text="half a tex", finish_reason="length", usage=Usage(output_tokens=1)), None),
        (ChatReply(text="no", finish_reason="content_filter"), None),
        (CallFailure(kind=ErrorKind.AUTHENTICATION, message="no"), None),
        (ChatReply(text="half", finish_reason="length"), SCHEMA),
    ],
)
def test_only_a_whole_reply_is_kept(reply, schema):
    machine = gateway()
    answered(machine, chat("a/0", schema=schema, **CACHED), reply)
    assert len(some(AskLimiter, machine.on_call(chat("b/0", schema=schema, **CACHED), 2.0))) == 1


def test_what_a_reply_without_usage_had_cost_is_unknown():
    machine = gateway()
    answered(machine, chat("a/0", **CACHED), ChatReply(text="done"))
    (effect,) = machine.on_call(chat("b/0", **CACHED), 2.0)
    assert effect.answer.payload.saved_by_serving is None


def test_what_was_not_written_for_a_task_teaches_nothing_about_its_model():
    router = Router(rungs(MODELS), Rules(explore=0.0))
    machine = gateway(router)
    options = {"model": "auto", "cache_seconds": 60.0}
    for step in ("a/0", "b/0"):
        machine.on_call(chat(step, occasion=Occasion(task=step, rounds=3, complexity=0.0), **options), 0.0)
    machine.on_granted(Granted(lease="a/0#1"), 0.0)
    machine.on_performed(done("a/0#1"), 1.0, 0.0)
    machine.on_call(chat("c/0", occasion=Occasion(task="c/0", rounds=3, complexity=0.0), **options), 1.0)
    for step in ("b/0", "c/0"):
        machine.on_graded(Graded(task=step, good=True))
    assert router.learnt == ()
    machine.on_graded(Graded(task="a/0", good=True))
    assert router.learnt != ()
