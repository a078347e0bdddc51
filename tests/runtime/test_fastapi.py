"""``examples/fastapi_app.py`` behind a real server: submit, result, events, cancel, a client that leaves, a stop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec, module_from_spec, spec_from_file_location

import pytest

from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from tests.runtime.command import ROOT, config, environment
from tests.runtime.systems import TASK

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("fastapi") is None or find_spec("uvicorn") is None,
        reason="FastAPI is not installed: pip install --group examples",
    ),
]
PATH = ROOT / "examples" / "fastapi_app.py"


class Client:
    """A client of the service, and the service's system."""

    def __init__(self, port, system):
        self.port, self.system = port, system

    def open(self, method, path, body=None, **headers):
        """Send a request and return its connection and response, whose body is still to be read."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        sent = {"content-type": "application/json", **headers}
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        return connection, connection.getresponse()

    def ask(self, method, path, body=None):
        """Return status and document of the answer."""
        connection, response = self.open(method, path, body)
        with closing(connection):
            text = response.read()
            return response.status, json.loads(text) if text else None

    def submit(self, task=TASK, **more):
        return self.ask("POST", "/runs", {"task": task, **more})[1]["id"]

    def events(self, run, **headers):
        """Return number, name and data of each event until the stream ends."""
        connection, response = self.open("GET", f"/runs/{run}/events", **headers)
        with closing(connection):
            return [read(block) for block in response.read().decode().strip().split("\n\n")]


def read(block):
    lines = dict(line.split(": ", 1) for line in block.splitlines())
    return int(lines.get("id", 0)), lines["event"], json.loads(lines["data"])


@contextmanager
def served(home, monkeypatch, script):
    import uvicorn

    with FakeServer(script) as provider:
        (home / "team.toml").write_text(config(provider.url), encoding="utf-8")
        monkeypatch.setenv("TEAM", str(home / "team.toml"))
        spec = spec_from_file_location("fastapi_app", PATH)
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "fastapi_app", module)  # FastAPI reads its annotations there
        spec.loader.exec_module(module)
        with closing(socket.create_server(("127.0.0.1", 0))) as door:
            server = uvicorn.Server(uvicorn.Config(module.app, log_level="critical", timeout_graceful_shutdown=1))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
            thread.start()
            try:
                client = Client(door.getsockname()[1], None)
                client.ask("GET", "/")  # answered as soon as it has started
                client.system = module.app.state.system
                yield client
            finally:
                server.should_exit = True
                thread.join(15)
                assert not thread.is_alive()


@pytest.fixture
def client(tmp_path, monkeypatch):
    with served(tmp_path, monkeypatch, Script()) as client:
        yield client


@pytest.fixture
def patient(tmp_path, monkeypatch):
    """A client of a service whose model does not answer: runs go on until they are cancelled."""
    with served(tmp_path, monkeypatch, Script(latency=60.0)) as client:
        yield client


def test_a_run_is_submitted_and_its_result_waited_for(client):
    run = client.submit(id="order-17")
    status, result = client.ask("GET", f"/runs/{run}?wait=20")
    assert (run, status, result["success"], result["correlation_id"]) == ("order-17", 200, True, "order-17")


def test_who_posts_the_same_task_by_the_same_id_gets_the_same_run_and_another_task_is_refused(client):
    assert client.submit("Hi?", id="one") == client.submit("Hi?", id="one") == "one"
    refused = client.ask("POST", "/runs", {"task": "Ho?", "id": "one"})
    assert refused == (400, {"detail": "run 'one' exists already with another task"})


def test_what_cannot_be_submitted_or_is_not_known_is_said_in_words(client):
    assert client.ask("POST", "/runs", {"task": " "}) == (400, {"detail": "the task is empty"})
    assert client.ask("GET", "/runs/nobody") == (404, {"detail": "no run 'nobody' is known here"})
    assert client.ask("DELETE", "/runs/nobody")[0] == 404


def test_events_come_in_order_with_the_end_last_and_who_reconnects_goes_on_where_it_was(client):
    run = client.submit()
    seen = client.events(run)
    names = [event.event for event in client.system.handle(run).events()]
    assert [name for _, name, _ in seen] == [*names, "ended"]
    assert [number for number, _, _ in seen] == [*range(1, len(names) + 1), 0]
    assert seen[-1][2] is True
    assert client.events(run, **{"Last-Event-ID": "5"}) == seen[5:]


def test_an_event_is_sent_while_the_run_goes_on_and_a_client_that_leaves_ends_its_stream_alone(patient):
    run = patient.submit()
    handle = patient.system.handle(run)
    connection, stream = patient.open("GET", f"/runs/{run}/events")
    assert stream.readline() == b"event: task.started\n"
    assert len(handle.run.sinks) == 1
    stream.close()
    connection.close()
    until = time.monotonic() + 5.0
    while handle.run.sinks and time.monotonic() < until:
        patient.ask("GET", f"/runs/{run}")
    assert handle.run.sinks == []
    assert patient.ask("GET", f"/runs/{run}") == (202, None)
    assert patient.ask("DELETE", f"/runs/{run}")[0] == 202
    assert patient.ask("GET", f"/runs/{run}?wait=5")[1]["error_kind"] == "cancelled"


def test_a_hundred_who_wait_hold_up_nobody(patient):
    run = patient.submit()
    waiting = [patient.open("GET", f"/runs/{run}/events") for _ in range(20)]
    with ThreadPoolExecutor(80) as pool:
        asked = [pool.submit(patient.ask, "GET", f"/runs/{run}?wait=60") for _ in range(80)]
        began = time.monotonic()
        for n in range(20):
            patient.submit(f"{TASK} {n}")
        took = time.monotonic() - began
        assert not any(each.done() for each in asked)
        patient.ask("DELETE", f"/runs/{run}")
        assert {each.result(10)[0] for each in asked} == {200}
    for connection, stream in waiting:
        assert stream.read().decode().rstrip().splitlines()[-2:] == ["event: ended", "data: false"]
        connection.close()
    assert took < 2.0


def test_it_starts_with_one_command_and_ends_by_its_deadline_though_a_stream_is_open(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        port = door.getsockname()[1]
    with FakeServer(Script(latency=60.0)) as provider:
        (tmp_path / "team.toml").write_text(config(provider.url), encoding="utf-8")
        env = environment(tmp_path, TEAM=str(tmp_path / "team.toml"), PORT=str(port))
        service = subprocess.Popen([sys.executable, str(PATH)], env=env, stderr=subprocess.PIPE, text=True)
        try:
            while "running on" not in service.stderr.readline():
                assert service.poll() is None
            client = Client(port, None)
            run = client.submit()
            connection, stream = client.open("GET", f"/runs/{run}/events")
            assert stream.readline() == b"event: task.started\n"
            began = time.monotonic()
            service.send_signal(signal.SIGTERM)
            _, said = service.communicate(timeout=15)
            connection.close()
        finally:
            service.kill()
            service.wait()
    assert time.monotonic() - began < 8.0
    assert "Application shutdown complete" in said
