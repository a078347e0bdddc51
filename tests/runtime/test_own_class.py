"""Agents and workflows of the user's own: found where `python -m` finds modules, and one line where they are not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from actors import Agent, Workflow
from protocol.errors import ConfigError
from runtime import ActorSystem, Config
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from runtime.own_class import load, see_current_directory
from tests.runtime.command import config, environment, troupe

CAST = """
from actors import Agent, Workflow

class Translator(Agent):
    async def handle(self, message):
        return "auf Deutsch: " + message.content

class One(Workflow):
    async def run(self, task):
        return await self.ask("translator", task)

class Mute(Agent):
    pass

class Lost(Workflow):
    pass

NUMBER = 7
"""
TEAM = '[roles.translator]\nagent = "cast_of_mine:Translator"\n[team]\nworkflow = "cast_of_mine:One"\n'


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a current directory with modules of a user in it; what is imported from there is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    (tmp_path / "cast_of_mine.py").write_text(CAST)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0].endswith("of_mine"):
            del sys.modules[name]


def refusal(path, base=Agent):
    with pytest.raises(ConfigError) as caught:
        load(path, base, "roles.x.agent")
    assert "\n" not in str(caught.value)
    assert caught.value.page == "own_class"
    return str(caught.value)


def test_a_class_of_the_current_directory_is_found_by_a_program_that_was_started_elsewhere(home):
    assert str(home) not in sys.path
    assert load("cast_of_mine:Translator", Agent, "k").__name__ == "Translator"


def test_the_current_directory_comes_last_so_that_nothing_installed_is_replaced(home):
    (home / "json.py").write_text("raise SystemExit('the wrong one')")
    see_current_directory()
    see_current_directory()
    assert sys.path[-1] == str(home)
    assert sys.path.count(str(home)) == 1


def test_the_safe_path_of_python_is_obeyed(home):
    code = "from runtime.own_class import see_current_directory as see; print(see())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env=environment(home, PYTHONSAFEPATH="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"


def test_a_module_that_is_not_there_is_named_with_where_it_was_looked_for(home):
    (home / "pkg_of_mine").mkdir()
    (home / "pkg_of_mine" / "__init__.py").write_text("")
    looked = f"(in {home} and among installed packages)"
    assert refusal("nowhere_of_mine:X") == (
        f"roles.x.agent = 'nowhere_of_mine:X': there is no module 'nowhere_of_mine' {looked}"
    )
    assert refusal("pkg_of_mine.flows:X") == (
        f"roles.x.agent = 'pkg_of_mine.flows:X': there is no module 'pkg_of_mine.flows' {looked}"
    )


def test_a_name_that_the_module_lacks_is_told_with_the_nearest(home):
    assert refusal("cast_of_mine:Translater") == (
        "roles.x.agent = 'cast_of_mine:Translater': "
        f"cast_of_mine ({home}/cast_of_mine.py) has no 'Translater'; did you mean 'Translator'?"
    )


@pytest.mark.parametrize(
    ("name", "base", "words"),
    [
        ("NUMBER", Agent, "is no subclass of actors.Agent"),
        ("One", Agent, "is no subclass of actors.Agent"),
        ("Translator", Workflow, "is no subclass of actors.Workflow"),
        ("Mute", Agent, "has no handle(); write `async def handle`"),
        ("Lost", Workflow, "has no run(); write `async def run`"),
        ("Agent", Agent, "has no handle(); write `async def handle`"),
    ],
)
@pytest.mark.usefixtures("home")
def test_what_is_no_agent_or_workflow_is_refused(name, base, words):
    assert refusal(f"cast_of_mine:{name}", base) == f"roles.x.agent = 'cast_of_mine:{name}': {words}"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\nraise ValueError('two\\nlines')", "raised ValueError (bad_of_mine.py, line 2): two lines"),
        ("def f(:\n    pass", "raised SyntaxError (bad_of_mine.py, line 1): invalid syntax"),
        ("import nowhere_of_mine", "raised ModuleNotFoundError (bad_of_mine.py, line 1): No module named 'nowhere_"),
        ("import sys\n\nsys.exit(3)", "raised SystemExit (bad_of_mine.py, line 3): 3"),
        ("assert False", "raised AssertionError (bad_of_mine.py, line 1)"),
    ],
)
def test_a_module_that_raises_is_told_with_the_line_where_it_does(home, code, words):
    (home / "bad_of_mine.py").write_text(code)
    assert f"importing bad_of_mine {words}" in refusal("bad_of_mine:X")


@pytest.mark.slow
def test_a_team_of_the_users_own_runs_from_its_file_at_the_command_line(home):
    with FakeServer() as server:
        (home / "team.toml").write_text(config(server.url, TEAM))
        done = troupe(home, "run", "Hello", "--config", "team.toml", "--quiet")
    assert (done.code, done.out, done.err) == (0, "auf Deutsch: Hello\n", "")


@pytest.mark.slow
def test_it_runs_as_well_in_a_program_of_another_folder(home, tmp_path_factory):
    script = tmp_path_factory.mktemp("elsewhere") / "app.py"
    script.write_text(
        "from runtime import ActorSystem, Config\n"
        "with ActorSystem(Config.load('team.toml')) as system:\n"
        "    print(system.submit('Hello').result(timeout=20).output)\n"
    )
    with FakeServer() as server:
        (home / "team.toml").write_text(config(server.url, TEAM))
        command = [sys.executable, str(script)]
        done = subprocess.run(
            command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "auf Deutsch: Hello\n", "")


@pytest.mark.slow
def test_a_role_of_other_words_needs_no_code(home):
    role = '[roles.translator]\nagent = "actors:Coder"\nsystem_prompt = "Übersetze."\nprompt = "Auf Deutsch: {task}"\n'
    with FakeServer(Script(record=True)) as server:
        (home / "team.toml").write_text(config(server.url, role))
        with ActorSystem(Config.load(home / "team.toml")) as system:
            assert system.submit("Hello", to="translator").result(timeout=20).success
        (body,) = map(json.loads, server.bodies())
    assert [turn["content"] for turn in body["messages"]] == ["Übersetze.", "Auf Deutsch: Hello"]


@pytest.mark.parametrize("path", ["actors:Coder", "actors.coder:Coder"])
def test_the_templates_of_such_a_role_may_use_what_our_agent_fills_in(path):
    text = f'[roles.translator]\nagent = "{path}"\nprompt = "Auf Deutsch: {{draft}}"\n'
    with pytest.raises(ConfigError, match=r"unknown variable \{draft\}; allowed are \{task\} \{subtask\} ") as caught:
        Config.parse(text.encode(), "t.toml")
    assert caught.value.page == "template"
