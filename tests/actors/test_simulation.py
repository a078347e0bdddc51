"""The simulated dispatcher: the same seed gives the same turns, time is virtual and moves only when nothing is left."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from actors import TeamWorkflow, Workflow
from actors.coder import Coder
from actors.directory import Directory
from actors.orchestrator import Orchestrator
from actors.reviewer import Reviewer
from actors.simulation import EPOCH, MICROS, SimulatedDispatcher
from actors.testing import ActorTestKit
from protocol import ids
from protocol.codec import NotCodable
from protocol.plan import Plan, Review
from protocol.signals import ChildFailed
from tests.actors.players import Stage


def passes_on(stage, log, breath: int = 40):
    """Return an act that writes down who got what, and passes it on to two others while there is breath."""

    def act(actor, message):
        log.append((actor.address, message))
        if len(log) < breath:
            for n in (1, 2):
                actor.tell(f"a{(message + n) % 4}", message + n)

    for n in range(4):
        stage.spawn(f"a{n}", act)


def trace(seed) -> list:
    stage, log = Stage(seed), []
    passes_on(stage, log)
    stage.tell("a0", 0)
    return log


@given(st.integers(0, 2**64))
def test_law_9_the_same_seed_gives_the_same_turns(seed):
    assert trace(seed) == trace(seed)


def test_other_seeds_give_other_orders_of_the_same_mail_and_none_the_order_of_sending():
    assert len({tuple(trace(seed)) for seed in range(20)}) > 15
    stage = Stage(None)
    stage.spawn("a")
    stage.tell("a", *range(50))
    assert stage.log == list(range(50))


def test_two_that_answer_each_other_for_ever_are_found_out():
    stage = Stage()
    for name, other in (("a", "b"), ("b", "a")):
        stage.spawn(name, lambda actor, message, other=other: actor.tell(other, message))
    stage.directory.send("a", "ball")
    with pytest.raises(RuntimeError, match=r"no end after 100 messages at 0\.000000 s"):
        stage.dispatcher.settle(turns=100)


# --- time


def alarm(stage, *seconds):
    """Spawn an actor that sets a timer for each of *seconds* and writes down when it fires."""

    def act(actor, message):
        stage.log.append((message, stage.dispatcher.now()))

    def made(actor):
        for each in seconds:
            actor.after(each, f"after {each}", key=str(each))

    stage.spawn("alarm", act, made=made)


def test_time_stands_still_while_mail_is_handled():
    stage = Stage()
    alarm(stage, 5.0)
    stage.dispatcher.settle()
    assert (stage.log, stage.dispatcher.now()) == ([], 0.0)


def test_timers_fire_in_order_at_their_time():
    stage = Stage()
    alarm(stage, 3.0, 1.0, 2.0)
    stage.dispatcher.advance(2.5)
    assert stage.log == [("after 1.0", 1.0), ("after 2.0", 2.0)]
    assert stage.dispatcher.now() == 2.5
    assert stage.dispatcher.wall() == EPOCH + 2.5
    stage.dispatcher.advance(0.5)
    assert stage.log[-1] == ("after 3.0", 3.0)


def test_a_timer_of_no_time_at_all_fires_at_once_and_time_does_not_go_back():
    stage = Stage()
    alarm(stage, 0.0, -1.0)
    stage.dispatcher.run()
    assert sorted(stage.log) == [("after -1.0", 0.0), ("after 0.0", 0.0)]


def test_a_timer_that_was_set_again_or_cancelled_moves_no_clock():
    stage = Stage()

    def made(actor):
        actor.after(5.0, "old", key="k")
        actor.after(7.0, "new", key="k")
        actor.after(1.0, "never", key="gone")
        actor.cancel_timer("gone")

    stage.spawn("a", made=made)
    stage.dispatcher.settle()
    assert stage.dispatcher.next_timer() == 7.0
    stage.dispatcher.run()
    assert (stage.log, stage.dispatcher.now()) == (["new"], 7.0)
    assert stage.dispatcher.next_timer() is None


def test_to_run_skips_idle_time_up_to_a_bound():
    stage = Stage()
    alarm(stage, 10.0, 1000.0)
    stage.dispatcher.run(until=500.0)
    assert (stage.log, stage.dispatcher.now()) == ([("after 10.0", 10.0)], 10.0)


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20))
def test_time_is_kept_in_whole_microseconds(seconds):
    stage = Stage()
    alarm(stage, *seconds)
    stage.dispatcher.run()
    assert [at for _, at in stage.log] == sorted(round(each * MICROS) / MICROS for each in dict.fromkeys(seconds))


# --- wire: as if every receiver were on another machine


class Note(Struct, frozen=True, kw_only=True, tag=True):
    text: str
    anything: object = None


class Wired(Stage):
    def __init__(self) -> None:
        super().__init__(None)
        self.dispatcher = SimulatedDispatcher(None, wire=True)
        boss = self.mailbox("boss").spec
        self.directory = Directory(self.dispatcher)
        self.directory.spawn(boss)

    def says(self, *messages) -> None:
        """Let an actor send *messages* to ``b`` in one turn."""
        self.spawn("b")
        self.spawn("a", lambda actor, _: [actor.tell("b", message) for message in messages])
        self.tell("a", "go")


def test_with_wire_the_receiver_gets_a_message_of_its_own():
    stage, sent = Wired(), Note(text="t", anything={"list": [1]})
    stage.says(sent, "text", 7)
    assert stage.log == [sent, "text", 7]
    assert stage.log[0].anything is not sent.anything


def test_with_wire_what_is_declared_as_anything_arrives_as_json_has_it():
    stage = Wired()
    stage.says(Note(text="t", anything=(1, Note(text="inner"))))
    assert stage.log == [Note(text="t", anything=[1, {"type": "Note", "text": "inner", "anything": None}])]


def test_with_wire_a_message_that_cannot_cross_fails_its_senders_turn_and_nothing_of_it_leaves():
    stage = Wired()
    stage.says(Note(text="one"), Note(text="two", anything=print))
    assert stage.log == []
    failed = stage.heard(ChildFailed)
    assert [news.address for news in failed] == ["a"]
    assert failed[0].error.startswith("NotCodable: Note cannot be sent to another machine: Encoding objects of type")


def test_without_wire_the_same_message_arrives():
    stage, sent = Stage(), Note(text="t", anything=print)
    stage.spawn("b")
    stage.tell("b", sent)
    assert stage.log[0] is sent
    assert stage.dispatcher.across(sent) is sent


def test_with_wire_what_comes_from_outside_can_be_tried_before_it_is_sent():
    with pytest.raises(NotCodable, match=r"^Note cannot be sent to another machine"):
        Wired().dispatcher.across(Note(text="t", anything=print))


def test_with_wire_a_stop_that_an_actor_sends_itself_is_no_message():
    stage = Wired()
    stage.spawn("a", lambda actor, _: actor.stop())
    stage.tell("a", "go")
    assert "a" not in stage.directory.mailboxes


def team(seed=1, workflow=TeamWorkflow, **options) -> tuple[ActorTestKit, str]:
    """Run a team with one rejected draft on a kit whose dispatcher is made with *options*."""
    reviews = [Review(issues=("bad",), score=2, approved=False)] + [Review(issues=(), score=9, approved=True)] * 3
    script = {"orchestrator": Plan(subtasks=("a", "b")), "coder": lambda _: "code", "reviewer": reviews}
    kit = ActorTestKit(script, stage=SimulatedDispatcher(seed, **options))
    for agent in (Orchestrator, Coder, Reviewer):
        kit.register(agent)
    output = kit.run(workflow, "Write a client, a server, tests, docs and a parser with retries.", run="run").output
    return kit, output


def test_a_whole_team_works_across_the_wire():
    _, plain = team()
    kit, wired = team(wire=True)
    assert wired == plain
    assert kit.failures == []
    assert plain.count("code") >= 2


class Blocking(Workflow):
    async def run(self, task):
        return await self.call(len, task)


def test_functions_for_the_workers_stay_in_their_process():
    kit, output = team(workflow=Blocking, wire=True)
    assert (output, kit.failures) == ("64", [])


# --- the trace


def traced(seed=1) -> list[bytes]:
    lines: list[bytes] = []
    team(seed, trace=lines.append)
    return lines


def test_the_trace_has_a_line_of_json_for_each_delivered_message():
    lines: list[bytes] = []
    kit, _ = team(trace=lines.append)
    assert len(lines) == kit.dispatcher.turns
    decoded = [msgspec.json.decode(line) for line in lines]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert {receiver for _, receiver, _, _ in decoded} >= {ids.SUPERVISOR, ids.RECORDER, "coder/0", "workflow/run"}
    assert [name for _, receiver, name, _ in decoded if receiver == "workflow/run"][:2] == ["Begin", "Recalled"]


def test_law_9_the_same_seed_gives_the_same_trace_and_another_seed_another_one():
    assert traced(1) == traced(1)
    assert traced(1) != traced(2)


def test_a_trace_tells_a_timer_from_a_message_and_holds_the_virtual_time():
    lines: list[bytes] = []
    stage = Stage()
    stage.dispatcher = SimulatedDispatcher(trace=lines.append)
    stage.directory = Directory(stage.dispatcher)
    alarm(stage, 1.5)
    stage.dispatcher.run()
    assert lines[-1] == b'[1500000,"alarm","str timer 1.5","after 1.5"]\n'


def test_what_depends_on_the_process_does_not_stand_in_a_trace():
    lines: list[bytes] = []
    stage = Stage(None)
    stage.dispatcher = SimulatedDispatcher(None, trace=lines.append)
    boss = stage.mailbox("boss").spec
    stage.directory = Directory(stage.dispatcher)
    stage.directory.spawn(boss)
    dear = object()
    stage.spawn("a", lambda _, message: (_ for _ in ()).throw(ValueError(f"about {dear!r}")))
    stage.tell("a", {"set": {"b", "a"}, "function": print, "dear": dear, "text": "\ud800"})
    stage.tell("a", {"z": {"b", "a"}, "function": print, "dear": dear})
    text = b"".join(lines)
    assert b'[0,"\'a\'","\'dict\'","<UnicodeEncodeError>"]' in text
    assert b'{"dear":"<object>","function":"<builtin_function_or_method>","z":["a","b"]}' in text
    assert b'"error":"ValueError: about <object object at 0x>"' in text
    assert b"Traceback" not in text


SCRIPT = """
import hashlib
from tests.actors.test_simulation import traced
print(hashlib.sha256(b"".join(traced())).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.waits
def test_law_9_a_trace_is_the_same_in_processes_of_other_hash_seeds():
    def digest(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."}
        root = Path(__file__).parents[2]
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, env=environment, cwd=root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert digest("1") == digest("2") == hashlib.sha256(b"".join(traced())).hexdigest()
