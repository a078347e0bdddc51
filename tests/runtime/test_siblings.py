"""Names clash: packages called `actors`, `protocol` or `runtime` that are not Troupe's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runtime.siblings import clash
from tests.runtime.command import ROOT, environment, troupe

SCRIPT = "import sys\nfrom runtime.__main__ import script\nsys.exit(script())\n"


def python(home, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=home, env=environment(home, **env), capture_output=True, text=True, check=False)


@pytest.fixture(params=["a package", "a module"])
def foreign(request, tmp_path):
    """Return how to put a package or module of the user's own into the current directory; gives its path."""

    def make(name):
        if request.param == "a module":
            (tmp_path / f"{name}.py").write_text("")
            return tmp_path / f"{name}.py"
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        return tmp_path / name

    return make


def test_here_they_are_all_ours():
    assert clash() is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["actors", "protocol"])
def test_the_command_line_names_both_paths_in_one_line_and_exits_2(tmp_path, foreign, name):
    theirs = foreign(name)
    done = troupe(tmp_path, "--help")
    assert (done.code, done.out) == (2, "")
    assert done.one_line == (
        f"troupe: Python finds {theirs} as {name!r} and not Troupe's {ROOT / name}: rename it, or start elsewhere "
        "[errors.md#names_clash]"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["actors", "protocol"])
@pytest.mark.parametrize("code", ["from runtime import ActorSystem", "import runtime; runtime.Config"])
def test_an_application_gets_one_import_error(tmp_path, foreign, name, code):
    theirs = foreign(name)
    done = python(tmp_path, code)
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: Python finds {theirs} as {name!r} and not Troupe's {ROOT / name}: rename it, or start elsewhere"
    )


@pytest.mark.slow
@pytest.mark.parametrize("code", ["from actors import Agent", "from actors.testing import ActorTestKit"])
def test_an_agent_says_so_of_the_protocol(tmp_path, foreign, code):
    theirs = foreign("protocol")
    done = python(tmp_path, code)
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: Python finds {theirs} as 'protocol' and not Troupe's")


@pytest.mark.slow
def test_one_that_was_imported_before_counts_as_well(tmp_path):
    code = "import sys, types; sys.modules['actors'] = types.ModuleType('actors')\nfrom runtime import Config"
    done = python(tmp_path, code)
    assert done.stderr.splitlines()[-1].startswith("ImportError: Python finds nothing as 'actors'")


@pytest.mark.slow
def test_a_folder_without_code_does_not_stand_in_the_way(tmp_path):
    (tmp_path / "actors").mkdir()
    (tmp_path / "protocol").mkdir()
    assert troupe(tmp_path, "--help").code == 0
    assert python(tmp_path, "from runtime import ActorSystem").returncode == 0


@pytest.mark.slow
def test_a_project_that_has_nothing_to_do_with_us_is_left_alone_by_the_pytest_plugin(tmp_path, foreign):
    foreign("actors")
    done = python(tmp_path, "import actors, runtime.pytest_plugin")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_installed_command_starts_ours_also_where_another_runtime_is(tmp_path, foreign):
    foreign("runtime")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "troupe").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "bin" / "troupe"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.slow
def test_the_installed_command_calls_itself_by_its_name(tmp_path):
    (tmp_path / "troupe").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "troupe"), "init"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "team.toml is written. Next: troupe check --config team.toml\n"
