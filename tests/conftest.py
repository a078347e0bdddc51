"""What holds for every test: nothing is left behind, and no address outside this machine is ever spoken to."""

from __future__ import annotations

import ipaddress
import multiprocessing
import os
import socket
import threading

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")

ENDS_SOON = 5.0
"""Seconds that a thread whose end has been asked for may still take."""


def leftovers() -> list[str]:
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("troupe-")]
    for thread in mine:
        thread.join(ENDS_SOON)
    return [thread.name for thread in mine if thread.is_alive()] + [p.name for p in multiprocessing.active_children()]


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request):
    yield
    if "leaves_threads" not in request.keywords:
        assert leftovers() == []


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            host = address[0]
            assert host == "localhost" or ipaddress.ip_address(host).is_loopback, f"a test spoke to {host}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
