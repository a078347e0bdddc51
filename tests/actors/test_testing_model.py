"""The scripted model: what it says to whom, and how real the rest is: gateway, limiter, retries, deadlines."""

from __future__ import annotations

import pytest

from actors import Agent
from actors.caller import AreYouFree, Free
from actors.scripted_line import HUNG_UP, ScriptedLine
from actors.testing import (
    ActorTestKit,
    Crash,
    DirectWorkflow,
    DomainLimits,
    ModelInfo,
    Price,
    ScriptedModel,
    bad_request,
    connection_lost,
    filtered,
    http_answer,
    http_error,
    malformed,
    overloaded,
    quota_exhausted,
    rate_limited,
    reply,
    server_error,
    slow,
    timeout,
    truncated,
    unauthorized,
)
from protocol import AgentMessage, AgentRole, ErrorKind, RoleSettings, ids
from protocol.chat import ChatRequest, Usage
from protocol.plan import Plan


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Planner(Agent):
    role = "planner"

    async def handle(self, message: AgentMessage) -> Plan:
        return await self.chat(message.content, returns=Plan)


def kit_with(*said, latency=0.0, **options) -> ActorTestKit:
    kit = ActorTestKit(ScriptedModel(list(said) if len(said) > 1 else said[0], latency=latency), **options)
    kit.register(Echo)
    return kit


def submitted(kit, count=1, **options) -> list[str]:
    return [kit.submit(DirectWorkflow, f"task {n}", to="echo", **options) for n in range(count)]


# --- who is told what


def test_a_rule_with_a_condition_goes_before_those_without():
    kit = kit_with("otherwise")
    kit.model.on("echo", "question", when=r"\?$").on("echo", "short", when=lambda call: len(call.text) < 3)
    assert [kit.ask("echo", text).result for text in ("why?", "no", "so it is")] == ["question", "short", "otherwise"]


def test_a_list_that_is_used_up_gives_way_to_the_next_rule():
    kit = ActorTestKit(ScriptedModel({"echo": ["first"]}).on("echo", "ever after"))
    kit.register(Echo)
    assert [kit.ask("echo", "x").result for _ in range(3)] == ["first", "ever after", "ever after"]


def test_answers_without_a_role_are_for_every_role():
    kit = ActorTestKit("to all")
    kit.register(Echo)
    kit.register(Echo, role="other")
    assert (kit.ask("echo", "x").result, kit.ask("other", "x").result) == ("to all", "to all")


def test_a_role_may_be_one_of_the_built_in_ones():
    kit = ActorTestKit({AgentRole.CODER: "code"})
    kit.register(Echo, role="coder")
    assert kit.ask(AgentRole.CODER, "x").result == "code"


@pytest.mark.parametrize("said", [None, 3, {"role": "x"}, ["text", 3], slow(5, 1.0)], ids=repr)
def test_what_no_provider_can_say_is_refused_where_it_is_scripted(said):
    with pytest.raises(TypeError, match="a scripted model answers a str, a struct, a ChatReply or a failure, not"):
        ScriptedModel().on("echo", said)


def test_an_unexpected_call_says_who_asked_what_and_for_whom_there_are_answers():
    kit = ActorTestKit(ScriptedModel({"coder": "x"}).on("reviewer", "y", when="draft"))
    kit.register(Echo)
    expected = r"echo asked \(run-1/0/0/0, attempt 1, 0 s\): hi \(there are answers for: reviewer when draft, coder\)"
    with pytest.raises(AssertionError, match=expected):
        kit.ask("echo", "hi")


def test_an_unexpected_call_fails_whatever_lets_it_happen():
    kit = ActorTestKit()
    kit.register(Echo)
    probe = kit.probe()
    kit.tell("echo/0", AgentMessage(sender="x", recipient="echo", content="hi"))
    with pytest.raises(AssertionError, match="something unexpected: echo asked"):
        probe.expect_nothing()


def test_an_unexpected_call_is_told_once():
    kit = ActorTestKit()
    kit.register(Echo)
    with pytest.raises(AssertionError, match="something unexpected"):
        kit.ask("echo", "hi")
    kit.expect_idle()


def test_an_unexpected_call_that_nobody_was_told_of_fails_at_the_end_of_the_with_block():
    with pytest.raises(AssertionError, match="something unexpected"), ActorTestKit() as kit:  # noqa: PT012 (the exit raises)
        kit.register(Echo)
        kit.tell("echo/0", AgentMessage(sender="x", recipient="echo", content="hi"))
        kit.dispatcher.settle()


