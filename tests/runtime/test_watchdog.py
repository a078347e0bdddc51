"""The watchdog: a handler that never returns costs its own actor, and nobody else."""

from __future__ import annotations

import pykka
import pytest

from actors.agent import Agent, agent_spec
from actors.directory import ActorSpec
from actors.recorder import Recorder
from actors.supervisor import Register, Supervisor
from protocol import ids
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage
from protocol.signals import ChildFailed, ChildStopped, Stop
from runtime.channel import Channel
from tests.runtime.house import TIMEOUT, House, News

LIMIT = 1.0
"""Seconds a handler may take in these tests; the watchdog's time is the test's own."""


@pytest.fixture
def house():
    house = House()
    yield house
    house.close()


def hangs(gate, done=None):
    """Return a handler that hangs when told to, then goes on as if nothing had happened."""

    def act(actor, message):
        if message != "hang":
            return message
        actor.tell("b", "before")
        gate.hang()
        actor.tell("b", "late")
        if done is not None:
            done.put("returned")
        return "too late"

    return act


@pytest.mark.parametrize("pinned", [False, True])
def test_an_actor_that_hangs_is_replaced_and_the_others_go_on(house, pinned):
    gate = house.gate()
    ref = house.spawn("a", hangs(gate), pinned=pinned, stuck_after=LIMIT)
    other = house.spawn("b", hangs(gate), pinned=pinned)
    ref.tell("hang")
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    news = house.news.next(ChildFailed)
    assert (news.address, news.kind, news.message) == ("a", ErrorKind.STUCK, "str")
    assert news.error == "Timeout: its handler did not return within 1 s"
    assert other.ask("on", timeout=TIMEOUT) == "on"
    assert ref.ask("new", timeout=TIMEOUT) == "new"


def test_the_report_shows_where_the_handler_hangs(house):
    gate = house.gate()
    house.spawn("a", hangs(gate), stuck_after=LIMIT).tell("hang")
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    assert "gate.hang()" in house.news.next(ChildFailed).traceback


@pytest.mark.parametrize("pinned", [False, True])
def test_what_a_stuck_handler_sends_when_it_returns_late_is_discarded(house, pinned):
    gate, done, got = house.gate(), Channel(), Channel()
    ref = house.spawn("a", hangs(gate, done), pinned=pinned, stuck_after=LIMIT)
    house.spawn("b", lambda _actor, message: got.put(message))
    stuck = house.loop("a").thread
    ref.tell("hang")
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    gate.open()
    done.get(timeout=TIMEOUT)
    stuck.join(timeout=TIMEOUT)
    house.directory.send("b", "the end")
    assert got.get(timeout=TIMEOUT) == "the end"


def test_the_mail_behind_a_stuck_message_is_handled_in_order(house):
    gate, got = house.gate(), Channel()
    house.spawn("a", lambda _actor, message: gate.hang() if message == "hang" else got.put(message), stuck_after=LIMIT)
    for message in ("hang", 1, 2, 3):
        house.directory.send("a", message)
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    assert [got.get(timeout=TIMEOUT) for _ in range(3)] == [1, 2, 3]


def test_whoever_asked_a_stuck_actor_is_told(house):
    gate = house.gate()
    future = house.spawn("a", hangs(gate), stuck_after=LIMIT).ask("hang", block=False)
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    with pytest.raises(pykka.Timeout, match="did not return within 1 s"):
        future.get(timeout=TIMEOUT)


def test_timers_of_others_fire_though_the_thread_that_set_them_hangs(house):
    gate, rang = house.gate(), Channel()
    house.spawn("b", lambda _actor, message: rang.put(message), made=lambda actor: actor.after(0.01, "tick", key="k"))
    house.spawn("a", hangs(gate), stuck_after=LIMIT).tell("hang")
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    assert rang.get(timeout=TIMEOUT) == "tick"


def test_a_stuck_thread_is_named_until_it_has_returned(house):
    gate = house.gate()
    thread = house.shared.loop.thread
    house.spawn("a", hangs(gate), stuck_after=LIMIT).tell("hang")
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    named = house.watchdog.stuck
    gate.open()
    thread.join(timeout=TIMEOUT)
    house.pass_time(0.0)
    assert (named, house.watchdog.stuck) == ([thread], [])


def test_a_handler_that_takes_a_while_is_named_in_the_log_once(house):
    gate = house.gate()
    ref = house.spawn("a", hangs(gate), stuck_after=LIMIT)
    future = ref.ask("hang", block=False)
    gate.wait()
    house.pass_time(0.3)
    gate.open()
    assert future.get(timeout=TIMEOUT) == "too late"
    (facts,) = house.slow
    assert (*facts[:2], round(facts[2], 3)) == ("a", "str", 0.1)


def test_a_handler_that_may_block_is_left_alone(house):
    gate = house.gate()
    future = house.spawn("a", hangs(gate), pinned=True, stuck_after=None).ask("hang", block=False)
    gate.wait()
    house.pass_time(60.0)
    gate.open()
    assert (future.get(timeout=TIMEOUT), house.slow, house.watchdog.stuck) == ("too late", [], [])


