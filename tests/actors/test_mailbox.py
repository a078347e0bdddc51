"""The mailbox: two lanes, one wake token per message, nothing lost however a stop and a send race."""

from __future__ import annotations

import sys
from collections import deque
from threading import Barrier, Thread

import pykka
import pytest
from pykka._envelope import Envelope

from actors.base import Actor, Timed
from actors.directory import Directory
from actors.mailbox import Begin, Mailbox
from actors.simulation import SimulatedDispatcher
from protocol import ids
from protocol.errors import ErrorKind
from protocol.messages import AgentMessage
from protocol.signals import Answer, ChildRestarted, Restart, Returned, Stop, TaskSettled

ANSWER = Answer(to="a", step="run/0", kind="call", fingerprint="", payload=Returned())
SENDERS = 4


def request(**fields):
    return AgentMessage(**{"message_id": "run/0", "sender": "s", "recipient": "r", "content": "c"} | fields)


@pytest.fixture
def tokens():
    return []


@pytest.fixture
def mailbox(tokens):
    box = Mailbox()
    box.address, box.directory, box.wake = "a", Directory(SimulatedDispatcher()), tokens.append
    return box


@pytest.fixture
def impatient():
    """Let the threads of the process take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*acts):
    """Run each of *acts* in a thread of its own, all at once."""
    barrier = Barrier(len(acts))

    def run(act):
        barrier.wait(timeout=10)
        act()

    threads = [Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)


def taken(mailbox):
    return [mailbox.take() for _ in range(mailbox.queued())]


# --- lanes


def test_control_is_taken_before_data_and_each_lane_keeps_its_order(mailbox):
    first, second = ChildRestarted(address="x"), ChildRestarted(address="y")
    for item in (1, first, 2, second):
        mailbox.put(item)
    assert taken(mailbox) == [first, second, 1, 2]


def test_every_message_gives_one_wake_token_also_after_the_seal(mailbox, tokens):
    mailbox.put(1)
    mailbox.seal("stopped")
    mailbox.put(Stop())
    assert tokens == [mailbox, mailbox]


def test_an_empty_mailbox_has_nothing_to_take(mailbox):
    mailbox.put(1)
    mailbox.take()
    with pytest.raises(IndexError):
        mailbox.take()


def test_pykka_s_names_for_an_inbox_work(mailbox):
    before = mailbox.empty()
    mailbox.put(1)
    assert (before, mailbox.empty(), mailbox.get(), mailbox.empty()) == (True, False, 1, True)


def test_an_actor_begins_before_any_mail_is_delivered(mailbox):
    mailbox.put(Stop())
    mailbox.renew(object(), Begin())
    assert (mailbox.suspended, mailbox.verdict(), mailbox.verdict()) == (True, Begin(), Stop())


# --- stop and send race


def test_mail_that_waits_at_the_seal_becomes_dead_letters_with_its_reason(mailbox):
    for item in (1, Stop(), 2):
        mailbox.put(item)
    mailbox.seal("run ended")
    assert [(letter.message, letter.reason) for letter in mailbox.directory.dead] == [
        (Stop(), "run ended"),
        (1, "run ended"),
        (2, "run ended"),
    ]


def test_mail_that_comes_after_the_seal_becomes_a_dead_letter(mailbox):
    mailbox.seal("stopped")
    mailbox.put(1)
    assert [letter.message for letter in mailbox.directory.dead] == [1]
    assert mailbox.empty()


def test_a_seal_between_append_and_look_loses_nothing_and_counts_once(mailbox):
    mailbox.wake = lambda box: box.seal("stopped")  # what another thread may do at this very point
    mailbox.put(1)
    assert [letter.message for letter in mailbox.directory.dead] == [1]


@pytest.mark.waits
@pytest.mark.usefixtures("impatient")
def test_senders_and_a_seal_in_other_threads_lose_nothing(mailbox):
    def send(sender):
        for n in range(100):
            mailbox.put((sender, n))

    together(*[lambda sender=sender: send(sender) for sender in range(SENDERS)], lambda: mailbox.seal("stopped"))
    assert mailbox.empty()
    letters = [letter.message for letter in mailbox.directory.dead]
    assert sorted(letters) == [(sender, n) for sender in range(SENDERS) for n in range(100)]


def test_a_drain_that_finds_an_item_gone_looks_on_for_the_others(mailbox):
    class Raced(deque):
        """Another thread pops between the look and the pop."""

        def popleft(self):
            super().popleft()
            raise IndexError

    mailbox.control = Raced([Stop()])
    mailbox.put(1)
    mailbox.seal("stopped")
    assert [letter.message for letter in mailbox.directory.dead] == [1]


@pytest.mark.waits
@pytest.mark.usefixtures("impatient")
def test_the_first_senders_of_a_lane_agree_on_one_lane():
    for _ in range(100):
        box = Mailbox()
        together(*[lambda n=n, box=box: box.put(n) for n in range(SENDERS)])
        assert sorted(box.data) == list(range(SENDERS))


def test_a_dead_letter_log_that_raises_does_not_reach_the_sender(mailbox):
    def broken(_letter):
        raise OSError("the disk is full")

    mailbox.directory.on_dead_letter = broken
    mailbox.seal("stopped")
    mailbox.put(1)
    letter = mailbox.directory.dead.pop()
    assert (letter.reason, letter.message.message) == ("OSError: the disk is full", 1)


@pytest.mark.parametrize("items", [(1, 2), (Stop(reason="x"), Stop())])
def test_what_is_put_back_comes_first_in_its_lane_with_a_token_of_its_own(mailbox, tokens, items):
    first, second = items
    mailbox.put(second)
    mailbox.put_back(first)
    assert [mailbox.take(), mailbox.take()] == [first, second]
    assert tokens == [mailbox, mailbox]


# --- a cap refuses new requests only


def test_a_full_mailbox_refuses_a_request_and_its_asker_hears_so(mailbox):
    answers = Mailbox()
    mailbox.directory.mailboxes["asker"] = answers
    mailbox.cap = 1
    mailbox.put(request())
    mailbox.put(request(reply_to="asker"))
    payload = answers.take().payload
    assert (payload.success, payload.error_kind, mailbox.queued()) == (False, ErrorKind.OVERLOADED, 1)


def test_a_request_refused_through_a_ref_fails_its_ask(mailbox):
    mailbox.cap = 0
    future = pykka.ThreadingFuture()
    mailbox.put(Envelope(request(), reply_to=future))
    with pytest.raises(pykka.ActorDeadError, match="a: overloaded"):
        future.get(timeout=0)


def test_a_supervisor_hears_of_a_refused_request_since_it_has_booked_it(mailbox):
    supervisor = Mailbox()
    mailbox.directory.mailboxes[ids.SUPERVISOR] = supervisor
    mailbox.cap = 0
    mailbox.put(request())
    assert supervisor.take() == TaskSettled(agent="a", step="run/0")


@pytest.mark.parametrize("item", [ANSWER, Timed("key", 1), Stop(), Envelope("an ask of ours"), request(attempt=1)])
def test_answers_timers_and_control_are_never_refused(mailbox, item):
    mailbox.cap = 0
    mailbox.put(item)
    assert mailbox.take() is item


# --- suspended: nothing but the verdict


def test_a_suspended_mailbox_owes_its_tokens_and_gives_them_back(mailbox, tokens):
    mailbox.actor = object()
    mailbox.put(1)
    mailbox.put(ChildRestarted(address="x"))
    mailbox.suspend()
    while tokens:
        tokens.pop()
        with pytest.raises(IndexError):
            mailbox.verdict()
    mailbox.resume()
    assert (tokens, mailbox.owed, mailbox.queued()) == ([mailbox, mailbox], 0, 2)


def test_the_verdict_passes_what_waits_before_it_and_the_rest_keeps_its_order(mailbox):
    mailbox.actor = object()
    first, second = ChildRestarted(address="x"), ChildRestarted(address="y")
    for item in (1, first, second, Restart(), Stop()):
        mailbox.put(item)
    mailbox.suspend()
    assert mailbox.verdict() == Restart()
    assert taken(mailbox) == [first, second, Stop(), 1]


def test_a_token_for_an_actor_that_has_left_drains_what_came_late(mailbox):
    mailbox.put(1)
    with pytest.raises(IndexError):
        mailbox.verdict()
    assert [letter.message for letter in mailbox.directory.dead] == [1]


def test_two_agents_have_two_mailboxes():
    class Quiet(Actor):
        """Says nothing."""

    first, second = Quiet(), Quiet()
    assert first.actor_inbox is not second.actor_inbox
