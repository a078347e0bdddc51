"""A whole system in virtual time: real actors, the same trace for the same seed, time as processor and limits say."""

from __future__ import annotations

import msgspec
import pytest

from actors import Agent
from actors.caller import AreYouFree, Free
from actors.directory import ActorSpec, Directory
from actors.fault_plan import Crash, Delay, FaultPlan, Lose, Stall
from actors.simulation import SimulatedDispatcher
from protocol import ids
from protocol.chat import ChatMessage, ChatReply, ChatRequest
from protocol.errors import ConfigError, ErrorKind, TroupeError
from protocol.signals import Perform, Performed, Stop
from protocol.wire.profiles import DEFAULT
from runtime import ActorSystem, Config
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from runtime.simulated_caller import HangUp, SimulatedCaller, SimulatedLine
from runtime.simulated_provider import Dice, Vendor
from runtime.simulation import SimulatedSystem
from runtime.simulation_report import Report, duration, lines, report
from tests.actors.players import Player

TEAM = """
[provider.main]
base_url = "http://127.0.0.1:9/v1"
api_key_env = "NO_SUCH_VARIABLE_IS_READ"
[model.m]
provider = "main"
name = "m"
price = {{ input = 1.0, output = 2.0 }}
[limits.main]
concurrency = 64
{limits}
[team]
plan = "always"
max_parallel = {parallel}
[simulation]
latency = 0.5
per_output_token = 0.0
spread = {spread}
subtasks = 3
window = {window}
cpu_per_message = {message}
cpu_per_call = {call}
{more}
"""
CALLS = 1 + 2 * 3
NO_CODE = "[executor]\nenabled = false"
"""A simulation runs no code."""


def configured(*, limits="", parallel=64, spread=0.0, window=512, message=0.0, call=0.0, more="") -> Config:
    values = {"limits": limits, "parallel": parallel, "spread": spread, "window": window}
    return Config.parse(TEAM.format(**values, message=message, call=call, more=more).encode(), "a test")


def ended(config=None, workflows=3, **options) -> SimulatedSystem:
    system = SimulatedSystem(config or configured(), workflows, **options)
    while system.work(1000):
        pass
    return system


def traced(config=None, workflows=3, seed=1) -> list[bytes]:
    found: list[bytes] = []
    ended(config, workflows, seed=seed, trace=found.append)
    return found


# --- the work


def test_every_workflow_ends_and_makes_the_calls_of_its_team():
    sums = ended(workflows=5).sums
    assert (sums.succeeded, sums.failed, sums.calls, sums.retries) == (5, {}, 5 * CALLS, 0)
    assert len(sums.queue_ms) == 5 * CALLS
    assert sums.cost_usd == pytest.approx((sums.input_tokens + 2 * sums.output_tokens) / 1e6)


def test_more_workflows_than_the_window_are_opened_as_others_end():
    assert ended(configured(window=2), workflows=7).sums.succeeded == 7


def test_no_more_workflows_are_open_than_the_window_holds():
    system, most = SimulatedSystem(configured(window=2), 7), 0
    while system.work(1):
        most = max(most, len(system.sums.open))
    assert (most, system.sums.open) == (2, set())


@pytest.mark.slow
def test_the_outputs_are_those_of_the_same_team_over_http():
    class Kept(list):
        def __call__(self, line: bytes) -> None:
            if b'"RunEnded"' in line[:60] and b'"desk"' in line[:60]:
                self.append(msgspec.json.decode(line)[3]["result"])

    simulated = Kept()
    ended(configured(more="reject = 0.5"), workflows=4, seed=3, trace=simulated)
    with FakeServer(Script(subtasks=3, reject_first_reviews=0.5, seed=3)) as server:
        config = Config.parse(
            TEAM.format(limits="", parallel=64, spread=0.0, window=1, message=0.0, call=0.0, more=NO_CODE)
            .replace("http://127.0.0.1:9/v1", server.url)
            .replace('api_key_env = "NO_SUCH_VARIABLE_IS_READ"', "")
            .encode(),
            "a test",
        )
        with ActorSystem(config) as system:
            real = {}
            for n in range(1, 5):
                task = f"{configured().simulation.task} (nr {n})"
                real[f"sim-{n}"] = system.submit(task, correlation_id=f"sim-{n}").result(timeout=20)
    assert len(simulated) == 4
    for result in simulated:
        other = real[result["correlation_id"]]
        assert result["output"] == other.output
        assert result["accepted"] == list(msgspec.to_builtins(other.accepted))
        for figure in ("llm_calls", "input_tokens", "output_tokens"):
            assert result["summary"][figure] == getattr(other.summary, figure)
        assert result["summary"]["cost_usd"] == pytest.approx(other.summary.cost_usd)


