"""Errors, ids, messages and signals: the words that everything else is said in."""

from __future__ import annotations

import msgspec
import pytest

from protocol import ids
from protocol.errors import (
    ConfigError,
    ErrorKind,
    ForeignAwaitError,
    NonDeterminismError,
    Retry,
    TaskFailed,
    TroupeError,
)
from protocol.messages import AgentMessage, failed
from protocol.plan import Plan
from protocol.signals import Forget, is_request


def test_every_kind_of_error_has_a_retry_class():
    assert {kind.retry for kind in ErrorKind} == set(Retry)
    assert ErrorKind.AUTHENTICATION.retry is Retry.FATAL
    assert ErrorKind.RATE_LIMITED.retry is Retry.THROTTLED


def test_a_failed_task_says_who_and_why():
    error = TaskFailed(failed("t", ErrorKind.TIMEOUT, "no answer within 3 s", agent="coder/0"))
    assert str(error) == "coder/0: timeout: no answer within 3 s"


def test_a_payload_is_decoded_by_type():
    data = msgspec.Raw(msgspec.json.encode(Plan(subtasks=("a",))))
    assert AgentMessage(sender="a", recipient="b", content="c", data=data).payload(Plan) == Plan(subtasks=("a",))


def test_ids_name_runs_and_where_a_step_stands():
    assert ids.is_correlation_id("task_001-A")
    assert not any(map(ids.is_correlation_id, ("", "a/b", "a.b", "x" * 65, "ä")))
    assert ids.run_of("run/1.2/0") == "run"
    assert list(ids.above("run/1.2/0")) == ["run/1.2", "run"]
    assert ids.workflow_address("run") == "workflow/run"


def test_only_new_requests_may_be_refused():
    assert is_request(AgentMessage(sender="a", recipient="b", content="c"))
    assert not is_request(AgentMessage(sender="a", recipient="b", content="c", attempt=1))
    assert not is_request(Forget(run="r"))


@pytest.mark.parametrize("name", ["coder", "x", "a-b_c9", "workflows", "workflow2"])
def test_what_a_role_may_be_called(name):
    assert ids.ROLE_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "Coder", "9a", "a b", "a/b", "x" * 33, "workflow"])
def test_what_a_role_may_not_be_called(name):
    assert not ids.ROLE_NAME.fullmatch(name)


def test_an_exception_names_its_heading():
    assert (TroupeError("x").page, TroupeError("x", page="system").page) == ("usage", "system")
    assert (ConfigError("x").page, ConfigError("x", page="template").page) == ("configuration", "template")
    assert TaskFailed(failed("t", ErrorKind.QUOTA, "no money")).page == "quota_exhausted"
    assert ForeignAwaitError("x").page == "foreign_await"
    assert NonDeterminismError("x").page == "non_determinism"
