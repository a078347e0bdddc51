"""The kit on real threads: the same tests as in the simulation, with bounded waits, and nothing left behind."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from actors import Agent, Coder, Reviewer, TeamWorkflow, Workflow
from actors.base import Actor
from actors.mailbox import Mailbox
from actors.testing import (
    ActorTestKit,
    DirectWorkflow,
    DomainLimits,
    ScriptedModel,
    rate_limited,
    reply,
    server_error,
    slow,
    timeout,
)
from protocol import AgentMessage, ids
from protocol.chat import Usage
from protocol.plan import Review
from protocol.signals import CancelStep
from runtime.channel import Channel
from runtime.loop import STOP
from runtime.testing import ThreadedTestKit, Tokens
from tests.runtime.house import Gate

TIMEOUT = 10.0
BAD, GOOD = Review(issues=("no tests",), score=3, approved=False), Review(score=9, approved=True)


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Foreman(Agent):
    role = "foreman"

    async def handle(self, message: AgentMessage) -> str:
        return await self.ask("mason", f"build {message.content}", timeout=60.0)


class Adder(Agent):
    role = "adder"
    blocking = True

    async def handle(self, message: AgentMessage) -> str:
        return str(await self.call(sum, [1, 2, 3]))


class Ticker(Actor):
    def on_receive(self, message):
        self.tell("probe", message)
        if message < 3:
            self.after(10.0, message + 1, key="tick")


# --- the same scenarios, in both modes


def a_reply(kit):
    kit.model.on("echo", reply("hello", input_tokens=3, output_tokens=1))
    kit.register(Echo)
    result = kit.ask("echo", "hi")
    return result.result, result.usage, kit.now


def a_retry_after_a_429(kit):
    kit.model.on("echo", [rate_limited(retry_after=60), "hello"])
    kit.register(Echo)
    result = kit.ask("echo", "hi")
    return result.result, result.retry_count, kit.now


def a_timeout(kit):
    kit.model.on("echo", timeout())
    kit.register(Echo)
    result = kit.ask("echo", "hi")
    return result.error_kind, len(kit.model.calls), kit.now


def a_server_that_stays_broken(kit):
    kit.model.on("echo", server_error())
    kit.register(Echo)
    return kit.ask("echo", "hi").error_kind, len(kit.model.calls)


def a_crash_that_keeps_the_mail(kit):
    kit.model.on("echo", slow("hello", 5.0))
    kit.register(Echo)
    run = kit.submit(DirectWorkflow, "hi", to="echo")
    kit.advance(1.0)
    kit.crash("echo/0")
    return kit.result(run).output, len(kit.model.calls), kit.failures, kit.now


def a_draft_that_is_revised(kit):
    kit.model.on("coder", ["first", "second"]).on("reviewer", [BAD, GOOD])
    kit.register(Coder)
    kit.register(Reviewer)
    result = kit.run(TeamWorkflow, "write a parser")
    return result.output, result.accepted


def a_probe_in_the_place_of_an_agent(kit):
    kit.register(Foreman)
    mason = kit.probe(role="mason")
    run = kit.submit(DirectWorkflow, "a wall", to="foreman")
    asked = mason.expect(AgentMessage).content
    mason.expect_nothing(for_=59.0)
    mason.reply("bricks")
    return asked, kit.result(run).output, kit.now


def a_probe_that_never_answers(kit):
    kit.register(Foreman)
    mason = kit.probe(role="mason")
    result = kit.ask("foreman", "a wall")
    mason.expect(AgentMessage)
    return mason.expect(CancelStep).step, result.error_kind, kit.now


def timers_in_their_order(kit):
    probe = kit.probe()
    kit.spawn(Ticker, "ticker")
    kit.tell("ticker", 1)
    return [(probe.expect(int, within=10.0), kit.now) for _ in range(3)]


def rates_and_concurrency(kit):
    kit.model.on("echo", slow("hello", 3.0))
    kit.register(Echo)
    runs = [kit.submit(DirectWorkflow, "hi", to="echo") for _ in range(4)]
    outputs = [kit.result(run).output for run in runs]
    return outputs, [round(call.at, 3) for call in kit.model.calls]


def a_cancel_that_gives_everything_back(kit):
    kit.model.on("echo", slow("hello", 30.0))
    kit.register(Echo)
    run = kit.submit(DirectWorkflow, "hi", to="echo")
    kit.advance(1.0)
    kit.cancel(run)
    return kit.result(run).error_kind, kit.model.cancelled, kit.now


def a_gateway_that_crashes(kit):
    kit.model.on("echo", slow("hello", 5.0))
    kit.register(Echo)
    run = kit.submit(DirectWorkflow, "hi", to="echo")
    kit.advance(1.0)
    kit.crash(ids.GATEWAY)
    return kit.result(run).output, [call.at for call in kit.model.calls], kit.now


def a_function_on_a_worker(kit):
    kit.register(Adder)
    return kit.ask("adder", "x").result


def no_timer_that_is_left(kit):
    kit.model.on("echo", [server_error(), "hello"])
    kit.register(Echo)
    kit.ask("echo", "hi")
    return kit.dispatcher.next_timer()


def a_dead_letter(kit):
    kit.tell("nobody", "hello")
    return kit.expect_dead_letter(str, reason="no such").to


SCENARIOS = [
    a_reply,
    a_retry_after_a_429,
    a_timeout,
    a_server_that_stays_broken,
    a_crash_that_keeps_the_mail,
    a_draft_that_is_revised,
    a_probe_in_the_place_of_an_agent,
    a_probe_that_never_answers,
    timers_in_their_order,
    rates_and_concurrency,
    a_cancel_that_gives_everything_back,
    a_gateway_that_crashes,
    a_function_on_a_worker,
    no_timer_that_is_left,
    a_dead_letter,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_test_ends_alike_in_the_simulation_and_on_threads(scenario):
    limits = DomainLimits(requests_per_minute=60, burst=1, concurrency=2)
    ends = []
    for kind in (ActorTestKit, ThreadedTestKit):
        with kind(limits=limits) as kit:
            ends.append(scenario(kit))
            kit.expect_idle()
    simulated, threaded = ends
    assert threaded == simulated


# --- threads


class Where(Agent):
    role = "where"
    blocking = True

    async def handle(self, message: AgentMessage) -> str:
        return threading.current_thread().name


class Shared(Where):
    role = "shared"
    blocking = False


def test_handlers_run_on_the_threads_that_they_have_in_production():
    with ThreadedTestKit() as kit:
        kit.register(Where)
        kit.register(Shared)
        names = [kit.ask(role, "x").result for role in ("where", "shared")]
    assert names == ["troupe-where/0", "troupe-kit"]


def test_blocking_agents_run_at_the_same_time():
    meeting = Channel(), Channel()

    class Meets(Agent):
        role = "meets"
        blocking = True

        async def handle(self, message: AgentMessage) -> str:
            mine = int(message.content)
            meeting[1 - mine].put("here")
            return meeting[mine].get(timeout=TIMEOUT)

    with ThreadedTestKit() as kit:
        kit.register(Meets, instances=2)
        runs = [kit.submit(DirectWorkflow, str(n), to="meets") for n in range(2)]
        assert [kit.result(run).output for run in runs] == ["here", "here"]


class Stuck(Actor):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def on_receive(self, message):
        self.gate.hang()


def with_one_stuck(kit):
    """Return the gate at which an actor of *kit* hangs."""
    gate = Gate()
    kit.spawn(lambda: Stuck(gate), "stuck", pinned=True)
    kit.tell("stuck", "go")
    gate.wait()
    return gate


def test_a_handler_that_does_not_return_is_named_within_the_patience():
    with ThreadedTestKit(patience=0.05) as kit:
        gate = with_one_stuck(kit)
        with pytest.raises(AssertionError, match=r"no end after 0.05 s of real time; still running: stuck with str"):
            kit.settle()
        gate.open()
        kit.settle()


def test_messages_that_have_no_end_are_noticed_within_the_patience():
    class Ping(Actor):
        def on_receive(self, message):
            self.tell(self.address, message)

    kit = ThreadedTestKit(patience=0.05)
    kit.spawn(Ping, "ping")
    kit.tell("ping", "again")
    with pytest.raises(AssertionError, match=r"no end after 0.05 s of real time; (?s:.)*ping -> ping  'again'"):
        kit.settle()
    kit.close()


def test_a_thread_that_does_not_end_is_named_at_the_close():
    kit = ThreadedTestKit(patience=0.05)
    gate = with_one_stuck(kit)
    with pytest.raises(AssertionError, match="these threads did not end: troupe-stuck"):
        kit.close()
    gate.open()


def test_threads_end_though_the_test_has_failed():
    with pytest.raises(ZeroDivisionError), ThreadedTestKit() as kit:  # noqa: PT012 (what is left is looked at)
        kit.register(Where)
        raise ZeroDivisionError
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("troupe-")] == []


def test_a_kit_that_cannot_be_made_leaves_no_thread():
    with pytest.raises(TypeError, match="seed, faults and wire make a simulation"):
        ThreadedTestKit(seed=3)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("troupe-")] == []


def test_an_unexpected_call_fails_a_test_on_threads_too():
    with ThreadedTestKit() as kit:
        kit.register(Echo)
        with pytest.raises(AssertionError, match="something unexpected: echo asked"):
            kit.ask("echo", "hi")


def test_mail_for_an_actor_that_has_gone_leaves_nothing_under_way():
    with ThreadedTestKit() as kit:
        kit.probe()
        ref = kit.spawn(Ticker, "ticker", pinned=True)
        mailbox = kit.directory.mailboxes[ref]
        kit.actor("ticker").actor_ref.stop(block=False)
        kit.settle()
        mailbox.put(1)  # as a sender does that had found the mailbox before it was given back
        kit.settle()
        kit.expect_dead_letter(int, reason="stopped")


def test_tokens_behind_the_end_of_a_loop_are_not_under_way():
    under_way, quiet = deque(), Channel()
    tokens = Tokens(under_way, quiet)
    tokens.put(STOP)
    tokens.put(Mailbox())
    assert tokens.get() is STOP
    assert (len(under_way), quiet.get(timeout=TIMEOUT)) == (0, None)


class Fan(Workflow):
    async def run(self, task: str) -> str:
        return "".join(await self.gather(*(self.ask("echo", str(n)) for n in range(20))))


@pytest.mark.slow
def test_a_hundred_runs_on_threads_end_alike():
    for _ in range(100):
        with ThreadedTestKit(ScriptedModel(lambda call: call.text, latency=1.0)) as kit:
            kit.register(Echo, instances=3)
            result = kit.run(Fan, "x")
            kit.expect_idle()
        assert result.output == "".join(str(n) for n in range(20))
        assert result.summary.llm_calls == 20
        assert sum((r.usage for r in result.results), Usage()) == Usage(input_tokens=20, output_tokens=20)
