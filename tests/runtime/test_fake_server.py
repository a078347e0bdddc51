"""The scripted server: a plausible team, exact counts, and every misbehaviour that a script can ask for."""

from __future__ import annotations

import ast
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
import trustme
from msgspec import DecodeError, Struct, json
from msgspec.json import schema as json_schema

from protocol.chat import CallFailure
from protocol.errors import ConfigError, ErrorKind
from protocol.plan import Plan, Review
from runtime import fake_script
from runtime.fake_script import Fault, RateLimit, Script
from runtime.fake_server import FakeServer
from runtime.http import HttpCaller, Response

ROOT = Path(__file__).parents[2]
TASK = "Analyze and break down: Implement an async HTTP client with retries"
GENEROUS = 3.0


@pytest.fixture
def start():
    """Starts a server and returns it with a caller of it; both end with the test."""
    open_ones = []

    def begin(script=None, **options):
        server = FakeServer(script or Script(), **options).start()
        caller = HttpCaller(f"{server.url}/chat/completions", {"Authorization": "Bearer sk-local-key"})
        open_ones.extend((caller.close, server.stop))
        return server, caller

    yield begin
    for end in open_ones:
        end()


def post(caller, text, *, timeout=20.0, **fields):
    """Post one user message; fields are added to the request."""
    body = json.encode({"model": "m", "messages": [{"role": "user", "content": text}], **fields})
    return caller.post(body, timeout=timeout, call="run/0#0")


def said(caller, text, **fields):
    outcome = post(caller, text, **fields)
    assert isinstance(outcome, Response), outcome
    return json.decode(outcome.body)["choices"][0]["message"]["content"]


class Inner(Struct):
    name: str
    sizes: list[int]


class Own(Struct):
    inner: Inner
    kind: str | None
    done: bool
    share: float
    way: Literal["left", "right"]


def shape(type_):
    return {
        "type": "json_schema",
        "json_schema": {"name": type_.__name__, "schema": json_schema(type_), "strict": True},
    }


def code_in(text):
    """The one fenced block; raises when it does not parse."""
    block = text.split("```python\n")[1].split("```")[0]
    ast.parse(block)
    return block


def run_code(text):
    """Runs a draft's own test; the drafts of the scripted server are ours."""
    names = {}
    exec(code_in(text), names)
    next(value for name, value in names.items() if name.startswith("test_"))()
    return names


# --- the team ---------------------------------------------------------------------------------------------------------


def test_a_plan_is_a_numbered_list_of_three_subtasks_about_the_task(start):
    _, caller = start()
    lines = said(caller, TASK).splitlines()
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. "]
    assert all("an async HTTP client with retries" in line for line in lines)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 64])
def test_a_plan_has_as_many_different_subtasks_as_the_script_says(start, count):
    _, caller = start(Script(subtasks=count))
    plan = json.decode(said(caller, TASK, response_format=shape(Plan)), type=Plan)
    assert len(set(plan.subtasks)) == count


def test_json_object_is_met_with_json_too(start):
    _, caller = start()
    assert json.decode(said(caller, TASK, response_format={"type": "json_object"}), type=Plan).subtasks


@pytest.mark.parametrize(
    "subtask",
    [
        "Write the core logic of it",
        'Say "hi" \\ and\tbye',
        "9 lives",
        "class",
        "Fasse die Lösung zusammen",
        "日本語",
        "x" * 500,
    ],
)
def test_a_draft_is_a_python_block_that_parses_passes_its_test_and_names_the_subtask(start, subtask):
    _, caller = start()
    names = run_code(said(caller, f"Implement: {subtask}"))
    assert names["__doc__"][:2] == subtask[:2]
    assert names["REVISION"] == 1


def test_a_review_is_typed_or_text(start):
    _, caller = start()
    draft = said(caller, "Implement: the parser")
    typed = json.decode(said(caller, f"Review: the parser\n{draft}", response_format=shape(Review)), type=Review)
    text = said(caller, f"Review: the parser\n{draft}")
    assert (typed.approved, typed.issues) == (True, ())
    assert text.startswith(f"Score: {typed.score}/10\nApproved: yes")


def test_a_first_draft_is_rejected_its_revision_is_accepted(start):
    _, caller = start(Script(reject_first_reviews=1.0))
    first = said(caller, "Implement: the parser")
    rejected = json.decode(said(caller, f"Review: the parser\n{first}", response_format=shape(Review)), type=Review)
    second = said(caller, f"Implement: the parser\n\nIssues: {rejected.issues[0]}")
    accepted = json.decode(said(caller, f"Review: the parser\n{second}", response_format=shape(Review)), type=Review)
    assert (rejected.approved, accepted.approved) == (False, True)
    assert rejected.score < 7 <= accepted.score
    assert "REVISION = 2" in second


