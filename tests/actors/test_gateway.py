"""The gateway's shell: a call from request to answer, also when callers, limiter or gateway fail meanwhile."""

from __future__ import annotations

from math import inf

import pytest

from actors import Agent
from actors.testing import ActorTestKit, Crash
from protocol import ids
from protocol.errors import ErrorKind
from protocol.gateway import Gateway as Decisions
from protocol.signals import CancelStep, Progress, Restart
from tests.actors.provider import CallStage, Provider, fault, reply

# --- a call from request to answer


def test_a_call_is_answered_through_the_recorder_with_what_it_cost():
    stage = CallStage(Provider(reply("forty-two")))
    stage.call("run/0")
    stage.run()
    (answer,) = stage.answers
    assert answer.step == "run/0"
    assert answer.at > 0.0
    result = answer.payload
    assert (result.reply.text, result.attempts, result.cost, result.execution_time_ms) == ("forty-two", 1, 15, 7.0)


def test_after_the_answer_nothing_is_held_and_the_lease_is_settled():
    stage = CallStage(Provider())
    stage.call()
    stage.run()
    assert not stage.directory.mailboxes[ids.GATEWAY].held
    assert (stage.in_flight(), stage.dead(), stage.failures) == (0, [], [])


def test_callers_are_hired_as_needed_and_no_more_than_allowed():
    stage = CallStage(Provider(latency=1.0), callers=2)
    for n in range(5):
        stage.call(f"run/{n}")
    stage.run()
    assert sorted(stage.provider.lines) == ["caller/main/0", "caller/main/1"]
    assert len(stage.answers) == 5


def test_a_caller_that_is_free_is_used_again():
    stage = CallStage(Provider())
    for n in range(3):
        stage.call(f"run/{n}")
        stage.run()
    assert list(stage.provider.lines) == ["caller/main/0"]


def test_an_unknown_model_is_answered_at_once():
    stage = CallStage(Provider())
    stage.call(model="gpt-9")
    stage.run()
    assert stage.outcomes() == [("run/0", ErrorKind.NOT_FOUND)]


# --- what is seen of it


def test_the_observer_is_told_of_each_stage_of_a_call_and_when_and_without_one_nobody_is():
    stage = CallStage(Provider(fault(ErrorKind.SERVER_ERROR), reply("late"), latency=2.0), observer="asker")
    stage.call("run/0/0")
    stage.run()
    told = [said for said in stage.answers if isinstance(said, Progress)]
    assert [said.event for said in told] == [
        "call.queued", "call.sent", "call.rested", "call.queued", "call.sent", "call.ended",
    ]  # fmt: skip
    assert {(said.run, said.facts["step"]) for said in told} == {("run", "run/0/0")}
    assert told[2].at - told[1].at == pytest.approx(2.0)
    assert told[3].at - told[2].at == pytest.approx(told[2].facts["seconds"], abs=0.001)
    silent = CallStage(Provider())
    silent.call("run/0/0")
    silent.run()
    assert (len(silent.answers), silent.dead()) == (1, [])


# --- trying again, in virtual time


def test_a_429_with_a_hint_is_tried_again_after_the_hint():
    stage = CallStage(Provider(fault(ErrorKind.RATE_LIMITED, retry_after=20.0), reply("late")))
    stage.call()
    stage.run()
    assert stage.outcomes() == [("run/0", "late")]
    assert stage.answers[0].payload.attempts == 2
    assert 20.0 <= stage.times["run/0"] < 24.0


def test_while_a_429_blocks_the_domain_other_calls_wait_too():
    stage = CallStage(Provider(fault(ErrorKind.RATE_LIMITED, retry_after=20.0)))
    stage.call("run/0")
    stage.advance(1.0)
    stage.call("run/1")
    stage.advance(18.0)
    assert stage.answers == []
    stage.run()
    assert sorted(step for step, _ in stage.outcomes()) == ["run/0", "run/1"]


