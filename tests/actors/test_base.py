"""The base actor: an outbox, timers with keys, failures that stay where they are, asks from outside."""

from __future__ import annotations

from math import inf, nan

import pykka
import pytest

from actors.base import FOREVER, Actor, describe, in_words
from protocol.errors import Cancelled, ErrorKind
from protocol.messages import AgentMessage
from protocol.signals import ChildFailed, ChildRestarted, Restart, Stop
from tests.actors.players import Player, Stage, boom, fails_on


class UnspeakableError(Exception):
    """Cannot be shown."""

    def __str__(self):
        raise OSError("no text")

    __repr__ = __str__


@pytest.fixture
def stage():
    return Stage()


# --- the outbox


def test_what_a_handler_sends_leaves_when_it_returns(stage):
    def act(actor, _message):
        actor.tell("b", "late")
        stage.directory.send("b", "early")

    stage.spawn("a", act)
    stage.spawn("b")
    stage.tell("a", "go")
    assert stage.log == ["early", "late"]


def test_a_handler_that_raises_sends_nothing_and_sets_no_timer(stage):
    def act(actor, message):
        actor.tell("b", message)
        actor.after(1.0, "tick", key="k")
        raise ValueError

    stage.spawn("a", act)
    stage.spawn("b")
    stage.tell("a", "go")
    assert (stage.log, stage.dispatcher.next_timer()) == ([], None)


def test_an_address_that_cannot_be_one_fails_the_turn_and_the_actor_is_restarted(stage):
    stage.spawn("a", lambda actor, message: actor.tell([] if message == "bad" else "b", message))
    stage.spawn("b")
    stage.tell("a", "bad", "good")
    assert [news.error for news in stage.heard(ChildFailed)] == ["TypeError: unhashable type: 'list'"]
    assert stage.log == ["good"]


def test_mail_for_nobody_is_a_dead_letter(stage):
    stage.spawn("a", lambda actor, message: actor.tell("nobody", message))
    stage.tell("a", 1)
    assert [(letter.to, letter.reason, letter.message) for letter in stage.directory.dead] == [
        ("nobody", "no such address", 1)
    ]


# --- timers


def test_a_timer_is_a_message_after_its_seconds(stage):
    stage.spawn("a", made=lambda actor: actor.after(2.5, "tick", key="k"))
    stage.dispatcher.advance(2.4)
    before = list(stage.log)
    stage.dispatcher.advance(0.2)
    assert (before, stage.log) == ([], ["tick"])


def test_a_new_timer_for_a_key_replaces_the_old_one(stage):
    def made(actor):
        actor.after(1.0, "old", key="k")
        actor.after(2.0, "new", key="k")

    stage.spawn("a", made=made)
    stage.dispatcher.settle()
    next_timer = stage.dispatcher.next_timer()
    stage.dispatcher.run()
    assert (next_timer, stage.log) == (2.0, ["new"])


def test_a_cancelled_timer_is_dropped_even_when_it_waits_in_the_mailbox_already(stage):
    def act(actor, message):
        stage.log.append(message)
        actor.cancel_timer("k")

    stage.spawn("a", act, made=lambda actor: actor.after(1.0, "tick", key="k"))
    stage.dispatcher.settle()
    box = stage.mailbox("a")
    box.put("cancel it")
    box.put(box.actor._timers["k"])
    stage.dispatcher.settle()
    assert stage.log == ["cancel it"]


def test_a_timer_of_an_earlier_instance_never_fires_into_the_new_one(stage):
    lives = []

    def made(actor):
        lives.append(actor)
        if len(lives) == 1:
            actor.after(1.0, "stale", key="k")
        else:
            actor.after(2.0, "fresh", key="k")

    stage.spawn("a", fails_on("bad", stage.log), made=made)
    stage.tell("a", "bad")
    stage.dispatcher.run()
    assert stage.log == ["fresh"]


def test_a_timer_that_fired_before_the_restart_is_dropped_by_the_new_instance(stage):
    stage.spawn("a", fails_on("bad", stage.log), made=lambda actor: actor.after(1.0, "tick", key="k"))
    stage.dispatcher.settle()
    old = stage.mailbox("a").actor._timers["k"]
    stage.directory.send("a", "bad")
    stage.tell("a", old)
    assert stage.log == []


@pytest.mark.parametrize("seconds", [nan, inf])
def test_a_timer_takes_no_seconds_that_are_no_number(stage, seconds):
    stage.spawn("a", lambda actor, _message: actor.after(seconds, "tick", key="k"))
    stage.tell("a", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == [
        f"ValueError: timer 'k': {seconds} is no number of seconds"
    ]


@pytest.mark.parametrize("seconds", [0.0, -1.0, -inf])
def test_a_timer_that_is_due_already_fires_at_once(stage, seconds):
    stage.spawn("a", made=lambda actor: actor.after(max(seconds, -1e6), "tick", key="k"))
    stage.dispatcher.advance(0.0)
    assert stage.log == ["tick"]


def test_no_timer_is_set_further_ahead_than_a_clock_can_wait(stage):
    stage.spawn("a", made=lambda actor: actor.after(1e300, "tick", key="k"))
    stage.dispatcher.settle()
    assert stage.dispatcher.next_timer() == FOREVER


# --- failure


def test_a_failure_is_reported_to_the_parent_in_words(stage):
    stage.spawn("a", boom)
    stage.tell("a", AgentMessage(message_id="run/7", sender="s", recipient="a", content="secret"))
    (news,) = stage.heard(ChildFailed)
    assert (news.address, news.kind, news.error, news.message) == (
        "a",
        ErrorKind.INTERNAL,
        "ValueError: boom",
        "AgentMessage run/7",
    )
    assert "in boom" in news.traceback
    assert "secret" not in news.traceback


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), MemoryError(), GeneratorExit(), Cancelled(), RecursionError()]
)
def test_whatever_a_handler_raises_only_its_own_actor_fails(stage, error):
    def act(_actor, _message):
        raise error

    stage.spawn("a", act)
    stage.spawn("b")
    stage.tell("a", 1)
    stage.tell("b", "goes on")
    assert ([news.address for news in stage.heard(ChildFailed)], stage.log) == (["a"], ["goes on"])


