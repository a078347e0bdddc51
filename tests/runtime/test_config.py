"""What the configuration promises: files are read over the defaults, options override them, keys come from outside."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from actors.team import TeamRules
from protocol.errors import ConfigError
from protocol.policies.backoff import Backoff
from protocol.roles import RoleSettings
from runtime.config import (
    Budget,
    Config,
    Flow,
    Limits,
    Model,
    Price,
    Provider,
    RetryRules,
    Role,
    Team,
    read_key,
)
from runtime.defaults import template
from tests.runtime.configurations import CONTRACT, MAIN, STRONG, parse

CANARY = "sk-canary-0123456789abcdef"


# --- what is read


def test_every_key_of_the_contract_is_read():
    config = parse(CONTRACT)
    key = "HOLYSHEEP_API_KEY"
    assert config.provider == {"main": Provider(base_url="https://api.holysheep.ai/v1", api_key_env=key)}
    price = Price(input=5.0, output=25.0)
    assert config.model == {"strong": Model(provider="main", name="claude-opus-4-5", tier=3, price=price)}
    assert config.limits["main"] == Limits(requests_per_minute=3000.0, burst=10, tokens_per_minute=400000.0)
    assert config.flows == {"acme": Flow(weight=3.0)}
    coder = config.roles["coder"]
    assert (coder.model, coder.timeout, coder.instances) == ("strong", 50.0, 2)
    assert coder.agent == "mypkg.agents:Translator"
    assert config.team == Team(
        workflow="mypkg.flows:MyWorkflow", plan="never", max_rounds=0, accept_score=8, max_subtasks=6, max_parallel=3
    )
    assert config.retry == RetryRules(base=1.0, factor=3.0, cap=60.0)
    assert config.budget == Budget(usd=5.0)
    assert (config.executor.enabled, config.system.dispatcher) == (False, "threads")


def test_an_empty_file_gives_the_defaults_and_they_are_the_guides():
    config = parse("")
    assert config == Config()
    orchestrator, coder, reviewer = config.roles.values()
    assert tuple(config.roles) == ("orchestrator", "coder", "reviewer")
    assert [role.timeout for role in config.roles.values()] == [30.0, 45.0, 30.0]
    assert [role.temperature for role in config.roles.values()] == [0.7, 0.7, 0.0]
    assert {(role.max_tokens, role.max_retries) for role in config.roles.values()} == {(4096, 3)}
    assert config.team.max_parallel == 5
    assert orchestrator.prompt.format(task="T") == "Analyze and break down: T"
    assert coder.prompt.format(task="T", subtask="S") == "Implement: S"
    assert reviewer.prompt.format(task="T", subtask="S", draft="D").startswith("Review: ")


def test_a_revision_begins_like_a_first_draft_and_shows_the_last_one_with_its_issues():
    text = Config().roles["coder"].revise.format(task="T", subtask="S", draft="DRAFT-1", issues="ISSUE-1")
    assert text.startswith("Implement: S\n\nYour previous draft")
    assert text.index("DRAFT-1") < text.index("ISSUE-1")


def test_the_template_that_init_writes_equals_the_defaults():
    assert parse(template()) == Config()


def test_the_template_names_every_key_there_is_and_its_examples_are_valid():
    text = re.sub(r"(?m)^#(?=[\[a-z])", "", template())
    config = parse(text)
    tables = tomllib.loads(text)
    assert set(tables) == set(Config.__struct_fields__)
    for name in ("provider", "model", "limits", "flows"):
        fields = type(next(iter(getattr(config, name).values()))).__struct_fields__
        assert set(next(iter(tables[name].values()))) == set(fields)
    for name in ("team", "retry", "budget", "executor", "system"):
        assert set(tables[name]) == set(getattr(config, name).__struct_fields__)
    assert {key for role in tables["roles"].values() for key in role} == set(Role.__struct_fields__)


def test_a_table_of_a_built_in_role_changes_only_what_it_says():
    config = parse("[roles.coder]\ntemperature = 0.1\n")
    assert config.roles["coder"] == msgspec.structs.replace(Config().roles["coder"], temperature=0.1)
    assert config.roles["reviewer"] == Config().roles["reviewer"]


def test_a_role_of_the_users_own_has_neutral_defaults():
    role = parse('[roles.translator]\nsystem_prompt = "Translate."\n').roles["translator"]
    assert role == Role(system_prompt="Translate.")
    assert (role.prompt, role.timeout, role.temperature) == ("{task}", 30.0, 0.7)


def test_narrowed_limits_take_what_they_do_not_say_from_the_provider():
    config = parse(CONTRACT)
    narrow = config.limits_for("main", "claude-opus-4-5")
    assert (narrow.requests_per_minute, narrow.output_tokens_per_minute, narrow.concurrency) == (3000.0, 80000.0, 8)
    assert config.limits_for("main", "another") == config.limits["main"]
    assert config.limits_for("elsewhere") == Limits()


def test_a_models_name_may_hold_slashes_also_in_limits():
    config = parse(MAIN + '[model.m]\nprovider = "main"\nname = "org/m:free"\n[limits."main/org/m:free"]\nburst = 2\n')
    assert config.limits_for("main", "org/m:free").burst == 2


def test_roles_of_the_embedded_model_get_short_answers_unless_told_otherwise():
    config = parse(
        '[provider.local]\nkind = "embedded"\n[model.small]\nprovider = "local"\nname = "embedded"\n'
        "[roles.coder]\nmax_tokens = 999\n"
    )
    assert [role.max_tokens for role in config.roles.values()] == [256, 999, 256]
    assert all(role.keep_truncated for role in config.roles.values())


def test_auto_is_the_first_model_of_the_strongest_tier():
    config = parse(
        STRONG
        + 'tier = 1\n[model.a]\nprovider = "main"\nname = "a"\ntier = 3\n'
        + '[model.b]\nprovider = "main"\nname = "b"\ntier = 3\n[roles.coder]\nmodel = "strong"\n'
    )
    assert [config.resolve_model(role) for role in ("orchestrator", "coder", "translator")] == ["a", "strong", "a"]


def test_without_a_model_auto_says_what_is_missing():
    with pytest.raises(ConfigError, match=r"no model is configured: add a \[model.<name>\] table"):
        Config().resolve_model("coder")


def test_a_byte_order_mark_is_tolerated():
    assert parse(b"\xef\xbb\xbf[team]\nmax_rounds = 1\n").team.max_rounds == 1


def test_an_anthropic_provider_is_a_valid_configuration():
    config = parse('[provider.a]\nkind = "anthropic"\nbase_url = "https://api.anthropic.com"\n')
    assert config.provider["a"].kind == "anthropic"


@pytest.mark.parametrize("value", ['"auto"', "true", "false"])
def test_the_executor_may_be_switched(value):
    enabled = parse(f"[executor]\nenabled = {value}\n").executor.enabled
    assert enabled == tomllib.loads(f"v = {value}")["v"]


@pytest.mark.parametrize("table", ["", "price = { input = 0, output = 0.0 }\n"])
def test_a_price_may_be_unknown_or_nothing(table):
    assert parse(STRONG + table).model["strong"].price in {None, Price(input=0.0, output=0.0)}


def test_structs_of_the_configuration_agree_with_what_the_actors_take():
    role, team, retry = Role(), Team(), RetryRules()
    assert set(RoleSettings.__struct_fields__) <= set(Role.__struct_fields__)
    assert [getattr(role, key) for key in ("model", "prompt", "timeout", "max_retries", "history_tokens")] == [
        getattr(RoleSettings(), key) for key in ("model", "prompt", "timeout", "max_retries", "history_tokens")
    ]
    assert (
        TeamRules(**{key: getattr(team, key) for key in TeamRules.__struct_fields__ if hasattr(team, key)})
        == TeamRules()
    )
    assert Backoff(**{key: getattr(retry, key) for key in Backoff.__struct_fields__}) == Backoff()


# --- built in code


def test_a_configuration_built_in_code_is_checked_like_a_file():
    config = parse(CONTRACT)
    assert config.validated() == config
    with pytest.raises(ConfigError, match=r"the given Config: team.max_parallel: expected a whole number from 1 to"):
        Config(team=Team(max_parallel=0)).validated()
    with pytest.raises(ConfigError, match="the given Config: holds what no configuration can hold"):
        Config(team=object()).validated()


def test_structs_are_frozen_and_refuse_unknown_keys():
    with pytest.raises(AttributeError):
        Config().team = Team()
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"teem": {}}, Config)


# --- the short options


def test_an_endpoint_is_the_built_in_team_on_one_model():
    config = Config.for_endpoint("http://127.0.0.1:8080/v1", "small", api_key_env="K")
    assert config.provider == {"main": Provider(base_url="http://127.0.0.1:8080/v1", api_key_env="K")}
    assert config.model == {"main": Model(provider="main", name="small")}
    assert {config.resolve_model(role) for role in config.roles} == {"main"}
    assert config.roles["coder"].prompt == Config().roles["coder"].prompt


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "http://a.example"}, "provider.main.base_url: the base URL"),
        ({"base_url": ""}, "provider.main.base_url: is missing"),
        ({"model": ""}, "model.main.name: expected a text that is not empty"),
        ({"provider": "openia"}, "provider.main.kind: expected 'openai'"),
        ({"api_key_env": CANARY}, "provider.main.api_key_env: looks like a key"),
        ({"api_key_env": ""}, "provider.main.api_key_env: expected a text that is not empty"),
    ],
)
def test_a_wrong_endpoint_is_refused(options, said):
    with pytest.raises(ConfigError) as caught:
        Config.for_endpoint(**{"base_url": "https://a.example", "model": "m"} | options)
    assert str(caught.value).startswith(f"the given options: {said}")
    assert "canary" not in str(caught.value)


def test_an_endpoint_on_the_embedded_model_has_its_defaults():
    config = Config.for_endpoint("", "embedded", provider="embedded")
    assert {role.max_tokens for role in config.roles.values()} == {256}


def test_no_option_changes_nothing():
    assert parse(CONTRACT).override() == parse(CONTRACT)


def test_another_base_url_does_not_get_the_key_of_the_old_one():
    config = parse(CONTRACT)
    assert config.override(base_url="https://b.example").provider["main"] == Provider(base_url="https://b.example")
    same = config.override(base_url="https://api.holysheep.ai/v1")
    assert same.provider["main"].api_key_env == "HOLYSHEEP_API_KEY"
    assert config.override(base_url="https://b.example", api_key_env="B").provider["main"].api_key_env == "B"


def test_another_base_url_keeps_models_limits_and_team():
    config = parse(CONTRACT)
    moved = config.override(base_url="https://b.example")
    assert (moved.model, moved.limits, moved.team) == (config.model, config.limits, config.team)


@pytest.mark.parametrize("option", ["cheap", "small-model"])
def test_a_model_is_chosen_by_its_key_or_its_name(option):
    config = parse(STRONG + '[model.cheap]\nprovider = "main"\nname = "small-model"\n').override(model=option)
    assert {config.resolve_model(role) for role in config.roles} == {"cheap"}


def test_a_new_model_is_taken_at_the_one_provider():
    config = parse(STRONG).override(model="another")
    assert {config.model[config.resolve_model(role)].name for role in config.roles} == {"another"}
    assert {config.model[config.resolve_model(role)].provider for role in config.roles} == {"main"}


TWO = STRONG + '[provider.b]\nbase_url = "https://b.example"\n[limits.b]\nburst = 1\n[roles.coder]\nmodel = "strong"\n'


def test_an_endpoint_takes_the_place_of_several_providers():
    config = parse(TWO).override(base_url="https://c.example", model="m")
    assert config.provider == {"main": Provider(base_url="https://c.example")}
    assert {config.model[config.resolve_model(role)].name for role in config.roles} == {"m"}
    assert config.limits == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "https://c.example"}, r"several providers \(main, b\)"),
        ({"api_key_env": "K"}, "several providers"),
        ({"model": "strnog"}, "no configured model; did you mean 'strong'"),
    ],
)
def test_an_option_that_could_mean_several_providers_is_refused(options, said):
    with pytest.raises(ConfigError, match=f"the given options: .*{said}"):
        parse(TWO).override(**options)


def test_leaving_the_embedded_model_leaves_its_defaults_and_nothing_else():
    local = '[provider.local]\nkind = "embedded"\n[model.small]\nprovider = "local"\nname = "embedded"\n'
    config = parse(local + "[roles.coder]\nmax_tokens = 300\n").override(base_url="https://c.example", model="m")
    assert [role.max_tokens for role in config.roles.values()] == [4096, 300, 4096]
    explicit = parse(STRONG + "[roles.coder]\nmax_tokens = 256\n").override(base_url="https://c.example")
    assert explicit.roles["coder"].max_tokens == 256


def test_the_largest_cost_becomes_the_budget_and_is_checked():
    assert Config().override(max_cost=0.5).budget == Budget(usd=0.5)
    with pytest.raises(ConfigError, match=r"the given options: budget\.usd: expected a number from 0 to .*, got nan"):
        Config().override(max_cost=float("nan"))


# --- keys


def test_a_key_comes_from_the_environment_without_the_blanks_around_it(monkeypatch):
    monkeypatch.setenv("TROUPE_TEST_KEY", f" {CANARY}\n")
    key = read_key(Provider(api_key_env="TROUPE_TEST_KEY"))
    assert key.reveal() == CANARY
    assert "canary" not in repr(key)


def test_a_provider_without_a_variable_has_no_key():
    assert read_key(Provider()) is None


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_key_that_is_not_set_is_refused_with_its_variable(monkeypatch, value):
    monkeypatch.delenv("TROUPE_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TROUPE_TEST_KEY", value)
    with pytest.raises(ConfigError, match="the environment variable TROUPE_TEST_KEY is not set or empty"):
        read_key(Provider(api_key_env="TROUPE_TEST_KEY"))


@pytest.mark.parametrize("value", ["sk-canary\nX-Evil: 1", "sk-canäry-0123", "sk canary"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(monkeypatch, value):
    monkeypatch.setenv("TROUPE_TEST_KEY", value)
    with pytest.raises(ConfigError, match="the environment variable TROUPE_TEST_KEY: ") as caught:
        read_key(Provider(api_key_env="TROUPE_TEST_KEY"))
    assert str(caught.value).isprintable()
    assert "can" not in str(caught.value).replace("cannot", "")


def test_a_key_in_code_in_place_of_its_variable_is_not_shown():
    with pytest.raises(ConfigError, match="api_key_env: looks like a key itself") as caught:
        read_key(Provider(api_key_env=CANARY))
    assert "canary" not in str(caught.value)


def test_loading_the_module_loads_nothing_heavy():
    root = Path(__file__).parents[2]
    heavy = "('requests', 'urllib3', 'pykka', 'structlog', 'logging', 'threading', 'runtime.http')"
    code = f"import sys, runtime.config; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
