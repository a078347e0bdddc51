"""The check command: what a team is, or everything in it that cannot work; nothing is sent."""

from __future__ import annotations

import pytest

from runtime import Config
from runtime.check import report
from runtime.config import Role
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from runtime.findings import Finding, findings, of_file
from tests.runtime.command import NOWHERE, ROOT, config, troupe

KEY = "x" * 20
SLOW = pytest.mark.slow
BASE = config(NOWHERE)


def check(home, text: str, *options: str, **env):
    (home / "t.toml").write_text(text)
    return troupe(home, "check", "--config", "t.toml", *options, **env)


def found(home, text: str) -> list[tuple[str, str]]:
    """Return level and key of every finding but the one about sandboxes, which depends on the machine."""
    (home / "t.toml").write_text(text)
    return [(each.level, each.where) for each in of_file(str(home / "t.toml"))[1] if each.where != "executor.enabled"]


def only(home, text: str) -> Finding:
    """Return the one finding."""
    (home / "t.toml").write_text(text)
    (one,) = [each for each in of_file(str(home / "t.toml"))[1] if each.where != "executor.enabled"]
    return one


# --- a team that can work


@SLOW
def test_it_says_what_the_guides_configuration_means_without_its_key(tmp_path):
    done = troupe(tmp_path, "check", "--config", str(ROOT / "examples" / "guide_de.toml"), HOLYSHEEP_API_KEY=KEY)
    assert done.code == 0
    assert [line for line in done.lines if "drafts are not run" not in line] == []
    assert done.out.splitlines()[-1] == "ok"
    assert "key from HOLYSHEEP_API_KEY" in done.out
    assert KEY not in done.out


@SLOW
def test_it_shows_providers_models_and_a_table_of_the_team(tmp_path):
    own = "[roles.translator]\nmax_tokens = 9\ninstances = 2\n[budget]\nusd = 5.0"
    text = config("https://api.example.com/v1", f"{own}\n[limits.main]\nrequests_per_minute = 90")
    done = check(tmp_path, text.replace('name = "m"\n', 'name = "m"\nprice = { input = 5.0, output = 25.0 }\n'))
    assert done.code == 0
    assert done.out.splitlines() == [
        "provider main: openai, https://api.example.com/v1, no key",
        "model m: m at main, tier 2, 5/25 USD per million tokens",
        "limits main: requests_per_minute 90, burst 10, concurrency 64, ageing 60",
        "budget: 5 USD in all",
        "routing: auto, what is learnt is gone when the process ends",
        "team: workflow team, plan auto, 2 rounds at most",
        "role          agent         model  instances  timeout",
        "orchestrator  Orchestrator  auto   1          5 s",
        "coder         Coder         auto   1          5 s",
        "reviewer      Reviewer      auto   1          5 s",
        "translator    none yet      auto   2          30 s",
        "ok",
    ]
    assert (
        "troupe: t.toml: warning: roles.translator: no agent plays it: name its class in roles.translator.agent, "
        "or register one in code [errors.md#configuration]"
    ) in done.lines


@SLOW
def test_it_sends_nothing(tmp_path):
    with FakeServer(Script()) as server:
        done = check(tmp_path, config(server.url))
        assert (done.code, server.stats().requests) == (0, 0)


@SLOW
def test_as_json_it_is_one_document(tmp_path):
    fine = check(tmp_path, BASE, "--json")
    (document,) = fine.documents
    assert (fine.code, fine.err, document["ok"], document["errors"]) == (0, "", True, [])
    assert document["team"][1] == {
        "role": "coder",
        "agent": "Coder",
        "model": "auto",
        "instances": 1,
        "timeout": 5.0,
    }
    bad = check(tmp_path, BASE + "[roles.x]\nagent = 'nowhere:Mine'\n[team]\nplan = 1", "--json")
    (document,) = bad.documents
    assert (bad.code, document["ok"]) == (2, False)
    assert [each["where"] for each in document["errors"]] == ["team.plan", "roles.x.agent"]


# --- everything that cannot work, each in a line


