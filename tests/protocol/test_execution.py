"""The runs of one draft: how many, which tests in each, and what is known after them."""

from __future__ import annotations

import pytest

from protocol.execution import LARGEST, MOST_RUNS, Execution
from protocol.facts import Ending, Ran, TestFact, TestOutcome

PASSED, FAILED, NOT_RUN = TestOutcome.PASSED, TestOutcome.FAILED, TestOutcome.NOT_RUN
DRAFT = "```python\ndef f():\n    return 1\n\ndef test_a():\n    assert f() == 2\n\ndef test_b():\n    pass\n```\n"
A, B = "draft.py::test_a", "draft.py::test_b"
LOOK = (("python", "3.11", "", ""), ("test", A, "", ""), ("test", B, "", ""))
IMPORTED = ("imported", "draft.py", "", "")


def ran(*proof: tuple[str, ...], **more) -> Ran:
    return Ran(**{"ending": Ending.EXITED, "status": 0, "look": LOOK, "proof": proof or None, "wall": 0.5, **more})


def broke(begun: str, **more) -> Ran:
    return ran(begun=begun, **more)


def outcomes(execution: Execution) -> dict[str, TestOutcome]:
    return {test.name: test.outcome for test in execution.facts().tests}


def begun() -> Execution:
    execution = Execution("id", DRAFT)
    assert execution.job().skip == ()
    return execution


def test_a_run_that_gets_to_its_end_is_enough():
    execution = begun()
    told = "AssertionError: \0draft.py\x005"
    execution.on_ran(ran(IMPORTED, ("failed", A, "", told), ("passed", B, "", ""), output="hi", cut=True, start=0.25))
    facts = execution.facts()
    assert execution.job() is None
    assert (facts.parsed, facts.imported, facts.note, facts.files) == (True, True, "", ("draft.py",))
    assert facts.tests == (
        TestFact(name=A, outcome=FAILED, message="AssertionError (draft.py line 5: assert f() == 2)"),
        TestFact(name=B, outcome=PASSED),
    )
    assert (facts.output, facts.output_cut, facts.start_seconds, facts.wall_seconds) == ("hi", True, 0.25, 0.5)


def test_a_job_carries_the_draft_and_the_given_tests():
    execution = Execution("id", DRAFT, "def test_given(): ...\n")
    assert [file.name for file in execution.job().files] == ["draft.py", "test_given.py"]
    own = "`test_given.py`\n```python\ndef test_given():\n    pass\n```\n" + DRAFT
    files = {file.name: file.text for file in Execution("id", own, "given").job().files}
    assert files["test_given.py"] == "given"


@pytest.mark.parametrize(
    ("draft", "note"),
    [
        ("just words", "not run: there is no Python in it"),
        (f"X = '{'x' * LARGEST}'\nimport os", "not run: it is too large"),
    ],
)
def test_what_cannot_be_run_is_not(draft, note):
    execution = Execution("id", draft, "given")
    assert (execution.job(), execution.facts().note, execution.facts().parsed) == (None, note, None)


def test_without_a_sandbox_nothing_is_known():
    execution = begun()
    execution.on_ran(Ran(ending=Ending.NO_SANDBOX, reason="bubblewrap is not installed"))
    assert execution.facts().note == "not run: no sandbox (bubblewrap is not installed)"
    assert (execution.job(), execution.facts().parsed) == (None, None)


def test_what_does_not_parse_is_told_with_its_line():
    execution = begun()
    look = (LOOK[0], ("problem", "draft.py", "2", "SyntaxError: invalid syntax"))
    execution.on_ran(ran(look=look, status=1))
    assert execution.facts().problems == ("SyntaxError: invalid syntax (draft.py line 2: return 1)",)
    assert (execution.facts().parsed, execution.facts().imported) == (False, None)


def test_a_parser_that_gave_up_says_how():
    execution = begun()
    execution.on_ran(ran(look=None, status=128 + 11))
    assert execution.facts().problems == ("it cannot be parsed: the interpreter was ended by SIGSEGV",)


def test_an_import_that_fails_is_a_problem_and_its_tests_are_not_run():
    execution = begun()
    execution.on_ran(ran(("broken", "draft.py", "", "ValueError: no\0draft.py\x0099")))
    assert execution.facts().problems == ("importing draft.py failed: ValueError: no (draft.py line 99)",)
    assert execution.facts().imported is False
    assert outcomes(execution) == {A: NOT_RUN, B: NOT_RUN}


def test_a_module_that_the_sandbox_lacks_is_no_failure_of_the_draft():
    execution = begun()
    look = (*LOOK, ("missing", "aiohttp", "draft.py", ""))
    execution.on_ran(ran(("absent", "draft.py", "aiohttp", "ModuleNotFoundError: no"), look=look))
    facts = execution.facts()
    assert (facts.imported, facts.problems, facts.missing) == (None, (), ("aiohttp",))
    assert facts.note == "needs aiohttp, which the sandbox does not have"


