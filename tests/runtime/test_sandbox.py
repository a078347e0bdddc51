"""The sandbox as a whole: what it reports, and that nothing outlives a run, however it ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.facts import Ending
from runtime import bubblewrap
from runtime.bubblewrap import Limits
from runtime.sandbox import Sandbox, as_bytes
from tests.runtime.box import MINE, boxes, job, needs_sandbox, run, soon, told, users_of_our_own  # noqa: F401

ROOT = Path(__file__).parent.parent.parent
HANGS = "import time\nprint('here', flush=True)\ntime.sleep(60)"


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="ascii")


def folders() -> set[str]:
    """Return what stands in the folder that bubblewrap uses and belongs to a sandbox."""
    return {entry.name for entry in os.scandir("/tmp") if entry.stat(follow_symlinks=False).st_uid >= MINE}


@needs_sandbox
def test_a_draft_is_looked_at_imported_and_tested():
    ran = run("print('hello')\ndef test_good():\n    pass\ndef test_bad():\n    assert 1 == 2, 'no'")
    assert (ran.ending, ran.status, ran.output) == (Ending.EXITED, 0, "hello\n")
    assert ("test", "draft.py::test_bad", "", "") in ran.look
    assert ran.proof == (
        ("imported", "draft.py", "", ""),
        ("passed", "draft.py::test_good", "", ""),
        ("failed", "draft.py::test_bad", "", "AssertionError: no\0draft.py\x005"),
    )


@needs_sandbox
def test_tests_of_every_usual_kind_are_run():
    text = """
async def test_async():
    raise ValueError("async")
def test_wants_a_fixture(tmp_path): ...
class TestPlain:
    def setup_method(self, method):
        self.x = 1
    def test_it(self):
        assert self.x == 2
class Helper:
    def test_nothing(self): ...
"""
    assert told(run(text)) == {
        "draft.py": "imported",
        "draft.py::test_async": "failed",
        "draft.py::test_wants_a_fixture": "skipped",
        "draft.py::TestPlain.test_it": "failed",
    }


@needs_sandbox
@pytest.mark.slow
def test_a_test_case_has_its_fixtures():
    text = """
import unittest
class CaseTestCase(unittest.TestCase):
    def setUp(self):
        self.x = 1
    def test_good(self):
        self.assertEqual(self.x, 1)
    def test_bad(self):
        self.assertEqual(self.x, 2)
    @unittest.skip("later")
    def test_later(self): ...