def test_an_error_in_the_with_block_is_not_covered_by_an_unexpected_call():
    with pytest.raises(ZeroDivisionError), ActorTestKit() as kit:  # noqa: PT012 (the exit is looked at)
        kit.model.unexpected.append("somebody asked")
        raise ZeroDivisionError


def test_a_function_that_raises_fails_the_test_with_its_own_error():
    def said(call):
        assert call.text == "what is expected"

    kit = kit_with(said)
    with pytest.raises(AssertionError, match="an answer of the scripted model raised AssertionError") as failure:
        kit.ask("echo", "something else")
    assert "assert" in str(failure.value.__cause__)
    assert len(kit.model.calls) == 1


def test_answers_that_are_left_are_told_when_asked_for():
    kit = kit_with("one", "two", "three")
    kit.ask("echo", "x")
    with pytest.raises(AssertionError, match="asked less than expected; answers left: any role: 2 of 3"):
        kit.model.expect_used_up()


def test_a_script_that_is_used_up_or_endless_has_nothing_left():
    model = ScriptedModel(["one"]).on("coder", "for ever")
    kit = ActorTestKit(model)
    kit.register(Echo)
    kit.ask("echo", "x")
    model.expect_used_up()


def test_a_call_tells_what_the_provider_got():
    kit = kit_with(server_error(), "yes")
    kit.register(Echo, role="polite", settings=RoleSettings(system_prompt="Be polite.", temperature=0.5))
    kit.ask("polite", "hi")
    first, second = kit.model.calls
    assert (first.role, first.step, first.text, first.system) == ("polite", "run-1/0/0/0", "hi", "Be polite.")
    assert (first.attempt, second.attempt, first.at) == (1, 2, 0.0)
    assert second.at > 0.0
    assert first.request.temperature == 0.5


def test_a_call_without_a_system_prompt_has_an_empty_one():
    kit = kit_with("yes")
    kit.ask("echo", "hi")
    assert kit.model.calls[0].system == ""


def test_a_reply_is_billed_as_it_says():
    usage = kit_with(reply("x", input_tokens=100, output_tokens=20)).ask("echo", "hi").usage
    assert usage == Usage(input_tokens=100, output_tokens=20)


def test_a_model_with_a_price_costs():
    priced = ModelInfo(key="dear", provider="main", name="dear", prices=(Price(input=1000.0, output=5000.0),))
    kit = ActorTestKit(reply("x", input_tokens=1_000_000, output_tokens=1_000_000), models=[priced])
    kit.register(Echo, settings=RoleSettings(model="dear"))
    assert kit.ask("echo", "hi").cost_usd == 6.0


def test_a_model_that_the_kit_does_not_know_is_refused_as_in_production():
    kit = kit_with("x", models=("cheap", "strong"))
    kit.register(Echo, role="other", settings=RoleSettings(model="dear"))
    assert kit.ask("other", "hi").error == "no model is called 'dear' in the configuration; there are: cheap, strong"


WHOLE = '{"choices": [{"message": {"content": "x"}}]}'


# --- every answer, through the real gateway


FOR_EVER = [
    (rate_limited(), ErrorKind.RATE_LIMITED, 11),
    (rate_limited(retry_after=7), ErrorKind.RATE_LIMITED, 11),
    (rate_limited(retry_after=1000), ErrorKind.RATE_LIMITED, 1),
    (server_error(), ErrorKind.SERVER_ERROR, 4),
    (server_error(502), ErrorKind.SERVER_ERROR, 4),
    (overloaded(), ErrorKind.PROVIDER_OVERLOADED, 4),
    (connection_lost(), ErrorKind.CONNECTION, 4),
    (connection_lost(sent=False), ErrorKind.CONNECTION, 4),
    (timeout(), ErrorKind.TIMEOUT, 4),
    (slow("too late", 31.0), ErrorKind.TIMEOUT, 4),
    (malformed(), ErrorKind.BAD_RESPONSE, 2),
    (bad_request(), ErrorKind.BAD_REQUEST, 1),
    (unauthorized(), ErrorKind.AUTHENTICATION, 1),
    (quota_exhausted(), ErrorKind.QUOTA, 1),
    (http_error(404, "no such model"), ErrorKind.NOT_FOUND, 1),
    (http_answer(200, b'{"choices": []}'), ErrorKind.BAD_RESPONSE, 2),
    (truncated("half a sent"), ErrorKind.TRUNCATED, 1),
    (filtered(), ErrorKind.CONTENT_FILTER, 1),
]