def test_a_module_that_nobody_saw_missing_is_a_failure():
    execution = begun()
    execution.on_ran(ran(("absent", "draft.py", "made_up", "ModuleNotFoundError: no module")))
    assert execution.facts().imported is False
    assert execution.facts().problems == ("importing draft.py failed: ModuleNotFoundError: no module",)


def test_what_the_runner_did_not_announce_is_not_believed():
    execution = begun()
    execution.on_ran(ran(IMPORTED, ("passed", "other.py::test_x", "", ""), ("noted", "", "", "x")))
    assert outcomes(execution) == {A: NOT_RUN, B: NOT_RUN}


def test_examples_in_docstrings_are_tests():
    execution = Execution("id", DRAFT)
    name = "draft.py::draft.f (doctest)"
    execution.on_ran(ran(IMPORTED, ("passed", name, "", ""), look=LOOK[:1]))
    assert outcomes(execution) == {name: PASSED}


def test_a_test_that_ends_the_interpreter_has_failed_and_the_others_run_again():
    execution = begun()
    execution.on_ran(broke(A, status=0))
    assert execution.job().skip == (A,)
    execution.on_ran(ran(IMPORTED, ("passed", A, "", ""), ("passed", B, "", "")))
    assert execution.job() is None
    assert execution.facts().tests == (
        TestFact(name=A, outcome=FAILED, message="it ended the interpreter with exit status 0"),
        TestFact(name=B, outcome=PASSED),
    )


@pytest.mark.parametrize(
    ("more", "how"),
    [
        ({"status": 3}, "it ended the interpreter with exit status 3"),
        ({"status": 128 + 24}, "it took more processor time than it may"),
        ({"status": 128 + 9}, "the interpreter was ended by SIGKILL"),
        ({"status": 128 + 63}, "the interpreter was ended by signal 63"),
        ({"ending": Ending.TIMEOUT, "status": None, "wall": 10.02}, "it was still running after 10 s"),
        ({"ending": Ending.MEMORY, "status": None}, "it took more memory than it may"),
        ({"ending": Ending.OUTPUT, "status": None}, "it wrote more output than it may"),
        ({"ending": Ending.FILES, "status": None}, "it made more files than it may"),
    ],
)
def test_how_a_run_broke_off_is_told(more, how):
    execution = begun()
    execution.on_ran(broke("import draft.py", **more))
    assert execution.facts().problems == (f"import draft.py failed: {how}",)
    assert (execution.facts().parsed, execution.facts().imported) == (True, False)
    assert execution.job() is None


def test_a_hint_that_names_no_test_blames_the_whole():
    execution = begun()
    execution.on_ran(broke("draft.py::test_forged"))
    assert execution.facts().problems == ("running it failed: it ended the interpreter with exit status 0",)


def test_a_hint_that_names_a_test_which_was_left_out_blames_the_whole():
    execution = begun()
    execution.on_ran(broke(A))
    execution.on_ran(broke(A))
    assert (execution.job(), execution.facts().imported) == (None, False)


def test_when_every_test_broke_off_no_further_run_is_made():
    execution = begun()
    execution.on_ran(broke(A))
    execution.on_ran(broke(B))
    assert (execution.job(), outcomes(execution)) == (None, {A: FAILED, B: FAILED})


def test_the_number_of_runs_is_bounded():
    names = [f"draft.py::test_{n}" for n in range(9)]
    look = (LOOK[0], *(("test", name, "", "") for name in names))
    execution, runs = begun(), 0
    while execution.job() is not None:
        execution.on_ran(broke(names[runs], look=look))
        runs += 1
    assert runs == MOST_RUNS
    assert list(outcomes(execution).values()) == [FAILED] * 4 + [NOT_RUN] * 5


def test_the_time_of_all_runs_is_bounded():
    execution = begun()
    execution.on_ran(broke(A, ending=Ending.TIMEOUT, status=None, wall=16.0))
    assert execution.job() is None
    assert outcomes(execution) == {A: FAILED, B: NOT_RUN}


def test_a_run_that_was_ended_from_outside_says_nothing_of_the_draft():
    execution = begun()
    execution.on_ran(broke(A, ending=Ending.KILLED, status=None))
    assert (execution.facts().note, execution.facts().problems) == ("not run: it was ended from outside", ())
    assert execution.facts().tests == ()


def test_a_line_that_is_none_is_left_out():
    execution = begun()
    execution.on_ran(ran(IMPORTED, ("failed", A, "", "E: x\0other.py\x00nine"), ("failed", B, "", "plain")))
    assert [test.message for test in execution.facts().tests] == ["E: x (other.py)", "plain"]


def test_what_a_test_says_is_cut_to_its_end():
    execution = begun()
    execution.on_ran(ran(IMPORTED, ("failed", A, "", "x" * 5000 + "END")))
    assert execution.facts().tests[0].message.endswith("END")
    assert len(execution.facts().tests[0].message) == 600