def test_the_share_of_rejected_first_drafts_is_about_what_the_script_says(start):
    _, caller = start(Script(reject_first_reviews=0.25))
    texts = [said(caller, f"Review: part {n}") for n in range(200)]
    assert 25 <= sum("Approved: no" in text for text in texts) <= 75


def test_the_system_prompt_tells_who_is_meant_where_the_text_does_not(start):
    server, caller = start()
    for persona in ("You are the tech lead.", "Du bist Senior-Engineer.", "You are a code reviewer.", "You are kind."):
        turns = [{"role": "system", "content": persona}, {"role": "user", "content": "Los: the parser"}]
        caller.post(json.encode({"model": "m", "messages": turns}), timeout=5, call="x")
    assert server.stats().by_role == {"orchestrator": 1, "coder": 1, "reviewer": 1, "other": 1}


def test_a_schema_of_the_users_own_is_filled(start):
    _, caller = start()
    filled = json.decode(said(caller, "Hello", response_format=shape(Own)), type=Own)
    assert filled == Own(inner=Inner(name="Hello", sizes=[1]), kind="Hello", done=True, share=1, way="left")


def test_a_schema_that_only_the_prompt_quotes_is_filled(start):
    _, caller = start()
    schema = json.encode(json_schema(Own)).decode()
    reply = said(caller, f"Hello, answer with JSON like {schema}", response_format={"type": "json_object"})
    assert json.decode(reply, type=Own).way == "left"


def test_the_same_requests_get_the_same_replies(start):
    texts = [TASK, "Implement: a", "Review: a", "Hello"]
    _, one = start(Script(reject_first_reviews=0.5))
    _, two = start(Script(reject_first_reviews=0.5))
    assert [said(one, text) for text in texts] == [said(two, text) for text in texts]


def test_every_nonce_of_the_request_is_echoed(start):
    _, caller = start(Script(nonce=True))
    assert said(caller, "Hello nonce-AB12 and nonce-7 and nonce-AB12").endswith("\nnonce-AB12 nonce-7")


# --- what it understands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["json_schema", "json_object"])
def test_structured_output_is_ignored_or_rejected_as_scripted(start, mode):
    asked = shape(Plan) if mode == "json_schema" else {"type": mode}
    _, ignoring = start(Script(**{mode: "ignore"}))
    _, rejecting = start(Script(**{mode: "reject"}))
    refused = post(rejecting, TASK, response_format=asked)
    assert said(ignoring, TASK, response_format=asked).startswith("1. ")
    assert (refused.status, json.decode(refused.body)["error"]["param"]) == (400, "response_format")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_reply_is_cut_at_max_tokens(start, field):
    _, caller = start()
    reply = json.decode(post(caller, "Implement: the parser", **{field: 10}).body)
    assert (reply["choices"][0]["finish_reason"], reply["usage"]["completion_tokens"]) == ("length", 10)


def test_the_counts_in_the_replies_add_up_to_the_stats(start):
    server, caller = start()
    used = [json.decode(post(caller, text).body)["usage"] for text in (TASK, "Implement: a", "Review: a")]
    stats = server.stats()
    assert stats.input_tokens == sum(usage["prompt_tokens"] for usage in used)
    assert stats.output_tokens == sum(usage["completion_tokens"] for usage in used)
    assert (stats.requests, stats.statuses, stats.in_flight) == (3, {200: 3}, 0)


def test_usage_can_be_left_out(start):
    _, caller = start(Script(usage=False))
    assert json.decode(post(caller, "Hello").body)["usage"] is None


def test_any_other_key_is_refused(start):
    _, right = start(Script(api_key="sk-local-key"))
    _, wrong = start(Script(api_key="sk-local-key-2"))
    assert (post(right, "Hello").status, post(wrong, "Hello").status) == (200, 401)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model":"m"}', b"[" * 100_000, b'{"model":"m","messages":[],"stream":true}']
)
def test_a_bad_request_is_a_400(start, body):
    _, caller = start()
    assert caller.post(body, timeout=5, call="x").status == 400


