"""Nothing in these tests waits: whoever sleeps, blocks or starts a thread fails the test.

Tests on real threads, and those that wait for another process, say so with the ``waits`` mark.
"""

from __future__ import annotations

import select
import socket
import subprocess
import threading
import time
from queue import Queue

import pytest

from runtime.channel import Channel


class Waited(BaseException):
    """A test waited. A ``BaseException``, so that nobody takes it for an error of their own."""


def waits(name):
    def raising(*_args, **_options):
        raise Waited(f"{name} waits, and tests of actors do not; mark the test with pytest.mark.waits if it must")

    return raising


BLOCKING = [
    (time, "sleep"),
    (threading.Thread, "start"),
    (threading.Thread, "join"),
    (threading.Event, "wait"),
    (threading.Condition, "wait"),
    (threading.Semaphore, "acquire"),
    (threading.Barrier, "wait"),
    (Channel, "get"),
    (Queue, "get"),
    (subprocess.Popen, "wait"),
    (subprocess.Popen, "communicate"),
    (select, "select"),
    *((socket.socket, name) for name in ("accept", "connect", "recv", "recv_into", "sendall")),
]
"""What can block for a time that is not the processor's. A bare lock cannot be patched; law 11 keeps it out."""


def name_of(place, attribute):
    return f"{getattr(place, '__name__', place)}.{attribute}"


@pytest.fixture(autouse=True)
def nothing_waits(request, monkeypatch):
    if "waits" not in request.keywords:
        for place, attribute in BLOCKING:
            monkeypatch.setattr(place, attribute, waits(name_of(place, attribute)))
