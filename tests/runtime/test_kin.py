"""What processes use, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime import kin

CHILD = "import subprocess, sys; p = subprocess.Popen(['sleep', '30']); print(p.pid, flush=True); input(); p.kill()"


@pytest.fixture
def family():
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    yield process.pid, int(process.stdout.readline())
    process.communicate("\n")


def test_kin_are_a_process_and_all_that_come_from_it(family):
    assert kin.kin(family[0]) == list(family)
    assert kin.children(family[0]) == [family[1]]


def test_who_has_gone_has_no_children_and_takes_nothing():
    assert (kin.children(2**22), kin.resident([2**22]), kin.cpu_seconds([2**22])) == ([], 0, 0.0)


def test_a_process_that_multiplies_is_not_run_after_for_ever(monkeypatch):
    monkeypatch.setattr(kin, "children", lambda pid: [pid + 1])
    assert len(kin.kin(1)) == kin.MOST_KIN + 1


def test_memory_and_processor_time_are_those_of_all(family):
    alone = kin.resident(family[1:])
    assert 0 < alone < kin.resident(family) - 1_000_000
    assert kin.cpu_seconds([os.getpid()]) > 0.0


def test_files_count_in_a_file_system_of_the_size_that_is_meant_alone():
    system = os.statvfs("/")
    size = system.f_blocks * system.f_frsize
    assert kin.files_in(os.getpid(), ["/"], size) == system.f_files - system.f_ffree
    assert kin.files_in(os.getpid(), ["/"], size + 1) == 0
    assert kin.files_in(2**22, ["/"], size) == 0


def test_a_priority_is_raised_where_we_may():
    process = subprocess.Popen(["sleep", "30"])
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, 5)
        kin.raise_priority([process.pid, 2**22])
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == (5 if os.geteuid() else 0)
    finally:
        process.kill()
        process.wait()
