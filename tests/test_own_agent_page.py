"""From the README to an own agent with a passing unit test: by its page, counted, and run as it stands there."""

from __future__ import annotations

import pytest

from tests.pages import commands, page, shown, written
from tests.runtime.command import ROOT, printed

PAGE = page("own-agent.md")
FILES = shown(PAGE)


def test_the_page_shows_the_examples_as_they_are():
    assert set(FILES) == {"examples/translator.py", "examples/test_translator.py"}
    assert written(PAGE) == PAGE


def test_it_takes_at_most_4_commands_and_30_lines_and_the_page_says_how_many():
    lines = sum(len(text.splitlines()) for text in FILES.values())
    assert (len(commands(PAGE)), lines) == (3, 29)
    assert "three commands and 29 lines" in PAGE


def test_the_readme_leads_to_the_page():
    assert "(docs/own-agent.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def ran(home, *command: str) -> str:
    """Return what a command of the page prints where only its two files are."""
    for path, text in FILES.items():
        (home / path.rpartition("/")[2]).write_text(text, encoding="utf-8")
    return printed(home, *command)


@pytest.mark.slow
def test_the_test_of_the_page_passes(tmp_path):
    assert commands(PAGE)[1] == "pytest test_translator.py"
    assert "1 passed" in ran(tmp_path, "-m", "pytest", "-p", "runtime.pytest_plugin", "test_translator.py")


@pytest.mark.slow
def test_the_agent_of_the_page_runs_over_http(tmp_path):
    assert commands(PAGE)[2] == "python translator.py"
    assert ran(tmp_path, "translator.py") == "About Good morning: done.\n"