@pytest.mark.parametrize(("said", "kind", "calls"), FOR_EVER)
def test_a_failure_that_stays_is_tried_as_often_as_its_kind_says(said, kind, calls):
    kit = kit_with(said)
    result = kit.ask("echo", "hi")
    assert (result.error_kind, len(kit.model.calls), result.retry_count) == (kind, calls, calls - 1)
    kit.expect_idle()


@pytest.mark.parametrize(
    "said", [said for said, _, calls in FOR_EVER if calls > 1], ids=lambda said: type(said).__name__
)
def test_a_failure_that_passes_is_forgotten(said):
    assert kit_with(said, "at last").ask("echo", "hi").result == "at last"


def test_a_retry_after_is_waited_for_in_virtual_time():
    kit = kit_with(rate_limited(retry_after=60), "yes")
    kit.ask("echo", "hi")
    assert 60.0 <= kit.model.calls[1].at <= 61.0


def test_half_a_minute_of_429s_costs_a_call_none_of_its_retries():
    kit = kit_with(*[rate_limited()] * 6, server_error(), server_error(), server_error(), "yes")
    assert kit.ask("echo", "hi").result == "yes"
    assert kit.model.calls[6].at > 30.0


def test_a_429_without_a_hint_blocks_the_provider_for_a_quarter_of_a_second():
    kit = kit_with(rate_limited(), "yes", "yes")
    runs = [submitted(kit)[0]]
    kit.settle()
    runs += submitted(kit)
    assert [kit.result(run).output for run in runs] == ["yes", "yes"]
    assert [call.at >= 0.25 for call in kit.model.calls] == [False, True, True]


def test_a_reply_in_bytes_is_read_by_the_real_codec():
    body = (
        b'{"choices": [{"message": {"content": "from bytes"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}'
    )
    result = kit_with(http_answer(200, body)).ask("echo", "hi")
    assert (result.result, result.usage) == ("from bytes", Usage(input_tokens=7, output_tokens=3))


@pytest.mark.parametrize("wrong", [lambda: http_error(200), lambda: malformed(WHOLE)])
def test_a_failure_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"is no error|is a whole reply"):
        wrong()


def test_a_provider_that_refuses_a_schema_is_asked_differently():
    kit = ActorTestKit([bad_request("no response_format here", param="response_format"), Plan(subtasks=("a",))])
    kit.register(Planner)
    result = kit.ask("planner", "plan")
    assert (result.result, [call.request.output for call in kit.model.calls]) == (
        '{"subtasks":["a"]}',
        ["json_schema", "json_object"],
    )


def test_a_structured_reply_that_is_cut_is_truncated():
    kit = ActorTestKit(truncated('{"subtasks": ["a'))
    kit.register(Planner)
    assert kit.ask("planner", "plan").error_kind is ErrorKind.TRUNCATED


# --- time, limits, deadlines


def test_a_timeout_lasts_as_long_as_the_role_waits():
    kit = ActorTestKit(timeout())
    kit.register(Echo, settings=RoleSettings(timeout=3.0, max_retries=0))
    result = kit.ask("echo", "hi")
    assert (kit.now, result.execution_time_ms) == (3.0, 3000.0)


def test_a_slow_answer_comes_late_whatever_the_latency_is():
    kit = kit_with(slow("late", 7.0), "soon", latency=1.0)
    assert (kit.ask("echo", "x").result, kit.now) == ("late", 7.0)
    assert (kit.ask("echo", "x").result, kit.now) == ("soon", 8.0)


def test_the_limits_are_those_of_a_provider():
    kit = kit_with("yes", limits=DomainLimits(requests_per_minute=60, burst=1))
    assert all(kit.result(run).success for run in submitted(kit, 4))
    assert [round(call.at, 3) for call in kit.model.calls] == [0.0, 1.0, 2.0, 3.0]


def test_the_limit_of_concurrency_is_kept():
    kit = kit_with("yes", latency=5.0, limits=DomainLimits(concurrency=2))
    assert all(kit.result(run).success for run in submitted(kit, 4))
    assert [call.at for call in kit.model.calls] == [0.0, 0.0, 5.0, 5.0]


def test_a_call_that_can_never_fit_is_refused():
    kit = kit_with("yes", limits=DomainLimits(tokens_per_minute=10))
    assert kit.ask("echo", "word " * 100).error_kind is ErrorKind.NEVER_FITS
    assert kit.model.calls == []


