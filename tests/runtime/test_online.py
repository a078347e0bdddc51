"""check --online: one call of one token to each model through real HTTP, and what it says it has learnt."""

from __future__ import annotations

import json
import ssl

import pytest
import trustme

from protocol.errors import ErrorKind
from runtime import Config, online
from runtime.embedded import available
from runtime.fake_script import Fault, RateLimit, Script
from runtime.fake_server import FakeServer
from runtime.findings import Finding
from runtime.online import Learned, Limit, ask_all
from tests.runtime.command import NOWHERE, config, troupe

KEY = "canary-0123456789abcdef"


def asked(url: str, more: str = "") -> list[Learned | Finding]:
    return list(ask_all(Config.parse(config(url, more).encode(), "t.toml")))


def refused(url: str, more: str = "") -> Finding:
    """Return the one finding, which stands for the model."""
    (finding,) = asked(url, more)
    assert isinstance(finding, Finding)
    assert finding.where == "model.m"
    assert "\n" not in str(finding)
    return finding


def faulty(**fault) -> FakeServer:
    return FakeServer(Script(faults=(Fault(times=0, **fault),)))


def test_a_model_that_answers_is_called_once_for_one_token_with_a_schema():
    with FakeServer(Script(record=True)) as server:
        (learned,) = asked(server.url)
        (body,) = map(json.loads, server.bodies())
    assert (learned.model, learned.calls, learned.json_schema, learned.limits) == ("m", 1, "accepted", ())
    assert 0.0 < learned.seconds < 5.0
    assert (body["model"], body["max_tokens"], body["response_format"]["type"]) == ("m", 1, "json_schema")
    assert "temperature" not in body


def test_every_model_of_every_provider_is_called():
    with FakeServer() as one, FakeServer() as other:
        second = f'[provider.b]\nbase_url = "{other.url}"\n[model.x]\nprovider = "b"\nname = "x"\n'
        learned = asked(one.url, f'{second}[model.y]\nprovider = "b"\nname = "y"\n')
        assert [(each.model, each.calls) for each in learned] == [("m", 1), ("x", 1), ("y", 1)]
        assert (one.stats().requests, other.stats().requests) == (1, 2)


def test_an_endpoint_that_refuses_schemas_is_asked_once_more_without():
    with FakeServer(Script(json_schema="reject", record=True)) as server:
        (learned,) = asked(server.url)
        bodies = [json.loads(body) for body in server.bodies()]
    assert (learned.calls, learned.json_schema) == (2, "refused")
    assert ["response_format" in body for body in bodies] == [True, False]
    assert [body["max_tokens"] for body in bodies] == [1, 1]


def test_the_limits_in_the_headers_are_told_and_compared_with_the_configured_ones():
    limit = RateLimit(per_second=5.0, tokens_per_second=1000.0, headers=True)
    ours = "[limits.main]\nrequests_per_minute = 600\ntokens_per_minute = 60000"
    with FakeServer(Script(rate_limit=limit)) as server:
        learned, finding = asked(server.url, ours)
    assert learned.limits == (
        Limit(resource="requests", limit=300, period=60.0),
        Limit(resource="tokens", limit=60000, period=60.0),
    )
    assert str(learned).endswith("limits: 300 requests per minute, 60000 tokens per minute")
    assert (finding.level, finding.where) == ("warning", "limits.main.requests_per_minute")
    assert finding.what == "600 is more than the provider says it allows: 300 requests per minute"


@pytest.mark.parametrize(
    ("status", "level", "kind"),
    [
        (401, "error", ErrorKind.AUTHENTICATION),
        (402, "error", ErrorKind.QUOTA),
        (404, "error", ErrorKind.NOT_FOUND),
        (400, "error", ErrorKind.BAD_REQUEST),
        (429, "warning", ErrorKind.RATE_LIMITED),
        (503, "warning", ErrorKind.PROVIDER_OVERLOADED),
        (500, "warning", ErrorKind.SERVER_ERROR),
    ],
)
def test_a_refusal_is_an_error_and_a_provider_that_is_only_busy_a_warning(status, level, kind):
    with faulty(status=status) as server:
        finding = refused(server.url)
        assert server.stats().requests == 1
    assert (finding.level, finding.page) == (level, kind.value)
    assert ("is there, and busy: " in finding.what) == (level == "warning")


