"""The HTTP caller against a hostile server: every call ends in time, in one of our own words, without the key in it."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import trustme

from protocol.chat import CallFailure
from protocol.errors import ErrorKind
from runtime.http import HttpCaller, Response, check_key, check_url
from tests.runtime.hostile import OK, Hostile, drip, reply, reset, silence

KEY = "sk-canary-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
SHORT = 0.1  # seconds a call may take that is to run into its deadline
LONG = 20.0  # a deadline that no test waits for
GENEROUS = 3.0  # what the machine may add


@pytest.fixture
def make():
    """Makes callers, and closes them at the end."""
    callers = []

    def build(url, headers=HEADERS, **options):
        callers.append(HttpCaller(url, headers, **options))
        return callers[-1]

    yield build
    for caller in callers:
        caller.close()


def send(caller, timeout=LONG, call="run/0#0", body=b'{"model":"m"}'):
    return caller.post(body, timeout=timeout, call=call)


def answering(data):
    """A handler that reads a request, sends *data*, and closes."""

    def handle(sock, server):
        server.read(sock)
        sock.sendall(data)
        sock.shutdown(1)
        silence(sock, server)

    return handle


def echoing(sock, server):
    """A handler that answers one request after the other with its own body."""
    while True:
        sock.sendall(reply(server.read(sock)))


def quiet(sock, server):
    server.read(sock)
    silence(sock, server)


def dripping(data, sock, server):
    """Read a request, send the headers at once if *data* has any, and the rest in drops."""
    server.read(sock)
    head, blank, body = data.rpartition(b"\r\n\r\n")
    if blank and body:
        sock.sendall(head + blank)
    drip(sock, server, body or data, pause=0.02)


def resetting(sock, server):
    server.read(sock)
    reset(sock)


def cut(sock, server):
    server.read(sock)
    sock.sendall(OK + b"content-length: 100\r\n\r\nhalf")
    reset(sock)


# --- the good way -----------------------------------------------------------------------------------------------------


def test_importing_the_module_imports_neither_requests_nor_urllib3():
    code = "import sys, runtime.http; print([m for m in ('requests', 'urllib3') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_reply_comes_with_status_lower_case_headers_body_and_time(make):
    with Hostile(answering(reply(b"{}", b"X-RateLimit-Limit-Requests: 60"))) as server:
        outcome = send(make(server.url))
    assert (outcome.status, outcome.body, outcome.headers["x-ratelimit-limit-requests"]) == (200, b"{}", "60")
    assert 0 < outcome.elapsed < GENEROUS


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nX: 1\r\nx: 2\r\ncontent-length: 2\r\n\r\n{}", {"x": "1, 2", "content-length": "2"}),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\n{}", {"content-length": "2, 2"}),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n folded: y\r\n: z\r\ncontent-length: 2\r\n\r\n{}", {"content-length": "2"}),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}", {}),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", {}),
    ],
    ids=["a header twice", "the same length twice", "malformed headers", "interim replies", "an old server"],
)
def test_a_head_is_read_as_it_is_meant(make, head, expected):
    with Hostile(answering(head)) as server:
        outcome = send(make(server.url))
    assert (outcome.status, outcome.body) == (200, b"{}")
    assert outcome.headers == expected


def test_a_reply_without_a_body_is_one_and_the_connection_is_kept(make):
    def handle(sock, server):
        while True:
            server.read(sock)
            sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with Hostile(handle) as server:
        caller = make(server.url)
        outcomes = [send(caller) for _ in range(2)]
    assert [(outcome.status, outcome.body) for outcome in outcomes] == [(204, b"")] * 2
    assert server.connections == 1


def test_an_error_status_is_a_reply(make):
    with Hostile(answering(b"HTTP/1.1 503 Nope\r\ncontent-length: 2\r\n\r\n{}")) as server:
        outcome = send(make(server.url))
    assert (outcome.status, outcome.body) == (503, b"{}")


def test_every_call_sends_its_own_body_with_its_own_length(make):
    with Hostile(echoing) as server:
        caller = make(server.url)
        bodies = [send(caller, body=body).body for body in (b"first", b"2", b"the third one")]
    assert bodies == [b"first", b"2", b"the third one"]
    assert server.connections == 1


def test_chunked_gzip_and_close_delimited_bodies_are_read(make):
    packed = gzip.compress(b"packed" * 1000)
    replies = {
        b"chunked": OK + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
        b"gzip": OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed,
        b"closed": OK + b"connection: close\r\n\r\nup to the end",
    }

    def handle(sock, server):
        while True:
            kind = server.read(sock)
            sock.sendall(replies[kind])
            if kind == b"closed":
                return sock.shutdown(1)

    with Hostile(handle) as server:
        caller = make(server.url)
        bodies = [send(caller, body=kind).body for kind in (b"chunked", b"gzip", b"closed", b"gzip")]
    assert bodies == [b"onetwo", b"packed" * 1000, b"up to the end", b"packed" * 1000]
    assert server.connections == 2


# --- bad servers: law 8 -----------------------------------------------------------------------------------------------

ON_TIME = {
    "silence": quiet,
    "dripping body": partial(dripping, OK + b"content-length: 1000\r\n\r\n" + b"x" * 1000),
    "dripping headers": partial(dripping, b"HTTP/1.1 200 OK\r\nx: " + b"x" * 5000),
    "dripping status": partial(dripping, b"HTTP/1.1 200 " + b"x" * 5000),
    "endless 100 continue": partial(dripping, b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
    "dripping chunks": partial(dripping, OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 500),
    "dripping gzip": partial(dripping, OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(bytes(range(256)) * 20)),
}


@pytest.mark.parametrize("handler", ON_TIME.values(), ids=ON_TIME)
def test_whatever_drips_ends_by_the_total_deadline_as_a_timeout(make, handler):
    with Hostile(handler) as server:
        started = time.monotonic()
        outcome = send(make(server.url), timeout=SHORT)
        took = time.monotonic() - started
    assert outcome.kind == ErrorKind.TIMEOUT
    assert SHORT <= took < GENEROUS


BROKEN = {
    "reset before the headers": resetting,
    "reset in the body": cut,
    "closed before the headers": answering(b""),
    "short body": answering(OK + b"content-length: 100\r\n\r\nshort"),
    "short chunk": answering(OK + b"transfer-encoding: chunked\r\n\r\n64\r\nshort"),
    "no last chunk": answering(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"),
    "bad chunk length": answering(OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nshort\r\n"),
    "garbage": answering(b"\x00\x01garbage\r\n\r\n"),
    "two lengths": answering(OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    "a length that is none": answering(OK + b"content-length: -5\r\n\r\nhello"),
    "not gzip": answering(OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello"),
    "150 headers": answering(OK + b"".join(b"x-%d: y\r\n" % n for n in range(150)) + b"content-length: 0\r\n\r\n"),
    "a header of 70 kB": answering(OK + b"x: " + b"y" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("handler", BROKEN.values(), ids=BROKEN)
def test_a_broken_reply_is_a_connection_failure_and_the_next_call_works(make, handler):
    def first_broken(sock, server):
        (handler if server.connections == 1 else echoing)(sock, server)

    with Hostile(first_broken) as server:
        caller = make(server.url)
        broken = send(caller)
        after = send(caller, body=b"next")
    assert isinstance(broken, CallFailure), broken
    assert broken.kind == ErrorKind.CONNECTION
    assert KEY not in repr(broken)
    assert broken.message.isprintable()
    assert after.body == b"next"


def test_nobody_listening_is_a_connection_failure(make):
    with Hostile(echoing) as server:
        url = server.url
    outcome = send(make(url))
    assert (outcome.kind, outcome.message.count("refused")) == (ErrorKind.CONNECTION, 1)


def test_a_name_that_does_not_resolve_is_a_connection_failure(make, monkeypatch):
    def nobody(*_, **__):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", nobody)
    outcome = send(make("https://api.invalid/v1"))
    assert outcome.kind == ErrorKind.CONNECTION
    assert "Name or service not known" in outcome.message


@pytest.mark.parametrize(("connect_timeout", "timeout"), [(SHORT, LONG), (LONG, SHORT)])
def test_a_connection_that_is_never_accepted_ends_in_time_and_was_not_sent(
    make, full_backlog, connect_timeout, timeout
):
    started = time.monotonic()
    outcome = send(make(full_backlog, connect_timeout=connect_timeout), timeout=timeout)
    assert outcome.kind == ErrorKind.CONNECTION
    assert time.monotonic() - started < GENEROUS


@pytest.fixture
def full_backlog():
    """The URL of a port whose queue is full: a SYN to it gets no answer."""
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for sock in waiting:
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    for sock in (*waiting, listener):
        sock.close()


@pytest.mark.parametrize("length", [b"content-length: 2000\r\n\r\n", b"connection: close\r\n\r\n"])
def test_a_reply_over_the_cap_is_cut_off(make, length):
    with Hostile(answering(OK + length + b"x" * 2000)) as server:
        outcome = send(make(server.url, max_bytes=1000))
    assert (outcome.kind, outcome.status) == (ErrorKind.TOO_LARGE, 200)


def test_a_gzip_bomb_is_cut_off_at_the_cap_of_decoded_bytes(make):
    bomb = gzip.compress(bytes(20_000_000))
    with Hostile(answering(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb)) as server:
        outcome = send(make(server.url, max_bytes=1_000_000))
    assert outcome.kind == ErrorKind.TOO_LARGE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_names_the_host_only(make, status):
    with Hostile(echoing) as other:
        target = b"http://127.0.0.1:%d/steal?%s" % (other.port, KEY.encode())
        with Hostile(
            answering(b"HTTP/1.1 %d x\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % (status, target))
        ) as server:
            outcome = send(make(server.url))
        assert other.connections == 0
    assert (outcome.kind, outcome.status) == (ErrorKind.REDIRECT, status)
    assert "'127.0.0.1'" in outcome.message
    assert "steal" not in outcome.message
    assert KEY not in outcome.message


# --- kept connections -------------------------------------------------------------------------------------------------


def test_a_kept_connection_that_the_server_closed_is_dialled_again_silently(make):
    def once(sock, server):
        sock.sendall(reply(server.read(sock)))
        sock.close()

    with Hostile(once) as server:
        caller = make(server.url)
        bodies = [send(caller, body=body).body for body in (b"one", b"two", b"three")]
    assert bodies == [b"one", b"two", b"three"]


@pytest.mark.parametrize("end", [reset, lambda sock: sock.shutdown(1)], ids=["reset", "closed"])
def test_a_kept_connection_that_dies_under_the_next_request_is_dialled_again_once(make, end):
    def dies_at_the_second(sock, server):
        sock.sendall(reply(server.read(sock)))
        server.read(sock)
        end(sock)

    with Hostile(dies_at_the_second) as server:
        caller = make(server.url)
        bodies = [send(caller, body=body).body for body in (b"one", b"two")]
    assert bodies == [b"one", b"two"]
    assert len(server.requests) == 3


def test_a_fresh_connection_that_dies_is_not_tried_again(make):
    with Hostile(resetting) as server:
        outcome = send(make(server.url))
    assert (outcome.kind, len(server.requests)) == (ErrorKind.CONNECTION, 1)


def test_a_kept_connection_that_had_begun_to_answer_is_not_tried_again(make):
    def half_at_the_second(sock, server):
        sock.sendall(reply(server.read(sock)))
        server.read(sock)
        sock.sendall(b"HTTP/1.1 200")
        reset(sock)

    with Hostile(half_at_the_second) as server:
        caller = make(server.url)
        send(caller)
        outcome = send(caller)
    assert (outcome.kind, len(server.requests)) == (ErrorKind.CONNECTION, 2)


def test_bytes_behind_a_body_never_become_the_next_reply(make):
    def chatty(sock, server):
        while True:
            sock.sendall(reply(server.read(sock)) + reply(b"smuggled"))

    with Hostile(chatty) as server:
        caller = make(server.url)
        bodies = [send(caller, body=body).body for body in (b"one", b"two", b"three")]
    assert bodies == [b"one", b"two", b"three"]
    assert server.connections == 3


# --- abort from another thread ----------------------------------------------------------------------------------------


def aborted(server, caller, call="run/0#0", *, in_body=False):
    """Post in another thread, abort when the server has got there; return outcome and seconds since the abort."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(send, caller, call=call)
        server.reached.result(timeout=5)
        while in_body and not caller._line.flight.received:
            pass
        started = time.monotonic()
        caller.abort(call)
        return pending.result(timeout=10), time.monotonic() - started


