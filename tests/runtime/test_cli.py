"""The command line's contract: what it prints where, exit codes, and one line for each thing that is wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from runtime.fake_script import Fault, Script
from runtime.fake_server import FakeServer
from tests.runtime.command import ROOT, config, environment, troupe

pytestmark = pytest.mark.slow
TASK = "Implement an async HTTP client with retries"


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


def run(home, url, *arguments, **options):
    return troupe(home, "run", *arguments, "--base-url", url, "--model", "m", **options)


# --- what comes out


def test_json_is_one_document_and_the_summary_has_its_fields(tmp_path, server):
    done = run(tmp_path, server.url, TASK, "--json", "--id", "task_001")
    assert done.code == 0
    (result,) = done.results
    assert set(result) == {
        "correlation_id", "success", "output", "error", "error_kind", "results", "accepted", "summary",
    }  # fmt: skip
    assert (result["correlation_id"], result["success"]) == ("task_001", True)
    assert set(result["summary"]) == {
        "total_tasks", "successful", "failed", "llm_calls", "retries", "input_tokens", "output_tokens", "cost_usd",
        "wall_ms", "llm_ms",
    }  # fmt: skip
    assert result["summary"]["total_tasks"] == len(result["results"]) == 7


def test_without_json_standard_output_is_the_text_alone(tmp_path, server):
    done = run(tmp_path, server.url, TASK)
    assert done.code == 0
    assert done.out.startswith("## ")
    for label in ("Total Tasks: 7", "Successful: 7", "Failed: 0"):
        assert label in done.err
    assert re.search(r"^Total Execution Time: \d+\.\d\d ms$", done.err, re.MULTILINE)
    assert "Total Tasks" not in done.out


def test_quiet_says_nothing_but_the_result(tmp_path, server):
    assert run(tmp_path, server.url, "What is 2 + 2?", "--quiet", "--no-journal").err == ""


def test_many_tasks_give_a_line_each_and_a_last_one_with_the_sums(tmp_path, server):
    tasks = 'one thing\n\n{"task": "two", "id": "t2", "timeout": 30}\n{"task": "drei: Grüße 🎭"}\n'
    done = run(tmp_path, server.url, "--tasks", "-", "--json", stdin=tasks)
    *results, last = done.results
    assert len(results) == 3
    assert "t2" in {result["correlation_id"] for result in results}
    assert (last["summary"]["workflows"], last["summary"]["workflows_failed"]) == (3, 0)
    assert last["summary"]["total_tasks"] == sum(result["summary"]["total_tasks"] for result in results)


def test_outputs_and_events_are_written_to_files(tmp_path, server):
    run(tmp_path, server.url, "Größe?", "--id", "x", "--out", "out", "--events", "events.jsonl")
    assert (tmp_path / "out" / "x.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "x.json").read_text(encoding="utf-8"))["success"]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {event["run"] for event in events} == {"x"}
    assert "task.started" in {event["event"] for event in events}


def test_each_call_is_made_exactly_once_by_a_server_that_knows_no_json_schema(tmp_path):
    for support in ("reject", "ignore"):
        with FakeServer(Script(json_schema=support, json_object=support, record=True)) as server:
            done = run(tmp_path, server.url, TASK, "--json")
            bodies = server.bodies()
        assert done.code == 0, done.err
        (result,) = done.results
        assert len(result["accepted"]) == 3
        assert len(set(bodies)) == len(bodies)
        assert result["summary"]["total_tasks"] == 7


def test_a_subtask_whose_coder_fails_for_good_leaves_the_others_in_the_result(tmp_path):
    with FakeServer(Script(faults=(Fault(match="Implement: Handle errors", times=0, status=400),))) as server:
        done = run(tmp_path, server.url, TASK, "--json")
    (result,) = done.results
    assert (done.code, result["success"]) == (1, False)
    assert sum(1 for task in result["results"] if not task["success"]) == 1
    assert result["output"].count("## ") == 2


def test_the_tasks_nonces_never_mix(tmp_path):
    tasks = "\n".join(f"Say nonce-{n:04d}" for n in range(200))
    text = config("{url}", "[limits.main]\nconcurrency = 64\n[team]\nplan = 'never'\nmax_parallel = 64")
    with FakeServer(Script(nonce=True, latency=(0.0, 0.1))) as server:
        (tmp_path / "t.toml").write_text(text.replace("{url}", server.url), encoding="utf-8")
        done = troupe(tmp_path, "run", "--config", "t.toml", "--tasks", "-", "--json", "--quiet", stdin=tasks)
        stats = server.stats()
    *results, _ = done.results
    assert len(results) == 200
    found = [set(re.findall(r"nonce-\d{4}", result["output"])) for result in results]
    assert sorted(n for (n,) in found) == [f"nonce-{n:04d}" for n in range(200)]
    assert stats.max_in_flight > 32


# --- what is not built yet


@pytest.mark.parametrize(
    "arguments",
    [
        ["init"], ["simulate"], ["bench", "--json"], ["resume", "x"], ["show", "x"], ["dead-letters", "list"], ["cost"],
        ["replay", "f", "--config", "g"], ["check", "--config", "x", "--online"],
    ],
)  # fmt: skip
def test_a_command_that_is_not_built_says_so_and_exits_2(tmp_path, arguments):
    done = troupe(tmp_path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert "is not built yet" in done.one_line


@pytest.mark.parametrize("option", [["--journal", "j"], ["--max-cost", "1"], ["--flow", "a"], ["--priority", "high"]])
def test_an_option_that_is_not_built_says_so_and_exits_2(tmp_path, option):
    done = run(tmp_path, "http://127.0.0.1:9/v1", "x", *option)
    assert done.code == 2
    assert f"{option[0]} is not built yet" in done.one_line


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["fake-server"]])
def test_help_fits_a_terminal(tmp_path, command):
    done = troupe(tmp_path, *command, "--help", COLUMNS="80")
    lines = done.out.splitlines()
    assert done.code == 0
    assert max(map(len, lines)) <= 80
    assert len(lines) <= (24 if command != ["run"] else 48)


# --- bad input: exit 2 and one line

WRONG = {
    "an unknown key": ("[team]\nplann = 1", "team.plann"),
    "a wrong type": ("[team]\nmax_rounds = 'two'", "team.max_rounds"),
    "a negative limit": ("[limits.main]\nrequests_per_minute = -5", "limits.main.requests_per_minute"),
    "a limit that is no number": ("[limits.main]\nrequests_per_minute = nan", "limits.main.requests_per_minute"),
    "no TOML": ("[team", "t.toml"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_one_line_that_names_file_and_key(tmp_path, name):
    text, key = WRONG[name]
    (tmp_path / "t.toml").write_text(config("http://127.0.0.1:9/v1") + text if name != "no TOML" else text)
    done = troupe(tmp_path, "run", "x", "--config", "t.toml")
    assert (done.code, done.out) == (2, "")
    assert "t.toml" in done.one_line
    assert key in done.one_line


def test_a_configuration_that_is_not_utf_8_is_one_line(tmp_path):
    (tmp_path / "t.toml").write_bytes(b"x = '\xff\xfe'")
    done = troupe(tmp_path, "check", "--config", "t.toml")
    assert done.code == 2
    assert "UTF-8" in done.one_line


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://example.com/v1", "https"),
        ("file:///etc/passwd", "https"),
        ("https://user:pass@example.com/v1", "user"),
        ("nonsense", "http"),
    ],
)
def test_a_url_that_must_not_be_spoken_to_is_refused(tmp_path, url, word):
    done = run(tmp_path, url, "x")
    assert (done.code, done.out) == (2, "")
    assert word in done.one_line
    assert "pass@" not in done.err


@pytest.mark.parametrize(("value", "word"), [("", "MY_KEY"), ("abc\ndef-secret-part", "MY_KEY")])
def test_a_key_that_cannot_be_used_is_one_line_without_the_key(tmp_path, value, word):
    done = run(tmp_path, "http://127.0.0.1:9/v1", "x", "--api-key-env", "MY_KEY", MY_KEY=value)
    assert done.code == 2
    assert word in done.one_line
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("arguments", "stdin", "word"),
    [
        ([""], "", "empty"),
        (["-"], "  \n", "empty"),
        (["-"], "x" * 1_000_001, "1000000 are the most"),
        (["-"], b"\xff\xff", "UTF-8"),
        (["--tasks", "-"], "", "no task"),
        (["--tasks", "-"], '{"task": 3}', "line 1"),
        (["--tasks", "-"], '{"task": "a", "colour": 3}', "line 1"),
        (["--tasks", "nowhere.txt"], "", "nowhere.txt"),
        (["a", "--tasks", "-"], "b", "one TASK"),
        ([], "", "one TASK"),
        (["x", "--id", "../../etc"], "", "an id is"),
        (["x", "--timeout", "-3"], "", "-3"),
        (["x", "--timeout", "nan"], "", "nan"),
    ],
)
def test_a_task_that_cannot_be_run_is_one_line(tmp_path, arguments, stdin, word):
    done = run(tmp_path, "http://127.0.0.1:9/v1", *arguments, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert word in done.one_line


def test_the_same_id_with_the_same_task_is_one_run_and_with_another_task_an_error(tmp_path, server):
    line = '{"task": "a", "id": "same"}\n'
    done = run(tmp_path, server.url, "--tasks", "-", "--json", stdin=line + '{"task": "b", "id": "same"}\n')
    assert done.code == 2
    assert "'same'" in done.one_line


def test_a_task_of_just_under_a_megabyte_works(tmp_path, server):
    assert run(tmp_path, server.url, "-", "--quiet", "--json", stdin="word " * 199_000).code == 0


def test_control_characters_reach_no_terminal(tmp_path, server):
    done = run(tmp_path, server.url, "Say \x1b[31mred\x07 ä 🎭", LANG="C", LC_ALL="C")
    assert done.code == 0
    assert "\x1b" not in done.err
    assert "\x07" not in done.err
    assert "ä" in done.out


def test_an_unreachable_server_fails_the_run_in_one_line(tmp_path):
    (tmp_path / "t.toml").write_text(config("http://127.0.0.1:9/v1", "[team]\nplan = 'never'"))
    done = troupe(tmp_path, "run", "x", "--config", "t.toml", "--json", "--quiet")
    (result,) = done.results
    assert (done.code, result["results"][0]["error_kind"]) == (1, "connection")
    assert result["results"][0]["retry_count"] == 3
    assert "127.0.0.1:9" in done.one_line


# --- pipes and signals


def test_a_reader_that_goes_away_is_no_traceback(tmp_path, server):
    command = f"{sys.executable} -m runtime run --tasks - --base-url {server.url} --model m --json --quiet | head -c 10"
    tasks = "\n".join(f"What is {n}?" for n in range(50)).encode()
    done = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        input=tasks,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    ("signals", "code"), [([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGINT] * 2, 130)]
)
def test_a_signal_ends_the_run_in_time_with_its_code(tmp_path, signals, code):
    with FakeServer(Script(latency=30.0)) as server:
        command = [sys.executable, "-m", "runtime", "run", TASK, "--base-url", server.url, "--model", "m"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert b"begins" in process.stderr.readline()
        for number in signals:
            process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert len(signals) > 1 or b"cancelling 1 run;" in err
    assert out == b""


# --- check and the demo


def test_check_says_what_a_configuration_means(tmp_path):
    done = troupe(tmp_path, "check", "--config", str(ROOT / "examples" / "guide_de.toml"), HOLYSHEEP_API_KEY="x" * 20)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "ok"
    assert "HOLYSHEEP_API_KEY" in done.out
    assert "xxxx" not in done.out


def test_check_without_the_key_names_its_variable(tmp_path):
    done = troupe(tmp_path, "check", "--config", str(ROOT / "examples" / "guide_de.toml"))
    assert done.code == 2
    assert "HOLYSHEEP_API_KEY" in done.one_line


def test_anthropic_is_not_built_yet(tmp_path):
    done = run(tmp_path, "https://api.anthropic.com", "x", "--provider", "anthropic")
    assert done.code == 2
    assert "is not built yet" in done.one_line


def test_the_demo_without_the_model_runs_the_team_over_http_and_says_so(tmp_path):
    hide = "import sys; sys.modules['xllamacpp'] = None; from runtime.cli import main; sys.exit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", hide],
        cwd=tmp_path,
        env=environment(tmp_path, TROUPE_TASK="Build a parser with tests"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first = done.stderr.splitlines()[0]
    assert done.returncode == 0, done.stderr
    assert "scripted server" in first
    assert "pip install" in first
    assert "Build a parser" in done.stderr
