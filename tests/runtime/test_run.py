"""The run command's contract: what stands on standard output, in files and in events; no call is made twice."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import subprocess
import sys

import pytest

from runtime.fake_script import Fault, Script
from runtime.fake_server import FakeServer
from tests.runtime.command import NOWHERE, config, environment, troupe

pytestmark = pytest.mark.slow
TASK = "Implement an async HTTP client with retries"
RESULT = {
    "task", "correlation_id", "success", "output", "error", "error_kind", "results", "accepted", "summary", "costs",
    "time",
}  # fmt: skip
SUMMARY = {
    "total_tasks", "successful", "failed", "llm_calls", "retries", "input_tokens", "output_tokens", "cost_usd",
    "wall_ms", "llm_ms",
}  # fmt: skip
LABELS = ("Total Tasks", "Successful", "Failed", "Total Execution Time")
STRANGE = "Grüße 🎭 \x1b[31mrot\x07 \x85\u2028\u2029\u202e\x9b1m ‚Ende‘?"  # noqa: RUF001 (strange on purpose)
"""Umlauts, emoji, control characters old and new, line ends that only Unicode knows, a turn of direction."""


def run(home, url, *arguments, **options):
    return troupe(home, "run", *arguments, "--base-url", url, "--model", "m", **options)


@pytest.fixture(scope="module")
def server():
    with FakeServer(Script()) as running:
        yield running


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run with everything that can come out of it."""
    home = tmp_path_factory.mktemp("whole")
    with FakeServer(Script(latency=0.1, record=True)) as server:
        done = run(home, server.url, TASK, "--json", "--id", "task_001", "--out", "a/b", "--events", "a/e.jsonl")
        yield home, done, server.stats()


# --- one run


def test_json_is_one_document_with_the_fields_of_the_contract(whole):
    _, done, stats = whole
    (result,) = done.documents
    assert (done.code, set(result), set(result["summary"])) == (0, RESULT, SUMMARY)
    assert result["task"] == TASK
    assert (result["correlation_id"], result["success"], result["error"]) == ("task_001", True, None)
    assert [accepted["accepted"] for accepted in result["accepted"]] == [True] * 3
    summary = result["summary"]
    assert (summary["total_tasks"], summary["successful"], summary["failed"]) == (len(result["results"]), 7, 0)
    assert (summary["llm_calls"], summary["retries"], summary["cost_usd"]) == (stats.requests, 0, None)
    assert summary["output_tokens"] == sum(task["usage"]["output_tokens"] for task in result["results"]) > 0
    assert summary["llm_ms"] == pytest.approx(sum(task["execution_time_ms"] for task in result["results"]), abs=0.1)
    assert summary["wall_ms"] > 0.0
    assert (result["costs"]["calls"], result["costs"]["cost_usd"]) == (stats.requests, None)


def test_what_the_wall_time_was_spent_on_adds_up_to_it_in_the_document_and_in_the_table(whole):
    _, done, _ = whole
    (result,) = done.documents
    spent, wall = result["time"], result["summary"]["wall_ms"]
    assert sum(spent.values()) == pytest.approx(wall, rel=0.05)
    assert spent["http_ms"] + spent["review_ms"] > 0.25 * wall
    said = re.findall(r"^  [a-z ]+ +(\d+\.\d\d) s +\d+ %$", done.err, re.MULTILINE)
    told = re.search(r"^Wall time: (\d+\.\d\d) s$", done.err, re.MULTILINE)
    assert len(said) == len(spent)
    rounding = 0.005 * (len(said) + 1)
    assert sum(map(float, said)) == pytest.approx(float(told[1]), abs=rounding + 0.05 * float(told[1]))


def test_the_closing_summary_has_the_guides_labels_word_for_word_and_two_decimals(whole):
    _, done, _ = whole
    lines = done.err.splitlines()
    at = lines.index("Total Tasks: 7")
    assert [line.partition(":")[0] for line in lines[at : at + 4]] == list(LABELS)
    milliseconds = re.fullmatch(r"Total Execution Time: (\d+\.\d\d) ms", lines[at + 3])
    assert float(milliseconds[1]) == pytest.approx(done.documents[0]["summary"]["llm_ms"], abs=0.006)
    rest = "\n".join(lines[at + 4 :])
    for word in ("Wall time: ", "Model time: ", "Tokens: ", "Cost: unknown", "Speed-up over one after another: "):
        assert word in rest


