"""Laws 1 and 2 on real threads: four senders, an actor that fails, is restarted and stopped under them, 200 times over.

Law 1: sent = handled + dead-lettered + queued. Law 2: one message at a time, in the order of each sender, also across a
restart. Both are counted by senders, handler and dead letters, never by the mailbox. Each law is red for a mutation.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from contextlib import suppress
from threading import Thread
from time import sleep
from typing import NamedTuple

import pykka
import pytest

from actors.mailbox import Mailbox
from protocol.signals import Control, Restart, Stop
from runtime.loop import Loop
from tests.actors.players import Player
from tests.runtime.house import TIMEOUT, House

SENDERS = 4
EACH = 100
ROUNDS = 200

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _impatient():
    """Let the threads of the process take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def house():
    house = House()
    yield house
    house.close()


class Sent(NamedTuple):
    """Message *n* of *sender* in *round_*."""

    round_: int
    sender: int
    n: int


class Round:
    """One actor's life under fire, and the books about it."""

    def __init__(self, house, number, *, pinned, patience):
        self.house, self.number, self.pinned, self.patience = house, number, pinned, patience
        self.address = f"target/{number}"
        self.sent, self.handled, self.overlaps = [], [], 0
        self.busy, self.lives = False, 0

    def factory(self):
        self.lives += 1
        if self.lives % 5 == 4:
            raise OSError("a restart that fails")
        return Player(self.act)

    def act(self, _actor, message):
        self.overlaps += self.busy
        self.busy = True
        self.handled.append(message)
        sleep(0)  # offer the turn to whoever should not take it
        self.busy = False
        if message.n % 13 == self.number % 13:
            raise ValueError(message)

    def ways(self, ref, box):
        """Return how each sender sends: by address, by ref, straight into the mailbox."""
        to = self.address
        return [lambda message: self.house.directory.send(to, message), ref.tell, box.put, box.put]

    def send(self, sender, way):
        for n in range(EACH):
            if sender == 0 and n == self.number % EACH:
                self.interfere()
            message = Sent(self.number, sender, n)
            try:
                way(message)
            except pykka.ActorDeadError:  # refused by the ref: not sent
                continue
            self.sent.append(message)

    def interfere(self):
        """Stop the actor in two rounds of three, restart it in the third."""
        self.house.directory.send(self.address, Restart() if self.number % 3 == 0 else Stop())

    def play(self):
        ref = self.house.spawn(self.address, None, factory=self.factory, pinned=self.pinned)
        box = self.house.directory.mailboxes[self.address]
        thread = self.house.loop(self.address).thread
        senders = [
            Thread(target=self.send, args=(sender, way), daemon=True) for sender, way in enumerate(self.ways(ref, box))
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(timeout=TIMEOUT)
        self.end(ref, thread)
        self.come_late(box)
        return self

    def come_late(self, box):
        """Send once more when nobody is left to take it: the one race that no luck decides."""
        late = Sent(self.number, SENDERS, 0)
        box.put(late)
        self.sent.append(late)

    def end(self, ref, thread):
        """Stop the actor if it is not stopped yet, and wait until its last turn is over."""
        stopped = ref.stop(block=False)
        if self.pinned:
            thread.join(timeout=TIMEOUT)
        else:
            with suppress(pykka.Timeout):  # what did not get there will be missing in the books
                stopped.get(timeout=self.patience)
            self.house.directory.mailboxes["echo"].actor.actor_ref.ask(1, timeout=TIMEOUT)

    def disorder(self):
        """Count the messages handled after a later one of the same sender."""
        last = dict.fromkeys(range(SENDERS), -1)
        wrong = 0
        for message in self.handled:
            wrong += message.n <= last[message.sender]
            last[message.sender] = max(message.n, last[message.sender])
        return wrong


class Books(NamedTuple):
    """What many rounds came to."""

    sent: int
    restarts: int
    unaccounted: int
    overlaps: int
    disorder: int


def play(house, *, pinned, rounds, patience=TIMEOUT):
    letters = []
    house.directory.on_dead_letter = letters.append
    house.spawn("echo", lambda _actor, message: message)
    played = [Round(house, number, pinned=pinned, patience=patience).play() for number in rounds]
    sent = Counter(message for each in played for message in each.sent)
    found = Counter(message for each in played for message in each.handled)
    found.update(letter.message for letter in letters if isinstance(letter.message, Sent))
    return Books(
        sent=sent.total(),
        restarts=sum(each.lives - 1 for each in played),
        unaccounted=(sent - found).total() + (found - sent).total(),
        overlaps=sum(each.overlaps for each in played),
        disorder=sum(each.disorder() for each in played),
    )


@pytest.mark.parametrize("pinned", [False, True], ids=["shared", "pinned"])
def test_law_1_and_2_no_message_is_lost_or_doubled_and_all_come_one_at_a_time_in_order(house, pinned):
    books = play(house, pinned=pinned, rounds=range(ROUNDS))
    assert books.sent > ROUNDS * EACH
    assert books.restarts > ROUNDS
    assert (books.unaccounted, books.overlaps, books.disorder) == (0, 0, 0)


def test_law_1_is_red_when_put_does_not_look_for_the_seal(house, monkeypatch):
    def put(self, item):
        name = "control" if isinstance(item, Control) else "data"
        self.__dict__.setdefault(name, deque()).append(item)
        self.wake(self)

    monkeypatch.setattr(Mailbox, "put", put)
    assert play(house, pinned=True, rounds=range(40, 43)).unaccounted > 0


def test_law_2_is_red_when_two_threads_serve_one_ready_queue(house):
    second = Loop("second", house.shared.loop.ready, house.shared.loop.timers)
    second.start()
    try:
        books = play(house, pinned=False, rounds=range(40, 60), patience=0.1)
    finally:
        house.shared.stop()
    assert books.overlaps + books.disorder > 0
