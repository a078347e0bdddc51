"""The breaker in the gateway's way: who waits for it, who is refused, and who goes as the probe."""

from __future__ import annotations

import pytest

from protocol.calls import AnswerStep, AskLimiter, Dispatch, Later, TellLimiter
from protocol.chat import CallFailure, ChatMessage, ChatReply, Usage
from protocol.circuit import BRAKES, FATALS, PATIENCE, RETRIES, Circuit
from protocol.errors import ErrorKind
from protocol.gateway import Gateway
from protocol.models import ModelInfo, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.policies.breaker import State
from protocol.signals import Cancel, CancelStep, ChatCall, Granted, Performed

BROKEN = CallFailure(kind=ErrorKind.SERVER_ERROR, message="it is down", status=500)
REFUSED = CallFailure(kind=ErrorKind.AUTHENTICATION, message="the API key is wrong", status=401)
THROTTLED = CallFailure(kind=ErrorKind.RATE_LIMITED, message="slowly", status=429)
FINE = ChatReply(text="yes", usage=Usage(input_tokens=10, output_tokens=5))


MANY = BRAKES.streak


# --- the circuit alone


def circuit(*results, at=0.0):
    """Return a circuit that has seen calls end as *results*."""
    seen = Circuit("main/fast")
    for result in results:
        seen.on_end(seen.on_sent(at), result, at, 0.0)
    return seen


def test_it_opens_after_fifty_failures_in_a_row_and_is_half_open_after_its_pause():
    seen = circuit(*[BROKEN] * MANY)
    assert [seen.state(at) for at in (0.0, 4.9, 5.1)] == [State.OPEN, State.OPEN, State.HALF_OPEN]
    assert circuit(*[BROKEN] * (MANY - 1)).state(0.0) is State.CLOSED
    assert circuit(*[BROKEN] * (MANY - 1), FINE, BROKEN).state(0.0) is State.CLOSED


def test_two_probes_that_end_well_close_it():
    seen = circuit(*[BROKEN] * MANY)
    for at in (6.0, 7.0):
        assert seen.state(at) is State.HALF_OPEN
        seen.on_end(seen.on_sent(at), FINE, at, 0.0)
    assert seen.state(7.0) is State.CLOSED


def test_a_failure_that_nobody_waited_for_says_nothing():
    seen = circuit()
    for _ in range(20):
        seen.on_end(seen.on_sent(0.0), BROKEN, 0.0, 0.0, awaited=False)
    assert seen.state(0.0) is State.CLOSED


@pytest.mark.parametrize("deadline", [None, 5.1])
def test_a_call_waits_for_a_short_pause_that_ends_before_its_deadline(deadline):
    seen = circuit(*[BROKEN] * MANY)
    assert seen.park("a/0", deadline, 0.0) is None
    assert seen.due(0.0) == pytest.approx(5.0, abs=1e-4)


def test_a_call_whose_deadline_comes_first_is_refused_and_hears_why_and_for_how_long():
    failure = circuit(*[BROKEN] * MANY).park("a/0", 4.0, 0.0)
    assert (failure.kind, failure.sent) == (ErrorKind.CIRCUIT_OPEN, False)
    assert failure.retry_after == pytest.approx(5.0, abs=1e-4)
    assert failure.message == (
        "not sent: main/fast fails again and again, and is left alone for 5 s; the last time: it is down"
    )


def test_nobody_waits_for_a_long_pause():
    seen = circuit(*[REFUSED] * FATALS)
    failure = seen.park("a/0", None, 0.0)
    assert (failure.kind, failure.retry_after) == (ErrorKind.AUTHENTICATION, pytest.approx(300.0))
    assert failure.message == "not sent, as an earlier call to main/fast ended so: the API key is wrong"
    assert seen.due(0.0) is None
    assert failure.retry_after > PATIENCE


@pytest.mark.parametrize("between", [FINE, BROKEN])
def test_a_few_refusals_of_the_key_leave_it_closed_and_a_success_forgets_them(between):
    seen = circuit(*[REFUSED] * (FATALS - 1), between, REFUSED)
    assert seen.state(0.0) is (State.CLOSED if between is FINE else State.OPEN)