def test_each_output_and_result_stands_in_the_folder(whole):
    home, done, _ = whole
    assert sorted(path.name for path in (home / "a" / "b").iterdir()) == ["task_001.json", "task_001.md"]
    assert json.loads((home / "a" / "b" / "task_001.json").read_text()) == done.documents[0]
    assert (home / "a" / "b" / "task_001.md").read_text() == done.documents[0]["output"]


def test_events_are_json_lines_of_this_run_in_order(whole):
    home, _, _ = whole
    events = [json.loads(line) for line in (home / "a" / "e.jsonl").read_text().splitlines()]
    names = [event["event"] for event in events]
    assert {event["run"] for event in events} == {"task_001"}
    assert (names[0], names.count("plan.made"), names.count("draft.accepted")) == ("task.started", 1, 3)
    assert names.count("task.started") == names.count("task.finished") == 7
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


def test_progress_shows_who_does_what_and_a_review_by_its_subtask(whole):
    _, done, _ = whole
    subtasks = [accepted["subtask"] for accepted in done.documents[0]["accepted"]]
    for subtask in subtasks:
        for line in ("coder        begins: ", "coder        done:   ", "reviewer     begins: ", "accepted with "):
            assert any(line in said and subtask[:30] in said for said in done.err.splitlines())
    assert not any("```" in line for line in done.err.splitlines())


def test_without_json_standard_output_is_the_text_alone(tmp_path, server):
    done = run(tmp_path, server.url, TASK, "--id", "one", "--out", "d")
    assert done.code == 0
    assert done.out == (tmp_path / "d" / "one.md").read_text() + "\n"
    assert done.out.startswith("## ")


def test_quiet_says_nothing_but_the_result(tmp_path, server):
    done = run(tmp_path, server.url, "What is 2 + 2?", "--quiet", "--no-journal")
    assert (done.code, done.err) == (0, "")
    assert done.out


def test_a_failed_run_says_why_in_one_line_even_when_quiet(tmp_path):
    with FakeServer(Script(faults=(Fault(status=401, times=0),))) as server:
        text = run(tmp_path, server.url, "What is 2 + 2?", "--quiet", "--id", "one")
        document = run(tmp_path, server.url, "What is 2 + 2?", "--quiet", "--id", "one", "--json")
    assert (text.code, text.out) == (1, "")
    assert text.one_line == document.one_line
    assert text.one_line.startswith("troupe: one failed: authentication: ")
    assert document.documents[0]["success"] is False


def test_a_price_gives_the_cost(tmp_path, server):
    price = 'price = { input = 1000.0, output = 2000.0 }\n[provider.other]\nbase_url = "https://other.example"\n'
    (tmp_path / "t.toml").write_text(config(server.url).replace('name = "m"\n', f'name = "m"\n{price}'))
    done = troupe(tmp_path, "run", TASK, "--config", "t.toml", "--json")
    summary = done.documents[0]["summary"]
    expected = summary["input_tokens"] / 1000 + summary["output_tokens"] / 500
    assert summary["cost_usd"] == pytest.approx(expected)
    assert f"Cost: ${expected:.6f}" in done.err
    costs = done.documents[0]["costs"]
    assert costs["cost_usd"] == pytest.approx(expected)
    for side in ("roles", "models", "rounds"):
        assert sum(sums["cost_usd"] for sums in costs[side].values()) == pytest.approx(expected)
    assert "Cost by role: coder $" in done.err


def test_a_timeout_ends_the_run_with_what_there_is(tmp_path):
    with FakeServer(Script(latency=30.0)) as server:
        done = run(tmp_path, server.url, TASK, "--timeout", "0.3", "--json", "--quiet")
    assert (done.code, done.documents[0]["error_kind"]) == (1, "deadline")
    assert "deadline" in done.one_line
    assert done.seconds < 5.0


def test_a_task_and_a_configuration_come_from_files_and_pipes_as_they_do_from_arguments(tmp_path, server):
    (tmp_path / "t.toml").write_bytes(b"\xef\xbb\xbf" + config(NOWHERE).encode())
    done = run(
        tmp_path, server.url, "-", "--config", "t.toml", "--json", "--quiet", stdin=b"\xef\xbb\xbfWhat is 2?\r\n"
    )
    assert done.code == 0
    assert done.documents[0]["accepted"][0]["subtask"].startswith("What is 2?")


