"""What the processes of a sandbox use, seen from outside: /proc knows, whatever they say of themselves."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = os.sysconf("SC_PAGE_SIZE")
MOST_KIN = 1000
"""A process that forks and ends, again and again, could be run after for ever."""
TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Return the children of every thread of *pid*; none when it has gone."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_bytes().split())
    return found


def kin(pid: int) -> list[int]:
    """Return *pid* and all that come from it. Who left his parent is found too: in there the first process adopts."""
    found = [pid]
    for each in found:
        found += children(each)
        if len(found) > MOST_KIN:
            break
    return found


def resident(pids: Iterable[int]) -> int:
    """Return the bytes of memory that *pids* hold; what they share counts for each."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
    return total


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time of *pids* and of the children they have waited for."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += sum(map(int, Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[11:15]))
    return total / TICKS


def files_in(pid: int, folders: Iterable[str], size: int) -> int:
    """Return how many files stand in the file systems at *folders* as *pid* sees them; 0 where we may not look.

    Those that are not of *size* bytes are not the sandbox's: the process has ended, and another has its number.
    """
    total = 0
    for folder in folders:
        with suppress(OSError):
            system = os.statvfs(f"/proc/{pid}/root{folder}")
            if system.f_blocks * system.f_frsize == size:
                total += system.f_files - system.f_ffree
    return total


def raise_priority(pids: Iterable[int]) -> None:
    """Let *pids* run like others again, where we may: what is to end must get its turns for that."""
    for pid in pids:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, 0)