def test_of_those_who_wait_one_goes_as_the_probe():
    seen = circuit(*[BROKEN] * MANY)
    for step in ("a/0", "b/0", "c/0"):
        seen.park(step, None, 0.0)
    assert seen.release(1.0) == ([], [])
    assert seen.release(6.0) == (["a/0"], [])
    seen.on_sent(6.0)
    assert (seen.release(6.0), seen.due(6.0)) == (([], []), 1.0)


def test_when_it_closes_everybody_goes():
    seen = circuit(*[BROKEN] * MANY)
    for step in ("a/0", "b/0", "c/0"):
        seen.park(step, None, 0.0)
    for at in (6.0, 7.0):
        seen.on_end(seen.on_sent(at), FINE, at, 0.0)
    assert seen.release(7.0) == (["a/0", "b/0", "c/0"], [])


def test_when_it_opens_for_long_who_waits_is_refused():
    seen = circuit(*[BROKEN] * MANY)
    seen.park("a/0", None, 0.0)
    seen.park("b/0", 15.0, 0.0)
    seen.on_end(seen.on_sent(6.0), BROKEN, 6.0, 0.0)
    assert [step for step, _ in seen.release(6.0)[1]] == ["b/0"]
    seen.on_end(seen.on_sent(17.0), BROKEN, 17.0, 0.0)
    assert [(step, failure.kind) for step, failure in seen.release(17.0)[1]] == [("a/0", ErrorKind.CIRCUIT_OPEN)]
    assert seen.due(17.0) is None


# --- in the gateway


def gateway(callers=64, *, weighed=False):
    return Gateway(
        models={"fast": ModelInfo(key="fast", provider="main", name="fast")},
        providers={"main": ProviderInfo(key="main", domain="main", callers=callers, weighed=weighed)},
        backoff=Backoff(),
        estimate=lambda _messages: 100,
    )


def chat(step, **fields):
    turn = ChatMessage(role="user", content="hi")
    return ChatCall(step=step, fingerprint="f", reply_to="agent", role="coder", messages=(turn,), **fields)


def some(kind, effects):
    return [effect for effect in effects if isinstance(effect, kind)]


def send(machine, step, now, number=1, **fields):
    """Have a call sent; it is granted at once."""
    effects = machine.on_call(chat(step, **fields), now)
    return effects + machine.on_granted(Granted(lease=f"{step}#{number}"), now)


def ended(machine, step, result, now, number=1):
    lease = f"{step}#{number}"
    caller = machine._flights[lease].caller
    return machine.on_performed(Performed(call=lease, caller=caller, outcome=result, elapsed_ms=9.0), now, 0.0)


def broken(machine, now=0.0, calls=MANY):
    """Have so many calls fail, each for good."""
    for number in range(calls):
        send(machine, f"x{number}/0", now, max_retries=0)
        effects = ended(machine, f"x{number}/0", BROKEN, now)
        assert [e.answer.payload.failure.kind for e in some(AnswerStep, effects)] == [ErrorKind.SERVER_ERROR]


def test_a_call_that_finds_the_breaker_open_waits_without_a_lease_and_goes_when_it_is_half_open():
    machine = gateway()
    broken(machine)
    (later,) = machine.on_call(chat("a/0"), 1.0)
    assert (later.key, later.seconds) == ("circuit:fast", pytest.approx(4.0, abs=1e-4))
    effects = machine.on_timer("circuit:fast", 5.1, 0.0)
    assert [ask.message.lease for ask in some(AskLimiter, effects)] == ["a/0#1"]


def test_a_call_that_would_wait_for_too_long_is_answered_at_once():
    machine = gateway()
    broken(machine)
    (answer,) = some(AnswerStep, machine.on_call(chat("a/0", deadline=2.0), 1.0))
    result = answer.answer.payload
    assert (result.failure.kind, result.attempts) == (ErrorKind.CIRCUIT_OPEN, 0)
    assert "a/0" not in machine._calls


