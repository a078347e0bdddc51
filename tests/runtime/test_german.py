"""The guide's own configuration with its German prompts: umlauts come whole through every path there is."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

from runtime import ActorSystem, Config
from runtime.fake_script import Fault, Script
from runtime.fake_server import FakeServer
from tests.runtime.command import ROOT, environment, troupe

pytestmark = pytest.mark.slow
GUIDE = ROOT / "examples" / "guide_de.toml"
WORDS = "Straßenmaße größer als 5 €, „Öl“"
TASK = f"Implementiere einen async HTTP-Client mit Retry-Logik: {WORDS}"
KEY = {"HOLYSHEEP_API_KEY": "key-of-nobody-0001"}


def arguments(server: FakeServer, *more: str) -> list[str]:
    return ["--config", str(GUIDE), "--base-url", server.url, "--id", "task_001", *more]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Run the guide's task once, with everything written that can be."""
    home = tmp_path_factory.mktemp("deutsch")
    with FakeServer(Script(record=True)) as server:
        done = troupe(home, "run", TASK, *arguments(server, "--json", "--out", "aus", "--events", "e.jsonl"), **KEY)
        bodies = [json.loads(body) for body in server.bodies()]
    return home, done, bodies


def test_the_values_are_the_guides():
    german, roles = Config.load(GUIDE), Config.load(GUIDE).roles
    assert german.provider["main"].base_url == "https://api.holysheep.ai/v1"
    assert german.model["opus"].name == "claude-opus-4-5"
    assert (german.limits["main"].requests_per_minute, german.limits["main"].burst) == (3600.0, 100)
    assert [roles[role].timeout for role in ("orchestrator", "coder", "reviewer")] == [30.0, 45.0, 30.0]
    assert {(role.temperature, role.max_tokens, role.max_retries) for role in roles.values()} == {(0.7, 4096, 3)}
    assert (german.team.plan, german.team.max_parallel) == ("always", 3)
    assert [german.retry.base * german.retry.factor**n for n in range(3)] == [2.0, 4.0, 8.0]
    assert german.retry.cap == 8.0


def test_the_wire_carries_the_prompts_and_the_task(played):
    _, done, bodies = played
    roles = Config.load(GUIDE).roles
    sent = {body["messages"][0]["content"] for body in bodies}
    assert done.code == 0
    assert {any(text.startswith(roles[role].system_prompt) for text in sent) for role in roles} == {True}
    assert any("bewältigen kann" in text for text in sent)
    assert any(body["messages"][-1]["content"].startswith(f"Analyze and break down: {TASK}") for body in bodies)


def test_standard_output_as_json_carries_them_unescaped(played):
    _, done, _ = played
    (document,) = done.documents
    assert WORDS in document["output"]
    assert WORDS in done.out
    assert "\\u00" not in done.out


def test_progress_carries_them(played):
    assert "begins: Implementiere einen async HTTP-Client mit Retry-Logik: Straßen" in played[1].err


def test_the_files_of_out_and_events_carry_them_as_utf_8(played):
    home, done, _ = played
    assert WORDS in (home / "aus" / "task_001.md").read_text("utf-8")
    assert json.loads((home / "aus" / "task_001.json").read_text("utf-8")) == done.documents[0]
    events = [json.loads(line) for line in (home / "e.jsonl").read_text("utf-8").splitlines()]
    assert next(event["facts"]["content"] for event in events if event["event"] == "task.started") == TASK
    assert WORDS.encode() in (home / "e.jsonl").read_bytes()


@pytest.mark.parametrize("source", ["standard input", "a file of tasks"])
def test_a_task_may_come_from_anywhere(tmp_path, source):
    (tmp_path / "aufgaben.txt").write_text(f"{TASK}\n", encoding="utf-8-sig")
    with FakeServer() as server:
        where = ["--config", str(GUIDE), "--base-url", server.url, "--quiet", "--json"]
        given = ["-"] if source == "standard input" else ["--tasks", "aufgaben.txt"]
        done = troupe(tmp_path, "run", *given, *where, stdin=TASK, **KEY)
    assert done.code == 0
    assert WORDS in done.documents[0]["output"]


@pytest.mark.parametrize("locale", ["C.UTF-8", "POSIX"])
def test_a_terminal_shows_them_whatever_the_locale(tmp_path, locale):
    ours, theirs = pty.openpty()
    with FakeServer() as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "runtime", "run", TASK, *arguments(server, "--quiet")],
            cwd=tmp_path,
            env=environment(tmp_path, LC_ALL=locale, PYTHONIOENCODING="ascii", **KEY),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # the other side has closed
            while chunk := os.read(ours, 65536):
                seen += chunk
        assert process.wait(timeout=60) == 0
        os.close(ours)
    assert f"## Write the core logic of einen async HTTP-Client mit Retry-Logik: {WORDS}" in seen.decode("utf-8")


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record):
        self.lines.append(self.format(record))


def test_logs_carry_them_unescaped_and_a_failure_says_them(monkeypatch):
    monkeypatch.setenv("HOLYSHEEP_API_KEY", KEY["HOLYSHEEP_API_KEY"])
    logger, lines = logging.getLogger("troupe"), Lines()
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    words = json.dumps({"error": {"message": "Unzulässige Größe", "type": "invalid_request_error"}}, ensure_ascii=False)
    try:
        with FakeServer(Script(faults=(Fault(match="reviewer", status=400, body=words),))) as server:
            config = Config.load(GUIDE).override(base_url=server.url, api_key_env="HOLYSHEEP_API_KEY")
            with ActorSystem(config) as team:
                result = team.submit(TASK).result(timeout=60)
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before)
    assert WORDS in result.output
    said = [json.loads(line) for line in lines.lines]
    assert any(WORDS in entry["prompt"] for entry in said if entry["event"] == "call.answered")
    assert any("Unzulässige Größe" in entry["error"] for entry in said if entry["event"] == "call.failed")
    assert any("Unzulässige Größe" in line for line in lines.lines)
