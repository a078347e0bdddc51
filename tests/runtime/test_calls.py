"""Calls against servers that misbehave on purpose: law 8 for one attempt's timeout, and law 10, the key in no place."""

from __future__ import annotations

import logging
import os
import time
from typing import NamedTuple

import msgspec
import pytest

from actors import Agent
from actors.gateway import Gateway
from protocol import AgentMessage, ErrorKind
from protocol.calls import AbortFlight
from runtime import ActorSystem, Config
from runtime.embedded import environment as child_environment
from runtime.flight import Flight
from tests.runtime.command import config
from tests.runtime.hostile import OK, Hostile, drip, reply, reset, silence

pytestmark = pytest.mark.slow
TIMEOUT = 0.5
BOUND = TIMEOUT * 1.1 + 0.3


class Asker(Agent):
    role = "asker"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


def system_for(server: Hostile, retries: int = 0, key: str = "") -> ActorSystem:
    settings = f"[roles.asker]\ntimeout = {TIMEOUT}\nmax_retries = {retries}\n"
    text = config(f"http://127.0.0.1:{server.port}/v1", settings)
    return ActorSystem(Config.parse(text.replace('/v1"\n', f'/v1"\n{key}', 1).encode(), "the test"))


# --- law 8: an attempt ends by its timeout


def answers_after(head: bytes):
    """Return a server that says *head* and then nothing."""

    def handler(sock, server):
        server.read(sock)
        sock.sendall(head)
        silence(sock, server)

    return handler


def drips(data: bytes, begin: bytes = b""):
    def handler(sock, server):
        server.read(sock)
        sock.sendall(begin)
        drip(sock, server, data, 0.1)

    return handler


BEHAVIOURS = {
    "says nothing": silence,
    "says nothing after half a status line": answers_after(b"HTTP/1.1 2"),
    "says nothing after the head": answers_after(OK + b"content-length: 100\r\n\r\n"),
    "says nothing after half the body": answers_after(OK + b'content-length: 100\r\n\r\n{"id":'),
    "drips the head": drips(OK + b"x-filler: " + b"x" * 1000),
    "drips the body": drips(b"x" * 1000, OK + b"content-length: 1000\r\n\r\n"),
    "drips chunks": drips(b"1\r\nx\r\n" * 1000, OK + b"transfer-encoding: chunked\r\n\r\n"),
    "drips a head without an end": drips(b"x-filler: y\r\n" * 1000, OK),
}


def took(system: ActorSystem, within: float = 20.0) -> tuple[float, ErrorKind | None]:
    began = time.monotonic()
    outcome = system.submit("x", to="asker").result(within)
    return time.monotonic() - began, outcome.results[0].error_kind


@pytest.fixture(scope="module", autouse=True)
def _imports_are_done():
    """The first call of a process loads the HTTP library, which is no part of an attempt."""
    with (
        Hostile(lambda sock, server: (server.read(sock), sock.sendall(reply()))) as server,
        system_for(server) as system,
    ):
        system.register(Asker)
        system.submit("x", to="asker").result(20)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_law_8_an_attempt_ends_by_its_timeout_whatever_the_server_does(behaviour):
    with Hostile(BEHAVIOURS[behaviour]) as server, system_for(server) as system:
        system.register(Asker)
        seconds, kind = took(system)
        assert kind is ErrorKind.TIMEOUT
        assert TIMEOUT * 0.9 < seconds < BOUND


def test_law_8_all_attempts_together_end_by_the_deadline_of_the_run():
    with Hostile(silence) as server, system_for(server, retries=9) as system:
        system.register(Asker)
        began = time.monotonic()
        outcome = system.submit("x", to="asker", timeout=0.8).result(20)
        assert outcome.error_kind is ErrorKind.DEADLINE
        assert time.monotonic() - began < 0.8 * 1.1 + 0.3


def no_clock(monkeypatch):
    monkeypatch.setattr(Flight, "remaining", lambda _flight: 30.0)


def test_law_8_holds_by_the_gateway_alone_when_the_socket_has_lost_its_clock(monkeypatch):
    no_clock(monkeypatch)
    with Hostile(silence) as server, system_for(server) as system:
        system.register(Asker)
        seconds, kind = took(system)
        assert kind is ErrorKind.TIMEOUT
        assert seconds < TIMEOUT * 1.1 + 0.5


def test_law_8_turns_red_without_both_clocks(monkeypatch):
    no_clock(monkeypatch)
    sound = Gateway._perform

    def never_aborts(self, effects, message=None):
        sound(self, [effect for effect in effects if not isinstance(effect, AbortFlight)], message)

    monkeypatch.setattr(Gateway, "_perform", never_aborts)
    with Hostile(silence) as server, system_for(server) as system:
        system.register(Asker)
        with pytest.raises(TimeoutError):
            took(system, within=2 * BOUND)


# --- law 10: the key appears nowhere

CANARY = "canary-5e5e5e5e5e5e5e5e"


class Echo(NamedTuple):
    """A reply that holds the key where a careless server puts it."""

    head: str
    body: str = ""

    def __call__(self, sock, server):
        body = self.body.replace("KEY", CANARY).encode()
        head = self.head.replace("KEY", CANARY)
        while server.read(sock):
            sock.sendall(f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)