ENDLESS = OK + b"content-length: 100000\r\n\r\n" + b"x" * 100_000
PHASES = {
    "before the headers": quiet,
    "in the headers": partial(dripping, b"HTTP/1.1 200 OK\r\nx: " + b"x" * 50_000),
    "in the body": partial(dripping, ENDLESS),
    "in a close-delimited body": partial(dripping, OK + b"connection: close\r\n\r\n" + b"x" * 50_000),
}


@pytest.mark.parametrize("handler", PHASES.values(), ids=PHASES)
def test_an_abort_ends_the_call_at_once_and_the_next_call_works(make, handler):
    def first_bad(sock, server):
        (handler if server.connections == 1 else echoing)(sock, server)

    with Hostile(first_bad) as server:
        caller = make(server.url)
        outcome, took = aborted(server, caller, in_body=handler is not quiet)
        after = send(caller, call="run/1#0", body=b"next")
    assert outcome.kind == ErrorKind.TIMEOUT
    assert took < GENEROUS
    assert after.body == b"next"


def test_an_abort_ends_a_call_on_a_kept_connection(make):
    def good_then_quiet(sock, server):
        sock.sendall(reply(server.read(sock)))
        quiet(sock, server)

    with Hostile(good_then_quiet) as server:
        caller = make(server.url)
        send(caller, call="run/1#0")
        outcome, took = aborted(server, caller)
    assert (outcome.kind, len(server.requests)) == (ErrorKind.TIMEOUT, 2)
    assert took < GENEROUS


