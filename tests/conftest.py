"""What holds for every test: nothing is left behind, and no address outside this machine is ever spoken to."""

from __future__ import annotations

import ipaddress
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # run in the background by a shell; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

ENDS_SOON = 5.0
"""Seconds that a thread whose end has been asked for may still take."""


def children() -> set[str]:
    """Return the processes that this one has started and not waited for, where the system tells."""
    found: set[str] = set()
    for each in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            found.update(each.read_text(encoding="ascii").split())
    return found


def sockets() -> set[str]:
    """Return the sockets that this process has open, where the system tells."""
    found = set()
    for each in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):  # closed meanwhile, as the listing itself is
            found.add(str(each.readlink()))
    return {link for link in found if link.startswith("socket:")}


def leftovers() -> list[str]:
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("troupe-")]
    for thread in mine:
        thread.join(ENDS_SOON)
    return [thread.name for thread in mine if thread.is_alive()] + [p.name for p in multiprocessing.active_children()]


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request):
    processes, open_ = children(), sockets()
    yield
    if "leaves_threads" not in request.keywords:
        assert leftovers() == []
        assert children() - processes == set()
        until = time.monotonic() + ENDS_SOON
        while sockets() - open_ and time.monotonic() < until:
            time.sleep(0.01)  # a server of the whole module has yet to see that its client is gone
        assert sockets() - open_ == set()


@pytest.fixture(autouse=True)
def lines_are_not_counted_where_a_million_run(request):
    """Coverage makes a simulation four times as slow, and learns nothing from the millionth step: others cover it."""
    counting = sys.gettrace()
    if "uncounted" in request.keywords and counting is not None:
        sys.settrace(None)
        yield
        sys.settrace(counting)
    else:
        yield


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            host = address[0]
            assert host == "localhost" or ipaddress.ip_address(host).is_loopback, f"a test spoke to {host}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