@SLOW
def test_every_finding_is_a_line_errors_first_and_nothing_is_on_standard_output(tmp_path):
    done = check(
        tmp_path,
        """
        [provider.main]
        base_url = "https://a.example"
        api_key_env = "NOT_SET"
        [provider.spare]
        base_url = "ftp://b.example"
        [model.m]
        provider = "main"
        name = "m"
        tier = 7
        [limits.main]
        tokens_per_minute = 1000
        [roles.coder]
        prompt = "Do {subtsk}"
        agent = "nowhere:Mine"
        [team]
        max_round = 1
        workflow = "json:dumps"
        [budget]
        usd = 1.0
        """,
    )
    assert (done.code, done.out) == (2, "")
    lines = [line for line in done.lines if "drafts are not run" not in line]
    assert [line.split(": ")[3 if ": warning: " in line else 2] for line in lines] == [
        "model.m.tier",
        "team.max_round",
        "provider.spare.base_url",
        "roles.coder.prompt",
        "provider.main.api_key_env",
        "roles.coder.agent",
        "team.workflow",
        "model.m",
        "limits.main.tokens_per_minute",
        "provider.spare",
    ]
    assert [": warning: " in line for line in lines] == [False] * 9 + [True]
    assert "unknown variable {subtsk}; allowed are {task} {subtask} {draft} {issues}" in done.err
    assert all(line.endswith("]") and "[errors.md#" in line for line in done.lines)


@pytest.mark.parametrize(
    ("more", "where", "words"),
    [
        ("[team]\nworkflow = 'nowhere.flows:Mine'", "team.workflow", "there is no module 'nowhere'"),
        ("[roles.translator]\nagent = 'nowhere:Mine'", "roles.translator.agent", "there is no module 'nowhere'"),
        ("[roles.translator]\nagent = 'json:JSONDecoder'", "roles.translator.agent", "no subclass of actors.Agent"),
        ("[roles.translator]\nmodel = 'strong'\nagent = 'actors:Coder'", "roles.translator.model", "no model 'strong'"),
        ("[flows.'a b']\nweight = 1", 'flows."a b"', "expected a name"),
        ("[routing]\nmemory = '/dev/null/x'", "routing.memory", "cannot be read as what was learnt"),
    ],
)
def test_what_cannot_work_is_named_by_its_key(tmp_path, more, where, words):
    finding = only(tmp_path, BASE + more)
    assert (finding.level, finding.where) == ("error", where)
    assert words in str(finding)
    assert "\n" not in str(finding)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("[provider.b]\nbase_url = 'https://b.example'\napi_key_env = 'NOT_SET'", "provider.b.api_key_env", "NOT_SET"),
        ("[provider.b]\nkind = 'anthropic'\nbase_url = 'https://b.example'", "provider.b.kind", "is not built yet"),
    ],
)
def test_a_provider_that_cannot_be_used_is_an_error(tmp_path, text, where, words):
    finding = only(tmp_path, f"{BASE}{text}\n[model.b]\nprovider = 'b'\nname = 'b'")
    assert (finding.level, finding.where) == ("error", where)
    assert words in finding.what


def test_a_configuration_without_a_model_is_refused_unless_it_has_a_workflow_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without = f'[provider.a]\nbase_url = "{NOWHERE}"\n'
    assert only(tmp_path, without).level == "error"
    assert "no model is configured" in only(tmp_path, without).what
    assert only(tmp_path, without + "[team]\nworkflow = 'actors:TeamWorkflow'").level == "warning"


@pytest.mark.parametrize("role", ["orchestrator", "coder", "reviewer"])
def test_a_team_built_in_code_without_one_of_its_roles_is_an_error(role):
    whole = Config.parse(BASE.encode(), "t.toml")
    short = {name: table for name, table in whole.roles.items() if name != role}
    config = Config(provider=whole.provider, model=whole.model, roles={**short, "painter": Role(agent="actors:Coder")})
    (missing,) = [each for each in findings(config) if each.level == "error"]
    assert missing.where == f"roles.{role}"
    assert ("while team.max_rounds is 2" in missing.what) == (role == "reviewer")