def test_what_cannot_succeed_is_not_tried_again():
    stage = CallStage(Provider(fault(ErrorKind.AUTHENTICATION)))
    stage.call()
    stage.run()
    assert stage.outcomes() == [("run/0", ErrorKind.AUTHENTICATION)]
    assert stage.provider.performed == ["run/0#1"]


def test_a_call_that_keeps_failing_ends_after_its_retries():
    stage = CallStage(Provider(*[fault(ErrorKind.SERVER_ERROR)] * 9))
    stage.call(max_retries=3)
    stage.run()
    assert stage.outcomes() == [("run/0", ErrorKind.SERVER_ERROR)]
    assert len(stage.provider.performed) == 4


# --- time


def test_a_hung_caller_is_aborted_from_outside_when_the_attempt_is_over():
    stage = CallStage(Provider(latency=inf))
    stage.call(timeout=10.0, max_retries=0)
    stage.run()
    assert stage.provider.aborted == ["run/0#1"]
    assert stage.outcomes() == [("run/0", ErrorKind.TIMEOUT)]
    assert stage.times["run/0"] <= 10.0 * 1.1 + 0.3


def test_a_caller_that_does_not_come_back_from_an_abort_is_lost_and_another_is_hired(monkeypatch):
    stage = CallStage(Provider(latency=inf), callers=1)
    stage.call(timeout=10.0, max_retries=0)
    stage.advance(1.0)
    monkeypatch.setattr(stage.provider.lines["caller/main/0"], "abort", lambda _call: None)
    stage.run()
    assert stage.outcomes() == [("run/0", ErrorKind.TIMEOUT)]
    assert stage.dead() == [("caller/main/0", "the caller did not come back from its call")]
    stage.provider.latency = 0.0
    stage.call("run/1")
    stage.run()
    assert stage.outcomes()[1:] == [("run/1", "yes")]
    assert "caller/main/1" in stage.provider.lines


def test_a_lost_caller_that_comes_back_too_late_is_dismissed(monkeypatch):
    stage = CallStage(Provider(latency=inf), callers=1)
    stage.call(timeout=10.0, max_retries=1)
    stage.advance(1.0)
    monkeypatch.setattr(stage.provider.lines["caller/main/0"], "abort", lambda _call: None)
    stage.advance(16.0)
    stage.tell("caller/main/0", "hung up")
    stage.advance(0.0)
    assert "caller/main/0" not in stage.directory.mailboxes
    assert list(stage.provider.lines) == ["caller/main/1"]


def test_the_deadline_ends_a_call_that_waits_for_the_limit():
    stage = CallStage(Provider(), requests_per_minute=1, burst=1)
    stage.call("run/0")
    stage.call("run/1", deadline=5.0)
    stage.run(30.0)
    assert stage.outcomes() == [("run/0", "yes"), ("run/1", ErrorKind.DEADLINE)]
    assert stage.times["run/1"] == pytest.approx(5.0, abs=0.1)


def test_a_cancelled_call_is_hung_up_and_not_answered():
    stage = CallStage(Provider(latency=inf))
    stage.call()
    stage.advance(1.0)
    stage.tell(ids.GATEWAY, CancelStep(step="run/0"))
    stage.advance(1.0)
    assert stage.provider.aborted == ["run/0#1"]
    assert (stage.answers, stage.in_flight()) == ([], 0)
    assert not stage.directory.mailboxes[ids.GATEWAY].held


# --- a caller that fails


def test_a_caller_that_crashes_is_restarted_and_its_call_is_made_again():
    stage = CallStage(Provider(RuntimeError("a bug of ours"), reply("second")))
    stage.call()
    stage.run()
    assert stage.outcomes() == [("run/0", "second")]
    assert stage.failures == ["caller/main/0: restarted after 0 s"]
    assert stage.in_flight() == 0


def test_a_caller_that_the_supervisor_gives_up_leaves_its_seat_to_another():
    stage = CallStage(Provider(*[RuntimeError("a bug of ours")] * 6), callers=1)
    stage.call(max_retries=20)
    stage.run()
    assert stage.failures[-1] == "caller/main/0: stopped: it failed too often"
    assert stage.outcomes() == [("run/0", "yes")]
    assert stage.collapsed == []


