"""The sandbox's command line: what bubblewrap is told, and whether this machine can do it.

bubblewrap is a toolkit; its arguments are the security model. Each is here for a reason that stands beside it.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import stat
import sys
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

from runtime import seccomp

WHERE: Final = "/usr/bin:/bin:/usr/local/bin"
"""Where the tools are looked for; the user's own PATH is not asked."""
BOX: Final = "/box"
SCRATCH: Final = (BOX, "/tmp", "/dev/shm")  # noqa: S108 (inside)
"""The folders inside that can be written, each in memory."""
FIRST_UID: Final = 1_900_000_000
USERS: Final = 2**24
"""Users that no system hands out. Each run is one of its own, since the kernel counts processes by user."""

MEBI: Final = 1024 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """What one run may take, in seconds and bytes.

    ``memory`` bounds each process and all together, ``disk`` each of the three folders that can be written. ``output``
    is what is kept of standard output and error; at ``most_output`` the run is ended.
    """

    wall: float = 10.0
    cpu: int = 8
    memory: int = 512 * MEBI
    processes: int = 32
    file: int = 16 * MEBI
    disk: int = 64 * MEBI
    files: int = 20_000
    output: int = 16 * 1024
    most_output: int = MEBI


class Tools(NamedTuple):
    """What is needed on this machine; ``libraries`` is what the interpreter needs beside the system's own."""

    bwrap: str
    setpriv: str
    unshare: str
    python: str
    libraries: tuple[str, ...]


class NoSandboxError(Exception):
    """There is no sandbox here; the text says why in one line."""


def find_tools() -> Tools:
    """Return the tools. Raises :class:`NoSandboxError` for the first that is missing."""
    if not sys.platform.startswith("linux"):
        raise NoSandboxError("the sandbox needs Linux")
    if platform.machine() not in seccomp.ARCHES:
        raise NoSandboxError(f"the sandbox has no system call filter for {platform.machine()}")
    names = {"bwrap": "bubblewrap", "setpriv": "util-linux", "unshare": "util-linux"}
    found = {name: shutil.which(name, path=WHERE) or "" for name in names}
    for name, package in names.items():
        if not found[name]:
            raise NoSandboxError(f"{package} is not installed; install it with: apt-get install {package}")
    python, libraries = _interpreter()
    return Tools(**found, python=python, libraries=libraries)


def command(tools: Tools, limits: Limits, *, filter_fd: int, inside: list[str]) -> list[str]:
    """Return the whole command line that runs *inside* in a fresh sandbox."""
    return [
        *(tools.setpriv, *_as_nobody(), "--pdeathsig=KILL", "--no-new-privs", "--"),
        # bubblewrap's own first process cannot be left over: should its parent be killed before it has asked to die
        # with it, it would wait for ever. In a process namespace around both it goes with the namespace.
        *(tools.unshare, "--user", "--map-current-user", "--pid", "--fork", "--kill-child=KILL", "--"),
        tools.bwrap,
        # a world of its own: users, processes, network, shared memory, host name, control groups
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
        "--disable-userns",  # no further user namespace: the door to most kernel bugs
        *("--cap-drop", "ALL"),
        "--die-with-parent",
        "--new-session",  # no terminal to type into
        *("--seccomp", str(filter_fd)),
        "--clearenv",
        *("--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", BOX, "--setenv", "LANG", "C.UTF-8"),
        *_system(tools.libraries),
        # no /proc: nothing in it is needed, and much of what is tried goes through it
        *(word for name in ("null", "zero", "full", "random", "urandom") for word in _device(name)),
        *(word for path in SCRATCH for word in _scratch(path, limits.disk)),
        *("--remount-ro", "/"),  # it is a tmpfs without a bound
        *("--chdir", BOX),
        "--",
        *inside,
    ]


def _as_nobody() -> tuple[str, ...]:
    """Leave root for a user that nobody else is: the kernel does not hold root to a number of processes."""
    if os.geteuid():
        return ()
    uid = FIRST_UID + secrets.randbelow(USERS)
    return (f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all")


def _system(libraries: tuple[str, ...]) -> list[str]:
    """Show the programs and libraries of the system and the interpreter, to be read alone."""
    words: list[str] = []
    for name in ("bin", "lib", "lib64", "lib32"):
        top, usr = Path("/", name), Path("/usr", name)
        if usr.is_dir():
            words += ["--ro-bind", str(usr), str(usr)]
        if top.is_symlink():
            words += ["--symlink", f"usr/{name}", str(top)]
        elif top.is_dir():
            words += ["--ro-bind", str(top), str(top)]
    for path in ("/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime", *libraries):
        words += ["--ro-bind-try", path, path]
    return words


def _device(name: str) -> list[str]:
    return ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]


def _scratch(path: str, size: int) -> list[str]:
    return ["--size", str(size), "--tmpfs", path]


def _interpreter() -> tuple[str, tuple[str, ...]]:
    """Return an interpreter that any user can execute, and what it needs beside the system: ours, or the system's."""
    ours = Path(os.path.realpath(sys.executable))
    prefix = Path(sys.base_prefix)
    if ours.is_relative_to("/usr/bin") and _open_to_all(ours):
        return str(ours), ()
    library = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    shared = sorted(str(path) for path in (prefix / "lib").glob("libpython3*"))
    if all(_open_to_all(path) for path in (ours, library)):
        return str(ours), (str(ours), str(library), *shared)
    system = Path("/usr/bin/python3")
    if system.exists() and _open_to_all(system.resolve()):
        return str(system), ()
    raise NoSandboxError(f"the sandbox needs a Python that any user can execute; {ours} is closed to others")


def _open_to_all(path: Path) -> bool:
    """Tell whether any user can reach and read *path*; where we are not root, what we can read is enough."""
    if os.geteuid():
        return os.access(path, os.R_OK)
    try:
        return all(
            each.stat().st_mode & (stat.S_IXOTH if each.is_dir() else stat.S_IROTH) for each in (path, *path.parents)
        )
    except OSError:
        return False