def test_a_variable_in_a_system_prompt_is_a_warning_since_nothing_fills_it(tmp_path):
    finding = only(tmp_path, BASE.replace("[roles.coder]", "[roles.coder]\nsystem_prompt = 'You do {task}.'"))
    assert (finding.level, finding.where) == ("warning", "roles.coder.system_prompt")
    assert "{task}" in finding.what


# --- budgets


def priced(price: str, more: str) -> str:
    return BASE.replace('name = "m"\n', f'name = "m"\n{price}\n') + more


SECOND = '[model.dear]\nprovider = "main"\nname = "d"\ntier = 3\nprice = { input = 1.0, output = 1.0 }\n'


def test_a_budget_without_any_price_is_an_error_since_no_call_would_be_made(tmp_path):
    finding = only(tmp_path, BASE + "[budget]\nusd = 5.0")
    assert (finding.level, finding.where, finding.page) == ("error", "model.m", "budget")
    assert "roles orchestrator, coder, reviewer have no other" in finding.what


def test_a_model_that_a_budget_leaves_out_is_a_warning_where_there_is_another(tmp_path):
    assert found(tmp_path, f"{BASE}{SECOND}[budget]\nusd = 5.0") == [("warning", "model.m")]


def test_a_role_that_is_bound_to_a_model_without_a_price_is_an_error(tmp_path):
    text = BASE.replace("[roles.coder]", '[roles.coder]\nmodel = "m"')
    assert found(tmp_path, f"{text}{SECOND}[budget]\nusd = 5.0") == [("error", "model.m")]


@pytest.mark.parametrize(("usd", "level"), [(0.4097, None), (0.409601, None), (0.4096, "error")])
def test_a_budget_below_what_one_call_reserves_is_an_error(tmp_path, usd, level):
    text = priced("price = { input = 1.0, output = 100.0 }", f"[budget]\nusd = {usd}")
    roles = ["orchestrator", "coder", "reviewer"] if level else []
    assert found(tmp_path, text) == [(level, f"roles.{role}.max_tokens") for role in roles]


# --- limits that admit nothing


@pytest.mark.parametrize(
    ("limit", "fits"),
    [
        ("tokens_per_minute = 4097", True),
        ("tokens_per_minute = 4096", False),
        ("output_tokens_per_minute = 4096", True),
        ("output_tokens_per_minute = 4095", False),
        ("input_tokens_per_minute = 1", True),
        ("requests_per_minute = 0.5", True),
    ],
)
def test_a_limit_that_never_admits_a_call_of_a_role_is_an_error(tmp_path, limit, fits):
    where = f"limits.main.{limit.partition(' ')[0]}"
    assert found(tmp_path, f"{BASE}[limits.main]\n{limit}") == ([] if fits else [("error", where)])


def test_a_limit_of_one_model_is_the_one_that_counts_for_it(tmp_path):
    finding = only(tmp_path, f'{BASE}[limits.main]\nburst = 5\n[limits."main/m"]\ntokens_per_minute = 9\n')
    assert finding.where == 'limits."main/m".tokens_per_minute'
    assert "orchestrator (4096), coder (4096), reviewer (4096)" in finding.what
    assert finding.page == "never_fits"


@pytest.mark.parametrize(("context", "level"), [(4097, None), (4096, "error")])
def test_a_window_that_the_answer_alone_fills_is_an_error(tmp_path, context, level):
    roles = ["orchestrator", "coder", "reviewer"] if level else []
    text = priced(f"context = {context}", "")
    assert found(tmp_path, text) == [(level, f"roles.{role}.max_tokens") for role in roles]


# --- what is there for nothing


def test_a_model_that_no_role_calls_and_a_provider_without_a_model_are_warnings(tmp_path):
    text = BASE.replace("timeout = 5.0", 'timeout = 5.0\nmodel = "m"')
    text += f'[provider.b]\nbase_url = "{NOWHERE}"\n{SECOND}'
    assert found(tmp_path, text) == [("warning", "model.dear"), ("warning", "provider.b")]


