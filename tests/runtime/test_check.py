"""The check command: what a configuration means, or the first thing in it that cannot work; nothing is sent."""

from __future__ import annotations

import pytest

from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import NOWHERE, ROOT, config, troupe

pytestmark = pytest.mark.slow
KEY = "x" * 20


def check(home, text: str, **env):
    (home / "t.toml").write_text(text)
    return troupe(home, "check", "--config", "t.toml", **env)


def test_it_says_what_the_guides_configuration_means_without_its_key(tmp_path):
    done = troupe(tmp_path, "check", "--config", str(ROOT / "examples" / "guide_de.toml"), HOLYSHEEP_API_KEY=KEY)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "ok"
    assert "key from HOLYSHEEP_API_KEY" in done.out
    assert KEY not in done.out


def test_it_names_providers_models_roles_and_team(tmp_path):
    text = config("https://api.example.com/v1", "[roles.translator]\nmax_tokens = 9\n[budget]\nusd = 5.0")
    done = check(tmp_path, text.replace('name = "m"\n', 'name = "m"\nprice = { input = 5.0, output = 25.0 }\n'))
    assert done.out.splitlines() == [
        "provider main: openai, https://api.example.com/v1, no key",
        "model m: m at main, tier 2, 5/25 USD per million tokens",
        "role orchestrator: 1 agent(s), model auto",
        "role coder: 1 agent(s), model auto",
        "role reviewer: 1 agent(s), model auto",
        "role translator: no agent: name its class in roles.translator.agent, or register one in code",
        "budget: 5 USD in all",
        "routing: auto, what is learnt is gone when the process ends",
        "team: workflow team, plan auto, 2 rounds at most",
        "ok",
    ]


def test_it_says_which_model_a_budget_leaves_out(tmp_path):
    done = check(tmp_path, config("https://api.example.com/v1", "[budget]\nusd = 5.0"))
    assert "model.m has no price: its calls are refused while budget.usd is set" in done.out.splitlines()


def test_it_sends_nothing(tmp_path):
    with FakeServer(Script()) as server:
        done = check(tmp_path, config(server.url))
        assert (done.code, server.stats().requests) == (0, 0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[team]\nworkflow = 'nowhere.flows:Mine'", "team.workflow"),
        ("[roles.translator]\nagent = 'nowhere:Mine'", "roles.translator.agent"),
        ("[roles.translator]\nagent = 'json:JSONDecoder'", "no subclass"),
        ("[roles.translator]\nmodel = 'strong'", "roles.translator.model"),
        ("[provider.b]\nbase_url = 'https://b.example'\napi_key_env = 'NOT_SET'", "NOT_SET"),
        ("[provider.b]\nkind = 'anthropic'\nbase_url = 'https://b.example'", "is not built yet"),
    ],
)
def test_the_first_thing_that_cannot_work_is_one_line(tmp_path, more, words):
    done = check(tmp_path, config(NOWHERE, more))
    assert (done.code, done.out) == (2, "")
    assert words in done.one_line


def test_a_configuration_without_a_model_is_refused(tmp_path):
    done = check(tmp_path, f'[provider.a]\nbase_url = "{NOWHERE}"')
    assert (done.code, done.out) == (2, "")
    assert "no model is configured" in done.one_line
