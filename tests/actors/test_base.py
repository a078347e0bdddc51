"""The base actor: an outbox, timers with keys, failures that stay where they are, restarts that keep the mail."""

from __future__ import annotations

from math import inf, nan

import pykka
import pytest

from actors.base import FOREVER, Actor, describe, in_words
from actors.directory import ROOT_RESTARTS, ActorSpec
from actors.dispatcher import fence, finish
from protocol.errors import Cancelled, ErrorKind
from protocol.messages import AgentMessage
from protocol.signals import ChildFailed, ChildRestarted, ChildStopped, Restart, Stop, WhoHolds
from tests.actors.players import Player, Stage


class Unspeakable(Exception):
    """Cannot be shown."""

    def __str__(self):
        raise OSError("no text")

    __repr__ = __str__


def boom(_actor, _message):
    raise ValueError("boom")


def fails_on(bad, log):
    def act(_actor, message):
        if message == bad:
            raise ValueError(bad)
        log.append(message)

    return act


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
    stage.dispatcher.run()
    assert stage.log == ["new"]


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
        raise Unspeakable

    stage.spawn("a", act)
    stage.tell("a", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == ["Unspeakable: (its text cannot be shown)"]


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
    stage.tell("a", WhoHolds(reply_to="x"), Restart())
    assert stage.log == [(1, "bad"), (2, WhoHolds(reply_to="x"))]


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
            raise Unspeakable

    stage.spawn("a", factory=lambda: Clumsy(boom))
    stage.tell("a", 1)
    assert [news.error for news in stage.heard(ChildFailed)] == ["ValueError: boom"]
    assert stage.directory.dead[0].reason == "on_failure raised Unspeakable: (its text cannot be shown)"


def test_watchers_hear_of_the_failure_and_of_the_restart(stage):
    stage.spawn("w")
    stage.spawn("a", boom, watchers=("w",))
    stage.tell("a", 1)
    assert [type(news) for news in stage.log] == [ChildFailed, ChildRestarted]


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


# --- stop


def test_a_stop_runs_the_closing_hooks_and_tells_the_parent_after_what_they_sent(stage):
    def lost(actor):
        actor.tell("boss", last_words)

    last_words = WhoHolds(reply_to="a")
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
    ghost = Ghost(lambda actor: (actor.actor_inbox.held or {}).clear())
    ghost.stage.mailbox("a").held = {"run/0": "an open task"}
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


# --- words


def test_a_message_is_named_without_its_content():
    assert describe({"api_key": "sk-secret"}) == "dict"


def test_an_error_is_named_with_its_type():
    assert in_words(KeyError("k")) == "KeyError: 'k'"