def test_every_message_of_the_system_can_cross_to_another_machine():
    plain, wired = ended(), ended(wire=True)
    assert wired.failures == []
    assert wired.dispatcher.turns == plain.dispatcher.turns
    assert (wired.sums.ended, wired.sums.calls) == (plain.sums.ended, plain.sums.calls)


# --- law 9


def test_law_9_the_same_seed_gives_the_same_trace_and_another_one_another():
    config = configured(spread=0.5)
    assert traced(config, seed=7) == traced(config, seed=7)
    assert traced(config, seed=7) != traced(config, seed=8)


@pytest.mark.parametrize("more", ["jitter = 0.00001", "[simulation.faults]\nslow = 0.1"])
def test_one_latency_that_is_changed_changes_the_trace(more):
    assert traced(configured(more=more)) != traced()


def test_the_trace_has_a_line_for_each_message():
    found: list[bytes] = []
    system = ended(trace=found.append)
    assert len(found) == system.dispatcher.turns


# --- time


def test_without_any_cost_a_workflow_takes_its_three_calls_one_after_the_other():
    sums = ended(workflows=1).sums
    assert sums.ended - sums.began == pytest.approx(3 * 0.5, abs=1e-6)


def test_one_processor_does_all_the_work():
    system = ended(configured(message=0.001, call=0.01), workflows=40)
    calls = 40 * CALLS
    callers = sum(address.startswith("caller/") for address in system.directory.mailboxes)
    busy = calls * 0.01 + callers * 0.005 + (system.dispatcher.turns - 2 * calls - callers) * 0.001
    assert busy > 5.0
    assert busy <= system.dispatcher.now() <= busy + 3 * 0.5


def test_timers_come_due_while_the_processor_is_busy():
    dispatcher = SimulatedDispatcher(None, cost=lambda *_: 400_000)
    directory, log = Directory(dispatcher), []

    def act(actor, message):
        log.append((message, dispatcher.micros))
        if message == "go":
            actor.after(0.5, "timer", key="k")
        if isinstance(message, int) and message < 4:
            actor.tell("a", message + 1)

    directory.spawn(ActorSpec(address="a", factory=lambda: Player(act)))
    directory.send("a", "go")
    directory.send("a", 0)
    assert dispatcher.work(100) is False
    # due at 1.3 s, in the turn that began at 1.2 s: behind what that turn sent
    assert log == [
        ("go", 400_000),
        (0, 800_000),
        (1, 1_200_000),
        (2, 1_600_000),
        ("timer", 2_000_000),
        (3, 2_400_000),
        (4, 2_800_000),
    ]


def test_without_a_cost_a_timer_waits_until_all_mail_is_handled():
    dispatcher = SimulatedDispatcher(None)
    directory, log = Directory(dispatcher), []

    def act(actor, message):
        log.append(message)
        if message == "go":
            actor.after(0.0, "timer", key="k")
        if isinstance(message, int) and message < 2:
            actor.tell("a", message + 1)

    directory.spawn(ActorSpec(address="a", factory=lambda: Player(act)))
    directory.send("a", "go")
    directory.send("a", 0)
    assert dispatcher.work(100) is False
    assert log == ["go", 0, 1, 2, "timer"]