# --- any text


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
@pytest.mark.parametrize("encoding", ["", "ascii:strict", "latin-1"])
def test_any_character_goes_through_and_none_steers_a_terminal(tmp_path, locale, encoding):
    more = {"PYTHONIOENCODING": encoding} if encoding else {}
    with FakeServer(Script(record=True, faults=(Fault(match="Implement: ", times=0, body=reply(STRANGE)),))) as server:
        done = run(
            tmp_path, server.url, f"Say {STRANGE}", "--id", "one", "--json", "--out", "d", "--events", "e",
            LANG=locale, LC_ALL=locale, **more,
        )  # fmt: skip
        sent = json.loads(server.bodies()[0])["messages"][-1]["content"]
    (result,) = done.documents
    events = [json.loads(line) for line in (tmp_path / "e").read_text(encoding="utf-8").splitlines()]
    assert STRANGE in sent
    assert result["output"] == STRANGE
    assert (tmp_path / "d" / "one.md").read_text(encoding="utf-8") == STRANGE
    assert f"Say {STRANGE}" in {event["facts"].get("content") for event in events}
    assert [line for line in done.err.splitlines() if not line.isprintable()] == []
    assert "Grüße 🎭" in done.err


def reply(text: str) -> str:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})


def test_on_a_terminal_the_output_text_is_escaped_and_in_a_pipe_it_is_not(tmp_path):
    with FakeServer(Script(faults=(Fault(match="Implement: ", times=0, body=reply("\x1b[31mred\tä\n")),))) as server:
        piped = run(tmp_path, server.url, "Say red", "--quiet")
        shown = on_terminal(tmp_path, "run", "Say red", "--base-url", server.url, "--model", "m", "--quiet")
    assert piped.out == "\x1b[31mred\tä\n\n"
    assert "\\x1b[31mred" in shown
    assert "\x1b" not in shown


def on_terminal(home, *arguments) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "runtime", *arguments]
    subprocess.run(command, cwd=home, env=environment(home), stdout=theirs, stderr=subprocess.PIPE, check=True)
    os.close(theirs)
    try:
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)


# --- many tasks


def test_many_tasks_give_a_line_each_as_they_end_and_a_last_one_with_the_sums(tmp_path):
    faults = (Fault(match="slow one", delay=0.5), Fault(match="sick one", status=400, times=0))
    tasks = (
        'What is a slow one?\r\n\n{"task": "What is 2?", "id": "t2", "timeout": 30}\n{"task": "Sag Grüße 🎭\u2028"}\n'
    )
    with FakeServer(Script(faults=faults)) as server:
        done = run(tmp_path, server.url, "--tasks", "-", "--json", stdin=tasks + "What is a sick one?")
    *results, last = done.documents
    assert (done.code, len(results), set(last)) == (1, 4, {"summary", "costs", "time"})
    assert sum(last["time"].values()) == pytest.approx(last["summary"]["wall_ms"], rel=0.05)
    for result in results:
        assert sum(result["time"].values()) == pytest.approx(result["summary"]["wall_ms"], rel=0.05)
    assert set(last["summary"]) == SUMMARY | {"workflows", "workflows_failed"}
    assert (last["summary"]["workflows"], last["summary"]["workflows_failed"]) == (4, 1)
    for field in SUMMARY - {"wall_ms", "cost_usd"}:
        assert last["summary"][field] == pytest.approx(sum(result["summary"][field] for result in results), abs=0.01)
    assert last["costs"]["calls"] == last["summary"]["llm_calls"]
    assert results[-1]["accepted"][0]["subtask"] == "What is a slow one?"
    assert "t2" in {result["correlation_id"] for result in results}
    assert "Workflows: 4, failed: 1" in done.err
    assert len(set(done.results)) == 4


def test_many_tasks_without_json_give_their_texts_alone(tmp_path, server):
    done = run(tmp_path, server.url, "--tasks", "-", "--quiet", stdin="What is 2?\nWhat is 3?\n")
    assert (done.code, done.err) == (0, "")
    assert "summary" not in done.out


def test_a_timeout_for_all_is_that_of_each_line_that_has_none(tmp_path):
    tasks = '{"task": "What is patient?", "id": "patient", "timeout": 30}\n{"task": "What is hasty?", "id": "hasty"}\n'
    with FakeServer(Script(latency=0.4)) as server:
        done = run(tmp_path, server.url, "--tasks", "-", "--timeout", "0.2", "--json", "--quiet", stdin=tasks)
    assert [done.results[name]["success"] for name in ("patient", "hasty")] == [True, False]