"""
    ran = run(text)
    assert list(told(ran).values()) == ["imported", "passed", "failed", "skipped"]
    assert "1 != 2" in next(entry[3] for entry in ran.proof if entry[0] == "failed")


@needs_sandbox
def test_several_files_import_each_other():
    test = "from client import TWO\ndef test_two():\n    assert TWO == 2"
    ran = run(client="from core import ONE\nTWO = ONE + 1", core="ONE = 1", test_it=test)
    assert told(ran)["test_it.py::test_two"] == "passed"


@needs_sandbox
def test_a_made_up_module_in_a_test_means_the_draft():
    ran = run("def f():\n    return 1", test_draft="from your_module import f\ndef test_f():\n    assert f() == 1")
    assert told(ran)["test_draft.py::test_f"] == "passed"


@needs_sandbox
def test_a_module_that_is_not_there_is_named():
    ran = run("import no_such_package.inner")
    assert ("missing", "no_such_package", "draft.py", "") in ran.look
    assert ran.proof[0][:3] == ("absent", "draft.py", "no_such_package")


@needs_sandbox
@pytest.mark.slow
def test_examples_in_docstrings_are_run_where_there_is_no_test():
    ran = run('def f(x):\n    """\n    >>> f(1)\n    2\n    >>> f(2)\n    2\n    """\n    return x + 1')
    assert told(ran)["draft.py::draft.f (doctest)"] == "failed"
    assert "Got:\n    3" in ran.proof[-1][3]


@needs_sandbox
def test_what_cannot_be_parsed_is_not_run():
    ran = run("print('ran')\ndef f(:\n")
    assert (ran.output, ran.proof) == ("", None)
    assert ran.look[1] == ("problem", "draft.py", "2", "SyntaxError: invalid syntax")


@needs_sandbox
@pytest.mark.parametrize("text", ["(" * 5000 + ")" * 5000, "\0", "x" * 100 + "\udcff", "-" * 90_000 + "1"])
def test_a_source_that_hurts_the_parser_hurts_nobody_else(text):
    ran = run(text)
    assert ran.ending is Ending.EXITED
    assert told(ran) == {}


@needs_sandbox
def test_a_test_that_is_left_out_does_not_run():
    ran = run("def test_a():\n    print('a')\ndef test_b():\n    print('b')", skip=("draft.py::test_a",))
    assert (ran.output, told(ran).get("draft.py::test_b")) == ("b\n", "passed")


@needs_sandbox
def test_whoever_leaves_early_has_proved_nothing():
    ran = run("def test_a():\n    pass\ndef test_b():\n    import os\n    os._exit(0)")
    assert (ran.status, ran.proof, ran.begun) == (0, None, "draft.py::test_b")


@needs_sandbox
def test_output_is_cut_and_says_so():
    ran = run("print('x' * 200_000)\ndef test_it():\n    pass", limits=Limits(output=1000))
    assert (len(ran.output), ran.cut, told(ran)["draft.py::test_it"]) == (1000, True, "passed")


@needs_sandbox
def test_output_that_is_no_text_is_shown_all_the_same():
    ran = run("import os\nos.write(1, b'\\xff\\x00\\x1b[31m')")
    assert ran.output == "\ufffd\0\x1b[31m"


@needs_sandbox
def test_an_interpreter_that_dies_by_a_signal_says_which():
    ran = run("import os\nos.kill(os.getpid(), 11)")
    assert (ran.ending, ran.status) == (Ending.EXITED, 128 + signal.SIGSEGV)


@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "while True: pass",
        HANGS,
        f"import signal\nfor n in set(range(1, 32)) - {{9, 19}}:\n    signal.signal(n, signal.SIG_IGN)\n{HANGS}",
        f"import os\nif os.fork():\n    os.setsid() if os.getpid() > 2 else 0\n{HANGS}",
        f"{HANGS.splitlines()[0]}\nimport os\nos.closerange(0, 256)\ntime.sleep(60)",
        "def test_it():\n    while True: pass",
    ],
)
def test_a_run_that_hangs_ends_at_its_limit_and_leaves_nobody(text):
    before, began = boxes(), time.monotonic()
    ran = run(text, limits=Limits(wall=0.5))
    assert time.monotonic() - began < 0.5 + 2.0
    assert ran.ending is Ending.TIMEOUT
    assert boxes() - before == set()


@needs_sandbox
@pytest.mark.slow
def test_whoever_writes_without_end_is_ended_though_the_pipe_is_full():
    began = time.monotonic()
    endings = {run("import os\nwhile True: os.write(1, bytes(65536))").ending for _ in range(5)}
    assert endings == {Ending.OUTPUT}
    assert time.monotonic() - began < 5.0


@needs_sandbox
@pytest.mark.slow
def test_a_loop_that_burns_the_processor_is_ended_by_its_own_limit():
    ran = run("while True: pass", limits=Limits(cpu=1, wall=8.0))
    assert ran.status == 128 + signal.SIGXCPU


@needs_sandbox
@pytest.mark.slow
def test_kills_at_random_instants_leave_nothing():
    before, seen, there = boxes(), mounts(), folders()
    sandbox, dice = Sandbox(), random.Random(1)
    endings = set()
    for n in range(40):
        id_ = f"job-{n}"
        timer = threading.Timer(dice.random() * 0.08, sandbox.kill, (id_,))
        timer.start()
        endings.add(sandbox.run(job(HANGS, id_=id_)).ending)
        timer.join()
    assert endings == {Ending.KILLED}
    assert boxes() - before == set()
    assert (mounts(), folders() - there) == (seen, set())


HOST = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from runtime import bubblewrap
from runtime.sandbox import Sandbox
from protocol.facts import Job, SourceFile
bubblewrap.FIRST_UID, bubblewrap.USERS = {MINE}, 100
print("begun", flush=True)
for n in range(9):
    Sandbox().run(Job(id="x", files=(SourceFile(name="draft.py", text="import time\\ntime.sleep(0.03)"),)))
"""