def test_an_abort_ends_a_connect(make, full_backlog):
    caller = make(full_backlog, connect_timeout=LONG)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(send, caller)
        while not caller._line.flight._right:
            pass
        caller.abort("run/0#0")
        outcome = pending.result(timeout=10)
    assert outcome.kind == ErrorKind.TIMEOUT


def test_an_abort_of_another_call_changes_nothing(make):
    with Hostile(echoing) as server:
        caller = make(server.url)
        before = send(caller, call="run/0#0", body=b"one")
        caller.abort("run/0#0")
        caller.abort("run/9#0")
        after = send(caller, call="run/1#0", body=b"two")
    assert (before.body, after.body, server.connections) == (b"one", b"two", 1)


def test_an_abort_of_another_call_lets_the_one_under_way_go_on(make):
    told = Future()

    def waits(sock, server):
        body = server.read(sock)
        server.reached.set_result(None)
        told.result(timeout=5)
        sock.sendall(reply(body))

    with Hostile(waits) as server, ThreadPoolExecutor(1) as pool:
        caller = make(server.url)
        pending = pool.submit(send, caller, body=b"mine")
        server.reached.result(timeout=5)
        caller.abort("run/9#0")
        told.set_result(None)
        assert pending.result(timeout=5).body == b"mine"