MESSAGE = '{"error": {"message": "Incorrect API key provided: KEY. Find yours at", "code": "KEY"}}'
CHAT = '{"choices": [{"message": {"role": "assistant", "content": "your key is KEY"}}], "model": "KEY"}'


def echoes_in_a_broken_status_line(sock, server):
    server.read(sock)
    sock.sendall(f"{CANARY} {CANARY}\r\n\r\n".encode())


def echoes_in_a_broken_chunk(sock, server):
    server.read(sock)
    sock.sendall(OK + f"transfer-encoding: chunked\r\n\r\n{CANARY}\r\n{CANARY}".encode())


def echoes_in_a_broken_header(sock, server):
    server.read(sock)
    sock.sendall(f"HTTP/1.1 200 OK\r\n{CANARY}\r\n: {CANARY}\r\ncontent-length: {CANARY}\r\n\r\n".encode())


def echoes_and_resets(sock, server):
    server.read(sock)
    sock.sendall(OK + f"content-length: 1000\r\n\r\n{CANARY}".encode())
    reset(sock)


ECHOES = {
    "401": Echo("401 Unauthorized", MESSAGE),
    "403 plain": Echo("403 KEY", "no: KEY"),
    "400": Echo("400 Bad Request\r\ncontent-type: application/json", MESSAGE),
    "429": Echo("429 Slow\r\nretry-after: KEY\r\nx-ratelimit-limit-requests: KEY", MESSAGE),
    "500": Echo("500 KEY", "Traceback: Bearer KEY"),
    "html": Echo("200 OK\r\ncontent-type: text/html", "<html><title>KEY</title>Bearer KEY</html>"),
    "redirect": Echo("307 Moved\r\nlocation: https://KEY.example/?key=KEY"),
    "redirect to nonsense": Echo("302 Moved\r\nlocation: http://[KEY"),
    "gzip that is none": Echo("200 OK\r\ncontent-encoding: gzip", "KEY"),
    "malformed": Echo("200 OK", '{"choices": [{"KEY'),
    "error in 200": Echo("200 OK", MESSAGE),
    "success": Echo("200 OK", CHAT),
    "broken status line": echoes_in_a_broken_status_line,
    "broken chunk": echoes_in_a_broken_chunk,
    "broken header": echoes_in_a_broken_header,
    "reset": echoes_and_resets,
    "hang": answers_after(b""),
}


def whereabouts(monkeypatch, caplog, echo) -> str:
    """Return all that can be seen from outside after a run against *echo*, with logging at DEBUG."""
    monkeypatch.setenv("TEST_KEY", CANARY)
    with caplog.at_level(logging.DEBUG), Hostile(echo) as server:
        system = system_for(server, retries=1, key='api_key_env = "TEST_KEY"\n')
        with system:
            system.register(Asker)
            handle = system.submit("x", to="asker", timeout=4.0)  # a 429 is waited out as long as there is time
            outcome = handle.result(20)
            seen = [outcome, msgspec.json.encode(outcome), *handle.events(), handle]
            lines = system._models._lines
            seen += [vars(system), system.config, *map(vars, lines.values()), *lines.values()]
            seen += [vars(box) for box in system.directory.mailboxes.values()]
        seen += [system.dead_letters(), system]
        assert any(CANARY.encode() in request for request in server.requests)
    assert '"level": "' in caplog.text
    return " ".join([caplog.text, *map(repr, seen), str(child_environment())])


@pytest.mark.parametrize("echo", ECHOES)
def test_law_10_the_key_appears_in_no_log_result_event_repr_or_child(monkeypatch, caplog, echo):
    assert CANARY not in whereabouts(monkeypatch, caplog, ECHOES[echo])


@pytest.fixture
def _careless(monkeypatch):
    """An exception of ours that carries the key in its text."""

    def boom(*_args, **_options):
        raise ValueError(f"headers: Bearer {CANARY}, {CANARY}")

    monkeypatch.setattr("runtime.line.decode_response", boom)


@pytest.mark.usefixtures("_careless")
def test_law_10_holds_when_an_exception_of_ours_carries_the_key(monkeypatch, caplog):
    seen = whereabouts(monkeypatch, caplog, ECHOES["401"])
    assert "child.failed" in seen
    assert "ValueError: headers: " in seen
    assert CANARY not in seen


@pytest.mark.usefixtures("_careless")
def test_law_10_turns_red_when_log_lines_are_not_redacted(monkeypatch, caplog):
    monkeypatch.setattr("runtime.logs.redact", lambda text: text)
    assert CANARY in whereabouts(monkeypatch, caplog, ECHOES["401"])


def test_law_10_turns_red_when_bodies_are_not_masked(monkeypatch, caplog):
    monkeypatch.setattr("runtime.http._keys", lambda _headers: ())
    assert CANARY in whereabouts(monkeypatch, caplog, ECHOES["success"])


def test_law_10_turns_red_when_the_child_gets_the_whole_environment(monkeypatch, caplog):
    monkeypatch.setattr(f"{__name__}.child_environment", lambda: dict(os.environ))
    assert CANARY in whereabouts(monkeypatch, caplog, ECHOES["success"])