@needs_sandbox
@pytest.mark.slow
def test_when_troupe_is_killed_at_a_random_instant_its_sandboxes_go_too():
    before, dice = boxes(), random.Random(2)
    for _ in range(40):
        host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE)
        host.stdout.readline()
        time.sleep(dice.random() * 0.15)
        host.kill()
        host.wait()
        host.stdout.close()
    assert soon(lambda: boxes() - before == set())


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="the environment of another user's process is root's to read")
def test_the_launcher_is_told_nothing_of_our_environment(monkeypatch):
    monkeypatch.setenv("CANARY", "a-canary-in-the-environment")
    sandbox, seen = Sandbox(), []
    thread = threading.Thread(target=sandbox.run, args=(job(HANGS),))
    thread.start()

    def look() -> bool:
        for path in [Path("/proc", pid, name) for pid in boxes() for name in ("environ", "cmdline")]:
            with suppress(OSError):
                seen.append(path.read_bytes())
        return any(b"HOME=/box" in words for words in seen)

    assert soon(look)
    sandbox.close()
    thread.join()
    assert b"a-canary-in-the-environment" not in b"".join(seen)


@needs_sandbox
def test_a_closed_sandbox_ends_what_runs():
    sandbox = Sandbox()
    threading.Timer(0.1, sandbox.close).start()
    assert sandbox.run(job(HANGS)).ending is Ending.KILLED


@needs_sandbox
def test_descriptors_are_given_back():
    run("pass")
    before = len(os.listdir("/proc/self/fd"))
    run("pass")
    run("import os\nos._exit(1)")
    assert len(os.listdir("/proc/self/fd")) == before


@needs_sandbox
@pytest.mark.slow
def test_a_large_draft_arrives_whole():
    ran = run(f"X = '{'x' * 900_000}'\ndef test_it():\n    assert len(X) == 900_000")
    assert told(ran)["draft.py::test_it"] == "passed"


def test_a_job_on_its_way_holds_no_separator_of_its_own():
    assert as_bytes(job("a\0b", skip=("t",))) == b"1 16\ndraft.py\0a\xef\xbf\xbdb\0t"


# --- where there is none, nothing runs


def test_without_bubblewrap_nothing_runs_and_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(bubblewrap, "WHERE", str(tmp_path))
    ran = run("print('ran')")
    assert (ran.ending, ran.output) == (Ending.NO_SANDBOX, "")
    assert ran.reason == "bubblewrap is not installed; install it with: apt-get install bubblewrap"
    assert Sandbox().obstacle() == ran.reason


def fake(folder: Path, script: str) -> None:
    path = folder / "bwrap"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    folder.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'bwrap: No permissions to create a new namespace' >&2; exit 1", "No permissions to create"),
        ("exit 0", "it never began"),
        ('exec python3 "$@"', "the sandbox does not work here"),
    ],
)  # fmt: skip
def test_where_namespaces_are_forbidden_nothing_runs(monkeypatch, script, reason):
    folder = Path(f"/tmp/troupe-fake-{os.getpid()}")  # any user must be able to reach it
    folder.mkdir(exist_ok=True)
    fake(folder, script)
    monkeypatch.setattr(bubblewrap, "WHERE", f"{folder}:/usr/bin")
    try:
        ran = run("print('ran')")
        assert (ran.ending, ran.proof) == (Ending.NO_SANDBOX, None)
        assert reason in ran.reason
        assert reason in Sandbox().obstacle()
    finally:
        (folder / "bwrap").unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.setattr(bubblewrap.sys, "platform", "darwin"), "the sandbox needs Linux"),
        (lambda m: m.setattr(bubblewrap.platform, "machine", lambda: "vax"), "no system call filter for vax"),
    ],
)
def test_another_machine_has_none(monkeypatch, change, reason):
    change(monkeypatch)
    assert reason in run("pass").reason
