"""Fault plans: values that can be printed, replayed and made shorter; each fault strikes when it says and only then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Workflow
from actors.directory import ActorSpec, Directory
from actors.fault_plan import Crash, Delay, FaultPlan, Faults, Lose, Stall
from actors.simulation import SimulatedDispatcher
from actors.testing import ActorTestKit
from actors.worker import CREW
from protocol import ids
from protocol.errors import ErrorKind
from protocol.messages import failed
from protocol.signals import Answer, ChildFailed, ChildStopped, Control, Elapsed, Returned, Stop
from tests.actors.players import Stage

# --- plans are values

NAMES = st.text(min_size=1, max_size=8)
AT = st.integers(1, 1000)
SECONDS = st.floats(0.0, 1e6)
FAULTS = st.one_of(
    st.builds(Crash, NAMES, AT),
    st.builds(Lose, NAMES, AT),
    st.builds(Stall, NAMES, AT, SECONDS),
    st.builds(Delay, NAMES, AT, SECONDS),
)
PLANS = st.builds(FaultPlan, st.lists(FAULTS, max_size=6).map(tuple))


@given(PLANS)
def test_a_plan_is_the_same_after_it_was_printed_and_read(plan):
    assert FaultPlan.decode(plan.encode()) == plan
    assert "\n" not in plan.encode()


def test_a_plan_reads_like_this():
    plan = FaultPlan((Crash("gateway", 3), Stall("coder/0", 1, 2.5)))
    assert plan.encode() == (
        '{"faults":[{"type":"crash","address":"gateway","at":3},'
        '{"type":"stall","address":"coder/0","at":1,"seconds":2.5}]}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"faults":[{"type":"explode","address":"a","at":1}]}',
        '{"faults":[{"type":"crash","address":"a","at":0}]}',
        '{"faults":[{"type":"crash","address":"a","at":1,"when":2}]}',
        '{"faults":[{"type":"stall","address":"a","at":1,"seconds":-1}]}',
    ],
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        FaultPlan.decode(text)


@given(PLANS.filter(lambda plan: plan.faults), st.data())
def test_a_plan_without_one_fault_has_the_others_in_their_order(plan, data):
    number = data.draw(st.integers(0, len(plan.faults) - 1))
    shorter = list(plan.without(number).faults)
    shorter.insert(number, plan.faults[number])
    assert tuple(shorter) == plan.faults


@given(st.integers(0, 2**64))
def test_a_drawn_plan_is_the_same_for_the_same_seed_and_within_what_was_asked_for(seed):
    options = {"mortal": ["m"], "most": 3, "messages": 7, "seconds": 2.0}
    plan = FaultPlan.drawn(seed, ["a", "b"], **options)
    assert plan == FaultPlan.drawn(seed, ["a", "b"], **options)
    assert 1 <= len(plan.faults) <= 3
    for fault in plan.faults:
        assert fault.address in ({"m"} if isinstance(fault, Lose) else {"a", "b"})
        assert 1 <= fault.at <= 7
        assert 0.0 <= getattr(fault, "seconds", 0.0) <= 2.0


def test_drawn_plans_differ_hold_every_kind_and_lose_nobody_unless_asked_to():
    plans = [FaultPlan.drawn(seed, ["a", "b"], mortal=["a"]) for seed in range(100)]
    assert len(set(plans)) > 90
    assert {type(fault) for plan in plans for fault in plan.faults} == {Crash, Stall, Lose, Delay}
    immortal = [FaultPlan.drawn(seed, ["a"]) for seed in range(100)]
    assert not any(isinstance(fault, Lose) for plan in immortal for fault in plan.faults)


def test_what_seed_1_draws_is_the_same_in_every_version():
    assert FaultPlan.drawn(1, ["a", "b"]).encode() == (
        '{"faults":[{"type":"delay","address":"b","at":11,"seconds":4.954}]}'
    )


# --- plans strike


class Urgent(Control, frozen=True, kw_only=True, tag=True):
    pass


class Faulty(Stage):
    """A stage with a fault plan, delivering in the order of sending."""

    def __init__(self, *faults, **options) -> None:
        super().__init__(None, **options)
        self.dispatcher = SimulatedDispatcher(None, faults=FaultPlan(faults))
        collapsed = self.collapsed = []
        boss = self.mailbox("boss").spec
        self.directory = Directory(self.dispatcher)
        self.directory.on_collapse = collapsed.append
        self.directory.spawn(boss)
        self.dispatcher.settle()


def test_a_crash_comes_after_the_handler_and_lets_nothing_leave():
    stage = Faulty(Crash("a", 2))

    def act(actor, message):
        stage.log.append(message)
        actor.tell("sink", message)

    sink: list = []
    stage.spawn("sink", lambda _, message: sink.append(message))
    stage.spawn("a", act)
    stage.tell("a", "one", "two", "three")
    assert stage.log == ["one", "two", "three"]
    assert sink == ["one", "three"]
    failed = stage.heard(ChildFailed)
    assert [(news.address, news.error) for news in failed] == [("a", "Crashed: message 2 of a, by the fault plan")]
    assert stage.dispatcher.fired == (Crash("a", 2),)


def test_messages_are_counted_over_all_instances_and_without_their_beginnings():
    stage = Faulty(Crash("a", 1), Crash("a", 3))
    stage.spawn("a")
    stage.tell("a", 1, 2, 3, 4)
    assert stage.log == [1, 2, 3, 4]
    assert [news.error.partition(" of")[0] for news in stage.heard(ChildFailed)] == [
        "Crashed: message 1",
        "Crashed: message 3",
    ]


def test_a_handler_that_raises_by_itself_is_not_blamed_on_the_plan():
    stage = Faulty(Crash("a", 1))

    def act(_actor, _message):
        raise OSError("mine")

    stage.spawn("a", act)
    stage.tell("a", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == ["OSError: mine"]


def test_who_asks_through_a_ref_is_told_of_the_crash():
    stage = Faulty(Crash("a", 1))
    future = stage.spawn("a").ask("anything", block=False)
    stage.dispatcher.settle()
    with pytest.raises(Exception, match="message 1 of a, by the fault plan"):
        future.get(timeout=0)


def test_a_timer_that_fires_counts_and_one_that_was_replaced_does_not():
    stage = Faulty(Crash("a", 2))

    def act(actor, message):
        stage.log.append(message)
        if message == "first":
            actor.after(1.0, "stale", key="k")
            actor.after(2.0, "live", key="k")

    stage.spawn("a", act)
    stage.tell("a", "first")
    stage.dispatcher.run()
    assert stage.log == ["first", "live"]
    assert [news.message for news in stage.heard(ChildFailed)] == ["str"]


def test_an_actor_that_is_stalled_handles_nothing_until_its_time_is_over_and_then_all_in_order():
    stage = Faulty(Stall("a", 2, 5.0))
    at = []
    stage.spawn("a", lambda _, message: at.append((message, stage.dispatcher.now())))
    stage.spawn("b")
    stage.tell("a", 1)
    stage.tell("a", 2, 3)
    stage.tell("a", Urgent())
    stage.tell("b", "b goes on")
    stage.dispatcher.advance(4.0)
    assert at == [(1, 0.0)]
    assert stage.log == ["b goes on"]
    assert stage.mailbox("a").queued() == 3
    stage.tell("a", 4)
    stage.dispatcher.run()
    assert at == [(1, 0.0), (Urgent(), 5.0), (2, 5.0), (3, 5.0), (4, 5.0)]


def test_a_stalled_actor_is_stopped_when_it_goes_on():
    stage = Faulty(Stall("a", 1, 5.0))
    stage.spawn("a")
    stage.tell("a", 1)
    stage.tell("a", Stop())
    assert stage.heard(ChildStopped) == []
    stage.dispatcher.run()
    assert len(stage.heard(ChildStopped)) == 1
    assert stage.dead() == [1]  # the stop is urgent and overtook it


def test_one_message_may_stall_and_then_crash():
    stage = Faulty(Crash("a", 1), Stall("a", 1, 2.0))
    stage.spawn("a")
    stage.tell("a", 1)
    assert stage.heard(ChildFailed) == []
    stage.dispatcher.run()
    assert [news.error for news in stage.heard(ChildFailed)] == ["Crashed: message 1 of a, by the fault plan"]
    assert stage.dispatcher.now() == 2.0


def test_who_is_lost_runs_its_closing_hooks_and_never_plays_again():
    stage = Faulty(Lose("a", 2))
    closed = []
    stage.spawn("a", lost=lambda actor: closed.append(actor.address), watchers=("watcher",))
    watched: list = []
    stage.spawn("watcher", lambda _, message: watched.append(message))
    stage.tell("a", 1, 2, 3)
    assert stage.log == [1, 2]
    assert closed == ["a"]
    assert [news.failed for news in stage.heard(ChildStopped)] == [True]
    assert [type(news) for news in watched] == [ChildFailed]
    assert 3 in stage.dead()
    assert "a" not in stage.directory.mailboxes
    assert stage.collapsed == []


def test_mail_that_waits_behind_a_loss_becomes_dead_letters():
    stage = Faulty(Lose("a", 1))
    stage.spawn("a")
    for message in (1, 2, 3):
        stage.directory.send("a", message)
    stage.dispatcher.settle()
    assert stage.log == [1]
    assert [message for message in stage.dead() if isinstance(message, int)] == [2, 3]


def test_without_a_vital_actor_the_system_has_collapsed():
    stage = Faulty(Lose("a", 1))
    stage.spawn("a", vital=True)
    stage.tell("a", 1)
    assert [(news.address, news.error) for news in stage.collapsed] == [
        ("a", "lost for good: message 1 of a, by the fault plan")
    ]


def test_a_root_can_be_lost_too():
    stage = Faulty(Lose("root", 1))
    stage.directory.spawn(ActorSpec(address="root", factory=stage.mailbox("boss").spec.factory))
    stage.tell("root", 1)
    assert "root" not in stage.directory.mailboxes


def test_the_timer_that_is_delayed_fires_later_and_the_others_on_time():
    stage = Faulty(Delay("a", 2, 10.0), Delay("a", 2, 1.0), Delay("b", 1, 100.0))

    def made(actor):
        for each in (1.0, 2.0, 3.0):
            actor.after(each, each, key=str(each))

    at = []
    stage.spawn("a", lambda _, message: at.append((message, stage.dispatcher.now())), made=made)
    stage.dispatcher.run()
    assert at == [(1.0, 1.0), (3.0, 3.0), (2.0, 13.0)]
    assert stage.dispatcher.fired == (Delay("a", 2, 10.0), Delay("a", 2, 1.0))


def test_without_a_plan_nothing_has_struck():
    assert SimulatedDispatcher().fired == ()


@pytest.mark.parametrize("payload", [Elapsed(), failed("run/0", ErrorKind.STUCK, "no")])
def test_a_recorder_that_crashes_when_it_has_recorded_an_answer_delivers_it_all_the_same(payload):
    kit = faulty_kit(Crash(ids.RECORDER, 1))
    probe = kit.probe("probe")
    kit.tell(ids.RECORDER, Answer(to="probe", step="run/0", kind="pause", fingerprint="f", payload=payload))
    kit.settle()
    assert [message.payload for message in probe.received] == [payload]
    assert kit.dispatcher.fired == (Crash(ids.RECORDER, 1),)


def test_a_second_answer_that_crashes_the_recorder_does_not_take_the_place_of_the_first():
    kit = faulty_kit(Crash(ids.RECORDER, 2))
    probe = kit.probe("probe")
    for error in ("first", "second"):
        answer = Answer(to="probe", step="run/0", kind="call", fingerprint="f", payload=Returned(error=error))
        kit.tell(ids.RECORDER, answer)
    kit.settle()
    assert [message.payload.error for message in probe.received] == ["first"]


class Counting(Workflow):
    async def run(self, task):
        return await self.gather(*(self.call(len, task + "x" * n) for n in range(3)))


@pytest.mark.parametrize("at", range(1, 7))
def test_workers_whose_crew_crashes_at_whatever_message_give_each_answer_once(at):
    kit = faulty_kit(Crash(CREW, at))
    assert kit.run(Counting, "task", run="run").output == "[4,5,6]"
    assert kit.dispatcher.fired == (Crash(CREW, at),)
    kit.expect_idle()


def test_a_run_whose_start_crashes_the_supervisor_after_it_was_begun_is_not_refused():
    kit, lines = faulty_kit(Crash(ids.SUPERVISOR, 1)), []
    kit.dispatcher._trace = lines.append
    assert kit.run(Counting, "task", run="run").success
    assert kit.dispatcher.fired == (Crash(ids.SUPERVISOR, 1),)
    assert sum(b'"desk","RunEnded"' in line for line in lines) == 1


def faulty_kit(*faults) -> ActorTestKit:
    kit = ActorTestKit()
    kit.dispatcher._faults = Faults(FaultPlan(faults))
    return kit