def test_only_the_turn_that_was_seen_is_taken_over_never_the_next(house):
    gates = {"first": house.gate(), "second": house.gate()}
    ref = house.spawn("a", lambda _actor, message: gates[message].hang() or message, stuck_after=LIMIT)
    first, second = ref.ask("first", block=False), ref.ask("second", block=False)
    gates["first"].wait()
    house.pass_time(LIMIT - 0.1)
    gates["first"].open()
    gates["second"].wait()
    house.pass_time(LIMIT - 0.1)
    gates["second"].open()
    assert (first.get(timeout=TIMEOUT), second.get(timeout=TIMEOUT)) == ("first", "second")


def test_a_turn_that_ends_before_the_watchdog_takes_it_is_not_taken(house):
    gate = house.gate()
    ref = house.spawn("a", hangs(gate), stuck_after=LIMIT)
    loop = house.shared.loop
    future = ref.ask("hang", block=False)
    gate.wait()
    (turn,) = loop.running
    gate.open()
    future.get(timeout=TIMEOUT)
    house.watchdog._take_over(house.shared, loop, turn, LIMIT)
    assert (house.shared.loop, house.watchdog.stuck) == (loop, [])


def test_time_in_which_the_watchdog_could_not_look_is_not_held_against_a_handler(house):
    gate = house.gate()
    future = house.spawn("a", hangs(gate), stuck_after=LIMIT).ask("hang", block=False)
    gate.wait()
    house.watchdog.look(0.0)
    house.watchdog.look(3600.0)
    gate.open()
    assert future.get(timeout=TIMEOUT) == "too late"


@pytest.mark.parametrize("pinned", [False, True])
def test_an_actor_that_hangs_in_its_closing_hook_leaves_without_it(house, pinned):
    gate = house.gate()
    ref = house.spawn("a", lambda *_: None, lost=lambda _actor: gate.hang(), pinned=pinned, stuck_after=LIMIT)
    house.directory.send("a", Stop())
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    house.news.next(ChildStopped)
    assert (ref.is_alive(), "a" in house.directory.mailboxes) == (False, False)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_setup_that_hangs_at_a_restart_is_one_more_failure(house, pinned):
    gate, lives = house.gate(), []

    def made(actor):
        lives.append(actor)
        if len(lives) == 2:
            gate.hang()

    def act(_actor, message):
        if message == "bad":
            raise ValueError(message)
        return message

    ref = house.spawn("a", act, made=made, pinned=pinned, stuck_after=LIMIT)
    ref.tell("bad")
    gate.wait()
    house.pass_time(LIMIT + 0.1)
    assert ref.ask("well", timeout=TIMEOUT) == "well"
    assert len(lives) == 3


def test_two_actors_of_one_loop_may_hang_one_after_the_other(house):
    gates = [house.gate(), house.gate()]
    refs = [house.spawn(f"a{n}", hangs(gate), stuck_after=LIMIT) for n, gate in enumerate(gates)]
    house.spawn("b", lambda *_: None)
    for ref, gate in zip(refs, gates, strict=True):
        ref.tell("hang")
        gate.wait()
        house.pass_time(LIMIT + 0.1)
    assert [ref.ask(1, timeout=TIMEOUT) for ref in refs] == [1, 1]


def test_a_look_that_fails_does_not_end_the_watch(house, monkeypatch):
    def broken(_now):
        raise OSError("no")

    monkeypatch.setattr(house.watchdog, "look", broken)
    house.watchdog._look_safely()
    assert house.directory.dead[-1].reason == "it could not look: OSError: no"


class Hanger(Agent):
    """Hangs in the conversation that says so; answers the others."""

    role = "hanger"
    gate = None

    async def handle(self, message):
        if message.content == "hang":
            self.gate.hang()
        return message.content


def test_the_conversation_that_hung_fails_as_stuck_and_the_others_are_answered(house):
    answers = News()
    gate = house.gate()
    hanger = type("Hanger", (Hanger,), {"gate": gate})
    for address, factory in ((ids.SUPERVISOR, lambda: Supervisor({})), (ids.RECORDER, Recorder)):
        house.directory.spawn(ActorSpec(address=address, factory=factory))
    house.spawn("asker", lambda _actor, answer: answers.put(answer))
    house.directory.send(ids.SUPERVISOR, Register(role="hanger", specs=(agent_spec(hanger, "hanger", 0),)))
    for n, content in enumerate(("hang", "fine")):
        house.directory.send(
            ids.SUPERVISOR,
            AgentMessage(message_id=f"run/{n}", sender="asker", recipient="hanger", content=content, reply_to="asker"),
        )
    gate.wait()
    house.pass_time(5.1)
    ends = {answer.step: answer.payload for answer in (answers.next(), answers.next())}
    assert (ends["run/0"].success, ends["run/0"].error_kind) == (False, ErrorKind.STUCK)
    assert (ends["run/1"].success, ends["run/1"].result) == (True, "fine")


@pytest.mark.slow
def test_the_watchdog_s_own_thread_takes_over_in_real_time(house):
    gate = house.gate()
    house.watchdog.start()
    ref = house.spawn("a", hangs(gate), stuck_after=0.2)
    ref.tell("hang")
    assert house.news.next(ChildFailed).kind is ErrorKind.STUCK
    assert ref.ask(1, timeout=TIMEOUT) == 1
    house.watchdog.stop()
    house.watchdog.thread.join(timeout=TIMEOUT)
    assert house.watchdog.thread.is_alive() is False
