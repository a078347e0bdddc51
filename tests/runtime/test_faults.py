"""Bad input and faults: each fails alone, with its exit code or error kind and one line, beside a healthy run.

Servers and handlers that misbehave do so to one process that also has healthy work: every fault is one task of the
same batch, so that nothing which one of them does can pass unseen by the others.
"""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from runtime.fake_script import Fault, RateLimit, Script
from runtime.fake_server import FakeServer
from tests.runtime.command import NOWHERE, config, troupe

pytestmark = pytest.mark.slow
RETRIES = 2
QUICK = f"""
[team]
plan = "never"
max_parallel = 64
[roles.coder]
timeout = 0.6
max_retries = {RETRIES}
"""


def quick(url: str, more: str = QUICK) -> str:
    """Return a configuration that gives up soon."""
    return config(url, more).replace("[roles.coder]\ntimeout = 5.0\n", "", 1)


def sheet(*tasks: str) -> str:
    """Return *tasks*, each ``id: text``, as JSON lines."""
    return "\n".join(json.dumps({"id": task.partition(":")[0], "task": task}) for task in tasks)


# --- servers that misbehave

ALL = 1 + RETRIES
TWICE = 2
"""An answer that makes no sense was probably paid, so it is asked for once more and no more."""
SERVERS = {
    "s400": (Fault(status=400), "bad_request", 1),
    "s401": (Fault(status=401), "authentication", 1),
    "s403": (Fault(status=403), "authentication", 1),
    "s404": (Fault(status=404), "not_found", 1),
    "s429far": (Fault(status=429, headers={"retry-after": "9999"}), "rate_limited", 1),
    "s500": (Fault(status=500), "server_error", ALL),
    "s503": (Fault(status=503), "provider_overloaded", ALL),
    "redirect": (Fault(status=307, headers={"location": "https://elsewhere.example/"}), "redirect", 1),
    "html": (Fault(html=True), "bad_response", TWICE),
    "html502": (Fault(html=True, status=502), "server_error", ALL),
    "empty": (Fault(empty=True), "bad_response", TWICE),
    "malformed": (Fault(malformed=True), "bad_response", TWICE),
    "error200": (Fault(error_in_200=True), "server_error", ALL),
    "filtered": (Fault(finish_reason="content_filter"), "content_filter", 1),
    "dripping": (Fault(drip=0.2), "timeout", ALL),
    "late": (Fault(delay=20.0), "timeout", ALL),
    "silent": (Fault(hang=True), "timeout", ALL),
    "reset": (Fault(reset=True), "connection", ALL),
}
ALONE = ("s429far", "reset")
"""Faults of a server that hit more than their own call: the key's wait, and a kept connection under the next call."""
TOGETHER = [name for name in SERVERS if name not in ALONE]
HEALTHY = ("healthy1", "healthy2", "healthy3")


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """One process, one server, one task for each fault, and healthy ones among them."""
    home = tmp_path_factory.mktemp("sick")
    faults = tuple(
        Fault(
            **{**{field: getattr(fault, field) for field in fault.__struct_fields__}, "match": f"{name}:", "times": 0}
        )
        for name, (fault, _, _) in SERVERS.items()
    )
    with FakeServer(Script(faults=faults, record=True)) as server:
        (home / "t.toml").write_text(quick(server.url))
        tasks = sheet(*(f"{name}: do it" for name in (*HEALTHY[:1], *TOGETHER, *HEALTHY[1:])))
        done = troupe(home, "run", "--config", "t.toml", "--tasks", "-", "--json", "--quiet", stdin=tasks)
        return done, b"\n".join(server.bodies()).decode().splitlines()


@pytest.mark.parametrize("name", TOGETHER)
def test_a_server_that_misbehaves_fails_its_call_in_one_line_after_so_many_requests(sick, name):
    done, bodies = sick
    _, kind, requests = SERVERS[name]
    result = done.results[name]
    (task,) = result["results"]
    assert (result["success"], result["error_kind"], task["error_kind"]) == (False, kind, kind)
    assert sum(f"{name}: do it" in body for body in bodies) == requests
    assert (task["retry_count"], result["summary"]["llm_calls"]) == (requests - 1, requests)
    (line,) = (line for line in done.lines if line.startswith(f"troupe: {name} failed: "))
    assert kind in line