# --- a limiter that fails


def test_after_a_crash_of_the_limiter_held_leases_are_booked_again_and_waiting_ones_asked_for_again():
    stage = CallStage(Provider(latency=10.0), concurrency=2)
    for n in range(5):
        stage.call(f"run/{n}")
    stage.advance(1.0)
    assert stage.in_flight() == 2
    stage.crash(ids.LIMITER)
    stage.advance(1.0)
    assert (stage.lives, stage.in_flight()) == (2, 2)
    stage.run()
    assert len(stage.answers) == 5
    assert stage.in_flight() == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_limiter_that_crashes_again_and_again_never_grants_more_than_the_limit(seed):
    stage = CallStage(Provider(latency=3.0), seed=seed, concurrency=3)
    for n in range(12):
        stage.call(f"run/{n}", timeout=100.0)
    most = 0
    for beat in range(40):
        if beat % 12 == 5:
            stage.crash(ids.LIMITER)
        stage.advance(0.5)
        most = max(most, sum(1 for c in stage.provider.lines if getattr(stage.actor(c), "busy", None)))
    stage.run()
    assert len(stage.answers) == 12
    assert most == 3


def test_a_request_that_the_limiter_fails_on_fails_its_call_and_no_other(monkeypatch):
    from protocol.limiter import Limiter

    sound = Limiter.on_acquire

    def on_acquire(self, request, now):
        if request.lease.startswith("bad"):
            raise ZeroDivisionError
        return sound(self, request, now)

    monkeypatch.setattr(Limiter, "on_acquire", on_acquire)
    stage = CallStage(Provider())
    stage.call("good/0")
    stage.call("bad/0")
    stage.call("good/1")
    stage.run()
    assert sorted(stage.outcomes()) == [("bad/0", ErrorKind.INTERNAL), ("good/0", "yes"), ("good/1", "yes")]
    assert stage.collapsed == []


# --- a gateway that fails


def test_after_a_crash_of_the_gateway_calls_under_way_are_hung_up_and_asked_again():
    stage = CallStage(Provider(latency=10.0), concurrency=2, callers=3)
    for n in range(4):
        stage.call(f"run/{n}")
    stage.advance(1.0)
    stage.crash(ids.GATEWAY)
    assert sorted(stage.provider.hung_up) == ["caller/main/0", "caller/main/1"]
    stage.run()
    assert sorted(stage.outcomes()) == [(f"run/{n}", "yes") for n in range(4)]
    assert all(answer.payload.attempts == 1 for answer in stage.answers)


def test_the_limiter_takes_the_leases_of_a_dead_gateway_back():
    stage = CallStage(Provider(latency=10.0), concurrency=2)
    stage.call("run/0")
    stage.call("run/1")
    stage.advance(1.0)
    stage.crash(ids.GATEWAY)
    stage.advance(1.0)
    assert stage.in_flight() == 2
    stage.run()
    assert (len(stage.answers), stage.in_flight()) == (2, 0)


@pytest.mark.parametrize("limiter_too", [False, True])
def test_what_a_gateway_held_is_free_again_when_it_is_replaced_without_a_failure(limiter_too):
    stage = CallStage(Provider(latency=10.0), concurrency=1)
    stage.call()
    stage.advance(1.0)
    if limiter_too:  # the gateway names its lease, and is gone before the limiter reads that
        stage.tell(ids.LIMITER, Restart())
        while not stage.actor(ids.LIMITER).actor_inbox.data:
            stage.dispatcher.step()
        stage.directory.mailboxes[ids.LIMITER].suspend()
    stage.tell(ids.GATEWAY, Restart())
    stage.dispatcher.settle()
    stage.directory.mailboxes[ids.LIMITER].resume()
    stage.run()
    assert (stage.outcomes(), stage.in_flight()) == ([("run/0", "yes")], 0)