def test_a_reply_that_an_abort_overtook_is_no_reply_for_it_may_be_cut_off(make, monkeypatch):
    def aborted_at_its_end(caller, *arguments, read=HttpCaller._read):
        body = read(caller, *arguments)
        caller.abort("run/0#0")
        return body

    monkeypatch.setattr(HttpCaller, "_read", aborted_at_its_end)
    with Hostile(echoing) as server:
        caller = make(server.url)
        outcomes = send(caller), send(caller, call="run/1#0")
    assert outcomes[0].kind == ErrorKind.TIMEOUT
    assert outcomes[1].status == 200
    assert server.connections == 2


def test_an_abort_that_comes_before_its_call_keeps_it_from_being_sent(make):
    with Hostile(echoing) as server:
        caller = make(server.url)
        caller.abort("run/0#0")
        outcome = send(caller)
    assert (outcome.kind, server.connections) == (ErrorKind.TIMEOUT, 0)


@pytest.mark.slow
def test_aborts_that_race_with_the_end_of_calls_never_hit_another_call(make):
    """Every call either succeeds with its own body or ends as aborted, and only those told to can be aborted."""
    with Hostile(echoing) as server, ThreadPoolExecutor(1) as pool:
        caller = make(server.url)
        for n in range(400):
            pending = pool.submit(caller.abort, f"run/{n}#0") if n % 2 else None
            outcome = send(caller, call=f"run/{n}#0", body=b"%d" % n)
            if isinstance(outcome, Response):
                assert outcome.body == b"%d" % n
            else:
                assert (outcome.kind, n % 2) == (ErrorKind.TIMEOUT, 1)
            if pending is not None:
                pending.result(timeout=5)


# --- TLS, environment, secrets ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def test_an_unknown_certificate_is_refused_before_anything_is_sent(make, tls):
    with Hostile(echoing, tls) as server:
        outcome = send(make(server.url))
    assert outcome.kind == ErrorKind.CONNECTION
    assert "certificate verify failed" in outcome.message
    assert server.requests == []


def test_a_certificate_for_another_host_is_refused(make, authority, ca_file):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("example.org").configure_cert(context)
    with Hostile(echoing, context) as server:
        outcome = send(make(server.url, ca_file=ca_file))
    assert (outcome.kind, server.requests) == (ErrorKind.CONNECTION, [])


def test_a_ca_file_makes_a_certificate_known_and_the_connection_is_kept(make, tls, ca_file):
    with Hostile(echoing, tls) as server:
        caller = make(server.url, ca_file=ca_file)
        bodies = [send(caller, body=body).body for body in (b"one", b"two")]
    assert (bodies, server.connections) == ([b"one", b"two"], 1)


def test_a_ca_file_that_is_not_there_is_refused_at_once():
    with pytest.raises(ValueError, match="there is no CA file"):
        HttpCaller("https://localhost/v1", HEADERS, ca_file="nowhere.pem")