def test_an_error_that_cannot_be_shown_is_reported_all_the_same(stage):
    def act(_actor, _message):
        raise UnspeakableError

    stage.spawn("a", act)
    stage.tell("a", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == ["UnspeakableError: (its text cannot be shown)"]


def test_a_failure_that_cannot_be_described_is_reported_all_the_same(stage, monkeypatch):
    def no_memory(*_args):
        raise MemoryError

    stage.spawn("a", boom)
    stage.dispatcher.settle()
    monkeypatch.setattr("actors.base.describe", no_memory)
    stage.tell("a", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == ["MemoryError: "]


def test_mail_behind_a_failure_waits_and_is_handled_in_order_after_the_restart(stage):
    stage.spawn("a", fails_on("bad", stage.log))
    stage.tell("a", 1, "bad", *range(2, 100))
    assert stage.log == list(range(1, 100))
    assert stage.dead() == []


def test_no_mail_is_handled_while_the_verdict_is_awaited():
    stage = Stage(restarts=False)
    stage.spawn("a", fails_on("bad", stage.log))
    stage.tell("a", "bad", 1)
    assert (stage.log, stage.mailbox("a").queued()) == ([], 1)


def test_a_damaged_instance_handles_no_control_mail_in_front_of_its_own_restart():
    stage = Stage(restarts=False)
    lives = []
    stage.spawn("a", lambda actor, message: stage.log.append((len(lives), message)) or 1 / 0, made=lives.append)
    stage.tell("a", "bad")
    stage.tell("a", ChildRestarted(address="x"), Restart())
    assert stage.log == [(1, "bad"), (2, ChildRestarted(address="x"))]


def test_on_failure_runs_in_the_actor_s_turn_with_what_was_raised(stage):
    class Mourner(Player):
        def on_failure(self, kind, error, traceback):
            stage.log.append((kind, str(error), traceback is not None))

    stage.spawn("a", factory=lambda: Mourner(boom))
    stage.tell("a", 1)
    assert stage.log == [(ValueError, "boom", True)]


def test_an_on_failure_that_raises_hides_no_failure(stage):
    class Clumsy(Player):
        def on_failure(self, *_args):
            raise UnspeakableError

    stage.spawn("a", factory=lambda: Clumsy(boom))
    stage.tell("a", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == ["ValueError: boom"]
    assert stage.directory.dead[0].reason == "on_failure raised UnspeakableError: (its text cannot be shown)"


def test_watchers_hear_of_the_failure_and_of_the_restart(stage):
    stage.spawn("w")
    stage.spawn("a", boom, watchers=("w",))
    stage.tell("a", 1)
    assert [type(news) for news in stage.log] == [ChildFailed, ChildRestarted]


# --- asks from outside


def test_an_ask_gets_what_the_handler_returns(stage):
    ref = stage.spawn("a", lambda _actor, message: message * 2)
    future = ref.ask(21, block=False)
    stage.dispatcher.settle()
    assert future.get(timeout=0) == 42


def test_an_ask_gets_what_the_handler_raises(stage):
    ref = stage.spawn("a", boom)
    future = ref.ask(1, block=False)
    stage.dispatcher.settle()
    with pytest.raises(ValueError, match="boom"):
        future.get(timeout=0)


def test_a_handler_that_exits_does_not_exit_its_asker(stage):
    def act(_actor, _message):
        raise SystemExit(3)

    ref = stage.spawn("a", act)
    future = ref.ask(1, block=False)
    stage.dispatcher.settle()
    with pytest.raises(RuntimeError, match="a failed: SystemExit: 3"):
        future.get(timeout=0)


def test_an_ask_that_waits_at_a_stop_or_comes_later_gets_actor_dead_error(stage):
    ref = stage.spawn("a")
    stage.dispatcher.settle()
    stage.directory.send("a", Stop())
    waiting = ref.ask(1, block=False)
    stage.dispatcher.settle()
    for future in (waiting, ref.ask(2, block=False)):
        with pytest.raises(pykka.ActorDeadError):
            future.get(timeout=0)


def test_a_second_stop_of_a_stopped_actor_is_answered(stage):
    ref = stage.spawn("a")
    first, second = ref.stop(block=False), ref.stop(block=False)
    stage.dispatcher.settle()
    assert (first.get(timeout=0), second.get(timeout=0), ref.stop()) == (True, True, False)


def test_start_is_refused_with_one_clear_line():
    with pytest.raises(TypeError) as caught:
        Actor.start()
    assert "\n" not in str(caught.value)
    assert "ActorSystem.register()" in str(caught.value)


def test_an_actor_has_no_loop_of_its_own():
    with pytest.raises(TypeError):
        Player(boom)._start_actor_loop()


# --- words


def test_a_message_is_named_without_its_content():
    assert describe({"api_key": "sk-secret"}) == "dict"


def test_an_error_is_named_with_its_type():
    assert in_words(KeyError("k")) == "KeyError: 'k'"
