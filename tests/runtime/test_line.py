"""The line: a request becomes bytes, a reply becomes a value, and another thread may hang up."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol.chat import CallFailure, ChatMessage, ChatReply, ChatRequest
from protocol.errors import ErrorKind
from protocol.wire.profiles import profile_for
from runtime.fake_script import Fault, RateLimit, Script
from runtime.fake_server import FakeServer
from runtime.line import ProviderLine
from runtime.secret import Secret
from tests.runtime.hostile import Hostile, reply, silence

pytestmark = pytest.mark.slow


def request(text="Implement: a thing"):
    return ChatRequest(model="m", messages=(ChatMessage(role="user", content=text),), max_tokens=20)


def line_to(url, key=None):
    return ProviderLine(url, key, profile_for(url))


@pytest.fixture
def line_of():
    lines = []

    def make(url, key=None):
        lines.append(line_to(url, key))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


def test_a_call_gives_the_reply_its_wall_time_and_the_rate_limit_headers(line_of):
    limits = RateLimit(per_second=100, burst=5, headers=True)
    with FakeServer(Script(latency=0.02, rate_limit=limits)) as server:
        outcome, elapsed_ms, headers = line_of(server.url).call(request(), timeout=5.0, call="run/0#1")
    assert isinstance(outcome, ChatReply)
    assert 15.0 < elapsed_ms < 1000.0
    assert "date" in headers
    assert any("ratelimit" in name for name in headers)
    assert all("ratelimit" in name for name in headers.keys() - {"date"})


def test_one_connection_serves_one_call_after_the_other(line_of):
    def answers(sock, server):
        while server.read(sock):
            sock.sendall(reply(b'{"choices": [{"message": {"role": "assistant", "content": "yes"}}]}'))

    with Hostile(answers) as server:
        line = line_of(f"http://127.0.0.1:{server.port}/v1")
        outcomes = [line.call(request(), timeout=5.0, call=f"run/{n}#1")[0] for n in range(5)]
        assert [outcome.text for outcome in outcomes] == ["yes"] * 5
        assert server.connections == 1


@pytest.mark.parametrize("key", [None, Secret("sk-of-the-test-12345")])
def test_the_key_is_sent_where_there_is_one(line_of, key):
    with FakeServer(Script(api_key="sk-of-the-test-12345")) as server:
        outcome, _, _ = line_of(server.url, key).call(request(), timeout=5.0, call="run/0#1")
    if key is None:
        assert outcome.kind is ErrorKind.AUTHENTICATION
    else:
        assert isinstance(outcome, ChatReply)


def test_what_a_server_says_in_an_error_is_a_failure_and_no_exception(line_of):
    with FakeServer(Script(faults=(Fault(status=503, headers={"retry-after": "7"}),))) as server:
        outcome, elapsed_ms, headers = line_of(server.url).call(request(), timeout=5.0, call="run/0#1")
    assert isinstance(outcome, CallFailure)
    assert (outcome.kind, outcome.retry_after) == (ErrorKind.PROVIDER_OVERLOADED, 7.0)
    assert headers.keys() == {"retry-after", "date"}
    assert elapsed_ms > 0.0


def test_nobody_there_is_a_failure_too(line_of):
    outcome, _, headers = line_of("http://127.0.0.1:9/v1").call(request(), timeout=5.0, call="run/0#1")
    assert (outcome.kind, headers) == (ErrorKind.CONNECTION, {})


@pytest.mark.parametrize("end", [lambda line: line.abort("run/0#1"), lambda line: line.hang_up()])
def test_another_thread_ends_a_call_under_way_at_once(line_of, end):
    with Hostile(silence) as server, ThreadPoolExecutor(1) as pool:
        line = line_of(f"http://127.0.0.1:{server.port}/v1")
        calling = pool.submit(line.call, request(), timeout=30.0, call="run/0#1")
        server.reached.result(5)
        began = time.monotonic()
        end(line)
        outcome, _, _ = calling.result(5)
    assert outcome.kind is ErrorKind.TIMEOUT
    assert time.monotonic() - began < 1.0


def test_an_abort_of_another_call_ends_nothing(line_of):
    with FakeServer(Script(latency=0.05)) as server, ThreadPoolExecutor(1) as pool:
        line = line_of(server.url)
        calling = pool.submit(line.call, request(), timeout=5.0, call="run/1#1")
        line.abort("run/0#1")
        assert isinstance(calling.result(5)[0], ChatReply)


def test_a_line_that_was_hung_up_while_idle_makes_its_next_call(line_of):
    with FakeServer(Script()) as server:
        line = line_of(server.url)
        line.hang_up()
        line.call(request(), timeout=5.0, call="run/0#1")
        line.hang_up()
        assert isinstance(line.call(request(), timeout=5.0, call="run/1#1")[0], ChatReply)


@pytest.mark.parametrize(("level", "shown"), [(logging.DEBUG, True), (logging.INFO, False)])
def test_prompts_and_replies_are_logged_at_debug_only(line_of, caplog, level, shown):
    with FakeServer(Script()) as server, caplog.at_level(level, "troupe"):
        line_of(server.url).call(request("Implement: a secret plan"), timeout=5.0, call="run_7/0#1")
    assert ("a secret plan" in caplog.text) is shown
    if shown:
        (record,) = caplog.records
        said = json.loads(record.message)
        assert (said["event"], said["correlation_id"], said["call"]) == ("call.answered", "run_7", "run_7/0#1")


def test_a_failed_call_is_logged_at_info_with_its_kind_and_without_the_prompt(line_of, caplog):
    with FakeServer(Script(faults=(Fault(status=500),))) as server, caplog.at_level(logging.INFO, "troupe"):
        line_of(server.url).call(request("Implement: a secret plan"), timeout=5.0, call="run_7/0#1")
    (record,) = caplog.records
    said = json.loads(record.message)
    assert (said["event"], said["kind"], said["status"]) == ("call.failed", "server_error", 500)
    assert "secret plan" not in caplog.text
