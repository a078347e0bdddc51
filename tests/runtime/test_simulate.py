"""The simulate command: the same document and trace in every process, what is refused, what people are shown."""

from __future__ import annotations

import hashlib
import json

import pytest

from protocol.errors import TroupeError
from runtime.config import Config
from runtime.simulate import BUILT_IN, Trace, run
from runtime.simulation import SimulatedSystem
from runtime.what_if import raised
from tests.runtime.command import NOWHERE, config, troupe

pytestmark = pytest.mark.slow


def simulate(home, *arguments, **environment):
    return troupe(home, "simulate", "--workflows", "20", *arguments, **environment)


def with_table(home, more: str) -> str:
    path = home / "team.toml"
    path.write_text(config(NOWHERE, more), encoding="utf-8")
    return str(path)


# --- the contract of --json and --trace


def test_law_9_two_processes_of_other_hash_seeds_write_the_same_document_and_trace(tmp_path):
    runs = [simulate(tmp_path, "--seed", "7", "--trace", f"t{n}", "--json", PYTHONHASHSEED=str(n)) for n in (1, 2)]
    traces = [(tmp_path / f"t{n}").read_bytes() for n in (1, 2)]
    assert [done.code for done in runs] == [0, 0]
    assert runs[0].out == runs[1].out
    assert traces[0] == traces[1]
    (document,) = runs[0].documents
    assert document["trace_sha256"] == hashlib.sha256(traces[0]).hexdigest()
    assert document["messages"] == traces[0].count(b"\n")
    assert all(json.loads(line) for line in traces[0].splitlines()[:50])


def test_another_seed_or_one_changed_latency_gives_another_trace(tmp_path):
    path = with_table(tmp_path, "[simulation]\nlatency = 0.5")
    first = simulate(tmp_path, "--config", path, "--seed", "7", "--json").documents[0]
    other_seed = simulate(tmp_path, "--config", path, "--seed", "8", "--json").documents[0]
    path = with_table(tmp_path, "[simulation]\nlatency = 0.500001")
    other_latency = simulate(tmp_path, "--config", path, "--seed", "7", "--json").documents[0]
    assert len({each["trace_sha256"] for each in (first, other_seed, other_latency)}) == 3


def test_the_document_holds_what_the_contract_names(tmp_path):
    done = simulate(tmp_path, "--json")
    (document,) = done.documents
    assert (document["workflows"], document["succeeded"], document["failed"]) == (20, 20, 0)
    assert document["calls"] == sum(document["statuses"].values()) >= 20 * 17
    assert document["binds"] == "main requests_per_minute"
    assert {use["limit"] for use in document["limits"]} == {
        "requests_per_minute",
        "tokens_per_minute",
        "concurrency",
    }
    assert document["cost_usd"] > 0.0
    assert 0.0 < document["queue_s"]["p50"] <= document["queue_s"]["max"] < document["makespan_s"]


def test_a_quarter_more_of_the_limit_that_binds_makes_it_faster_and_of_another_changes_nothing(tmp_path):
    more = "[limits.main]\nrequests_per_minute = 60\nburst = 5\ntokens_per_minute = 1e9\nconcurrency = 64\n"
    done = simulate(tmp_path, "--config", with_table(tmp_path, more), "--json")
    (document,) = done.documents
    changes = {each["limit"]: each["change"] for each in document["what_if"]}
    assert document["binds"] == "main requests_per_minute"
    assert 1 / 1.25 - 1.02 < changes["requests_per_minute"] < -0.1
    assert changes["tokens_per_minute"] == changes["concurrency"] == 0.0


def test_a_limit_is_raised_wherever_it_stands_for_its_domain():
    text = config(
        NOWHERE,
        "[limits.main]\nrequests_per_minute = 60\nconcurrency = 5\n[limits.'main/m']\nrequests_per_minute = 8\n"
        "[simulation.limits.main]\nrequests_per_minute = 40\n",
    )
    before = Config.parse(text.encode(), "test")
    after = raised(before, "main", "requests_per_minute")
    assert [table.requests_per_minute for table in after.limits.values()] == [75.0, 8.0]
    assert after.simulation.limits["main"].requests_per_minute == 50.0
    assert raised(before, "main", "concurrency").limits["main"].concurrency == 7
    assert raised(before, "main", "tokens_per_minute") == before


def test_for_many_workflows_nothing_is_simulated_again_and_that_is_said(tmp_path):
    path = with_table(tmp_path, "[limits.main]\nconcurrency = 64\n[team]\nplan = 'never'\nmax_rounds = 0\n")
    done = troupe(tmp_path, "simulate", "--workflows", "201", "--config", path, "--json")
    assert done.documents[0]["what_if"] == []
    assert done.lines[-1] == "what more of a limit would bring is simulated for up to 200 workflows"


# --- for people


def test_people_are_shown_the_built_in_configuration_the_figures_and_progress(tmp_path):
    done = simulate(tmp_path)
    assert done.code == 0
    assert done.out.startswith(BUILT_IN)
    assert "Workflows:   20: 20 succeeded, 0 failed\n" in done.out
    assert "\nBinds:       main requests_per_minute\n" in done.out
    assert [line.split()[3] for line in done.out.splitlines() if line.startswith("+25 %")] == [
        "requests_per_minute",
        "tokens_per_minute",
        "concurrency",
    ]
    assert done.lines[0] == "simulating 20 workflows with seed 0"
    assert [line for line in done.lines if line.startswith("simulated ")]


