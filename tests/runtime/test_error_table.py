"""The page of errors is the code's own: every kind and every page that an exception can name has its heading."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from protocol.errors import ConfigError, ErrorKind, Retry, TroupeError
from runtime.error_table import FAMILIES, KINDS, TRIED, errors_page
from tests.runtime.command import troupe

ROOT = Path(__file__).parents[2]
HEADINGS = re.findall(r"^### (\S+)$", errors_page(), re.MULTILINE)


def pages() -> set[str]:
    """Return every heading that the code gives to an error: ``page="..."`` and the second word of complain()."""
    found = set()
    for path in (each for folder in ("actors", "protocol", "runtime") for each in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "page" and isinstance(node.value, ast.Constant):
                found.add(node.value.value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "complain":
                found |= {arg.value for arg in node.args[1:] if isinstance(arg, ast.Constant)}
    return found


def test_the_page_is_what_the_code_says():
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == errors_page()


def test_every_kind_of_the_taxonomy_and_every_family_has_one_heading():
    assert set(KINDS) == set(ErrorKind)
    assert sorted(HEADINGS) == sorted({*map(str, ErrorKind), *FAMILIES})


@pytest.mark.slow
def test_every_heading_that_the_code_names_is_there_and_every_family_is_named():
    assert pages() - set(HEADINGS) == set()
    assert set(FAMILIES) - pages() - {TroupeError.page, ConfigError("x").page} == set()


@pytest.mark.parametrize("name", HEADINGS)
def test_each_entry_says_why_and_what_to_do(name):
    entry = FAMILIES[name] if name in FAMILIES else KINDS[ErrorKind(name)]
    assert len(entry.cause) > 20
    assert len(entry.cure) > 10


def test_each_class_of_retry_is_said_in_words():
    assert set(TRIED) == set(Retry)
    assert "429 for longer than the run could wait. (waited out and tried again)" in errors_page()


@pytest.mark.slow
def test_the_command_shows_one_entry_or_all(tmp_path):
    one = troupe(tmp_path, "errors", "rate_limited")
    assert (one.code, one.err) == (0, "")
    assert one.out.splitlines()[0] == "### rate_limited"
    assert one.out.rstrip() in errors_page()
    assert one.out.count("###") == 1
    assert troupe(tmp_path, "errors").out == errors_page()
    wrong = troupe(tmp_path, "errors", "rate_limitd")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean 'rate_limited'?" in wrong.one_line
