"""The seccomp filter of the sandbox, as bytes: which system calls the code inside cannot make.

What is denied is what has no use in a draft's tests and a history of holes, or what would reach past a limit: tracing,
namespaces, mounts, keys, BPF, io_uring, memory that no limit counts, every socket family that a network namespace does
not contain. Calls newer than this table do not exist inside. The numbers are those of the kernel's syscall tables.
"""

from __future__ import annotations

import platform
import struct
from typing import Final, NamedTuple


class Arch(NamedTuple):
    """A machine: the column of its numbers in :data:`DENIED`, its audit code, and the calls whose arguments matter."""

    column: int
    audit: int
    clone: int
    socket: int
    ioctl: int


ARCHES: Final = {
    "x86_64": Arch(0, 0xC000003E, clone=56, socket=41, ioctl=16),
    "aarch64": Arch(1, 0xC00000B7, clone=220, socket=198, ioctl=29),
}
CLONE3: Final = 435
NEWEST: Final = 450
"""Calls with greater numbers came after this table."""

DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # keys, programs in the kernel, rings
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "vmsplice": (278, 75),
    # memory that no limit of the sandbox counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "mbind": (237, 235),
    "get_mempolicy": (239, 236),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # the machine
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
}
FAMILIES: Final = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6: these end at the sandbox's own network namespace."""
NEW_NAMESPACE: Final = 0x7E020000
"""The flags of clone that make a namespace; a new user namespace is the door to most kernel bugs."""
TERMINAL: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: they type into a terminal."""

ALLOW, KILL = 0x7FFF0000, 0x80000000
_ERRNO = 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
_LD, _JEQ, _JGT, _JSET, _RET = 0x20, 0x15, 0x25, 0x45, 0x06
_NR, _AUDIT, _ARG0, _ARG1 = 0, 4, 16, 24
_X32 = 0x40000000


def program(machine: str | None = None) -> bytes:
    """Return the filter for *machine* (default: this one) as an array of ``struct sock_filter``.

    Raises ``KeyError`` for a machine that is not in :data:`ARCHES`.
    """
    arch = ARCHES[machine or platform.machine()]
    denied = sorted(number for numbers in DENIED.values() if (number := numbers[arch.column]) is not None)
    code = [
        _step(_LD, _AUDIT),
        _step(_JEQ, arch.audit, 1, 0),
        _step(_RET, KILL),
        _step(_LD, _NR),
        _step(_JGT, _X32 - 1, 0, 1),
        _step(_RET, KILL),
        *_refuse(_JGT, NEWEST, ENOSYS),
        *_refuse(_JEQ, CLONE3, ENOSYS),  # its flags lie in memory, where no filter sees them; libc falls back to clone
    ]
    for number in denied:
        code += _refuse(_JEQ, number, EPERM)
    code += _unless(arch.clone, [_step(_LD, _ARG0), *_refuse(_JSET, NEW_NAMESPACE, EPERM)])
    families = [_step(_JEQ, family, len(FAMILIES) - at, 0) for at, family in enumerate(FAMILIES)]
    code += _unless(arch.socket, [_step(_LD, _ARG0), *families, _step(_RET, _ERRNO | EAFNOSUPPORT)])
    code += _unless(arch.ioctl, [_step(_LD, _ARG1), *(s for t in TERMINAL for s in _refuse(_JEQ, t, EPERM))])
    return b"".join([*code, _step(_RET, ALLOW)])


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _refuse(test: int, value: int, errno: int) -> list[bytes]:
    """Return the steps that answer *errno* when *test* holds."""
    return [_step(test, value, 0, 1), _step(_RET, _ERRNO | errno)]


def _unless(number: int, steps: list[bytes]) -> list[bytes]:
    """Return *steps* for system call *number*; they end in an answer: allowed when none of them refused."""
    return [_step(_JEQ, number, 0, len(steps) + 1), *steps, _step(_RET, ALLOW)]