def test_healthy_runs_in_the_process_of_all_those_faults_succeed_and_the_exit_code_says_that_some_failed(sick):
    done, _ = sick
    assert [done.results[name]["success"] for name in HEALTHY] == [True] * 3
    assert done.code == 1
    assert len(done.lines) == len(TOGETHER)
    assert done.documents[-1]["summary"]["workflows_failed"] == len(TOGETHER)


def run_one(home, script: Script, more: str = QUICK, task: str = "sick: do it", **env):
    with FakeServer(script) as server:
        (home / "t.toml").write_text(quick(server.url, more))
        done = troupe(home, "run", task, "--config", "t.toml", "--json", "--quiet", **env)
        return done, server.stats()


def test_a_reply_cut_at_the_limit_is_kept_as_a_text_and_says_so(tmp_path):
    done, stats = run_one(tmp_path, Script(faults=(Fault(match="coder", finish_reason="length", times=0),)))
    (result,) = done.documents
    assert result["results"][0]["truncated"] or result["results"][0]["error_kind"] == "truncated"
    assert stats.requests == result["summary"]["llm_calls"]


@pytest.mark.parametrize("name", ALONE)
def test_a_server_that_does_so_to_all_its_calls_gets_so_many_requests(tmp_path, name):
    fault, kind, requests = SERVERS[name]
    done, stats = run_one(tmp_path, Script(faults=(structs.replace(fault, times=0),)))
    assert (done.code, done.documents[0]["error_kind"], stats.requests) == (1, kind, requests)
    assert kind in done.one_line


def test_a_429_is_waited_out_by_everybody_on_the_key(tmp_path):
    with FakeServer(Script(rate_limit=RateLimit(per_second=40, burst=2))) as server:
        patient = QUICK.replace(f"max_retries = {RETRIES}", "max_retries = 9\n[roles.reviewer]\nmax_retries = 9")
        (tmp_path / "t.toml").write_text(quick(server.url, patient).replace("[roles.reviewer]\ntimeout = 5.0\n", "", 1))
        tasks = sheet(*(f"t{n}: do it" for n in range(6)))
        done = troupe(tmp_path, "run", "--config", "t.toml", "--tasks", "-", "--json", "--quiet", stdin=tasks)
    assert [result["success"] for result in done.results.values()] == [True] * 6
    assert done.err == ""


def test_an_unreachable_server_is_one_line_after_all_attempts(tmp_path):
    (tmp_path / "t.toml").write_text(quick(NOWHERE))
    done = troupe(tmp_path, "run", "x", "--config", "t.toml", "--json", "--quiet")
    (result,) = done.documents
    assert (done.code, result["error_kind"], result["results"][0]["retry_count"]) == (1, "connection", RETRIES)
    assert "127.0.0.1:9" in done.one_line


# --- handlers that misbehave: agents of a user's own, named in the configuration

HANDLERS = """
import asyncio, time
from actors import Agent, Workflow

class Each(Workflow):
    async def run(self, task: str) -> str:
        return await self.ask(task.partition(":")[0], task)

class Healthy(Agent):
    async def handle(self, message):
        return (await self.chat(message.content)).text

class Raises(Agent):
    async def handle(self, message):
        raise ValueError("a wrong\\n\\x1b[31mvalue\\u2028" + "!" * 5000)

class Exits(Agent):
    async def handle(self, message):
        raise SystemExit(7)

class Interrupted(Agent):
    async def handle(self, message):
        raise KeyboardInterrupt

class Foreign(Agent):
    async def handle(self, message):
        await asyncio.sleep(0)

class Nothing(Agent):
    async def handle(self, message):
        return None

class Endless(Agent):
    async def handle(self, message):
        time.sleep(600)

class Unmade(Agent):
    def __init__(self, *_, **__):
        raise RuntimeError("no database")
"""
PLAYED = {
    "healthy": "Healthy",
    "raises": "Raises",
    "exits": "Exits",
    "interrupted": "Interrupted",
    "foreign": "Foreign",
    "endless": "Endless",
}
ASKED = {
    "raises": ("handler_error", "ValueError: a wrong"),
    "exits": ("handler_error", "SystemExit"),
    "interrupted": ("handler_error", "KeyboardInterrupt"),
    "foreign": ("foreign_await", "self.call"),
    "endless": ("stuck", "endless"),
    "nobody": ("no_such_role", "nobody"),
    "agentless": ("no_such_role", "agentless"),
}


