"""Ending a turn, and going on without a handler that never returned: one that returns too late changes nothing."""

from __future__ import annotations

import pykka
import pytest

from actors.directory import ActorSpec
from actors.dispatcher import fence, finish
from protocol.errors import ErrorKind
from protocol.signals import ChildFailed, ChildStopped, Restart, Stop
from tests.actors.players import Player, Stage, boom


@pytest.fixture
def stage():
    return Stage()


# --- fenced: a handler that never returned, and one that returns too late


class Ghost:
    """A player fenced in the middle of its turn, as the watchdog does; *late* is what it does then."""

    def __init__(self, late, **hooks):
        self.stage = Stage(restarts=False)
        self.late, self.item = late, None
        self.ref = self.stage.spawn("a", self.act, **hooks)
        self.stage.spawn("b")
        self.stage.dispatcher.settle()

    def act(self, actor, message):
        if message != "hang":
            self.stage.log.append(message)
            return
        actor.tell("b", "said before")
        fence(actor.actor_inbox, self.item, pykka.Timeout("did not return"), "the stack")
        self.late(actor)

    def hang(self, item="hang"):
        """Run the turn that hangs; its loop has lost it, so nobody ends it."""
        self.item = item
        self.stage.mailbox("a").actor.execute(item)
        self.stage.dispatcher.settle()


def test_a_fenced_actor_is_reported_as_stuck_with_its_stack():
    ghost = Ghost(lambda _actor: None)
    ghost.hang()
    (news,) = ghost.stage.heard(ChildFailed)
    assert (news.kind, news.error, news.traceback) == (ErrorKind.STUCK, "Timeout: did not return", "the stack")


@pytest.mark.parametrize("verdict", [Restart(), Stop()])
def test_a_fenced_actor_that_returns_late_sends_nothing(verdict):
    def late(actor):
        actor.tell("b", "late")
        actor.after(0.0, "late", key="k")
        actor._directory.send("b", "later")
        actor.stop()

    ghost = Ghost(late)
    ghost.hang()
    ghost.stage.tell("a", verdict)
    ghost.stage.dispatcher.run()
    assert ghost.stage.log == []


def test_a_fenced_actor_leaves_its_mail_to_the_new_instance():
    ghost = Ghost(lambda _actor: None)
    ghost.stage.mailbox("a").put("waited")
    ghost.hang()
    ghost.stage.tell("a", Restart())
    assert ghost.stage.log == ["waited"]


def test_a_fenced_actor_that_comes_back_cannot_forget_what_the_place_holds():
    def late(actor):
        (actor.actor_inbox.held or {}).clear()
        before.clear()  # what it had in hand when it got stuck

    before = {"run/0": "an open task"}
    ghost = Ghost(late)
    ghost.stage.mailbox("a").held = before
    ghost.hang()
    assert ghost.stage.mailbox("a").held == {"run/0": "an open task"}


def test_a_fenced_actor_may_spawn_nothing():
    def late(actor):
        actor.spawn(ActorSpec(address="c", factory=lambda: Player(boom)))

    ghost = Ghost(late)
    with pytest.raises(RuntimeError, match="may not spawn 'c'"):
        ghost.hang()
    assert "c" not in ghost.stage.directory.mailboxes


def test_the_stand_in_of_a_fenced_actor_closes_in_its_place():
    ghost = Ghost(lambda _actor: None, lost=lambda actor: actor.tell("b", "closed"))
    ghost.hang()
    ghost.stage.tell("a", Stop())
    assert ghost.stage.log == ["closed"]


def test_an_ask_that_got_stuck_is_told():
    ghost = Ghost(lambda _actor: None)
    future = ghost.ref.ask("hang", block=False)
    ghost.hang(ghost.stage.mailbox("a").take())
    with pytest.raises(pykka.Timeout, match="did not return"):
        future.get(timeout=0)


def test_an_actor_stuck_in_its_closing_hook_leaves_without_it():
    def lost(actor):
        if fenced:
            raise AssertionError("the hook ran twice")
        fenced.append(actor)
        fence(actor.actor_inbox, Stop(), pykka.Timeout("did not return"), "")

    fenced = []
    ghost = Ghost(lambda _actor: None, lost=lost)
    ghost.hang(Stop())
    assert ghost.stage.heard(ChildStopped) == [
        ChildStopped(address="a", reason="stopped; its closing hooks did not return", failed=True)
    ]
    assert ghost.ref.is_alive() is False


def test_a_factory_that_hangs_at_a_restart_and_returns_late_takes_no_place():
    stage = Stage(restarts=False)
    made = []

    def factory():
        if made:
            fence(stage.mailbox("a"), Restart(), pykka.Timeout("did not return"), "")
        made.append(Player(lambda _actor, message: stage.log.append(message)))
        return made[-1]

    stage.spawn("a", factory=factory)
    stage.dispatcher.settle()
    stage.mailbox("a").actor.execute(Restart())
    assert stage.mailbox("a").actor not in made


def test_ending_a_turn_never_raises_even_when_nothing_can_be_reported(stage):
    stage.spawn("a", boom)
    actor = stage.mailbox("a").actor
    stage.directory.on_failure = boom
    finish(actor, "x", MemoryError())
    assert actor.actor_inbox.suspended is True
