"""The filter as bytes, run by a BPF machine of eight instructions: what each system call gets."""

from __future__ import annotations

import struct

import pytest

from runtime.seccomp import (
    ALLOW,
    ARCHES,
    CLONE3,
    DENIED,
    EAFNOSUPPORT,
    ENOSYS,
    EPERM,
    KILL,
    NEW_NAMESPACE,
    NEWEST,
    TERMINAL,
    program,
)

EVERYDAY = {
    "x86_64": {"read": 0, "write": 1, "mmap": 9, "fork": 57, "execve": 59, "socketpair": 53, "openat": 257},
    "aarch64": {"read": 63, "write": 64, "mmap": 222, "execve": 221, "socketpair": 199, "futex": 98, "openat": 56},
}  # fmt: skip


def verdict(machine: str, number: int, *args: int, audit: int | None = None) -> int:
    """Run the filter on one call, as the kernel does."""
    steps = list(struct.iter_unpack("=HBBI", program(machine)))
    data = struct.pack("=IIQ6Q", number, ARCHES[machine].audit if audit is None else audit, 0, *(*args, *[0] * 6)[:6])
    value, at = 0, 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: value == operand, 0x25: value > operand, 0x45: bool(value & operand)}[code]
            at += yes if holds else no


def refusal(errno: int) -> int:
    return 0x50000 | errno


both = pytest.mark.parametrize("machine", sorted(ARCHES))


@both
def test_every_denied_call_is_refused(machine):
    numbers = {name: both[ARCHES[machine].column] for name, both in DENIED.items()}
    answers = {name: verdict(machine, n) for name, n in numbers.items() if n is not None}
    assert set(answers.values()) == {refusal(EPERM)}
    assert len(answers) > 60


@both
def test_what_programs_need_is_allowed(machine):
    assert {verdict(machine, number) for number in EVERYDAY[machine].values()} == {ALLOW}


@both
def test_all_that_is_not_denied_is_allowed(machine):
    arch = ARCHES[machine]
    special = {arch.clone, arch.socket, arch.ioctl, CLONE3, *(numbers[arch.column] for numbers in DENIED.values())}
    assert {verdict(machine, number) for number in range(NEWEST + 1) if number not in special} == {ALLOW}


@both
def test_a_call_that_is_newer_than_the_table_does_not_exist(machine):
    assert verdict(machine, NEWEST + 1) == refusal(ENOSYS)


@both
def test_clone_makes_processes_and_threads_and_no_namespace(machine):
    clone = ARCHES[machine].clone
    assert [verdict(machine, clone, flags) for flags in (17, 0x3D0F00)] == [ALLOW, ALLOW]
    flags = [1 << bit for bit in range(32) if NEW_NAMESPACE >> bit & 1]
    assert {verdict(machine, clone, flag | 17) for flag in flags} == {refusal(EPERM)}
    assert (verdict(machine, CLONE3), len(flags)) == (refusal(ENOSYS), 7)


@both
def test_sockets_are_of_families_that_end_at_the_namespace(machine):
    allowed = {f for f in range(64) if verdict(machine, ARCHES[machine].socket, f, 1) == ALLOW}
    assert allowed == {1, 2, 10}
    assert verdict(machine, ARCHES[machine].socket, 40, 1) == refusal(EAFNOSUPPORT)


@both
def test_nobody_types_into_a_terminal(machine):
    ioctl = ARCHES[machine].ioctl
    assert {verdict(machine, ioctl, 0, request) for request in TERMINAL} == {refusal(EPERM)}
    assert verdict(machine, ioctl, 0, 0x5401) == ALLOW


@both
def test_a_call_by_another_machines_numbers_ends_the_process(machine):
    assert verdict(machine, 0, audit=0x40000003) == KILL
    assert verdict(machine, 0x40000000 | 1) == KILL


def test_an_unknown_machine_is_refused():
    with pytest.raises(KeyError):
        program("vax")
