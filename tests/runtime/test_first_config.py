"""The init command: a file that is complete, valid and commented, and that works as it stands."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.errors import ConfigError
from runtime.config import Config, Model, Provider
from runtime.config_table import TABLES, TABLES_INSIDE
from runtime.fake_server import FakeServer
from runtime.first_config import BASE_URL, MODEL, first_config
from runtime.tables import read
from tests.runtime.command import environment, troupe
from tests.runtime.configurations import parse

SLOW = pytest.mark.slow


def test_it_says_the_defaults_and_one_provider_with_one_model():
    assert parse(first_config()) == replace(
        Config(), provider={"main": Provider(base_url=BASE_URL)}, model={"main": Model(provider="main", name=MODEL)}
    )


def test_every_value_that_stands_in_it_is_the_default():
    usual = tomllib.loads(first_config())
    for name in ("team", "routing", "retry", "budget", "executor", "system"):
        assert read(TABLES[name], usual[name]) == TABLES[name]()


def test_every_key_stands_in_it_set_or_as_an_example():
    named = re.findall(r"^#?(\w+) = ", first_config(), re.MULTILINE)
    inside = set(re.findall(r"[{,] (\w+) = ", first_config()))
    rare = {"cached", "written"}  # named in the comment beside `price`
    for table, kind in TABLES.items():
        keys = {key for key in kind.__struct_fields__ if f"{table}.{key}" not in TABLES_INSIDE}
        assert keys - set(named) - inside - rare == set(), table


def test_values_are_quoted_as_toml_wants_it():
    text = first_config("https://a.example/v1", 'the "big" \\ one, größer', "MY_KEY")
    config = parse(text)
    assert config.model["main"].name == 'the "big" \\ one, größer'
    assert config.provider["main"] == Provider(base_url="https://a.example/v1", api_key_env="MY_KEY")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"base_url": "http://a.example"}, "provider.main.base_url"),
        ({"api_key_env": "sk-abcdefgh12345678"}, "looks like a key"),
        ({"model": " "}, "model.main.name"),
        ({"model": "a\nb"}, "control character"),
        ({"model": "a\udc80"}, "no text"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(values, words):
    with pytest.raises(ConfigError, match=words) as caught:
        first_config(**values)
    assert "sk-abc" not in str(caught.value)


@SLOW
def test_the_written_file_passes_the_check_and_is_never_overwritten(tmp_path):
    done = troupe(tmp_path, "init")
    assert (done.code, done.out) == (0, "")
    assert done.one_line == "team.toml is written. Next: python -m runtime check --config team.toml"
    checked = troupe(tmp_path, "check", "--config", "team.toml")
    assert checked.code == 0
    assert [line for line in checked.lines if "drafts are not run" not in line] == []
    (tmp_path / "team.toml").write_text("mine")
    again = troupe(tmp_path, "init", "team.toml")
    assert (again.code, again.out) == (2, "")
    assert again.one_line == "troupe: team.toml is there already and is not overwritten [errors.md#output]"
    assert (tmp_path / "team.toml").read_text() == "mine"


@SLOW
def test_it_takes_what_the_options_say_and_runs(tmp_path):
    with FakeServer() as server:
        done = troupe(tmp_path, "init", "my.toml", "--base-url", server.url, "--model", "m")
        ran = troupe(tmp_path, "run", "hello?", "--config", "my.toml", "--quiet")
    assert (done.code, ran.code, ran.err) == (0, 0, "")
    assert ran.out.startswith("```python")


@SLOW
def test_a_dash_writes_to_standard_output(tmp_path):
    done = troupe(tmp_path, "init", "-")
    assert (done.code, done.err, done.out) == (0, "", first_config())
    assert list(tmp_path.iterdir()) == []


@SLOW
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "nowhere/team.toml"], "nowhere/team.toml cannot be written"),
        (["init", "--api-key-env", "sk-abcdefgh12345678"], "looks like a key"),
        (["init", "--base-url", "gopher://x"], "provider.main.base_url"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_no_file(tmp_path, arguments, words):
    done = troupe(tmp_path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.one_line
    assert list(tmp_path.iterdir()) == []


@SLOW
def test_at_a_terminal_it_asks_three_things_with_defaults(tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "init"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.write(ours, b"https://a.example/v1\n\nMY_KEY\n")
    assert process.wait(timeout=20) == 0
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert [line.partition("[")[2] for line in re.findall(r"[^\n:]+\[[^]]*\]", seen)] == [
        f"{BASE_URL}]",
        f"{MODEL}]",
        "none]",
    ]
    config = Config.load(Path(tmp_path) / "team.toml")
    assert config.provider["main"] == Provider(base_url="https://a.example/v1", api_key_env="MY_KEY")
    assert config.model["main"].name == MODEL
