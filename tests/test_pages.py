"""Every fenced block of README and docs is run, decoded or parsed, by its kind; each page has its place in the site."""

from __future__ import annotations

import ast
import json
import re

import pytest

import actors
import protocol
import runtime
from actors import testing
from protocol.errors import ConfigError
from runtime.fake_server import FakeServer
from tests.blocks import ROOT, blocks, check_command, commands, configured, pages, python_of, run_python

CHECKED = {"python", "toml", "json", "sh"}
SHOWN = {"text", "mermaid"}
"""Kinds of blocks that are only looked at: what comes out, trees, formulas."""
ALONE = {"docs/testing.md": "tests/test_testing_page.py"}
"""Pages whose Python a test of their own runs."""
SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
RUN_HERE = [p for p in pages() if p.relative_to(ROOT).as_posix() not in ALONE and python_of(p)]


def test_every_block_says_what_it_is():
    assert [str(block) for block in blocks() if block.kind not in CHECKED | SHOWN] == []
    assert {block.kind for block in blocks()} >= {"python", "toml", "sh", "text"}


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.name)
def test_the_python_of_a_page_runs_as_one_file(page, tmp_path):
    with FakeServer() as server:
        done = run_python(python_of(page), tmp_path, server.url)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    tests = [
        node.name
        for block in python_of(page)
        for node in ast.parse(block.text).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert not tests or f"{len(tests)} passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_a_page_whose_python_fails_is_noticed(tmp_path):
    (block, *_) = blocks("python")
    for text in ("print(1)\nassert False\n", "def test_it():\n    assert False\n"):
        assert run_python([block._replace(text=text)], tmp_path, "http://127.0.0.1:9/v1").returncode == 1


@pytest.mark.parametrize(("page", "test"), ALONE.items())
def test_a_page_with_a_test_of_its_own_is_named_there(page, test):
    assert page.partition("/")[2] in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_the_toml_of_a_page_is_a_configuration(block):
    configured(block.text)


def test_toml_with_an_unknown_key_is_noticed():
    with pytest.raises(ConfigError, match=r"limits\.main\.requests"):
        configured("[limits.main]\nrequests = 1\n")


def test_the_json_of_a_page_can_be_read():
    for block in blocks("json"):
        json.loads(block.text)


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_the_commands_of_a_page_are_known_with_all_their_options(block):
    for command in commands(block.text):
        check_command(command)


@pytest.mark.parametrize(
    "command",
    [
        "python -m runtime walk",
        "python -m runtime check --confg F",
        "python -m runtime simulate [--config F] [--worklfows N]",
        "make coffee",
        "python benchmarks/nothing.py",
        "rm -rf build",
    ],
)
def test_a_command_that_is_wrong_is_noticed(command, monkeypatch):
    monkeypatch.setattr("runtime.cli.say", lambda *_: None)
    with pytest.raises(AssertionError):
        check_command(command)


def test_every_page_has_its_place_in_the_nav_of_the_site():
    there = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert there - set(re.findall(r": ([\w-]+\.md)$", SITE, re.MULTILINE)) == set()


def test_a_warning_fails_the_site_and_is_not_hidden_from_what_counts_it():
    (recipe,) = re.findall(r"^\t.*mkdocs.*$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert "--strict" in recipe
    assert "--quiet" not in recipe


def test_the_site_fetches_nothing_from_elsewhere():
    assert "font: false" in SITE
    assert re.findall(r"https?://", SITE + (ROOT / "docs" / "site.css").read_text(encoding="utf-8")) == []


def test_every_public_name_stands_on_the_page_of_the_api():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^::: [\w.]+\.(\w+)$", page, re.MULTILINE))
    answers = re.search(r"members: \[(reply.+)\]", page)[1].split(", ")
    public = {name for module in (actors, testing, protocol, runtime) for name in module.__all__}
    assert public - named - set(answers) == set()