def test_work_stops_after_so_many_turns_and_goes_on_where_it_stood():
    whole, sliced = traced(), []
    system = SimulatedSystem(configured(), 3, seed=1, trace=sliced.append)
    before = system.dispatcher.turns
    assert system.work(10) is True
    assert system.dispatcher.turns == before + 10
    while system.work(7):
        pass
    assert sliced == whole


def test_under_a_rate_limit_nearly_all_of_it_is_used_and_no_call_is_refused():
    system = ended(configured(limits="requests_per_minute = 600\nburst = 5"), workflows=30)
    shown = report(system, 0, None)
    (rate,) = [use for use in shown.limits if use.limit == "requests_per_minute"]
    assert 0.98 <= rate.utilisation <= 1.03
    assert (shown.throttled, shown.retries, shown.binds) == (0, 0, "main requests_per_minute")


def test_a_vendor_that_allows_less_than_we_think_answers_429():
    more = "[simulation.limits.main]\nrequests_per_minute = 300\nburst = 5"
    shown = report(ended(configured(limits="requests_per_minute = 600", more=more), workflows=6), 0, None)
    assert shown.throttled == shown.calls - shown.statuses["200"] > 0
    assert shown.retries > 0
    assert shown.succeeded > 0
    (rate,) = [use for use in shown.limits if use.limit == "requests_per_minute"]
    assert (rate.allowed, rate.enforced) == (600.0, 300.0)


# --- what goes wrong

RECOVERS = (ids.RECORDER, "coder/0", "reviewer/0", "orchestrator/0", "caller/main/0", "workflow/sim-2")


@pytest.mark.parametrize("address", RECOVERS)
@pytest.mark.parametrize("at", range(1, 9))
def test_whoever_crashes_at_whatever_message_every_workflow_succeeds(address, at):
    system = ended(faults=FaultPlan((Crash(address, at),)))
    assert len(system.failures) == len(system.dispatcher.fired)
    assert system.sums.succeeded == 3


@pytest.mark.parametrize("address", [ids.GATEWAY, ids.LIMITER, ids.SUPERVISOR])
@pytest.mark.parametrize("at", [4, 5, 6, 8, 13, 21, 34])  # the supervisor's first three make the team
def test_who_fails_the_call_it_crashed_on_lets_every_workflow_end(address, at):
    system = ended(faults=FaultPlan((Crash(address, at),)))
    assert len(system.failures) == 1
    assert system.sums.over == 3
    assert system.sums.succeeded >= 2


def test_a_caller_that_is_lost_or_stalled_and_timers_that_are_late_cost_time_and_nothing_else():
    plan = FaultPlan((Lose("caller/main/1", 1), Stall("caller/main/0", 2, 3.0), Delay("caller/main/2", 1, 2.0)))
    system = ended(faults=plan)
    assert set(system.dispatcher.fired) == set(plan.faults)
    assert system.sums.succeeded == 3
    assert system.sums.ended > ended().sums.ended


def test_a_system_that_collapses_says_so():
    with pytest.raises(TroupeError, match=r"^the simulated system has collapsed: gateway: lost for good"):
        ended(faults=FaultPlan((Lose(ids.GATEWAY, 3),)))


def test_workflows_that_can_never_end_are_counted():
    system = SimulatedSystem(configured(), 2)
    system.directory.send(ids.DESK, Stop())
    with pytest.raises(TroupeError, match=r"^2 of 2 workflows did not end, and nothing is left to do$"):
        system.work(100_000)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("server_error", "server_error"),
        ("timeout", "timeout"),
        ("truncated", "truncated"),
        ("malformed", "bad_response"),
    ],
)
def test_workflows_whose_calls_all_fail_have_failed_with_that_kind(fault, kind):
    shown = report(ended(configured(more=f"[simulation.faults]\n{fault} = 1.0"), workflows=2), 0, None)
    assert (shown.succeeded, shown.failed, shown.errors) == (0, 2, {kind: 2})
    assert shown.faults == {fault: shown.calls}


