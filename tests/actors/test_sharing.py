"""Calls that are not made, among real actors: one lease, one call, each answer recorded, whatever crashes meanwhile."""

from __future__ import annotations

from random import Random

import pytest

from actors import Agent, Workflow
from actors.testing import ActorTestKit, ModelInfo, Price, ScriptedModel, reply
from protocol import AgentMessage, ids
from protocol.chat import ChatMessage
from protocol.roles import RoleSettings
from protocol.signals import CancelStep, Restart
from tests.actors.provider import CallStage, Provider
from tests.actors.provider import reply as said

SAME = {"messages": (ChatMessage(role="user", content="the same"),), "coalesce": True}
STEPS = [f"run/{n}" for n in range(5)]


def stage_with(*, latency=10.0, seed=None, **limits):
    stage = CallStage(Provider(latency=latency), seed=seed, **limits)
    for step in STEPS:
        stage.call(step, **SAME)
    return stage


def served(stage) -> list[str]:
    return [answer.payload.served for answer in stage.answers]


def test_identical_calls_have_one_lease_and_each_asker_its_recorded_answer():
    stage = stage_with(concurrency=1)
    stage.advance(1.0)
    assert stage.in_flight() == 1
    stage.run()
    assert stage.provider.performed == ["run/0#1"]
    assert stage.outcomes() == [(step, "yes") for step in STEPS]
    assert all(answer.at > 0.0 for answer in stage.answers)
    assert served(stage) == ["", *["shared"] * 4]
    assert sum(answer.payload.cost for answer in stage.answers) == 15
    assert not stage.directory.mailboxes[ids.GATEWAY].held


def test_a_kept_answer_waits_for_no_limit():
    stage = CallStage(Provider(), requests_per_minute=1, burst=1)
    for step in STEPS:
        stage.call(step, messages=SAME["messages"], cache_seconds=60.0)
        stage.advance(0.0)
    assert served(stage) == ["", *["cache"] * 4]
    assert stage.now == 0.0
    stage.call("run/9", messages=SAME["messages"])
    stage.advance(1.0)
    assert len(stage.answers) == 5  # it has not opted in, and waits for the limit


def test_the_callers_failure_is_retried_once_for_all():
    stage = stage_with()
    stage.provider.answers = [RuntimeError("a bug of ours"), said("second")]
    stage.run()
    assert stage.provider.performed == ["run/0#1", "run/0#2"]
    assert stage.outcomes() == [(step, "second") for step in STEPS]


def test_after_a_crash_of_the_gateway_the_askers_are_sent_again_and_share_again():
    stage = stage_with()
    stage.advance(1.0)
    stage.crash(ids.GATEWAY)
    stage.run()
    assert sorted(stage.outcomes()) == [(step, "yes") for step in STEPS]
    assert sorted(served(stage)) == ["", *["shared"] * 4]
    assert len(stage.provider.hung_up) == 1


def test_what_was_kept_dies_with_the_gateways_instance():
    stage = CallStage(Provider())
    stage.call("run/0", cache_seconds=60.0, **SAME)
    stage.run()
    stage.tell(ids.GATEWAY, Restart())
    stage.call("run/1", cache_seconds=60.0, **SAME)
    stage.run()
    assert stage.provider.performed == ["run/0#1", "run/1#1"]


