"""Shell completion, in a real shell: commands, options, and what an option can be."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from runtime.cli import _parser
from runtime.completion import completion
from tests.runtime.command import troupe

pytestmark = pytest.mark.slow


def completed(line: str) -> set[str]:
    """Return what bash offers at the end of *line*."""
    words = line.split(" ")
    script = (
        f"{completion(_parser(), 'bash')}\nCOMP_WORDS=({' '.join(map(repr, words))})\nCOMP_CWORD={len(words) - 1}\n"
        'COMPREPLY=()\n_troupe\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_the_first_word_is_a_command():
    assert completed("troupe c") == {"check", "completion"}
    assert {"run", "init", "check", "simulate", "bench"} < completed("troupe ")


def test_the_options_of_a_command_follow_it():
    assert completed("troupe check --") == {"--config", "--online", "--json", "--help"}
    assert completed("troupe run x --pr") == {"--provider", "--priority"}
    assert "--api-key" not in completed("troupe run --")


def test_what_an_option_can_be_follows_it():
    assert completed("troupe run --priority ") == {"high", "normal", "low"}
    assert completed("troupe completion ") == {"bash", "zsh"}


def test_files_are_left_to_the_shell():
    assert completed("troupe check --config te") == set()
    assert "complete -o default -F _troupe troupe" in completion(_parser(), "bash")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_command_prints_it(tmp_path, shell):
    done = troupe(tmp_path, "completion", shell)
    assert (done.code, done.err, done.out) == (0, "", completion(_parser(), shell))
    assert ("bashcompinit" in done.out) == (shell == "zsh")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_it():
    script = completion(_parser(), "zsh") + "print ${_comps[troupe]}\n"
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert "_bash_complete" in done.stdout