def test_the_deadline_hangs_up_a_call_that_is_under_way():
    kit = kit_with("yes", latency=20.0)
    (run,) = submitted(kit, timeout=10.0)
    kit.advance(9.0)
    assert kit.model.under_way == {"run-1/0/0/0"}
    assert kit.result(run).error_kind is ErrorKind.DEADLINE
    assert (kit.model.under_way, kit.model.cancelled) == (set(), ["run-1/0/0/0"])
    kit.expect_idle()


def test_a_cancel_hangs_up_and_gives_the_lease_back():
    kit = kit_with("yes", latency=20.0, limits=DomainLimits(concurrency=1))
    first, second = submitted(kit, 2)
    kit.advance(1.0)
    kit.cancel(first)
    assert kit.result(second).output == "yes"
    assert (kit.now, kit.model.cancelled) == (21.0, ["run-1/0/0/0"])
    kit.expect_idle()


def test_what_an_asker_who_has_gone_asked_for_is_not_asked():
    kit = kit_with("yes", limits=DomainLimits(requests_per_minute=60, burst=1))
    first, second = submitted(kit, 2)
    kit.settle()
    kit.cancel(second)
    kit.result(first)
    kit.advance(10.0)
    assert len(kit.model.calls) == 1


# --- when the actors of a call fail


def test_a_restarted_gateway_hangs_up_and_calls_again():
    kit = kit_with("yes", latency=5.0)
    (run,) = submitted(kit)
    kit.advance(1.0)
    kit.crash(ids.GATEWAY)
    assert kit.result(run).output == "yes"
    assert [(call.step, call.at) for call in kit.model.calls] == [("run-1/0/0/0", 0.0), ("run-1/0/0/0", 1.0)]
    assert kit.model.cancelled == ["run-1/0/0/0"]
    kit.expect_idle()


def test_a_restarted_limiter_is_told_who_holds_what():
    kit = kit_with("yes", latency=5.0, limits=DomainLimits(concurrency=1))
    runs = submitted(kit, 2)
    kit.advance(1.0)
    kit.crash(ids.LIMITER)
    assert [kit.result(run).output for run in runs] == ["yes", "yes"]
    assert [call.at for call in kit.model.calls] == [0.0, 5.0]
    kit.expect_idle()


def test_a_caller_that_crashes_in_its_call_is_a_lost_connection():
    kit = kit_with("yes", faults=[Crash("caller/main/0", 1)])
    assert kit.ask("echo", "hi").result == "yes"
    assert len(kit.model.calls) == 2
    kit.expect_idle()


def test_a_restarted_limiter_begins_with_nothing_to_give():
    kit = kit_with("yes", limits=DomainLimits(requests_per_minute=60, burst=10))
    kit.ask("echo", "hi")
    kit.crash(ids.LIMITER)
    kit.ask("echo", "hi")
    assert [round(call.at, 3) for call in kit.model.calls] == [0.0, 1.0]


def test_a_caller_in_a_call_is_deaf_until_the_call_has_ended():
    kit = kit_with("yes", latency=5.0)
    probe = kit.probe()
    submitted(kit)
    kit.advance(1.0)
    kit.tell("caller/main/0", AreYouFree(reply_to="probe"))
    probe.expect_nothing(for_=3.9)
    assert probe.expect(Free, within=0.1).caller == "caller/main/0"


def test_a_call_that_was_hung_up_reports_nothing_later():
    kit = kit_with("yes", latency=20.0)
    (run,) = submitted(kit)
    kit.advance(1.0)
    kit.cancel(run)
    kit.advance(60.0)
    assert kit.failures == []
    kit.expect_no_dead_letters()


def test_a_call_whose_asker_has_gone_is_not_made():
    model = ScriptedModel("yes")
    line = ScriptedLine(model, asked=lambda _: None, now=lambda: 0.0, tell=lambda _: None)
    request = ChatRequest(model="m", messages=())
    assert line.call(request, timeout=30.0, call="run/0#1") == (HUNG_UP, 0.0, {})
    assert model.calls == []


@pytest.mark.parametrize("way", ["restart", "crash"])
def test_a_caller_that_goes_while_its_call_is_under_way_leaves_nothing(way):
    kit = kit_with("yes", latency=5.0)
    (run,) = submitted(kit)
    kit.advance(1.0)
    getattr(kit, way)("caller/main/0")
    assert kit.model.under_way == set() if way == "restart" else {"run-1/0/0/0"}
    assert kit.result(run).output == "yes"
    kit.expect_idle()