def test_a_model_that_thinks_before_it_answers_is_there():
    words = "Could not finish the message because max_tokens or model output limit was reached."
    body = json.dumps({"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}})
    with faulty(status=400, body=body) as server:
        (learned,) = asked(server.url)
    assert (learned.calls, learned.json_schema) == (1, "accepted")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [({"html": True}, ErrorKind.BAD_RESPONSE), ({"reset": True}, ErrorKind.CONNECTION)],
)
def test_what_is_no_reply_is_an_error(fault, kind):
    with faulty(**fault) as server:
        assert refused(server.url).page == kind.value


def test_a_server_that_never_answers_is_left_in_time(monkeypatch):
    monkeypatch.setattr(online, "TIMEOUT", 0.1)
    with faulty(hang=True) as server:
        assert refused(server.url).page == ErrorKind.TIMEOUT.value


def test_nobody_at_the_address_and_a_certificate_that_nobody_knows_are_errors():
    nobody = refused(NOWHERE)
    assert (nobody.level, nobody.page) == ("error", ErrorKind.CONNECTION.value)
    assert "cannot reach 127.0.0.1:9" in nobody.what
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FakeServer(tls=context) as server:
        assert "certificate" in refused(server.url.replace("http:", "https:")).what


# --- at the command line


@pytest.mark.slow
def test_the_command_says_what_it_has_learnt_and_ends_well(tmp_path):
    with FakeServer(Script(api_key=KEY)) as server:
        (tmp_path / "t.toml").write_text(config(server.url).replace('kind = "openai"', 'api_key_env = "MY_KEY"'))
        done = troupe(tmp_path, "check", "--config", "t.toml", "--online", MY_KEY=KEY)
        assert (done.code, server.stats().requests) == (0, 1)
        wrong = troupe(tmp_path, "check", "--config", "t.toml", "--online", MY_KEY=f"not-{KEY}")
    *_, learned, last = done.out.splitlines()
    assert learned.startswith("online m: answers in ")
    assert learned.endswith(" ms (1 call), json_schema accepted, limits: none in its headers")
    assert last == "ok"
    assert (wrong.code, wrong.out) == (2, "")
    (line,) = (line for line in wrong.lines if ": warning: " not in line)
    assert line.startswith("troupe: t.toml: model.m: authentication: ")
    assert line.endswith(" [errors.md#authentication]")
    assert KEY not in done.out + done.err + wrong.err


@pytest.mark.slow
def test_one_model_that_fails_does_not_hide_what_the_others_say(tmp_path):
    with FakeServer() as server:
        second = f'[provider.b]\nbase_url = "{NOWHERE}"\n[model.x]\nprovider = "b"\nname = "x"\n'
        (tmp_path / "t.toml").write_text(config(server.url, second))
        done = troupe(tmp_path, "check", "--config", "t.toml", "--online", "--json")
    (document,) = done.documents
    assert (done.code, document["ok"]) == (2, False)
    assert [each["model"] for each in document["online"]] == ["m"]
    assert [each["where"] for each in document["errors"]] == ["model.x"]


@pytest.mark.slow
def test_nothing_is_called_while_the_file_is_wrong(tmp_path):
    with FakeServer() as server:
        (tmp_path / "t.toml").write_text(config(server.url, "[team]\nplan = 1"))
        done = troupe(tmp_path, "check", "--config", "t.toml", "--online")
        assert (done.code, done.out, server.stats().requests) == (2, "", 0)


def test_limits_of_one_model_are_compared_where_it_has_its_own():
    limit = RateLimit(per_second=5.0, headers=True)
    ours = '[limits.main]\nrequests_per_minute = 100\n[limits."main/m"]\nrequests_per_minute = 301'
    with FakeServer(Script(rate_limit=limit)) as server:
        _, finding = asked(server.url, ours)
    assert finding.where == 'limits."main/m".requests_per_minute'


@pytest.mark.slow
@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_the_embedded_model_is_started_for_its_call_and_ended_after_it():
    text = '[provider.a]\nkind = "embedded"\n[model.m]\nprovider = "a"\nname = "embedded"\n'
    (learned,) = ask_all(Config.parse(text.encode(), "t.toml"))
    assert (learned.model, learned.calls, learned.json_schema) == ("m", 1, "accepted")