def test_an_agent_that_cannot_be_made_is_a_mistake_in_the_configuration():
    role = '[roles.broken]\nagent = "tests.runtime.test_simulation:Broken"\n'
    config = configured(more=role)
    with pytest.raises(ConfigError, match=r"^broken/0 cannot be made: OSError: no"):
        SimulatedSystem(config, 1)


class Broken(Agent):
    role = "broken"

    def __init__(self):
        raise OSError("no")

    async def handle(self, message):
        return ""


# --- the caller


class Phone:
    """A simulated caller and whoever listens to it."""

    def __init__(self, more="", timeout=10.0) -> None:
        self.heard: list = []
        self.dispatcher = SimulatedDispatcher(None)
        self.directory = Directory(self.dispatcher)
        self.vendor = Vendor("main", configured(more=more), 0)
        self.timeout = timeout
        caller = ActorSpec(
            address="caller", factory=lambda: SimulatedCaller(self.vendor, DEFAULT, Dice(0, "caller")), parent="boss"
        )
        self.directory.spawn(ActorSpec(address="boss", factory=lambda: Player(lambda _, m: self.heard.append(m))))
        self.directory.spawn(caller)
        self.line = SimulatedLine(lambda hang_up: self.directory.send("caller", hang_up))

    def call(self, name="a#1"):
        request = ChatRequest(model="m", messages=(ChatMessage(role="user", content="Implement: x"),))
        self.directory.send("caller", Perform(call=name, request=request, timeout=self.timeout, reply_to="boss"))

    def in_flight(self) -> int:
        return self.vendor.gates["main"]._in_flight


def test_a_call_is_reported_when_its_latency_is_over():
    phone = Phone()
    phone.call()
    phone.dispatcher.advance(0.4)
    assert (phone.heard, phone.in_flight()) == ([], 1)
    phone.dispatcher.run()
    (performed,) = phone.heard
    assert isinstance(performed, Performed)
    assert isinstance(performed.outcome, ChatReply)
    assert (performed.call, performed.caller, performed.elapsed_ms) == ("a#1", "caller", 500.0)
    assert phone.in_flight() == 0


def test_a_call_that_takes_too_long_ends_at_its_timeout():
    phone = Phone(timeout=0.2)
    phone.call()
    phone.dispatcher.run()
    (performed,) = phone.heard
    assert (performed.outcome.kind, performed.elapsed_ms) == (ErrorKind.TIMEOUT, 200.0)


def test_what_comes_during_a_call_waits_for_its_end():
    phone = Phone()
    phone.call("a#1")
    phone.directory.send("caller", AreYouFree(reply_to="boss"))
    phone.call("b#1")
    phone.dispatcher.advance(0.4)
    assert phone.heard == []
    phone.dispatcher.run()
    assert [getattr(each, "call", each) for each in phone.heard] == ["a#1", Free(caller="caller"), "b#1"]
    phone.directory.send("caller", AreYouFree(reply_to="boss"))
    phone.dispatcher.settle()
    assert phone.heard[-1] == Free(caller="caller")


def test_a_call_can_be_ended_from_outside_and_only_that_one():
    phone = Phone()
    phone.call("a#1")
    phone.dispatcher.advance(0.1)
    phone.line.abort("another#1")
    phone.dispatcher.settle()
    assert phone.heard == []
    phone.line.abort("a#1")
    phone.dispatcher.settle()
    (performed,) = phone.heard
    assert (performed.outcome.kind, performed.elapsed_ms) == (ErrorKind.TIMEOUT, 100.0)
    phone.line.abort("a#1")
    phone.dispatcher.run()
    assert len(phone.heard) == 1
    assert phone.dispatcher.now() == 0.1


def test_hanging_up_ends_whatever_call_there_is():
    phone = Phone()
    phone.call()
    phone.line.hang_up()
    phone.line.close()
    phone.dispatcher.settle()
    assert [each.outcome.kind for each in phone.heard] == [ErrorKind.TIMEOUT]