def raw(server, data):
    """Send bytes, return all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.sendall(data)
        return rest_of(sock)


def rest_of(sock):
    got = b""
    while more := sock.recv(65536):
        got += more
    return got


@pytest.mark.parametrize(
    ("path", "found"),
    [(b"/health", b'"ok"'), (b"/v1/models", b'"scripted"'), (b"/stats", b'"requests":0'), (b"/x", b"no such route")],
)
def test_the_other_pages(start, path, found):
    server, _ = start()
    assert found in raw(server, b"GET " + path + b" HTTP/1.1\r\nConnection: close\r\n\r\n")


def test_pipelined_requests_are_answered_in_order(start):
    server, _ = start()
    got = raw(server, b"GET /health HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\nGET /stats HTTP/1.0\r\n\r\n")
    assert got.index(b'"ok"') < got.index(b"no such route") < got.index(b'"requests"')


def test_a_pipelined_request_waits_for_the_slow_one_before_it(start):
    server, _ = start(Script(latency=0.05))
    body = b'{"model":"m","messages":[]}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while not server.stats().in_flight:
            pass
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        got = rest_of(sock)
    assert got.index(b"chat.completion") < got.index(b'"ok"')


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 70_000, b"431"),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", b"413"),
    ],
)
def test_what_it_cannot_read_is_refused_and_closed(start, data, status):
    server, _ = start()
    assert raw(server, data).startswith(b"HTTP/1.1 " + status)


# --- misbehaviour -----------------------------------------------------------------------------------------------------


def test_rules_hit_the_calls_they_name_in_order(start):
    script = Script(
        faults=(
            Fault(match="reviewer", status=500, times=1, after=1),
            Fault(match="coder", status=429, times=2, headers={"retry-after": "7"}),
            Fault(match="the parser", status=400, times=0),
        )
    )
    _, caller = start(script)
    texts = [
        "Review: a",
        "Review: b",
        "Review: c",
        "Implement: a",
        "Implement: the parser",
        "Implement: a",
        "Review: the parser",
    ]
    replies = [post(caller, text) for text in texts]
    assert [reply.status for reply in replies] == [200, 500, 200, 429, 429, 200, 400]
    assert replies[3].headers["retry-after"] == "7"
    assert json.decode(replies[3].body)["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault(html=True, status=502), 502, b"<html>"),
        (Fault(html=True), 200, b"<html>"),
        (Fault(empty=True), 200, b""),
        (Fault(error_in_200=True), 200, b'{"error":{"message":'),
        (Fault(malformed=True), 200, b'{"id":'),
        (Fault(body="anything", status=418), 418, b"anything"),
    ],
)
def test_a_rule_replaces_the_body(start, fault, status, body):
    _, caller = start(Script(faults=(fault,)))
    reply = post(caller, "Hello")
    assert (reply.status, reply.body[: len(body)]) == (status, body)
    assert post(caller, "Hello").status == 200


def test_a_malformed_reply_is_no_json(start):
    _, caller = start(Script(faults=(Fault(malformed=True),)))
    with pytest.raises(DecodeError, match="truncated"):
        json.decode(post(caller, "Hello").body)


def test_a_finish_reason_can_be_set(start):
    _, caller = start(Script(faults=(Fault(finish_reason="content_filter"),)))
    assert json.decode(post(caller, "Hello").body)["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(hang=True), ErrorKind.TIMEOUT),
        (Fault(drip=0.01), ErrorKind.TIMEOUT),
        (Fault(delay=30), ErrorKind.TIMEOUT),
        (Fault(reset=True), ErrorKind.CONNECTION),
    ],
    ids=["hang", "drip", "delay", "reset"],
)
def test_a_rule_spoils_the_delivery_and_the_next_call_works(start, fault, kind):
    server, caller = start(Script(faults=(fault,)))
    spoilt = post(caller, "Hello", timeout=0.1)
    assert isinstance(spoilt, CallFailure)
    assert spoilt.kind == kind
    assert post(caller, "Hello").status == 200
    assert server.stats().statuses == {0: 1, 200: 1}


def test_a_drip_arrives_whole_in_the_end(start):
    _, caller = start(Script(faults=(Fault(drip=0.001, body="{}"),)))
    assert post(caller, "Hello").body == b"{}"


def test_latency_is_waited_for_and_calls_overlap(start):
    server, _ = start(Script(latency=0.05))
    callers = [HttpCaller(f"{server.url}/chat/completions", {}) for _ in range(4)]
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        statuses = [reply.status for reply in pool.map(lambda caller: post(caller, "Hello"), callers)]
    took = time.monotonic() - started
    for caller in callers:
        caller.close()
    assert statuses == [200] * 4
    assert 0.05 <= took < GENEROUS
    assert server.stats().max_in_flight > 1


def test_latency_is_drawn_from_the_seed():
    from runtime.fake_desk import Desk

    body = json.encode({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
    desks = [Desk(Script(latency=(0.1, 0.3), seed=seed)) for seed in (7, 7, 8)]
    one, same, other = ([desk.take(b"", body, 0.0).delay for _ in range(5)] for desk in desks)
    assert one == same != other
    assert all(0.1 <= delay <= 0.3 for delay in one)


def test_the_rate_limit_is_a_bucket_whose_429_names_the_next_token():
    from runtime.fake_desk import Desk

    body = json.encode({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
    desk = Desk(Script(rate_limit=RateLimit(per_second=10, burst=2, headers=True)))
    replies = [desk.take(b"", body, at) for at in (100.0, 100.0, 100.0, 100.05, 100.1001)]
    assert [reply.status for reply in replies] == [200, 200, 429, 429, 200]
    assert [float(reply.headers["retry-after"]) for reply in replies[2:4]] == pytest.approx([0.1, 0.05])
    assert replies[0].headers["x-ratelimit-limit-requests"] == "600"
    assert replies[0].headers["x-ratelimit-remaining-requests"] == "1"


# --- as a thing to start and stop -------------------------------------------------------------------------------------


def test_recorded_bodies_and_arrivals_are_kept(start):
    server, caller = start(Script(record=True))
    post(caller, "Hello")
    assert b"Hello" in server.bodies()[0]
    assert len(server.stats().arrivals) == 1


def test_counters_can_be_read_after_the_end():
    with FakeServer() as server:
        pass
    assert server.stats().requests == 0


def test_a_server_stops_with_calls_in_flight():
    with FakeServer(Script(faults=(Fault(hang=True),))) as server, ThreadPoolExecutor(1) as pool:
        caller = HttpCaller(f"{server.url}/chat/completions", {})
        pending = pool.submit(post, caller, "Hello")
        while not server.stats().in_flight:
            pass
        server.stop()
        assert pending.result(timeout=10).kind == ErrorKind.CONNECTION
        caller.close()
    assert server.stats().statuses == {0: 1}


def test_a_port_that_is_taken_is_an_error(start):
    server, _ = start()
    with pytest.raises(OSError, match="address already in use"):
        FakeServer(port=server.port).start()


def test_it_speaks_tls(tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FakeServer(tls=context) as server:
        caller = HttpCaller(f"{server.url}/chat/completions", {}, ca_file=str(tmp_path / "ca.pem"))
        assert said(caller, "Hello") == "About Hello: done."
        caller.close()


TOML = b'latency = [0.1, 0.2]\nrate_limit = { per_second = 5 }\n[[faults]]\nmatch = "coder"\nstatus = 500\n'


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_script_is_read_from_a_file(tmp_path, suffix):
    script = Script(latency=(0.1, 0.2), faults=(Fault(match="coder", status=500),), rate_limit=RateLimit(per_second=5))
    data = json.encode(script) if suffix == ".json" else TOML
    (tmp_path / f"s{suffix}").write_bytes(data)
    assert fake_script.load(tmp_path / f"s{suffix}") == script


BAD = [
    ("s.toml", b"latnecy = 1"),
    ("s.json", b"{"),
    ("s.toml", b"\xff"),
    ("s.toml", b"latency = -1"),
    ("s.toml", b"latency = [2, 1]"),
    ("s.toml", b"latency = [1]"),
    ("s.toml", b"latency = nan"),
    ("s.toml", b"reject_first_reviews = 2"),
]


@pytest.mark.parametrize(("name", "data"), BAD)
def test_a_bad_script_is_refused_in_one_line_that_names_the_file(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=name) as caught:
        fake_script.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_key_that_a_script_does_not_know_is_answered_with_those_that_there_are(tmp_path):
    (tmp_path / "s.toml").write_text("[limits]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown field `limits`; its keys are latency, .*rate_limit"):
        fake_script.load(tmp_path / "s.toml")


def test_a_script_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        fake_script.load(tmp_path / "none.toml")


def command(*arguments):
    return [sys.executable, "-m", "runtime.fake_server", *arguments]


@pytest.mark.slow
def test_the_command_prints_its_url_serves_and_ends_on_a_signal(tmp_path):
    (tmp_path / "s.toml").write_text("subtasks = 2\n")
    with subprocess.Popen(
        command("--print-url", "--script", str(tmp_path / "s.toml")), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip()
        caller = HttpCaller(f"{url}/chat/completions", {})
        assert said(caller, TASK).count("\n") == 1
        caller.close()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) == 0
        finally:
            process.kill()


@pytest.mark.slow
def test_the_command_dies_with_its_parent():
    parent = f"import subprocess, sys; p = subprocess.Popen({command('--print-url')!r}); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        port = urlsplit(process.stdout.readline().strip()).port
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        process.kill()
        assert process.stdout.read() == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.slow
def test_the_command_refuses_a_bad_script_in_one_line(tmp_path):
    done = subprocess.run(
        command("--script", str(tmp_path / "no.toml")), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
