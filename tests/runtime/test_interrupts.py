"""Signals are heard whatever the main thread does, and everything is as before when the runs are over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from runtime.channel import Channel
from runtime.interrupts import SIGNALS, Interrupts
from tests.runtime.command import environment


@pytest.fixture
def in_other_threads():
    """Have the kernel give signals to any thread but this one, as it may when several come at once."""

    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    yield block
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_comes_to_another_thread_is_heard_while_the_main_thread_waits(in_other_threads, number):
    heard = Channel()
    with Interrupts(heard.put) as interrupts:
        in_other_threads()
        os.kill(os.getpid(), number)
        assert heard.get(timeout=5.0) == number
    assert interrupts.number == number


def test_without_a_signal_nothing_is_called():
    heard = Channel()
    with Interrupts(heard.put) as interrupts:
        pass
    assert (interrupts.number, heard.empty()) == (0, True)


def state():
    return [signal.getsignal(number) for number in SIGNALS], threading.active_count(), os.listdir("/proc/self/fd")


def test_afterwards_handlers_threads_and_files_are_as_before():
    before = state()
    with Interrupts(lambda _: None):
        pass
    assert state() == before
    assert signal.set_wakeup_fd(-1) == -1


TWICE = """
import os, signal, sys
from runtime.channel import Channel
from runtime.interrupts import Interrupts

with Interrupts(lambda _: os.kill(os.getpid(), int(sys.argv[1]))):
    os.kill(os.getpid(), signal.SIGINT)
    Channel().get(timeout=20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_ends_the_process_with_its_code_whatever_the_main_thread_waits_for(tmp_path, number):
    command = [sys.executable, "-c", TWICE, str(int(number))]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, timeout=10, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")
