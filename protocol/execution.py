"""What becomes of one draft in the sandbox: which runs, and what is known after them. Partner: ``actors/executor.py``.

One run is enough when the runner gets to its end. When it does not, because a test ended the interpreter, hung or took
too much, that test has failed, and a further run takes the others: what they had proved went with the interpreter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from protocol.facts import GIVEN, LONGEST_MESSAGE, Ending, Facts, Job, Ran, SourceFile, TestFact, TestOutcome
from protocol.policies.code_blocks import take

if TYPE_CHECKING:
    from protocol.channel import Entries

MOST_RUNS = 4
LONGEST_ALL = 30.0
"""Seconds that all runs of one draft may take before no further one is begun."""
MOST_FILES = 50
LARGEST = 1_000_000
"""Characters of all files together."""
MOST_PROBLEMS = 20

_SIGNALS = {
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
    25: "SIGXFSZ",
}
_SIGXCPU = 24
_TOO_MUCH = {
    Ending.MEMORY: "it took more memory than it may",
    Ending.OUTPUT: "it wrote more output than it may",
    Ending.FILES: "it made more files than it may",
    Ending.KILLED: "it was ended from outside",
}


class Execution:
    """The runs of one draft; ask :meth:`job`, tell :meth:`on_ran`, until there is no further job."""

    def __init__(self, id_: str, draft: str, tests: str = "") -> None:
        self._id = id_
        files = [file for file in take(draft) if not (tests and file.name == GIVEN)]
        if files and tests:
            files.append(SourceFile(name=GIVEN, text=tests))
        self._files = tuple(files)
        self._facts = Facts(files=tuple(file.name for file in files))
        self._tests: dict[str, TestFact] = {}
        self._runs = 0
        self._spent = 0.0
        self._over = False
        if not files:
            self._end("not run: there is no Python in it")
        elif len(files) > MOST_FILES or sum(len(file.text) for file in files) > LARGEST:
            self._end("not run: it is too large")

    def job(self) -> Job | None:
        """Return the next run to make; None when all is known that will be."""
        return None if self._over else Job(id=self._id, files=self._files, skip=tuple(self._tests))

    def facts(self) -> Facts:
        """Return what is known now."""
        return self._facts

    def on_ran(self, ran: Ran) -> None:
        """Take in what a run left behind."""
        self._runs += 1
        self._spent += ran.wall
        self._note_run(ran)
        if ran.ending is Ending.NO_SANDBOX:
            self._end(f"not run: no sandbox ({ran.reason})")
        elif ran.look is None:
            self._unreadable(f"it cannot be parsed: {how_it_ended(ran)}")
        elif problems := [entry for entry in ran.look if entry[0] == "problem"]:
            self._unreadable(*(self._at(entry[1], entry[2], entry[3]) for entry in problems))
        elif ran.proof is not None:
            self._proved(ran.look, ran.proof)
        else:
            self._broke_off(ran, ran.look)

    # --- what a run showed

    def _note_run(self, ran: Ran) -> None:
        self._set(
            ending=ran.ending,
            exit_status=ran.status,
            output=ran.output,
            output_cut=ran.cut,
            start_seconds=round(ran.start, 4),
            wall_seconds=round(self._spent, 4),
            cpu_seconds=round(self._facts.cpu_seconds + ran.cpu, 4),
        )

    def _unreadable(self, *problems: str) -> None:
        self._set(parsed=False, problems=problems[:MOST_PROBLEMS])
        self._end("")

    def _proved(self, look: Entries, proof: Entries) -> None:
        """The runner got to its end and vouches for what it saw."""
        known = _tests_in(look)
        lacks = {entry[1] for entry in look if entry[0] == "missing"}
        problems: list[str] = []
        missing: dict[str, None] = {}
        for kind, name, module, message in proof:
            if kind in _OUTCOMES and name not in self._tests and (name in known or name.endswith(" (doctest)")):
                self._tests[name] = TestFact(name=name, outcome=_OUTCOMES[kind], message=self._told(message))
            elif kind == "absent" and module in lacks:
                missing[module] = None
            elif kind in {"broken", "absent"}:
                problems.append(f"importing {name} failed: {self._told(message)}")
        self._leave(known)
        self._set(
            parsed=True,
            imported=False if problems else None if missing else True,
            problems=tuple(problems[:MOST_PROBLEMS]),
            missing=tuple(missing),
        )
        self._end(f"needs {' and '.join(missing)}, which the sandbox does not have" if missing else "")

    def _broke_off(self, ran: Ran, look: Entries) -> None:
        """The interpreter ended before the runner: whatever was being done has failed. Nothing is proved."""
        how = how_it_ended(ran)
        known = _tests_in(look)
        self._set(parsed=True)
        if ran.ending is Ending.KILLED:
            self._end(f"not run: {how}")
        elif ran.begun not in known or ran.begun in self._tests:
            doing = ran.begun if ran.begun.startswith("import ") else "running it"
            self._set(imported=False, problems=(f"{doing} failed: {how}",))
            self._end("")
        else:
            self._tests[ran.begun] = TestFact(name=ran.begun, outcome=TestOutcome.FAILED, message=how)
            if len(self._tests) == len(known) or self._runs >= MOST_RUNS or self._spent + ran.wall > LONGEST_ALL:
                self._leave(known)
                self._end("")

    def _leave(self, known: list[str]) -> None:
        """Give up the tests that nothing is known of."""
        for name in known:
            self._tests.setdefault(name, TestFact(name=name, outcome=TestOutcome.NOT_RUN))

    def _end(self, note: str) -> None:
        self._over = True
        self._set(note=note, tests=tuple(self._tests.values()))

    def _set(self, **facts: object) -> None:
        self._facts = replace(self._facts, **facts)

    # --- words

    def _told(self, message: str) -> str:
        """Return what was raised, with the line of the draft that it came from: the files are ours to read."""
        text, _, where = message.partition("\0")
        file, _, line = where.partition("\0")
        return self._at(file, line, text) if file else text[-LONGEST_MESSAGE:]

    def _at(self, file: str, line: str, text: str) -> str:
        lines = next((each.text.splitlines() for each in self._files if each.name == file), [])
        number = int(line) if line.isdecimal() and len(line) < 8 else 0
        source = lines[number - 1].strip()[:200] if 0 < number <= len(lines) else ""
        where = f"{file} line {number}: {source}" if source else f"{file} line {number}" if number else file
        return f"{text.rstrip(': ')[-LONGEST_MESSAGE:]} ({where})"


_OUTCOMES = {"passed": TestOutcome.PASSED, "failed": TestOutcome.FAILED, "skipped": TestOutcome.SKIPPED}


def _tests_in(look: Entries) -> list[str]:
    return [entry[1] for entry in look if entry[0] == "test"]


def how_it_ended(ran: Ran) -> str:
    """Say in words why a run broke off."""
    status = ran.status or 0
    if ran.ending is Ending.TIMEOUT:
        return f"it was still running after {ran.wall:.0f} s"
    if ran.ending is not Ending.EXITED:
        return _TOO_MUCH[ran.ending]
    if status == 128 + _SIGXCPU:
        return "it took more processor time than it may"
    if status > 128:
        return f"the interpreter was ended by {_SIGNALS.get(status - 128, f'signal {status - 128}')}"
    return f"it ended the interpreter with exit status {status}"