def test_200_tasks_with_64_in_flight_never_mix_their_nonces(tmp_path):
    numbers = random.Random(1).sample(range(0x10000), 400)
    pairs = {
        f"t{n}": {f"nonce-{a:04X}", f"nonce-{b:04X}"} for n, (a, b) in enumerate(zip(*[iter(numbers)] * 2, strict=True))
    }
    tasks = "\n".join(json.dumps({"id": id_, "task": f"Say {' and '.join(sorted(own))}"}) for id_, own in pairs.items())
    limits = "[limits.main]\nconcurrency = 64\nstart_per_minute = 1e7\n[team]\nplan = 'never'\nmax_parallel = 64"
    with FakeServer(Script(nonce=True, latency=(0.0, 0.1), reject_first_reviews=0.3, record=True)) as server:
        (tmp_path / "t.toml").write_text(config(server.url, limits))
        done = troupe(tmp_path, "run", "--config", "t.toml", "--tasks", "-", "--json", "--quiet", stdin=tasks)
        stats, bodies = server.stats(), server.bodies()
    assert (done.code, len(done.results)) == (0, 200)
    assert {name: set(re.findall(r"nonce-[0-9A-F]{4}", run["output"])) for name, run in done.results.items()} == pairs
    assert 48 <= stats.max_in_flight <= 64
    assert len(set(bodies)) == len(bodies) == stats.requests


# --- each call is made once


@pytest.mark.parametrize(
    ("schema", "mode", "refused"),
    [("reject", "yes", 1), ("ignore", "yes", 0), ("reject", "reject", 2), ("ignore", "ignore", 0)],
)
def test_a_server_that_knows_no_json_schema_gets_each_call_exactly_once(tmp_path, schema, mode, refused):
    """What a server refuses is learned once: asked again without it, another body, and never refused again."""
    with FakeServer(Script(json_schema=schema, json_object=mode, record=True)) as server:
        done = run(tmp_path, server.url, TASK, "--json")
        stats, bodies = server.stats(), server.bodies()
    (result,) = done.documents
    assert (done.code, result["success"], len(result["accepted"])) == (0, True, 3)
    roles = [task["agent"].partition("/")[0] for task in result["results"]]
    assert [roles.count(role) for role in ("orchestrator", "coder", "reviewer")] == [1, 3, 3]
    assert len(set(bodies)) == len(bodies) == stats.requests
    assert result["summary"]["llm_calls"] == 7 == stats.requests - refused
    assert "plan with 3 subtasks:" in done.err


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_request_body_is_sent_twice_with_and_without_revisions(tmp_path, share):
    with FakeServer(Script(reject_first_reviews=share, record=True)) as server:
        done = run(tmp_path, server.url, TASK, "--json", "--quiet")
        bodies = server.bodies()
    assert done.code == 0
    assert len(set(bodies)) == len(bodies) == (13 if share else 7)


def test_a_subtask_whose_coder_fails_for_good_leaves_the_other_drafts_in_the_result(tmp_path):
    with FakeServer(Script(faults=(Fault(match="Implement: Handle errors", times=0, status=400),))) as server:
        done = run(tmp_path, server.url, TASK, "--json", "--quiet")
    (result,) = done.documents
    assert (done.code, result["success"], result["error_kind"]) == (1, False, "bad_request")
    assert sorted(accepted["accepted"] for accepted in result["accepted"]) == [False, True, True]
    (failed,) = (task for task in result["results"] if not task["success"])
    assert (failed["agent"].partition("/")[0], failed["error_kind"]) == ("coder", "bad_request")
    assert result["output"].count("## ") == 2
    assert "Handle errors" in done.one_line


def test_a_task_goes_straight_to_a_role_without_the_team(tmp_path):
    with FakeServer(Script()) as server:
        done = run(tmp_path, server.url, "--to", "coder", "--json", "Write a parser")
    (result,) = done.documents
    assert (done.code, result["summary"]["llm_calls"]) == (0, 1)
    assert [task["agent"] for task in result["results"]] == ["coder/0"]


def test_each_task_of_a_file_may_name_its_role(tmp_path):
    tasks = '{"task": "Write a parser", "to": "coder"}\n{"task": "Write a parser", "to": "nobody"}\n'
    with FakeServer(Script()) as server:
        done = run(tmp_path, server.url, "--tasks", "-", "--json", stdin=tasks)
    assert done.code == 1
    assert sorted(str(document.get("error_kind")) for document in done.documents[:2]) == ["None", "no_such_role"]