def test_a_call_that_is_ready_when_it_opens_gives_its_lease_back_and_waits():
    machine = gateway(callers=1)
    for number in range(MANY - 1):
        send(machine, f"x{number}/0", 0.0, max_retries=0)
        ended(machine, f"x{number}/0", BROKEN, 0.0)
    send(machine, "x/0", 0.0, max_retries=0)
    send(machine, "a/0", 0.0)
    effects = ended(machine, "x/0", BROKEN, 1.0)
    assert [tell.message for tell in some(TellLimiter, effects)][1:] == [Cancel(lease="a/0#1")]
    assert some(Dispatch, effects) == []
    assert machine._calls["a/0"].stage == "parked"


def test_a_probe_that_ends_lets_the_next_go_and_a_second_one_all_of_them():
    machine = gateway()
    broken(machine)
    for step in ("a/0", "b/0", "c/0", "d/0"):
        machine.on_call(chat(step), 1.0)
    asked, effects = [], machine.on_timer("circuit:fast", 5.1, 0.0)
    for step, now in (("a/0", 5.1), ("b/0", 5.2)):
        asked.append([ask.message.lease for ask in some(AskLimiter, effects)])
        machine.on_granted(Granted(lease=f"{step}#1"), now)
        effects = ended(machine, step, FINE, now)
    asked.append([ask.message.lease for ask in some(AskLimiter, effects)])
    assert asked == [["a/0#1"], ["b/0#1"], ["c/0#1", "d/0#1"]]


def test_a_call_of_which_attempts_have_failed_ends_with_what_they_met():
    machine = gateway()
    send(machine, "a/0", 0.0)
    ended(machine, "a/0", BROKEN, 0.0)
    broken(machine, calls=MANY - 1)
    machine.on_retry_due("a/0", 1.0)
    machine.on_call(chat("p/0"), 1.0)
    for now in (5.1, 16.0):
        effects = machine.on_timer("circuit:fast", now, 0.0)
        for ask in some(AskLimiter, effects):
            machine.on_granted(Granted(lease=ask.message.lease), now)
        (lease,) = machine._flights
        step, _, number = lease.partition("#")
        effects = ended(machine, step, BROKEN, now, number)
        effects += machine.on_retry_due(step, now)
    ends = {e.answer.step: e.answer.payload.failure for e in some(AnswerStep, effects)}
    assert ends["a/0"].kind is ErrorKind.SERVER_ERROR
    assert ends["a/0"].message == "it is down; not tried again, since too many calls end so"


def test_a_call_that_is_cancelled_while_it_waits_leaves_the_line():
    machine = gateway()
    broken(machine)
    machine.on_call(chat("a/0"), 1.0)
    machine.on_cancel(CancelStep(step="a/0"), 2.0)
    assert machine.on_timer("circuit:fast", 5.1, 0.0) == []


def test_a_429_is_not_held_against_a_model():
    machine = gateway()
    for number in range(1, 9):
        send(machine, "a/0", 0.0) if number == 1 else machine.on_granted(Granted(lease=f"a/0#{number}"), 0.0)
        ended(machine, "a/0", THROTTLED, 0.0, number)
    assert machine._circuits["fast"].state(0.0) is State.CLOSED


def test_the_retries_of_an_endpoint_are_bounded_and_the_call_says_so():
    machine, retried = gateway(), 0
    for number in range(int(RETRIES.most) + 1):
        send(machine, f"{number}/0", 0.0)
    for number in range(int(RETRIES.most) + 1):
        effects = ended(machine, f"{number}/0", BROKEN, 0.0)
        retried += any(isinstance(e, Later) and e.key.startswith("retry:") for e in effects)
    assert retried == RETRIES.most
    (answer,) = some(AnswerStep, effects)
    assert answer.answer.payload.failure.message == (
        "it is down; not tried again, since the retries to main are used up"
    )


def test_where_tokens_are_weighed_the_estimate_follows_what_the_provider_counts():
    machine, reserved = gateway(weighed=True), []
    for number in range(30):
        effects = send(machine, f"{number}/0", 0.0)
        reserved.append(some(AskLimiter, effects)[0].message.amount.input_tokens)
        said = ChatReply(text="yes", usage=Usage(input_tokens=200, output_tokens=5, exact=number > 4))
        ended(machine, f"{number}/0", said, 0.0)
    assert reserved[:6] == [100] * 6
    assert 200 <= reserved[-1] < 230
