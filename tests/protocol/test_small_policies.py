"""Planning, feedback, complexity and the ledger: small pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chat import ChatReply, Usage
from protocol.errors import ErrorKind, Retry, TaskFailed
from protocol.ledger import Ledger
from protocol.messages import AgentMessage, TaskResult, failed
from protocol.plan import Plan, Review
from protocol.policies.complexity import choose_role, estimate
from protocol.policies.feedback import Next, judge
from protocol.policies.planning import tidy
from protocol.signals import ChatResult

# --- planning


def test_blanks_numbers_and_duplicates_go():
    assert tidy(("1. a", " a ", "", "2) b\n c", "- ", "\u2022 d"), 9) == ("a", "b c", "d")


def test_subtasks_past_the_cap_are_merged_into_the_last():
    assert tidy(("a", "b", "c", "d"), 3) == ("a", "b", "c; d")


@given(st.lists(st.text(alphabet="abc 1.", max_size=5), max_size=12), st.integers(1, 6))
def test_no_subtask_is_lost_and_the_cap_holds(subtasks, most):
    kept = tidy(tuple(subtasks), most)
    assert len(kept) <= most
    assert "; ".join(kept) == "; ".join(tidy(tuple(subtasks), 100))


# --- feedback


@pytest.mark.parametrize(
    ("score", "approved", "round_", "expected"),
    [
        (7, True, 0, Next.ACCEPT),
        (7, True, 2, Next.ACCEPT),
        (6, True, 0, Next.REVISE),
        (9, False, 0, Next.REVISE),
        (6, True, 2, Next.KEEP),
        (0, False, 3, Next.KEEP),
    ],
)
def test_a_draft_is_accepted_revised_or_kept(score, approved, round_, expected):
    review = Review(score=score, approved=approved)
    assert judge(review, round_=round_, accept_score=7, max_rounds=2) is expected


def test_no_rounds_means_one_review_and_no_revision():
    assert judge(Review(score=0, approved=False), round_=0, accept_score=7, max_rounds=0) is Next.KEEP


# --- complexity


@pytest.mark.parametrize(
    "task",
    [
        "Implement an async HTTP client with retries",
        "Implement an async HTTP client with retry logic",
        "Implementiere einen async HTTP-Client mit Retry-Logik",
        "Build a todo app with a database, authentication and tests",
        "Design a scheduler service and write its API",
        "Entwickle eine Anwendung, die Rechnungen einliest, prüft und ablegt",
    ],
)
def test_a_task_of_many_parts_is_worth_a_plan(task):
    assert estimate(task).worth_a_plan, estimate(task)


@pytest.mark.parametrize(
    "task",
    [
        "What is 2 + 2?",
        "Say hello",
        "Translate 'good morning' into German",
        "Fix the typo in README",
        "Was ist ein Aktor?",
        "",
    ],
)
def test_a_small_question_is_not(task):
    assert not estimate(task).worth_a_plan, estimate(task)


@given(st.text(max_size=400))
def test_a_score_lies_between_0_and_1_and_a_positive_one_has_reasons(task):
    complexity = estimate(task)
    assert 0.0 <= complexity.score <= 1.0
    assert complexity.score == 0.0 or complexity.reasons


def test_a_task_without_recipient_goes_to_a_role_that_is_there():
    assert choose_role("Review: x", ("coder", "reviewer")) == "reviewer"
    assert choose_role("Review: x", ("coder",)) == "coder"
    assert choose_role("Hello", ("translator",)) == "translator"
    assert choose_role("Hello", ()) is None


# --- the ledger


def chat(cost: int | None, attempts: int = 1) -> ChatResult:
    usage = Usage(input_tokens=10, output_tokens=5)
    return ChatResult(
        reply=ChatReply(text="x"), model="m", usage=usage, cost=cost, attempts=attempts, execution_time_ms=2.0
    )


def test_a_ledger_adds_calls_and_what_others_did():
    ledger = Ledger()
    ledger.add_call(chat(1_000_000_000, attempts=3))
    ledger.add_task(TaskResult(task_id="t", success=True, calls=1, cost_usd=0.5, usage=Usage(output_tokens=7)))
    result = ledger.settle(TaskResult(task_id="x", success=True))
    assert (result.calls, result.retry_count, result.cost_usd) == (4, 2, 1.5)
    assert result.usage == Usage(input_tokens=10, output_tokens=12)
    assert (result.model, result.execution_time_ms) == ("m", 2.0)


def test_one_unknown_price_makes_the_cost_unknown_and_no_call_costs_nothing():
    ledger = Ledger()
    assert ledger.cost_usd == 0.0
    ledger.add_call(chat(None))
    ledger.add_call(chat(5))
    assert ledger.cost_usd is None


def test_a_task_without_calls_does_not_make_the_cost_unknown():
    ledger = Ledger()
    ledger.add_task(TaskResult(task_id="t", success=True, cost_usd=None))
    assert ledger.cost_usd == 0.0


# --- vocabulary


def test_every_kind_of_error_has_a_retry_class():
    assert {kind.retry for kind in ErrorKind} == set(Retry)
    assert ErrorKind.AUTHENTICATION.retry is Retry.FATAL
    assert ErrorKind.RATE_LIMITED.retry is Retry.THROTTLED


def test_a_failed_task_says_who_and_why():
    error = TaskFailed(failed("t", ErrorKind.TIMEOUT, "no answer within 3 s", agent="coder/0"))
    assert str(error) == "coder/0: timeout: no answer within 3 s"


def test_a_payload_is_decoded_by_type():
    import msgspec

    data = msgspec.Raw(msgspec.json.encode(Plan(subtasks=("a",))))
    assert AgentMessage(sender="a", recipient="b", content="c", data=data).payload(Plan) == Plan(subtasks=("a",))


def test_ids_name_runs_and_where_a_step_stands():
    from protocol import ids

    assert ids.is_correlation_id("task_001-A")
    assert not any(map(ids.is_correlation_id, ("", "a/b", "a.b", "x" * 65, "ä")))
    assert ids.run_of("run/1.2/0") == "run"
    assert list(ids.above("run/1.2/0")) == ["run/1.2", "run"]
    assert ids.workflow_address("run") == "workflow/run"


def test_only_new_requests_may_be_refused():
    from protocol.signals import Forget, is_request

    assert is_request(AgentMessage(sender="a", recipient="b", content="c"))
    assert not is_request(Forget(run="r"))


def test_a_tightened_schema_bounds_every_list_and_text_and_loosens_none():
    import msgspec

    from protocol.chat import ChatMessage, ChatRequest
    from protocol.wire.openai import encode_request
    from protocol.wire.profiles import EMBEDDED
    from protocol.wire.schema import strict_schema, tightened

    document = msgspec.json.decode(tightened(strict_schema(Review).schema, 4, 80))
    issues = document["properties"]["issues"]
    assert (issues["maxItems"], issues["items"]["maxLength"]) == (4, 80)
    assert msgspec.json.decode(tightened(strict_schema(Review).schema, 99, 9999)) == msgspec.json.decode(
        strict_schema(Review).schema
    )
    request = ChatRequest(
        model="m", messages=(ChatMessage(role="user", content="x"),), schema=strict_schema(Plan), output="json_schema"
    )
    assert b'"maxItems":4' in encode_request(request, EMBEDDED)
