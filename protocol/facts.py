"""What is known of a draft once its code was run: facts, where a review is an opinion.

Good news needs proof, bad news does not: that something was imported or a test passed counts only when the runner in
the sandbox vouches for it with a secret that the code under test never sees (``protocol/execution.py``).
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

GIVEN = "test_given.py"
"""The file of the tests that task or plan give, and not the author of the draft."""
LONGEST_MESSAGE = 600
"""Characters of what a test says when it fails; the last ones of a long text are the telling ones."""


class SourceFile(Struct, frozen=True, kw_only=True):
    """One file of a draft; ``name`` is a relative path that is safe to write."""

    name: str
    text: str


class Job(Struct, frozen=True, kw_only=True):
    """One run of a sandbox: which files to lay out, and which of their tests not to run (``file::name``)."""

    id: str
    files: tuple[SourceFile, ...]
    skip: tuple[str, ...] = ()


class Ending(StrEnum):
    """How a run in the sandbox ended."""

    EXITED = "exited"  # by itself; the exit status says how
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    FILES = "files"
    KILLED = "killed"  # from outside: nobody waits for it any more
    NO_SANDBOX = "no_sandbox"  # it never began


class Ran(Struct, frozen=True, kw_only=True):
    """What one run left behind.

    ``look`` is what the runner saw before any code of the draft ran, ``proof`` what it vouches for afterwards, both in
    entries of four texts; None when it did not get there. ``begun`` is what was being done last: a hint that the code
    under test can forge. ``status`` is an exit status, 128 + n for signal n. Times are in seconds: ``start`` until the
    interpreter was there, ``wall`` from then on, ``cpu`` of all processes together.
    """

    ending: Ending
    status: int | None = None
    output: str = ""
    cut: bool = False
    look: tuple[tuple[str, ...], ...] | None = None
    proof: tuple[tuple[str, ...], ...] | None = None
    begun: str = ""
    reason: str = ""
    start: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0


class TestOutcome(StrEnum):
    """What became of a test."""

    __test__ = False

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUN = "not_run"


class TestFact(Struct, frozen=True, kw_only=True):
    """One test: ``file::name``, and what it said when it failed."""

    __test__ = False

    name: str
    outcome: TestOutcome
    message: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of one draft.

    ``parsed`` and ``imported`` are None where that was not tried; ``note`` says in words why. ``problems`` tells what
    kept it from being parsed or imported, ``missing`` which modules the sandbox does not have. Times are in seconds.
    """

    note: str = ""
    files: tuple[str, ...] = ()
    parsed: bool | None = None
    imported: bool | None = None
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    tests: tuple[TestFact, ...] = ()
    ending: Ending | None = None
    exit_status: int | None = None
    output: str = ""
    output_cut: bool = False
    start_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


class Checked(Struct, frozen=True, kw_only=True):
    """Facts in short, for results and summaries: parsed? ran? tests passed? None where that is not known.

    ``failures`` names what failed, with its message; ``note`` says what could not be tried, and why.
    """

    parsed: bool | None = None
    ran: bool | None = None
    tests_passed: int = 0
    tests_failed: int = 0
    failures: tuple[str, ...] = ()
    note: str = ""
