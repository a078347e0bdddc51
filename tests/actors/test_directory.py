"""The directory: one actor per address, and mail for nobody is kept and answered."""

from __future__ import annotations

import pykka
import pytest
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from actors.base import Timed
from actors.directory import DEAD_LETTERS_KEPT, ActorSpec, Limbo, answer_to
from actors.dispatcher import open_mailbox
from actors.mailbox import Begin
from protocol import ids
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage
from protocol.signals import Answer, DeadLetter
from tests.actors.players import Player, Stage


def request(reply_to="asker", content="c"):
    return AgentMessage(message_id="run/0", sender="asker", recipient="r", content=content, reply_to=reply_to)


@pytest.fixture
def stage():
    return Stage()


# --- one actor per address


def test_a_spawned_actor_takes_mail_at_once(stage):
    stage.spawn("a")
    stage.directory.send("a", 1)
    stage.dispatcher.settle()
    assert stage.log == [1]


def test_an_address_that_is_taken_is_refused_before_anything_is_made(stage):
    made = []
    stage.spawn("a")
    with pytest.raises(ValueError, match="address 'a' is taken"):
        stage.spawn("a", factory=lambda: made.append("an instance"))
    assert made == []


def test_of_two_threads_that_spawn_one_address_the_later_is_refused_and_never_runs(stage):
    def factory():  # what another thread may do between the look and the entry
        if not rivals:
            rivals.append("made")
            stage.spawn("a", made=lambda _actor: stage.log.append("the first"))
        return Player(lambda *_: None, made=lambda _actor: stage.log.append("the second"))

    rivals = []
    with pytest.raises(ValueError, match="address 'a' is taken"):
        stage.spawn("a", factory=factory)
    stage.dispatcher.settle()
    assert stage.log == ["the first"]


def test_nothing_is_delivered_before_the_actor_has_begun(stage):
    class Hasty(dict):
        """A sender in another thread finds the mailbox the moment it is entered."""

        def setdefault(self, key, value):
            entered = super().setdefault(key, value)
            entered.put("too early?")
            return entered

    stage.directory.mailboxes = Hasty()
    tokens = []
    spec = ActorSpec(address="a", factory=lambda: Player(lambda *_: None))
    open_mailbox(spec, stage.directory, stage.dispatcher, tokens.append)
    (box, _) = tokens
    assert (box.suspended, box.verdict(), box.take()) == (True, Begin(), "too early?")


def test_a_factory_that_raises_leaves_the_address_free(stage):
    with pytest.raises(ZeroDivisionError):
        stage.spawn("a", factory=lambda: 1 / 0)
    stage.spawn("a")
    assert "a" in stage.directory.mailboxes


def test_the_children_of_a_parent_come_in_the_order_they_were_spawned(stage):
    for address in ("c", "a", "b"):
        stage.spawn(address)
    stage.spawn("x", parent="a")
    assert [spec.address for spec in stage.directory.children("boss")] == ["c", "a", "b"]


def test_a_spawn_in_limbo_is_refused(stage):
    with pytest.raises(RuntimeError, match="may not spawn 'a'"):
        Limbo(stage.dispatcher).spawn(ActorSpec(address="a", factory=object))


# --- mail for nobody


def test_mail_to_an_unknown_address_is_a_dead_letter(stage):
    stage.directory.send("nobody", 1)
    assert list(stage.directory.dead) == [DeadLetter(to="nobody", reason="no such address", message=1)]


def test_only_the_last_dead_letters_are_kept(stage):
    for n in range(DEAD_LETTERS_KEPT + 5):
        stage.directory.send("nobody", n)
    assert stage.dead() == list(range(5, DEAD_LETTERS_KEPT + 5))


@pytest.mark.parametrize("item", [Envelope("the message"), Timed("key", "the message"), "the message"])
def test_a_dead_letter_holds_the_message_without_its_wrapping(stage, item):
    stage.directory.dead_letter("a", "stopped", item)
    assert stage.dead() == ["the message"]


def test_whoever_awaits_an_answer_to_a_dead_letter_gets_a_failed_one(stage):
    stage.spawn("asker")
    message = request()
    stage.tell("nobody", message)
    (answer,) = stage.log
    assert (answer.step, answer.payload.success, answer.payload.error_kind) == ("run/0", False, ErrorKind.STOPPED)
    assert answer.fingerprint == answer_to(message, None).fingerprint


def test_that_answer_passes_the_recorder_when_there_is_one(stage):
    stage.spawn(ids.RECORDER, lambda _actor, message: stage.log.append(("recorder", type(message))))
    stage.spawn("asker")
    stage.tell("nobody", request())
    assert stage.log == [("recorder", Answer)]


def test_a_dead_letter_that_nobody_awaits_is_not_answered(stage):
    stage.directory.send("nobody", request(reply_to=None))
    assert len(stage.directory.dead) == 1


def test_a_dead_letter_that_cannot_be_answered_does_not_reach_the_sender(stage):
    stage.directory.send("nobody", request(content=None))
    assert "AttributeError" in stage.directory.dead[-1].reason


def test_an_ask_for_nobody_gets_actor_dead_error(stage):
    future = pykka.ThreadingFuture()
    stage.directory.send("nobody", Envelope(1, reply_to=future))
    with pytest.raises(pykka.ActorDeadError, match="nobody: no such address"):
        future.get(timeout=0)


def test_a_stop_for_nobody_is_answered(stage):
    future = pykka.ThreadingFuture()
    stage.directory.send("nobody", Envelope(_ActorStop(), reply_to=future))
    assert future.get(timeout=0) is None


def test_a_failure_log_that_raises_hinders_no_restart(stage):
    def broken(*_args):
        raise OSError

    stage.directory.on_failure = broken
    stage.spawn("root", lambda _actor, message: stage.log.append(message) or (message == 1 and 1 / 0), parent=None)
    stage.tell("root", 1, 2)
    assert stage.log == [1, 2]


# --- a full mailbox


def test_a_refused_request_is_kept_and_anything_else_is_not_refused(stage):
    assert (stage.directory.refuse("a", request()), stage.directory.refuse("a", "an answer")) == (True, False)
    assert [letter.reason for letter in stage.directory.dead] == ["overloaded", "no such address"]