def cast(url: str, **played: str) -> str:
    roles = "".join(f'[roles.{role}]\nagent = "cast:{kind}"\nmax_retries = 1\n' for role, kind in played.items())
    return config(url, f'{roles}[roles.agentless]\nmax_tokens = 7\n[team]\nworkflow = "cast:Each"\n')


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """One process in which every handler misbehaves, and a healthy one works."""
    home = tmp_path_factory.mktemp("played")
    (home / "cast.py").write_text(HANDLERS)
    tasks = [json.dumps({"task": f"{name}: do it", "id": name}) for name in ("healthy", *ASKED)]
    tasks.append(json.dumps({"task": "healthy: after it", "id": "after"}))
    with FakeServer(Script()) as server:
        (home / "t.toml").write_text(cast(server.url, **PLAYED))
        yield troupe(home, "run", "--config", "t.toml", "--tasks", "-", "--json", "--quiet", stdin="\n".join(tasks))


@pytest.mark.parametrize("name", ASKED)
def test_a_handler_that_misbehaves_fails_its_run_in_one_line(played, name):
    kind, words = ASKED[name]
    assert (played.results[name]["success"], played.results[name]["error_kind"]) == (False, kind)
    (line,) = (line for line in played.err.splitlines() if line.startswith(f"troupe: {name} failed: {kind}: "))
    assert words in line
    assert line.isprintable()
    assert len(line) <= 2100


def test_healthy_runs_beside_handlers_that_misbehave_succeed(played):
    assert [played.results[name]["success"] for name in ("healthy", "after")] == [True, True]
    assert played.code == 1
    said = [line for line in played.lines if line.startswith("troupe: ")]
    logged = {json.loads(line)["event"] for line in played.lines if line not in said}
    assert len(said) == len(ASKED)
    assert logged <= {"loop.held", "child.failed", "handler.raised", "system.threads_stuck"}


def test_a_handler_that_never_returns_does_not_keep_the_process_from_ending(played):
    assert "system.threads_stuck" in played.err
    assert played.seconds < 9.0


@pytest.mark.parametrize("command", [["run", "x"], ["check"]])
@pytest.mark.parametrize(
    ("kind", "words"),
    [("Nowhere", "roles.healthy.agent"), ("Each", "is no subclass of actors.agent.Agent")],
)
def test_a_class_that_cannot_play_is_refused_before_anything_is_spent(tmp_path, command, kind, words):
    (tmp_path / "cast.py").write_text(HANDLERS)
    (tmp_path / "t.toml").write_text(cast(NOWHERE, healthy=kind))
    done = troupe(tmp_path, *command, "--config", "t.toml")
    assert (done.code, done.out) == (2, "")
    assert done.one_line.startswith("troupe: t.toml: roles.healthy.agent = ")
    assert words in done.one_line


