"""What routing has learnt lasts in a file when the configuration names one."""

from __future__ import annotations

import pytest

from protocol.errors import ConfigError
from protocol.models import ModelInfo
from protocol.policies.routing import Effect, Job
from runtime import learnt
from runtime.assembly import Models
from runtime.config import Config, Routing

MODELS = [ModelInfo(key=key, provider="p", name=key, tier=tier) for key, tier in (("cheap", 1), ("strong", 3))]
JOB = Job(role="coder", complexity=0.0)


def test_what_was_learnt_is_there_at_the_next_start(tmp_path):
    table = Routing(memory=str(tmp_path / "learnt.json"))
    first = learnt.router(table, MODELS)
    first.learn(first.choose(JOB), good=False, fact=True)
    learnt.write(table.memory, first.learnt)
    assert learnt.router(table, MODELS).learnt == first.learnt != ()
    assert [path.name for path in tmp_path.iterdir()] == ["learnt.json"]


def test_without_a_file_nothing_is_read_or_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learnt.write(None, (Effect(name="model cheap", variance=0.1),))
    assert learnt.read(None) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[{}]", b"\xff"])
def test_a_file_that_holds_something_else_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "learnt.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^routing\.memory: .*learnt\.json cannot be read") as raised:
        learnt.read(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("table", "chosen"), [(Routing(worth=0.0), "cheap"), (Routing(worth=0.0, choose="strongest"), "strong")]
)
def test_the_table_says_how_models_are_chosen(table, chosen):
    assert learnt.router(table, MODELS).choose(JOB).key == chosen


def test_the_models_of_a_system_keep_what_was_learnt_at_the_end(tmp_path):
    path = tmp_path / "learnt.json"
    text = f"""
[provider.p]
base_url = "http://127.0.0.1:9"
[model.cheap]
provider = "p"
name = "a"
tier = 1
[model.strong]
provider = "p"
name = "b"
tier = 3
context = 1000
[routing]
memory = "{path}"
"""
    models = Models(Config.parse(text.encode(), "test"))
    models.open()
    models.gateway()
    models._router.learn(models._router.choose(JOB), good=True)
    models.close(1.0)
    assert learnt.read(str(path)) == models._router.learnt != ()


def test_a_place_where_nothing_can_be_kept_does_not_disturb_the_end(tmp_path):
    config = Config(routing=Routing(memory=str(tmp_path / "no" / "folder")))
    models = Models(config)
    models.gateway()
    models.close(1.0)
    assert list(tmp_path.iterdir()) == []
