"""Stages of calls: each call that effects move on is told once, where it stands after all of them."""

from __future__ import annotations

from protocol.calls import AbortFlight, AnswerStep, AskLimiter, Dispatch, Later, TellLimiter, Unset
from protocol.chat import ChatMessage, ChatRequest
from protocol.signals import Acquire, Amount, Answer, Cancel, ChatCall, ChatResult, Perform, Settle
from protocol.stages import stages

MESSAGES = (ChatMessage(role="user", content="Hi"),)
CALL = ChatCall(step="r/0/0", fingerprint="f", reply_to="coder/0", role="coder", messages=MESSAGES)
ASK = AskLimiter(Acquire(lease="r/0/0#2", domain="main", amount=Amount(), holder="gateway", reply_to="gateway"))
SETTLE = TellLimiter(Settle(lease="r/0/0#1"))
ANSWER = AnswerStep(Answer(to="coder/0", step="r/0/0", kind="chat", fingerprint="f", payload=ChatResult()))
SEND = Dispatch(
    "caller/main/0",
    Perform(call="r/1/0#1", request=ChatRequest(model="m", messages=MESSAGES), timeout=1.0, reply_to="gateway"),
)


def test_a_new_call_is_queued_and_one_that_moves_nothing_is_parked():
    assert stages([ASK], CALL) == {"r/0/0": ("call.queued", {"domain": "main"})}
    assert stages([Later("circuit:m", 1.0)], CALL) == {"r/0/0": ("call.parked", {})}


def test_an_attempt_that_is_over_is_told_by_what_follows():
    assert stages([SETTLE]) == {"r/0/0": ("call.landed", {})}
    assert stages([Unset("attempt:r/0/0#1"), SETTLE, ASK]) == {"r/0/0": ("call.queued", {"domain": "main"})}
    assert stages([SETTLE, Later("retry:r/0/0", 0.12345)]) == {"r/0/0": ("call.rested", {"seconds": 0.123})}
    assert stages([SETTLE, ANSWER]) == {"r/0/0": ("call.ended", {})}


def test_one_that_goes_and_one_that_ends_are_both_told():
    assert stages([SETTLE, ANSWER, SEND, Later("attempt:r/1/0#1", 1.3)]) == {
        "r/0/0": ("call.ended", {}),
        "r/1/0": ("call.sent", {}),
    }


def test_what_moves_no_call_is_not_told():
    assert stages([TellLimiter(Cancel(lease="r/0/0#1")), AbortFlight("caller/main/0", "r/0/0#1")], object()) == {}