def test_a_caller_that_stops_lets_go_of_its_call_and_so_does_one_that_is_replaced():
    for last in (Stop(), None):
        phone = Phone()
        phone.call()
        phone.dispatcher.settle()
        assert phone.in_flight() == 1
        if last is None:
            phone.directory.mailboxes["caller"].actor.replaced()
        else:
            phone.directory.send("caller", last)
        phone.dispatcher.settle()
        assert phone.in_flight() == 0


def test_the_simulated_line_makes_no_calls_itself():
    with pytest.raises(NotImplementedError):
        SimulatedLine(print).call(None, timeout=1.0, call="a#1")
    assert HangUp().call == ""


# --- the report


def test_the_report_names_what_binds():
    assert report(ended(workflows=1), 0, None).binds is None
    few = configured(limits="").limits["main"]
    assert few.concurrency == 64
    narrow = Config.parse(
        TEAM.format(limits="", parallel=64, spread=0.0, window=512, message=0.0, call=0.0, more="")
        .replace("concurrency = 64", "concurrency = 2")
        .encode(),
        "a test",
    )
    shown = report(ended(narrow), 0, "abc")
    (use,) = shown.limits
    assert (use.domain, use.limit, use.allowed, use.enforced) == ("main", "concurrency", 2, None)
    assert use.utilisation > 0.95
    assert use.held_up > 0.8
    assert (shown.binds, shown.trace_sha256) == ("main concurrency", "abc")
    assert shown.queue_s.p50 <= shown.queue_s.p95 <= shown.queue_s.max
    assert shown.queue_s.max > 1.0


def test_waiting_for_the_end_of_429s_can_be_what_binds():
    shown = report(ended(configured(more="[simulation.faults]\nthrottled = 0.3\nhint = 20.0"), workflows=4), 0, None)
    assert shown.binds == "main 429s"
    assert shown.blocked["main"] > 0.5
    assert any("waited for the end of a 429" in line for line in lines(shown))


def test_the_report_reads_like_this():
    text = list(lines(report(ended(configured(limits="requests_per_minute = 600\nburst = 5")), 0, None)))
    assert text[0] == "Workflows:   3: 3 succeeded, 0 failed"
    assert text[1].startswith("Makespan:    2.")
    assert text[2].startswith("Cost:        $0.01 ($0.00")
    assert text[3] == "Calls:       21; 0 answered with 429; 0 retries"
    assert text[-1] == "Binds:       main requests_per_minute"


def test_the_report_of_a_troubled_run_names_its_errors_and_failures():
    config = configured(more="[simulation.faults]\nserver_error = 1.0")
    crashed = ended(config, workflows=1, faults=FaultPlan((Crash("coder/0", 1),)))
    text = "\n".join(lines(report(crashed, 0, None)))
    assert "0 succeeded, 1 failed, 1 server_error" in text
    assert "server_error\n" in text
    assert "Failure:     coder/0: Crashed: message 1 of coder/0, by the fault plan (restarted after 0 s)" in text


def test_without_prices_the_cost_is_unknown():
    config = Config.for_endpoint("http://127.0.0.1:9/v1", "m")
    shown = report(ended(config, workflows=1), 0, None)
    assert shown.cost_usd is None
    assert "Cost:        unknown (no price is configured)" in "\n".join(lines(shown))[:400]


def test_a_report_of_nothing_has_no_figures_to_divide_by():
    shown = report(SimulatedSystem(configured(), 1), 0, None)
    assert isinstance(shown, Report)
    assert (shown.makespan_s, shown.queue_s.max) == (0.0, 0.0)
    assert next(iter(lines(shown))) == "Workflows:   1: 0 succeeded, 0 failed"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "0.00 s"), (59.994, "59.99 s"), (60.0, "1 min 00 s"), (3661.0, "1 h 01 min")]
)
def test_a_duration_as_people_say_it(seconds, words):
    assert duration(seconds) == words
