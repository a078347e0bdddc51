"""Code out of a draft, however a model wraps it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.code_blocks import blocks, given_tests, take

CODE = "def f():\n    return 1\n"
TEST = "def test_f():\n    assert f() == 1\n"


def fenced(text: str, info: str = "python", mark: str = "```") -> str:
    return f"{mark}{info}\n{text}{mark}\n"


def files(draft: str) -> dict[str, str]:
    return {file.name: file.text for file in take(draft)}


@pytest.mark.parametrize("info", ["python", "py", "Python", "python3", "", "python copy", "{.python}"])
def test_one_block_is_the_draft(info):
    assert files(f"Here you are:\n\n{fenced(CODE, info)}\nIt returns 1.") == {"draft.py": CODE}


@pytest.mark.parametrize(
    "draft",
    [
        fenced(CODE, 'python title="core.py"'),
        fenced(CODE, "python:core.py"),
        fenced(CODE, "python filename=core.py"),
        fenced(CODE, "core.py"),
        fenced(CODE, "{.python file=core.py}"),
        f"**core.py**\n{fenced(CODE)}",
        f"### `core.py`\n\n{fenced(CODE)}",
        f"File: ./core.py\n{fenced(CODE)}",
        f"1. core.py:\n{fenced(CODE)}",
        f"Datei: core.py\n{fenced(CODE)}",
        f"Now the heart, `core.py`:\n{fenced(CODE)}",
    ],
)
def test_a_file_is_named_in_many_ways(draft):
    assert files(draft) == {"core.py": CODE}


@pytest.mark.parametrize("line", ["# core.py", "# file: core.py", "#core.py", "# Filename: ./core.py"])
def test_a_file_is_named_by_its_first_line(line):
    assert files(fenced(f"{line}\n{CODE}")) == {"core.py": f"{line}\n{CODE}"}


@pytest.mark.parametrize(
    "name", ["../core.py", "/etc/core.py", ".hidden.py", "a/../b.py", "a//b.py", "-x.py", "a b.py", "x" * 100 + ".py"]
)
def test_a_name_that_leads_elsewhere_is_none(name):
    assert all(".." not in n and not n.startswith("/") for n in files(fenced(CODE, f'python title="{name}"')))
    assert len(files(f"**{name}**\n{fenced(CODE)}")) == 1


def test_a_hostile_name_never_becomes_a_path():
    assert files(f"**../core.py**\n{fenced(CODE)}") == {"draft.py": CODE}


def test_several_files_keep_their_names_and_data_comes_along():
    draft = "\n".join(
        [
            "**pkg/__init__.py**",
            fenced(""),
            "`pkg/core.py`",
            fenced(CODE),
            "`config.json`",
            fenced("{}\n", "json"),
            fenced("pip install it\n", "bash"),
        ]
    )
    assert files(draft) == {"pkg/__init__.py": "\n", "pkg/core.py": CODE, "config.json": "{}\n"}


def test_the_later_of_two_files_of_one_name_counts():
    assert files(f"`a.py`\n{fenced(TEST)}`a.py`\n{fenced(CODE)}") == {"a.py": CODE}


def test_blocks_without_a_name_are_one_module_and_the_future_stands_first():
    first = f"from __future__ import annotations\n{CODE}"
    second = "from __future__ import annotations\n\ndef g():\n    return f()\n"
    text = files(fenced(first) + fenced(second))["draft.py"]
    assert text.startswith("from __future__ import annotations\ndef f()")
    assert text.count("__future__") == 1
    assert "def g()" in text


def test_an_example_of_use_is_not_run():
    assert files(fenced(CODE) + "Use it so:\n" + fenced("print(await f())\n")) == {"draft.py": CODE}


def test_where_nothing_is_defined_the_statements_are_the_draft():
    assert files(fenced("print(1)\n")) == {"draft.py": "print(1)\n"}


def test_tests_that_import_the_draft_are_a_file_of_their_own():
    test = f"from your_module import f\n\n{TEST}"
    assert files(fenced(CODE) + fenced(test)) == {"draft.py": CODE, "test_draft.py": test}


def test_tests_that_import_nothing_of_it_stand_beside_the_code():
    assert files(fenced(CODE) + fenced(f"import pytest\n{TEST}")) == {
        "draft.py": f"{CODE}\n\nimport pytest\n{TEST}",
    }


def test_code_and_given_tests_one_block_stay_together():
    assert files(fenced(CODE + TEST)) == {"draft.py": CODE + TEST}


def test_tests_beside_named_files_get_what_these_define():
    found = files(f"`core.py`\n{fenced(CODE)}{fenced(TEST)}")
    assert found == {"core.py": CODE, "test_draft.py": f"from core import *\n\n\n{TEST}"}


def test_tests_alone_are_the_draft():
    assert files(fenced(f"from x import f\n{TEST}")) == {"draft.py": f"from x import f\n{TEST}"}


WHOLE = [CODE, f"import os\n\nX = os.sep\n{CODE}", f'"""Doc."""\n\n{CODE}', f"# a file\n{CODE}"]


@pytest.mark.parametrize("text", WHOLE)
def test_a_whole_file_without_a_fence_is_code(text):
    assert files(f"\n{text}") == {"draft.py": f"\n{text}"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would write a function.",
        "# Plan\n\n1. Think",
        "To import sugar, ask customs.\nimport duties apply",
        fenced("ls -l\n", "bash"),
        fenced('{"a": 1}\n', "json"),
        fenced("some words\n", ""),
        fenced("", "python"),
        "`notes.txt`\n" + fenced("hello\n", ""),
    ],
)
def test_where_there_is_no_python_nothing_is_taken(text):
    assert files(text) == {}


def test_a_fence_that_is_never_closed_goes_to_the_end():
    assert files(f"```python\n{CODE}") == {"draft.py": f"{CODE}\n"}


def test_a_longer_fence_holds_shorter_ones():
    text = 'DOC = """\n```\nx\n```\n"""\n'
    assert files(fenced(text, mark="````")) == {"draft.py": text}


def test_tildes_fence_too_and_backticks_within_a_line_do_not():
    assert files(fenced(CODE, mark="~~~")) == {"draft.py": CODE}
    assert blocks("```inline``` code\n") == []


def test_a_fence_in_a_list_is_set_in():
    assert files("1. So:\n   ```python\n   def f():\n       return 1\n   ```\n") == {"draft.py": CODE}
    assert files("\t```python\n\tx = 1\n\t```") == {"draft.py": "\tx = 1\n"}


def test_lines_of_another_system_are_read():
    assert files(fenced(CODE).replace("\n", "\r\n")) == {"draft.py": CODE}


def test_what_a_line_separator_holds_is_no_line():
    text = 'X = "a\u2028b"\n'
    assert files(fenced(text)) == {"draft.py": text}


def test_a_line_that_names_two_files_names_none():
    assert files(f"Put it between `a.py` and `b.py`:\n{fenced(CODE)}") == {"draft.py": CODE}


def test_a_long_line_names_no_file():
    assert files(f"{'word ' * 60}`a.py`:\n{fenced(CODE)}") == {"draft.py": CODE}
    assert files(fenced(f"# {'x' * 300}.py\n{CODE}"))["draft.py"].endswith(CODE)


def test_a_task_gives_given_tests_python_fences_alone():
    case = "import unittest\nclass T(unittest.TestCase):\n    pass\n"
    task = f"Implement f. It must pass:\n{fenced(TEST)}and\n{fenced(case)}"
    assert "def test_f" in given_tests(task)
    assert "class T" in given_tests(task)
    assert given_tests(f"Implement f.\n{fenced(CODE)}") == ""
    assert given_tests(TEST) == ""


@pytest.mark.slow
@given(st.text(alphabet="`~ \n\t#a.py/*:-=\"'", max_size=200))
def test_whatever_a_draft_is_its_files_have_safe_names(draft):
    for file in take(draft):
        assert not file.name.startswith(("/", ".", "-"))
        assert ".." not in file.name.split("/")


HOSTILE = ["```\n" * 20_000, "a." * 100_000, "`" * 200_000, "x.py " * 40_000, "#" + "a." * 50_000]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_draft_costs_no_more_than_its_length(text):
    assert isinstance(take(text), tuple)