def test_a_new_gateway_adopts_the_callers_and_hires_none_twice():
    stage = CallStage(Provider(latency=10.0), callers=3)
    for n in range(3):
        stage.call(f"run/{n}")
    stage.advance(1.0)
    stage.crash(ids.GATEWAY)
    stage.call("run/3")
    stage.run()
    assert len(stage.provider.lines) == 3
    assert len(stage.answers) == 4
    assert stage.failures == ["gateway: restarted after 0 s"]


def test_what_a_caller_reports_of_an_earlier_gateways_call_is_not_taken_for_the_new_one():
    stage = CallStage(Provider(latency=10.0), callers=1)
    stage.call(max_retries=0)
    stage.advance(1.0)
    stage.crash(ids.GATEWAY)
    stage.run()
    assert stage.outcomes() == [("run/0", "yes")]


def test_a_caller_that_fails_before_it_could_say_that_it_is_free_is_asked_again(monkeypatch):
    monkeypatch.setattr("tests.actors.provider.FakeLine.hang_up", lambda _line: None)  # it stays deaf
    stage = CallStage(Provider(latency=10.0), callers=1)
    stage.call()
    stage.advance(1.0)
    stage.crash(ids.GATEWAY)
    assert len(stage.actor("caller/main/0").mail) == 2  # what it was asked goes with the instance
    stage.crash("caller/main/0")
    stage.run()
    assert stage.outcomes() == [("run/0", "yes")]
    assert stage.now < 60.0
    assert stage.actor(ids.GATEWAY)._others == set()


def test_a_call_that_was_cancelled_while_the_gateway_was_down_is_not_asked_again():
    stage = CallStage(Provider(latency=10.0))
    stage.call()
    stage.advance(1.0)
    stage.actor(ids.GATEWAY).on_receive = None
    stage.tell(ids.GATEWAY, "anything")
    stage.tell(ids.GATEWAY, CancelStep(step="run/0"))
    stage.run()
    assert (stage.answers, stage.provider.performed) == ([], [])


@pytest.mark.parametrize("method", ["on_call", "on_granted", "on_performed", "on_timer"])
def test_a_call_that_crashes_the_machine_is_answered_as_failed_and_the_others_go_on(monkeypatch, method):
    sound = getattr(Decisions, method)

    def faulty(self, message, *rest):
        if "bad/0" in str(message):
            raise ZeroDivisionError
        return sound(self, message, *rest)

    monkeypatch.setattr(Decisions, method, faulty)
    stage = CallStage(Provider(*[fault(ErrorKind.SERVER_ERROR)] * 3, latency=1.0))
    for step in ("good/0", "bad/0", "good/1"):
        stage.call(step, max_retries=9)
    stage.run()
    assert sorted(stage.outcomes()) == [("bad/0", ErrorKind.INTERNAL), ("good/0", "yes"), ("good/1", "yes")]
    assert stage.collapsed == []
    assert not stage.directory.mailboxes[ids.GATEWAY].held


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_call_is_answered_though_the_gateway_fails_in_the_turn_that_answers_it(at):
    class Echo(Agent):
        role = "echo"

        async def handle(self, message):
            return (await self.chat(message.content)).text

    kit = ActorTestKit({"echo": "hello"}, faults=[Crash(ids.GATEWAY, at)])
    kit.register(Echo)
    assert kit.ask("echo", "hi").error_kind is ErrorKind.INTERNAL
    kit.expect_idle()


def test_a_gateway_that_is_given_up_is_the_end_of_the_system(monkeypatch):
    def boom(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Decisions, "on_call", boom)
    stage = CallStage(Provider())
    for n in range(6):
        stage.call(f"run/{n}")
    stage.run()
    assert [news.address for news in stage.collapsed] == [ids.GATEWAY]


def test_a_message_nobody_understands_is_a_dead_letter():
    stage = CallStage(Provider())
    stage.tell(ids.GATEWAY, 42)
    stage.run()
    assert stage.dead() == [("gateway", "no use for int")]
