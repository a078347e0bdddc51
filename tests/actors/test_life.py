"""An actor's life: restarts that keep the mail, roots and orphans, stops that lose nothing."""

from __future__ import annotations

import pytest

from actors.directory import ROOT_RESTARTS
from protocol.signals import ChildFailed, ChildRestarted, ChildStopped, Restart, Stop
from tests.actors.players import Player, Stage, boom, fails_on


@pytest.fixture
def stage():
    return Stage()


# --- restart


def test_a_restart_is_a_new_instance_at_the_same_place(stage):
    lives = []
    ref = stage.spawn("a", fails_on("bad", stage.log), made=lives.append)
    stage.tell("a", "bad")
    old, new = lives
    assert old is not new
    assert (new.address, new.actor_inbox, new.actor_urn) == (old.address, old.actor_inbox, ref.actor_urn)
    assert (ref.is_alive(), new.actor_ref.actor_inbox) == (True, ref.actor_inbox)


def test_a_restart_keeps_no_attribute_of_the_old_instance(stage):
    def act(actor, message):
        actor.seen = [*getattr(actor, "seen", []), message]
        stage.log.append(actor.seen)
        if message == "bad":
            raise ValueError

    stage.spawn("a", act)
    stage.tell("a", 1, "bad", 2)
    assert stage.log == [[1], [1, "bad"], [2]]


def test_setup_runs_before_the_mail_that_waited(stage):
    stage.spawn("a", fails_on("bad", stage.log), made=lambda _actor: stage.log.append("setup"))
    stage.tell("a", "bad", 1)
    assert stage.log == ["setup", "setup", 1]


def test_a_healthy_actor_may_be_restarted_too(stage):
    stage.spawn("a", made=lambda _actor: stage.log.append("setup"))
    stage.tell("a", 1, Restart(), 2)
    assert sorted(map(str, stage.log)) == ["1", "2", "setup", "setup"]
    assert stage.mailbox("a").suspended is False


def test_what_setup_sends_at_a_restart_leaves(stage):
    stage.spawn("b")
    stage.spawn("a", boom, made=lambda actor: actor.tell("b", "hello"))
    stage.tell("a", 1)
    assert stage.log == ["hello", "hello"]


@pytest.mark.parametrize("where", ["factory", "setup"])
def test_a_restart_that_raises_is_one_more_failure_and_the_next_may_succeed(stage, where):
    lives = []

    def troubled(place):
        if place == where and len(lives) == 1:
            lives.append("spoilt")
            raise OSError("not yet")

    def factory():
        troubled("factory")
        return Player(fails_on("bad", stage.log), made=made)

    def made(actor):
        troubled("setup")
        lives.append(actor)

    stage.spawn("a", factory=factory)
    stage.tell("a", "bad", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == ["ValueError: bad", "OSError: not yet"]
    assert stage.log == [1]


def test_what_a_setup_that_raised_had_sent_never_leaves(stage):
    def made(actor):
        actor.tell("b", "half-born")
        raise OSError

    stage = Stage(restarts=False)
    stage.spawn("b")
    stage.spawn("a", made=made)
    stage.tell("a", Restart())
    stage.tell("a", Stop())
    assert stage.log == []


@pytest.mark.parametrize(
    ("product", "complaint"),
    [
        (lambda: "no actor", "the factory of 'a' must return an actors.base.Actor, not str"),
        (lambda: object.__new__(Player), "Player.__init__() must call super().__init__()"),
    ],
)
def test_a_factory_that_makes_no_actor_is_named(stage, product, complaint):
    with pytest.raises(TypeError) as caught:
        stage.spawn("a", factory=product)
    assert str(caught.value) == complaint


def test_one_instance_cannot_play_at_two_addresses(stage):
    player = Player(boom)
    stage.spawn("a", factory=lambda: player)
    with pytest.raises(TypeError, match="returned the instance that plays at 'a'"):
        stage.spawn("b", factory=lambda: player)


# --- roots and orphans


def test_a_root_is_restarted_at_once_and_gives_the_system_up_when_it_fails_for_good(stage):
    collapsed = []
    stage.directory.on_collapse = collapsed.append
    stage.spawn("root", boom, parent=None)
    stage.tell("root", *range(ROOT_RESTARTS.times + 1), "left")
    assert stage.failures == ["root: restarted"] * ROOT_RESTARTS.times + ["root: stopped: it failed too often"]
    assert [news.address for news in collapsed] == ["root"]
    assert ("root" in stage.directory.mailboxes, stage.dead()) == (False, ["left"])


def test_a_root_that_fails_now_and_then_goes_on(stage):
    stage.spawn("root", fails_on("bad", stage.log), parent=None)
    for _ in range(3 * ROOT_RESTARTS.times):
        stage.tell("root", "bad")
        stage.dispatcher.advance(ROOT_RESTARTS.within)
    stage.tell("root", "well")
    assert stage.log == ["well"]


def test_a_failed_actor_whose_parent_is_gone_is_stopped(stage):
    stage.spawn("a", boom)
    stage.tell("boss", Stop())
    stage.tell("a", 1, 2)
    assert ("a" in stage.directory.mailboxes, stage.failures) == (False, ["a: stopped: boss is gone"])


def test_a_watcher_that_is_gone_stops_no_actor(stage):
    stage.spawn("a", fails_on("bad", stage.log), watchers=("nobody",))
    stage.tell("a", "bad", 1)
    assert stage.log == [1]


# --- stop


def test_a_stop_runs_the_closing_hooks_and_tells_the_parent_after_what_they_sent(stage):
    def lost(actor):
        actor.tell("boss", last_words)

    last_words = ChildRestarted(address="a")
    stage.spawn("a", lost=lost)
    stage.tell("a", Stop(reason="run ended"))
    assert stage.news == [last_words, ChildStopped(address="a", reason="run ended", failed=False)]


def test_a_stop_of_a_failed_actor_says_that_it_failed():
    stage = Stage(restarts=False)
    stage.spawn("a", boom)
    stage.tell("a", 1)
    stage.tell("a", Stop(reason="gave up"))
    assert stage.heard(ChildStopped) == [ChildStopped(address="a", reason="gave up", failed=True)]


def test_mail_behind_a_stop_becomes_dead_letters_and_the_address_is_free_again(stage):
    stage.spawn("a")
    stage.dispatcher.settle()
    for message in (1, Stop(), 2):
        stage.directory.send("a", message)
    stage.dispatcher.settle()
    stage.spawn("a")
    stage.tell("a", 3)
    assert (sorted(stage.dead()), stage.log) == ([1, 2], [3])


def test_a_closing_hook_that_raises_stops_no_stop(stage):
    def lost(_actor):
        raise SystemExit

    ref = stage.spawn("a", lost=lost)
    stage.tell("a", Stop())
    assert (ref.is_alive(), "a" in stage.directory.mailboxes) == (False, False)
    assert stage.directory.dead[0].reason == "teardown raised SystemExit: "


def test_an_actor_may_stop_itself_after_the_mail_that_is_there(stage):
    def act(actor, message):
        stage.log.append(message)
        if message == 1:
            actor.stop()

    stage.spawn("a", act)
    stage.dispatcher.settle()
    for message in (1, 2):
        stage.directory.send("a", message)
    stage.dispatcher.settle()
    assert (stage.log, "a" in stage.directory.mailboxes) == ([1, 2], False)


def test_a_stop_asked_for_by_a_handler_that_raised_is_not_done(stage):
    def act(actor, _message):
        actor.stop()
        raise ValueError

    stage.spawn("a", act)
    stage.tell("a", 1)
    assert "a" in stage.directory.mailboxes