@pytest.mark.parametrize("seed", range(15))
def test_whoever_crashes_or_gives_up_every_other_asker_is_answered_once(seed):
    stage = stage_with(seed=seed, latency=3.0, concurrency=1)
    stage.advance(1.0)
    stage.crash((ids.LIMITER, ids.GATEWAY, "caller/main/0")[seed % 3])
    stage.advance(0.5)
    stage.tell(ids.GATEWAY, CancelStep(step=STEPS[seed % 5]))
    stage.run()
    left = [step for step in STEPS if step != STEPS[seed % 5]]
    assert sorted(answer.step for answer in stage.answers) == left
    assert served(stage).count("") == 1
    assert (stage.in_flight(), stage.collapsed) == (0, [])
    assert not stage.directory.mailboxes[ids.GATEWAY].held


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_through_crashes_cancels_and_deadlines_everybody_is_answered_once_and_nothing_is_left(seed):
    dice = Random(seed)
    stage = CallStage(Provider(latency=3.0), seed=seed, concurrency=dice.choice([1, 2]), callers=2)
    asked, cancelled = [], set()
    for n in range(12):
        step = f"run{n}/0"
        asked.append(step)
        stage.call(
            step,
            messages=(ChatMessage(role="user", content=dice.choice("ab")),),
            coalesce=dice.random() < 0.8,
            cache_seconds=dice.choice([0.0, 0.0, 6.0]),
            priority=dice.choice([0, 1, 2]),
            deadline=dice.choice([None, None, stage.now + 4.0, stage.now + 30.0]),
        )
        stage.advance(dice.random() * 2.0)
        if dice.random() < 0.25:
            stage.crash(dice.choice([ids.LIMITER, ids.GATEWAY, *stage.provider.lines][:3]))
        if dice.random() < 0.3:
            step = dice.choice(asked)
            if step not in {answer.step for answer in stage.answers}:
                cancelled.add(step)
                stage.tell(ids.GATEWAY, CancelStep(step=step))
    stage.run()
    assert sorted(answer.step for answer in stage.answers) == sorted(set(asked) - cancelled)
    paid = [answer for answer in stage.answers if answer.payload.reply and not answer.payload.served]
    assert len(paid) <= len(stage.provider.performed)
    assert (stage.in_flight(), stage.collapsed) == (0, [])
    assert not stage.directory.mailboxes[ids.GATEWAY].held
    machine = stage.actor(ids.GATEWAY)._decide
    assert (machine._calls, machine._sharing._led, machine._sharing._joined) == ({}, {}, {})


# --- seen from a role


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Twice(Workflow):
    async def run(self, task: str) -> str:
        together = await self.gather(*(self.ask("echo", task) for _ in range(3)))
        return " ".join((*together, await self.ask("echo", task)))


PRICED = ModelInfo(key="auto", provider="main", name="m", prices=(Price(input=1000.0, output=1000.0),))


def echoes(**settings) -> ActorTestKit:
    kit = ActorTestKit(
        ScriptedModel({"echo": reply("hi", input_tokens=8, output_tokens=2)}, latency=1.0), models=(PRICED,)
    )
    kit.register(Echo, settings=RoleSettings(**settings))
    return kit


@pytest.mark.parametrize(
    ("settings", "calls", "seconds"),
    [
        ({}, 4, 2.0),
        ({"coalesce": True}, 2, 2.0),
        ({"cache_seconds": 60.0}, 3, 1.0),
        ({"coalesce": True, "cache_seconds": 60.0}, 1, 1.0),
    ],
)
def test_each_switch_shows_in_calls_in_money_and_in_time(settings, calls, seconds):
    kit = echoes(**settings)
    result = kit.run(Twice, "hello")
    assert (result.output, len(kit.model.calls), kit.now) == ("hi hi hi hi", calls, seconds)
    assert (result.summary.llm_calls, result.summary.input_tokens) == (calls, 8 * calls)
    assert result.summary.cost_usd == pytest.approx(calls * 10_000 / 1e9)
    total = result.costs.total
    assert (total.calls, total.served, total.nano_usd, total.serving) == (
        calls, 4 - calls, calls * 10_000, (4 - calls) * 10_000,
    )  # fmt: skip
    kit.expect_idle()


def test_a_task_that_took_no_call_says_so():
    kit = echoes(cache_seconds=60.0)
    kit.ask("echo", "hello")
    result = kit.ask("echo", "hello")
    assert (result.success, result.calls, result.served, result.cost_usd, result.usage.input_tokens) == (
        True, 0, 1, 0.0, 0,
    )  # fmt: skip


def test_a_resumed_run_finds_what_was_shared_in_its_record():
    kit = echoes(coalesce=True)
    run = kit.submit(Twice, "hello")
    kit.advance(1.5)
    kit.restart(f"workflow/{run}")
    assert kit.result(run).output == "hi hi hi hi"
    assert len(kit.model.calls) == 2


def test_the_same_seed_shares_the_same_way():
    def steps(seed):
        kit = ActorTestKit(ScriptedModel({"echo": "hi"}), seed=seed)
        kit.register(Echo, settings=RoleSettings(coalesce=True))
        kit.run(Twice, "hello")
        return kit.sequence(1000)

    assert steps(4) == steps(4)


def test_a_shared_answer_reads_like_any_other_to_another_machine():
    kit = ActorTestKit(ScriptedModel({"echo": "hi"}, latency=1.0), wire=True)
    kit.register(Echo, settings=RoleSettings(coalesce=True, cache_seconds=9.0))
    assert kit.run(Twice, "hello").costs.total.served == 3
