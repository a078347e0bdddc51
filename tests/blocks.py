"""Pages and their code: the fenced blocks of README and ``docs/*.md``, and how each kind of them is checked."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, NamedTuple

from runtime import Config
from runtime.cli import _parser
from tests.runtime.command import ROOT, config, environment

if TYPE_CHECKING:
    from pathlib import Path

FENCE = re.compile(r"^(?P<fence>`{3,})(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
PROVIDER = '[provider.main]\nbase_url = "https://api.example.com/v1"\n'
SHOWN_COMMANDS = ("pip install ", "export ", "git ", "cd ", "pytest ", "python -m django ", "uvicorn ")
"""Commands of others, which are shown and not looked into."""


class Block(NamedTuple):
    """One fenced block: its page, the line that it begins in, what it says it is, and its text."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(*kinds: str) -> list[Block]:
    """Return the blocks of all pages, or of *kinds* alone."""
    return [block for page in pages() for block in blocks_of(page) if not kinds or block.kind in kinds]


def blocks_of(page: Path) -> list[Block]:
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    found = FENCE.finditer(text)
    return [Block(name, text.count("\n", 0, m.start()) + 1, m["kind"].strip(), m["text"]) for m in found]


def python_of(page: Path) -> list[Block]:
    """Return the Python that is of the page itself: what stands in an example word for word is run with that."""
    examples = [example.read_text(encoding="utf-8") for example in (ROOT / "examples").glob("**/*.py")]
    for notebook in (ROOT / "examples").glob("**/*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        examples += ["".join(cell["source"]) + "\n" for cell in cells]
    own = [block for block in blocks_of(page) if block.kind == "python"]
    return [block for block in own if not any(block.text in example for example in examples)]


# --- checks, one for each kind


def run_python(page: list[Block], home: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run the blocks of one page as one file, tests and all, beside a ``team.toml`` for the server at *url*."""
    (home / "team.toml").write_text(config(url), encoding="utf-8")
    (home / "page.py").write_text("\n\n".join(block.text for block in page), encoding="utf-8")
    has_tests = any(re.search(r"^def test_", block.text, re.MULTILINE) for block in page)
    plugin = ("-p", "no:cacheprovider", "-p", "runtime.pytest_plugin", "-c", "/dev/null", "--rootdir", str(home))
    command = ("-m", "pytest", "-q", "-W", "error", *plugin, "page.py") if has_tests else ("-W", "error", "page.py")
    return subprocess.run(
        [sys.executable, *command],
        cwd=home,
        env=environment(home, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'examples'}"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def configured(text: str) -> Config:
    """Read *text* as a part of a configuration: a provider and models that it only refers to are put in for it."""
    tables = tomllib.loads(text)
    more = PROVIDER if "provider" not in tables else ""
    if "model" not in tables:
        narrowed = {key.partition("/")[2] for key in tables.get("limits", {}) if "/" in key}
        named = {role.get("model", "auto") for role in tables.get("roles", {}).values()} - {"auto"}
        provider = next(iter(tables.get("provider", {"main": 0})))
        keys = named | narrowed or {"m"}
        more += "".join(f'[model."{key}"]\nprovider = "{provider}"\nname = "{key}"\n' for key in sorted(keys))
    return Config.parse(f"{text}\n{more}".encode(), "the page")


def commands(text: str) -> list[str]:
    """Return the commands of a block: lines, those that end in a backslash put together."""
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def check_command(command: str) -> None:
    """Raise ``AssertionError`` for a command that nobody knows, or that is wrong."""
    command = command.removeprefix("$ ").partition("  # ")[0].strip()
    if command.startswith("python -m runtime"):
        check_ours(command.removeprefix("python -m runtime"))
    elif command.startswith("make"):
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert shlex.split(command)[1] in targets, command
    elif command.startswith("python "):
        file = shlex.split(command)[1]
        assert (ROOT / file).is_file() or (ROOT / "examples" / file).is_file(), command
    else:
        assert command.startswith(SHOWN_COMMANDS), f"{command}: say in SHOWN_COMMANDS that it is only shown"


def check_ours(arguments: str) -> None:
    """Let the command line's own parser read *arguments*; of a synopsis it has to know every command and option."""
    if "[" in arguments:
        (known, *_), options = arguments.split(), re.findall(r"--[a-z-]+", arguments)
        done = subprocess.run(
            [sys.executable, "-m", "runtime", known, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert [option for option in options if option not in done.stdout] == [], arguments
        return
    code: object = 0
    try:
        _parser().parse_args(shlex.split(arguments))
    except SystemExit as end:
        code = end.code
    assert code == 0, f"python -m runtime{arguments}"