def test_a_module_that_cannot_be_imported_is_one_line(tmp_path):
    (tmp_path / "cast.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "t.toml").write_text(cast(NOWHERE, healthy="Healthy"))
    done = troupe(tmp_path, "run", "x", "--config", "t.toml")
    assert (done.code, done.out) == (2, "")
    assert "nothing_of_this_name" in done.one_line


# --- configurations

WRONG = {
    "an unknown key": ("[team]\nplann = 1", "team.plann"),
    "an unknown table": ("[teams]\nplan = 1", "teams"),
    "a wrong type": ("[team]\nmax_rounds = 'two'", "team.max_rounds"),
    "a negative limit": ("[limits.main]\nrequests_per_minute = -5", "limits.main.requests_per_minute"),
    "a limit of zero": ("[limits.main]\nconcurrency = 0", "limits.main.concurrency"),
    "a limit that is no number": ("[limits.main]\nrequests_per_minute = nan", "limits.main.requests_per_minute"),
    "an endless limit": ("[limits.main]\ntokens_per_minute = inf", "limits.main.tokens_per_minute"),
    "a negative timeout": ("[roles.translator]\ntimeout = -1", "roles.translator.timeout"),
    "a limit for nobody": ("[limits.mian]\nburst = 3", "limits.mian"),
    "no TOML": ("[team", "TOML"),
    "a table twice": ("[retry]\nbase = 1", "TOML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_one_line_that_names_file_and_key(tmp_path, name):
    text, key = WRONG[name]
    (tmp_path / "t.toml").write_text(config(NOWHERE) + text)
    done = troupe(tmp_path, "run", "x", "--config", "t.toml")
    assert (done.code, done.out) == (2, "")
    assert "t.toml" in done.one_line
    assert key in done.one_line


@pytest.mark.parametrize(
    ("data", "word"), [(b"x = '\xff\xfe'", "UTF-8"), (b"", "no model"), (b"#" * 1_000_001, "larger")]
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, data, word):
    (tmp_path / "t.toml").write_bytes(data)
    done = troupe(tmp_path, "run", "x", "--config", "t.toml")
    assert (done.code, done.out) == (2, "")
    assert word in done.one_line


@pytest.mark.parametrize("path", [".", "nowhere.toml", "a\nb.toml"])
def test_a_path_that_is_no_file_is_one_line(tmp_path, path):
    done = troupe(tmp_path, "run", "x", "--config", path)
    assert (done.code, done.out) == (2, "")
    assert "cannot be read" in done.one_line


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://example.com/v1", "https"),
        ("http://169.254.169.254/v1", "https"),
        ("http://127.0.0.1.example.com/v1", "https"),
        ("file:///etc/passwd", "file"),
        ("ftp://127.0.0.1/", "ftp"),
        ("https://user:pass@example.com/v1", "user"),
        ("http://user:pass@127.0.0.1:9/v1", "user"),
        ("https://example.com/v1?x=1", "query"),
        ("https://exa\nmple.com/v1", "control"),
        ("nonsense", "http"),
        ("", "base"),
    ],
)
def test_a_url_that_must_not_be_spoken_to_is_refused_in_one_line(tmp_path, url, word):
    done = troupe(tmp_path, "run", "x", "--base-url", url, "--model", "m")
    assert (done.code, done.out) == (2, "")
    assert word in done.one_line
    assert ":pass" not in done.err


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "not set"),
        ("", "not set"),
        ("abcdefgh\nijkl-secret-part-mnop", "MY_KEY"),
        ("abcdefgh\u00e4ijkl-secret-part-mnop", "MY_KEY"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_line_without_the_key(tmp_path, value, word):
    env = {} if value is None else {"MY_KEY": value}
    done = troupe(tmp_path, "run", "x", "--base-url", NOWHERE, "--model", "m", "--api-key-env", "MY_KEY", **env)
    assert (done.code, done.out) == (2, "")
    assert word in done.one_line
    assert "MY_KEY" in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize("command", [["run", "x"], ["check"]])
def test_a_configuration_whose_key_is_not_there_is_named_with_the_variable(tmp_path, command):
    (tmp_path / "t.toml").write_text(config(NOWHERE).replace('kind = "openai"', 'api_key_env = "MY_KEY"'))
    done = troupe(tmp_path, *command, "--config", "t.toml")
    assert (done.code, done.out) == (2, "")
    assert done.one_line.startswith("troupe: t.toml: the environment variable MY_KEY is not set or empty")


@pytest.mark.parametrize("option", [["--api-key", "sk-canary-canary"], ["--api-key=sk-canary-canary"]])
def test_a_key_on_the_command_line_is_refused_and_not_shown(tmp_path, option):
    done = troupe(tmp_path, "run", "x", "--base-url", NOWHERE, "--model", "m", *option)
    assert (done.code, done.out) == (2, "")
    assert "environment variable" in done.one_line
    assert "canary" not in done.err
