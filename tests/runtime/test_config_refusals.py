"""What a configuration refuses: in one line that names the file, the key and what was expected, and shows no secret."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import ConfigError
from runtime.config import Config, Limits, Role
from runtime.findings import of_file
from runtime.tables import LARGEST_FILE
from tests.runtime.configurations import CONTRACT, MAIN, STRONG, parse

CANARY = "sk-canary-0123456789abcdef"


def refusal(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    line = str(caught.value)
    assert line.startswith("team.toml: ")
    assert line.isprintable()
    return line


BAD = {
    "no table": ("team = 3", ["team: expected a table, got 3"]),
    "no tables": ("provider = 3", ["provider: expected tables [provider.<name>], got 3"]),
    "roles is no table": ("roles = []", ["roles: expected tables [roles.<name>], got a list"]),
    "limits is no table": ("limits = 'x'", ["limits: expected tables", "got a text"]),
    "a role is no table": ("[roles]\ncoder = 3", ["roles.coder: expected a table, got 3"]),
    "unknown table": ("[teem]", ["teem: unknown key; did you mean 'team'?"]),
    "unknown key": ("[team]\nmax_round = 2", ["team.max_round: unknown key; did you mean 'max_rounds'?"]),
    "far-off key": ("[budget]\nzzz = 2", ["budget.zzz: unknown key; there are: usd"]),
    "key of a role": ("[roles.coder]\ntemprature = 1", ["roles.coder.temprature", "did you mean 'temperature'?"]),
    "per second": (MAIN + "[limits.main]\nrequests_per_second = 9", ["did you mean", "'requests_per_minute'"]),
    "key inside a price": (STRONG + "price = { inptu = 1, output = 1 }", ["model.strong.price.inptu", "'input'?"]),
    "half a price": (STRONG + "price = { input = 1 }", ["model.strong.price.output: is missing; expected a number"]),
    "price is no table": (STRONG + "price = 5", ["model.strong.price: expected a table, got 5"]),
    "negative price": (STRONG + "price = { input = -1, output = 1 }", ["model.strong.price.input", "got -1"]),
    "odd key": ('[team]\n"a\\nb" = 1', ['team."a\\nb": unknown key']),
    "text for a number": ("[team]\nmax_rounds = '2'", ["team.max_rounds: expected a whole number from 0 to 20"]),
    "true for a number": ("[roles.coder]\ntimeout = true", ["roles.coder.timeout: expected a number", "got true"]),
    "true for a whole number": ("[team]\nmax_parallel = true", ["team.max_parallel", "got true"]),
    "fraction for a whole number": ("[team]\nmax_parallel = 2.5", ["expected a whole number from 1 to 1000, got 2.5"]),
    "list for a text": ("[roles.coder]\nprompt = []", ["roles.coder.prompt: expected a text, got a list"]),
    "number for a switch": ("[roles.coder]\nkeep_truncated = 1", ["expected true or false, got 1"]),
    "date": ("[team]\nmax_rounds = 2026-11-24", ["team.max_rounds", "got a date"]),
    "word": ("[system]\ndispatcher = 'shard'", ["system.dispatcher: expected 'shared' or 'threads'", "mean 'shared'?"]),
    "plan": ("[team]\nplan = 'maybe'", ["team.plan: expected 'auto', 'always' or 'never'"]),
    "executor": (
        "[executor]\nenabled = 'atuo'",
        ["executor.enabled: expected 'auto' or true or false", "mean 'auto'?"],
    ),
    "kind": (MAIN + "kind = 'opneai'", ["provider.main.kind", "did you mean 'openai'?"]),
    "score": ("[team]\naccept_score = 11", ["team.accept_score: expected a whole number from 0 to 10, got 11"]),
    "rounds": ("[team]\nmax_rounds = -1", ["team.max_rounds", "got -1"]),
    "ten thousand subtasks": ("[team]\nmax_subtasks = 10000", ["team.max_subtasks", "from 1 to 64"]),
    "no instance": ("[roles.coder]\ninstances = 0", ["roles.coder.instances", "got 0"]),
    "temperature": (
        "[roles.coder]\ntemperature = 3",
        ["roles.coder.temperature: expected a number from 0 to 2, got 3"],
    ),
    "retries": ("[roles.coder]\nmax_retries = 21", ["roles.coder.max_retries"]),
    "tier": (STRONG + "tier = 4", ["model.strong.tier: expected a whole number from 1 to 3, got 4"]),
    "weight": ("[flows.acme]\nweight = 0", ["flows.acme.weight: expected a number above 0"]),
    "budget": ("[budget]\nusd = -0.01", ["budget.usd: expected a number from 0", "got -0.01"]),
    "budget nan": ("[budget]\nusd = nan", ["budget.usd", "got nan"]),
    "retry base": ("[retry]\nbase = 0", ["retry.base: expected a number above 0"]),
    "retry factor": ("[retry]\nfactor = 0.5", ["retry.factor: expected a number from 1 to 100"]),
    "cap below base": ("[retry]\nbase = 9\ncap = 3", ["retry.cap: expected at least retry.base, which is 9"]),
    "hexadecimal giant": ("[team]\nmax_rounds = 0x" + "f" * 9000, ["team.max_rounds", "got a number of 36000 bits"]),
    # names
    "no such provider": (MAIN + "[model.m]\nprovider = 'mian'\nname = 'x'", ["model.m.provider", "mean 'main'?"]),
    "no provider at all": ("[model.m]\nprovider = 'main'\nname = 'x'", ["there is no provider 'main'; there are none"]),
    "model without name": (MAIN + "[model.m]\nprovider = 'main'", ["model.m.name: is missing; expected a text"]),
    "model of blanks": (MAIN + "[model.m]\nprovider = 'main'\nname = ' '", ["model.m.name"]),
    "model called auto": (MAIN + "[model.auto]\nprovider = 'main'\nname = 'x'", ["model.auto: expected another name"]),
    "role on no model": (STRONG + "[roles.coder]\nmodel = 'strnog'", ["roles.coder.model", "did you mean 'strong'?"]),
    "limits of nobody": (STRONG + "[limits.mian]\nburst = 1", ["limits.mian: there is no provider 'mian'", "'main'?"]),
    "limits of no model": (
        STRONG + "[limits.'main/bgi']\nburst = 1",
        ['limits."main/bgi": there is no model', "'big'?"],
    ),
    "role with a typo": ("[roles.codr]\ntimeout = 9", ["roles.codr: unknown role; did you mean 'coder'?"]),
    "role in capitals": ("[roles.Translator]\ntimeout = 9", ["roles.Translator: expected a role's name"]),
    "provider with a slash": ("[provider.'a/b']\nbase_url = 'https://a.example'", ['provider."a/b": expected a name']),
    "flow without a name": ("[flows.'']\nweight = 1", ['flows."": expected a name']),
    "agent": ("[roles.t]\nagent = 'mypkg.agents'", ["roles.t.agent: expected a class as 'package.module:Name'"]),
    "agent path": ("[roles.t]\nagent = '../x:Y'", ["roles.t.agent"]),
    "workflow": ("[team]\nworkflow = 'taem'", ["team.workflow: expected 'team' or a class as 'package.module:Name'"]),
    # providers
    "no base_url": ("[provider.main]", ["provider.main.base_url: is missing; expected a URL"]),
    "empty base_url": ("[provider.main]\nbase_url = ''", ["provider.main.base_url", "not empty"]),
    "no URL": ("[provider.main]\nbase_url = 'api'", ["provider.main.base_url: the base URL"]),
    "file URL": ("[provider.main]\nbase_url = 'file:///etc/passwd'", ["provider.main.base_url", "https"]),
    "http elsewhere": ("[provider.main]\nbase_url = 'http://a.example'", ["provider.main.base_url", "https"]),
    "metadata address": ("[provider.main]\nbase_url = 'http://169.254.169.254/'", ["provider.main.base_url"]),
    "embedded elsewhere": (MAIN + "kind = 'embedded'", ["provider.main.base_url: expected none"]),
    "embedded key": ("[provider.e]\nkind = 'embedded'\napi_key_env = 'K'", ["provider.e.api_key_env: expected none"]),
    "no variable": (
        MAIN + "api_key_env = 'MY KEY'",
        ["provider.main.api_key_env: expected the name of an environment"],
    ),
    "no variable's name": (MAIN + "api_key_env = ''", ["provider.main.api_key_env", "not empty"]),
    # templates
    "empty prompt": ("[roles.coder]\nprompt = ''", ["roles.coder.prompt: expected a text that is not empty"]),
    "blank prompt": ('[roles.t]\nprompt = " \\n"', ["roles.t.prompt: expected a text that is not empty"]),
    "unknown variable": (
        "[roles.coder]\nprompt = '{subtsk}'",
        ["roles.coder.prompt", "{subtsk}", "allowed are {task} {subtask} ("],
    ),
    "variable of another": ("[roles.orchestrator]\nprompt = '{draft}'", ["roles.orchestrator.prompt: unknown", "task"]),
    "attribute": ("[roles.coder]\nprompt = '{subtask.__class__}'", ["roles.coder.prompt: unknown variable"]),
    "position": ("[roles.coder]\nprompt = 'Do {}'", ["roles.coder.prompt: unknown variable {}"]),
    "format": ("[roles.coder]\nprompt = '{subtask:>99999999}'", ["roles.coder.prompt: expected a plain {variable}"]),
    "conversion": ("[roles.coder]\nprompt = '{subtask!r}'", ["roles.coder.prompt: expected a plain {variable}"]),
    "open brace": ("[roles.coder]\nprompt = 'a { b'", ["roles.coder.prompt: is no template", "brace"]),
    "prompt without task": (
        "[roles.coder]\nprompt = 'Work!'",
        ["roles.coder.prompt: expected {task} or {subtask} in it"],
    ),
    "revise without issues": ("[roles.coder]\nrevise = '{draft}'", ["roles.coder.revise: expected {issues} in it"]),
    "review of nothing": ("[roles.reviewer]\nprompt = '{task}'", ["roles.reviewer.prompt: expected {draft} in it"]),
    # bytes
    "no TOML": ("[team]\nmax_rounds 2\n", ["is not TOML", "line 2"]),
    "broken at the end": ("[team]\nmax_rounds =", ["is not TOML", "at the end, line 2"]),
    "twice": ("[team]\nmax_rounds = 1\nmax_rounds = 2\n", ["is not TOML", "line 3"]),
    "endless number": ("a = " + "1" * 5000, ["is not TOML", "more than 4000 digits"]),
    "control character": (b"[team]\n\x1b[2J", ["is not TOML", "line 2"]),
    "a zero byte": (b"\x00", ["is not TOML"]),
    "nested too deeply": ("a = " + "[" * 50_000, ["is nested too deeply"]),
    "YAML": ("team:\n\t- &a [*a]\n", ["is not TOML", "line 1"]),
    "not UTF-8": (b"[team]\n# caf\xe9\n", ["is not UTF-8 (line 2, byte"]),
    "UTF-16": ("[team]".encode("utf-16"), ["is not UTF-8 (line 1"]),
    "too large": (b"#" * (LARGEST_FILE + 1), ["is larger than 1000000 bytes"]),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused_in_one_line_with_its_key(text, said):
    line = refusal(text)
    assert [part for part in said if part not in line] == [], line


LIMITS = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "ageing")


@pytest.mark.parametrize("key", [*LIMITS, "burst", "concurrency"])
@pytest.mark.parametrize("value", ["0", "0.0", "-1", "nan", "inf", "-inf", "1e12", "1000000000000", "true", "'9'"])
def test_an_impossible_limit_is_refused_by_its_name(key, value):
    assert f"limits.main.{key}: expected a " in refusal(f"{MAIN}[limits.main]\n{key} = {value}\n")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"{MAIN}api_key_env = '{CANARY}'", "canary"),
        (f"{MAIN}api_key_env = 'AIzaCanary0123456789'", "Canary"),
        (f"{MAIN}api_key_env = '0123456789abcdefcanary012345'", "canary"),
        (f"{MAIN}api_key_env = 'canary canary'", "canary"),
        (f"{MAIN}api_key = '{CANARY}'", "canary"),
        (f"{MAIN}kind = '{CANARY}'", "canary"),
        ("[provider.main]\nbase_url = 'https://user:canary@a.example/v1'", "canary"),
        ("[provider.main]\nbase_url = 'https://canary@a.example/v1'", "canary"),
        (f"{MAIN}[limits.main]\nburst = '{CANARY}'", "canary"),
    ],
)
def test_no_refusal_shows_what_may_be_a_key(text, secret):
    line = refusal(text)
    assert "provider.main" in line or "limits.main" in line
    assert secret not in line


def test_a_key_in_place_of_its_variable_is_recognised():
    assert "looks like a key itself (not shown)" in refusal(f"{MAIN}api_key_env = '{CANARY}'")


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HOLYSHEEP_API_KEY", "AZURE_OPENAI_KEY_FOR_TEAM_2", "key", "K1"])
def test_a_usual_variable_is_no_key(name):
    assert parse(f"{MAIN}api_key_env = '{name}'").provider["main"].api_key_env == name


# --- files


def test_a_file_is_loaded_and_named_in_errors(tmp_path):
    good, bad = tmp_path / "team.toml", tmp_path / "bad\n.toml"
    good.write_bytes(CONTRACT)
    bad.write_text("[team]\nmax_rounds = -1\n", "utf-8")
    assert Config.load(good) == Config.load(str(good)) == parse(CONTRACT)
    with pytest.raises(ConfigError) as caught:
        Config.load(bad)
    assert str(caught.value).startswith(f"{tmp_path}/bad\\n.toml: team.max_rounds: ")


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.toml", "No such file"), ("", "Is a directory"), ("a\x00b", "that is no file name")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, reason):
    with pytest.raises(ConfigError, match=f"cannot be read: {reason}") as caught:
        Config.load(f"{tmp_path}/{name}")
    assert str(caught.value).isprintable()


def test_a_huge_file_is_not_read_to_its_end():
    with pytest.raises(ConfigError, match="/dev/zero: is larger than 1000000 bytes"):
        Config.load("/dev/zero")


@pytest.mark.slow
@given(st.binary(max_size=400))
def test_any_bytes_give_a_configuration_or_a_config_error(data):
    assert_config_or_refusal(data)


LEAF = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=8), st.just("auto"), st.just("main"), st.none()
)
KEY = st.sampled_from(
    [*Config.__struct_fields__, *Role.__struct_fields__, *Limits.__struct_fields__, "main", "coder", "main/x", "x"]
)
TREE = st.dictionaries(KEY, st.recursive(LEAF, lambda inner: st.dictionaries(KEY, inner, max_size=4), max_leaves=12))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(TREE)
def test_any_tables_give_a_configuration_or_a_config_error(tree):
    assert_config_or_refusal("\n".join(f"{name} = {toml(value)}" for name, value in tree.items()).encode())


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_a_damaged_file_gives_a_configuration_or_a_config_error(data):
    place = data.draw(st.integers(0, len(CONTRACT)))
    cut = data.draw(st.integers(0, 6))
    assert_config_or_refusal(CONTRACT[:place] + data.draw(st.binary(max_size=6)) + CONTRACT[place + cut :])


def assert_config_or_refusal(data):
    try:
        outcome = parse(data)
    except ConfigError as error:
        outcome = str(error)
    assert isinstance(outcome, Config) or (outcome.startswith("team.toml: ") and outcome.isprintable())


def toml(value):
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + "}"
        case str():
            return '"' + "".join(f"\\U{ord(c):08X}" for c in value if not "\ud800" <= c <= "\udfff") + '"'
        case None:
            return "[]"
    return repr(value)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=200)
@given(TREE)
def test_what_is_found_in_any_tables_are_lines_and_an_error_where_they_are_refused(tmp_path, tree):
    text = "\n".join(f"{name} = {toml(value)}" for name, value in tree.items())
    file = tmp_path / "t.toml"
    file.write_text(text, encoding="utf-8", errors="replace", newline="")
    _, found = of_file(str(file))
    assert all(str(each).isprintable() for each in found)
    try:
        Config.load(file)
    except ConfigError:
        assert any(each.level == "error" for each in found)