def test_a_configuration_of_ones_own_is_not_shown_again(tmp_path):
    done = simulate(tmp_path, "--config", with_table(tmp_path, ""), "--trace", "t")
    assert done.code == 0
    assert done.out.startswith("Workflows:   20:")
    digest = hashlib.sha256((tmp_path / "t").read_bytes()).hexdigest()
    assert done.out.splitlines()[-1].startswith("Trace:       t, ")
    assert done.out.splitlines()[-1].endswith(f" lines, sha256 {digest}")


def test_workflows_that_fail_are_counted_and_make_the_exit_code_1(tmp_path):
    more = "[simulation.faults]\nserver_error = 1.0\n"
    done = simulate(tmp_path, "--config", with_table(tmp_path, more), "--json")
    (document,) = done.documents
    assert done.code == 1
    assert sum(document["errors"].values()) == document["failed"] == 20
    assert set(document["errors"]) <= {"server_error", "circuit_open"}


def test_a_model_without_a_price_is_not_called_while_a_budget_is_set_and_a_warning_says_so(tmp_path):
    done = simulate(tmp_path, "--config", with_table(tmp_path, "[budget]\nusd = 1.0"), "--json")
    (document,) = done.documents
    assert done.code == 1
    assert document["errors"] == {"budget": 20}
    assert "model.m has no price" in done.lines[0]


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workflows", "0"), "'0' is no number of workflows (1 to 1000000)"),
        (("--workflows", "many"), "'many' is no number of workflows"),
        (("--seed", "-1"), "'-1' is no seed"),
        (("--seed", "1" * 19), "is no seed"),
        (("--config", "nowhere.toml"), "nowhere.toml: cannot be read: No such file or directory"),
        (("--trace", "no/such/folder"), "--trace no/such/folder: cannot be written: No such file or directory"),
        (("--speed", "1"), "unrecognized arguments: --speed 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, arguments, words):
    done = simulate(tmp_path, *arguments)
    assert (done.code, done.out.replace(BUILT_IN, "").strip()) == (2, "")
    assert words in done.one_line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[simulation]\nlatancy = 1", "simulation.latancy: unknown key; did you mean 'latency'?"),
        ("[simulation]\nspread = 2", "simulation.spread: expected a number from 0 to 1, got 2"),
        ("[simulation.faults]\nslow = 0.6\ntimeout = 0.6", "simulation.faults: expected shares that are 1 together"),
        ("[simulation.limits.other]\nburst = 1", "simulation.limits.other: there is no provider 'other'"),
        ('[simulation.limits."main/x"]\nburst = 1', "there is no model named at 'main' 'x'"),
        ("[simulation.limits.main]\nageing = 1", "simulation.limits.main.ageing: unknown key"),
    ],
)
def test_a_wrong_key_of_the_table_is_named(tmp_path, more, words):
    done = simulate(tmp_path, "--config", with_table(tmp_path, more))
    assert (done.code, done.out) == (2, "")
    assert words in done.one_line


def test_a_configuration_without_a_model_is_refused(tmp_path):
    (tmp_path / "team.toml").write_text("[team]\nplan = 'never'", encoding="utf-8")
    done = simulate(tmp_path, "--config", "team.toml")
    assert done.code == 2
    assert done.one_line.startswith("troupe: team.toml: no model is configured")


def test_a_trace_that_cannot_be_written_to_its_end_is_one_line(tmp_path):
    done = simulate(tmp_path, "--trace", "/dev/full", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.lines[-1] == "troupe: the trace cannot be written: No space left on device [errors.md#output]"


# --- inside


def test_a_trace_hashes_what_it_writes_and_needs_no_file(tmp_path):
    lines = [b"%d\n" % n for n in range(2500)]
    path = tmp_path / "t"
    with path.open("wb") as file:
        traces = [Trace(file), Trace(None)]
        for line in lines:
            for trace in traces:
                trace.add(line)
        digests = {trace.close() for trace in traces}
    assert path.read_bytes() == b"".join(lines)
    assert digests == {hashlib.sha256(b"".join(lines)).hexdigest()}


def test_long_simulations_tell_how_far_they_are(monkeypatch):
    monkeypatch.setattr("runtime.simulate.EVERY", 0.0)
    monkeypatch.setattr("runtime.simulate.SLICE", 100)
    told: list[str] = []
    run(SimulatedSystem(Config.parse(BUILT_IN.encode(), "a test"), 3), 5, told.append)
    assert told[0] == "simulating 3 workflows with seed 5"
    assert any("3 workflows ended" in line or "workflows ended" in line for line in told[1:-1])
    assert len(told) > 4


def test_a_trace_of_a_file_that_is_closed_fails_as_such():
    class Full:
        def write(self, _text):
            raise OSError(28, "No space left on device")

        close = write

    trace = Trace(Full())
    trace.add(b"x\n")
    with pytest.raises(TroupeError, match=r"^the trace cannot be written: No space left on device$"):
        trace.close()