@SLOW
def test_a_file_that_is_not_there_or_no_toml_is_one_line(tmp_path):
    done = troupe(tmp_path, "check", "--config", "nowhere.toml")
    assert (done.code, done.out) == (2, "")
    assert done.one_line == (
        "troupe: nowhere.toml: cannot be read: No such file or directory [errors.md#configuration]"
    )
    done = check(tmp_path, "[team")
    assert (done.code, done.out) == (2, "")
    assert "t.toml: is not TOML" in done.one_line


# --- several things at once


def test_what_is_missing_or_of_the_wrong_kind_does_not_hide_what_else_is_wrong(tmp_path):
    text = f"""
    [provider.main]
    base_url = "{NOWHERE}"
    [model.m]
    provider = "main"
    price = {{ input = "dear" }}
    [model.n]
    name = "n"
    [limits]
    main = 3
    [roles.coder]
    prompt = "{{x}}"
    """
    assert found(tmp_path, text) == [
        ("error", "model.m.name"),
        ("error", "model.m.price.output"),
        ("error", "model.m.price.input"),
        ("error", "model.n.provider"),
        ("error", "limits.main"),
        ("error", "roles.coder.prompt"),
    ]


@pytest.mark.parametrize("text", ["roles = 3", "provider = []", "team = 'x'\nmodel = 1", "limits = { a = 1 }", "x = 1"])
def test_a_file_in_which_nothing_is_right_is_looked_through_as_well(tmp_path, text):
    (tmp_path / "t.toml").write_text(text)
    assert of_file(str(tmp_path / "t.toml"))[1]


def test_of_one_key_the_first_error_alone_is_told_and_no_warning_beside_it(tmp_path):
    finding = only(tmp_path, f"{BASE}[roles.x]\nagent = 'no path'")
    assert finding == Finding(where="roles.x.agent", what="expected a class as 'package.module:Name'")
    unused = BASE.replace("timeout = 5.0", 'timeout = 5.0\nmodel = "m"') + SECOND.replace("dear", "'x y'")
    assert found(tmp_path, unused) == [("error", 'model."x y"')]


@SLOW
def test_a_price_that_nobody_configured_is_looked_up():
    pytest.importorskip("genai_prices")
    provider = '[provider.main]\nbase_url = "https://api.openai.com/v1"\n'
    text = f'{provider}[model.m]\nprovider = "main"\nname = "gpt-4o"\n[budget]\nusd = 5.0'
    config = Config.parse(text.encode(), "t.toml")
    assert [each for each in findings(config) if each.page == "budget"] == []
    assert "model m: gpt-4o at main, tier 2, 2.5/10 USD per million tokens (genai-prices)" in list(report(config))


# --- what this machine has


EMBEDDED = '[provider.a]\nkind = "embedded"\n[model.m]\nprovider = "a"\nname = "embedded"\n'


def test_an_embedded_model_that_is_not_installed_is_an_error_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.embedded.available", lambda: "install it with pip")
    assert only(tmp_path, EMBEDDED) == Finding(where="provider.a.kind", what="install it with pip", page="embedded")
    monkeypatch.setattr("runtime.embedded.available", lambda: None)
    assert found(tmp_path, EMBEDDED) == []


@pytest.mark.parametrize(("enabled", "level"), [("true", "error"), ('"auto"', "warning"), ("false", None)])
def test_a_machine_without_a_sandbox_is_an_error_only_where_drafts_must_be_run(tmp_path, monkeypatch, enabled, level):
    monkeypatch.setattr("runtime.executing._missing", lambda: "no bubblewrap")
    monkeypatch.setattr("runtime.sandbox.Sandbox.obstacle", lambda _: "no bubblewrap")
    (tmp_path / "t.toml").write_text(f"{BASE}[executor]\nenabled = {enabled}")
    told = [(each.level, each.page) for each in of_file(str(tmp_path / "t.toml"))[1]]
    assert told == ([(level, "sandbox")] if level else [])
