"""The examples of ``docs/embedding.md``: each runs as it stands, in the place it was written for."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.pages import page, shown, written
from tests.runtime.command import ROOT, config, environment
from tests.runtime.systems import threads

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
PAGE = page("embedding.md")
SITE = EXAMPLES / "django_site"
needs_django = pytest.mark.skipif(
    find_spec("django") is None, reason="Django is not installed: pip install --group examples"
)


def ran(home, *command, **env) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=home,
        env=environment(home, **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_page_shows_the_examples_as_they_are():
    assert len(shown(PAGE)) >= 7
    assert written(PAGE) == PAGE


# --- scripts


def test_two_systems_know_nothing_of_each_other(tmp_path):
    done = ran(tmp_path, EXAMPLES / "two_systems.py")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, calls = done.stdout.splitlines()
    assert first == "hello About Hello: done."
    assert second.startswith("hello translator: no agent plays the role 'translator'")
    assert calls == "calls: 1 0"


def test_a_system_that_nobody_stops_ends_with_its_program_though_a_call_is_under_way(tmp_path):
    done = ran(tmp_path, EXAMPLES / "forgotten_stop.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" running>\n")


def test_after_a_fork_the_child_is_told_and_starts_its_own(tmp_path):
    done = ran(tmp_path, "-W", "ignore", EXAMPLES / "after_fork.py", PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stderr) == (0, "")
    told, own, parent = done.stdout.splitlines()
    assert told.startswith("child: the system was started before os.fork()")
    assert (own, parent) == ("child: True", "parent: True")


# --- Django


def command(home, *arguments):
    return ran(home, SITE / "manage.py", "translate", *arguments, PYTHONPATH=f"{ROOT}:{SITE}")


@needs_django
def test_a_management_command_prints_in_order_and_ends(tmp_path):
    done = command(tmp_path, "Hello", "Good morning")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["Hello: About Hello: done.", "Good morning: About Good morning: done."]


@needs_django
def test_a_management_command_fails_in_one_line(tmp_path):
    done = command(tmp_path, "Hello", "--team", "nowhere.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "CommandError: nowhere.toml: cannot be read: No such file or directory\n"


@needs_django
def test_a_management_command_says_how_many_failed_and_why(tmp_path):
    (tmp_path / "team.toml").write_text(config("http://127.0.0.1:9/v1"), encoding="utf-8")
    done = command(tmp_path, "Hello", "--team", "team.toml")
    assert (done.returncode, done.stderr) == (1, "CommandError: 1 of 1 failed\n")
    assert done.stdout.startswith("Hello: ")


# --- a notebook


def cells() -> list[str]:
    book = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]


async def run(cell: str, names: dict) -> None:
    """Run a cell as notebooks do: in a running event loop, with await at its top level."""
    code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    value = eval(code, names)
    if inspect.iscoroutine(value):
        await value


def notebook(*order: int) -> dict:
    """Run the cells in that order and return the names they leave."""
    names: dict = {"__name__": "__main__"}

    async def main():
        for number in order:
            await run(cells()[number], names)

    try:
        asyncio.run(main())
        return names
    finally:
        if "system" in names:
            names["system"].stop()
        names["server"].stop()


def test_a_notebook_runs_from_top_to_bottom_and_again(capfd):
    notebook(0, 1, 2, 0, 1, 2)
    out, err = capfd.readouterr()
    assert err == ""
    assert out.count("About Good morning: done.") == 2
    assert out.count("plan.made") == 2


def test_a_cell_that_is_run_again_on_an_open_system_pays_nothing_and_says_the_same(capfd):
    names = notebook(0, 1, 1)
    assert capfd.readouterr().out == "About Good morning: done.\n" * 2
    assert names["server"].stats().requests == 1


def test_the_first_cell_run_again_leaves_one_system(capfd):
    names = notebook(0, 0, 0, 1)
    assert names["outcome"].success
    assert threads() == []


LEFT_OPEN = """
import sys
from runtime import ActorSystem, Config
for _ in range(2):
    system = ActorSystem(Config.for_endpoint(sys.argv[1], "m")).start()
    print(system.submit("Hi?", to="nobody", correlation_id="same").result(10).error_kind)
"""


def test_a_cell_that_leaves_a_system_open_each_time_clashes_with_nothing_and_ends(tmp_path):
    done = ran(tmp_path, "-c", LEFT_OPEN, "http://127.0.0.1:9/v1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "no_such_role\n" * 2, "")
