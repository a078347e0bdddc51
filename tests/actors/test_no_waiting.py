"""The guard of this folder bites: whatever waits fails its test, and a test that must wait says so."""

from __future__ import annotations

import select
import socket
import subprocess
import threading
import time
from queue import Queue

import pykka
import pytest

from runtime.channel import Channel
from tests.actors.conftest import BLOCKING, Waited, name_of

WAITS = {
    "time.sleep": lambda: time.sleep(0.001),
    "Thread.start": lambda: threading.Thread(target=print).start(),
    "Thread.join": lambda: threading.Thread(target=print).join(),
    "Event.wait": lambda: threading.Event().wait(0.001),
    "Condition.wait": lambda: threading.Condition().wait(0.001),
    "Queue.get": lambda: Queue().get(timeout=0.001),
    "Semaphore.acquire": lambda: threading.Semaphore(0).acquire(timeout=0.001),
    "Barrier.wait": lambda: threading.Barrier(2).wait(0.001),
    "Channel.get": lambda: Channel().get(timeout=0.001),
    "Popen.communicate": lambda: subprocess.Popen.communicate(None),
    "Popen.wait": lambda: subprocess.Popen.wait(None),
    "select.select": lambda: select.select([], [], [], 0.001),
    "socket.accept": lambda: socket.socket.accept(None),
    "socket.connect": lambda: socket.socket.connect(None, ("127.0.0.1", 9)),
    "socket.recv": lambda: socket.socket.recv(None, 1),
    "socket.recv_into": lambda: socket.socket.recv_into(None, b""),
    "socket.sendall": lambda: socket.socket.sendall(None, b""),
}


def test_everything_that_is_patched_is_tried():
    assert set(WAITS) == {name_of(*place) for place in BLOCKING}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_wait_fails_the_test(wait):
    with pytest.raises(Waited, match="waits, and tests of actors do not"):
        wait()


def test_a_pykka_future_that_nobody_sets_fails_the_test():
    with pytest.raises(Waited):
        pykka.ThreadingFuture().get(timeout=1.0)


def test_a_pykka_future_that_is_set_does_not_wait():
    future = pykka.ThreadingFuture()
    future.set("there")
    assert future.get(timeout=0) == "there"


@pytest.mark.waits
def test_a_test_that_says_so_may_wait():
    with pytest.raises(pykka.Timeout):
        pykka.ThreadingFuture().get(timeout=0.001)