@pytest.mark.parametrize("handler", [quiet, partial(dripping, ENDLESS)], ids=["before the headers", "in the body"])
def test_an_abort_works_through_tls(make, tls, ca_file, handler):
    with Hostile(handler, tls) as server:
        outcome, took = aborted(server, make(server.url, ca_file=ca_file), in_body=handler is not quiet)
    assert outcome.kind == ErrorKind.TIMEOUT
    assert took < GENEROUS


def test_an_abort_ends_a_tls_handshake(make, ca_file):
    with Hostile(silence) as server:
        outcome, took = aborted(
            server, make(server.url.replace("http:", "https:"), ca_file=ca_file, connect_timeout=LONG)
        )
    assert outcome.kind == ErrorKind.TIMEOUT
    assert took < GENEROUS


def test_a_tls_drip_ends_by_the_total_deadline(make, tls, ca_file):
    with Hostile(partial(dripping, ENDLESS), tls) as server:
        outcome = send(make(server.url, ca_file=ca_file), timeout=SHORT * 2)
    assert outcome.kind == ErrorKind.TIMEOUT


def test_netrc_and_proxy_and_bundle_variables_are_ignored(make, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine localhost login thief password stolen\n")
    with Hostile(echoing) as proxy, Hostile(echoing) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(tmp_path / "none.pem"))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        outcome = send(make(server.url))
        assert proxy.connections == 0
    assert outcome.status == 200
    assert f"Authorization: Bearer {KEY}\r\n".encode() in server.requests[0]


def test_cookies_are_not_sent_back(make):
    def baker(sock, server):
        while True:
            sock.sendall(reply(server.read(sock), b"set-cookie: id=1"))

    with Hostile(baker) as server:
        caller = make(server.url)
        send(caller)
        send(caller)
    assert b"cookie" not in server.requests[1].lower()


def test_a_key_that_the_server_echoes_is_masked_in_the_body(make):
    with Hostile(answering(reply(b"Incorrect API key provided: " + KEY.encode()))) as server:
        outcome = send(make(server.url))
    assert outcome.body == b"Incorrect API key provided: ****"


def test_a_key_that_the_server_echoes_in_garbage_is_masked_in_the_failure(make):
    with Hostile(answering(b"garbage " + KEY.encode() + b"\r\n\r\n")) as server:
        outcome = send(make(server.url))
    assert outcome.kind == ErrorKind.CONNECTION
    assert "garbage ****" in outcome.message


@pytest.mark.parametrize("value", [f"Bearer {KEY}\n", f"Bearer {KEY}\u20ac", f"Bearer {KEY}\r\nX: y"])
def test_a_header_that_cannot_be_sent_is_refused_without_telling_its_value(value):
    with pytest.raises(ValueError, match="the header 'Authorization'") as caught:
        HttpCaller("https://localhost/v1", {"Authorization": value})
    assert "canary" not in str(caught.value)


# --- what may be configured -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://API.Example.com:8443/V1", "https://api.example.com:8443/V1"),
        ("http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("http://127.8.9.1/v1", "http://127.8.9.1/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_good_base_url_is_normalised(url, expected):
    assert check_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "http://api.example.com/v1",
        "http://169.254.169.254/latest",
        "http://127.1/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1\\.example.com/",
        "file:///etc/passwd",
        "ftp://localhost/",
        "https:///v1",
        "https://:443/v1",
        "https://user:hunter2@api.example.com/v1",
        "http://localhost@api.example.com/v1",
        "https://api.example.com:99999/v1",
        "https://api.example.com:0/v1",
        "https://[::1/v1",
        "https://api.example.com/v1?key=hunter2",
        "https://api.example.com/v1#x",
        "https://api.example.com/v1\n",
        "https://api.exa mple.com",
        "https://äpi.example.com",
    ],
)
def test_a_bad_base_url_is_refused_in_one_line_without_telling_a_password(url):
    with pytest.raises(ValueError, match="the base URL") as caught:
        check_url(url)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_caller_refuses_a_bad_url():
    with pytest.raises(ValueError, match="in the clear"):
        HttpCaller("http://example.com/v1", HEADERS)


def test_a_good_key_is_returned():
    assert check_key(KEY) == KEY


@pytest.mark.parametrize("key", ["", f"{KEY}\n", f" {KEY}", "sk-canary 0123", f"{KEY}\u00e9", "short\n"])
def test_a_bad_key_is_refused_telling_no_more_than_its_length_and_ending(key):
    with pytest.raises(ValueError, match="the API key") as caught:
        check_key(key)
    assert "canary" not in str(caught.value)
    assert "ort" not in str(caught.value)
    assert "\n" not in str(caught.value)
