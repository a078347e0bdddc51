"""What a failure means for the lease, and whether it is tried again."""

from __future__ import annotations

import pytest

from protocol.chat import CallFailure, ChatReply
from protocol.errors import ErrorKind
from protocol.policies.retry import may_retry, outcome_of, verdict
from protocol.signals import Outcome


def failure(kind, **fields):
    return CallFailure(kind=kind, message="", **fields)


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (ChatReply(text="ok"), Outcome.SUCCESS),
        (failure(ErrorKind.RATE_LIMITED, status=429), Outcome.THROTTLED),
        (failure(ErrorKind.QUOTA, status=429), Outcome.REJECTED),
        (failure(ErrorKind.PROVIDER_OVERLOADED, status=529), Outcome.OVERLOADED),
        (failure(ErrorKind.TIMEOUT), Outcome.AMBIGUOUS),
        (failure(ErrorKind.TIMEOUT, sent=False), Outcome.UNSENT),
        (failure(ErrorKind.CONNECTION, sent=False), Outcome.UNSENT),
        (failure(ErrorKind.CONNECTION), Outcome.AMBIGUOUS),
        (failure(ErrorKind.BAD_RESPONSE, status=200), Outcome.AMBIGUOUS),
        (failure(ErrorKind.CONTENT_FILTER, status=200), Outcome.AMBIGUOUS),
        (failure(ErrorKind.CONTENT_FILTER, status=400), Outcome.REJECTED),
        (failure(ErrorKind.BAD_REQUEST, status=400), Outcome.REJECTED),
        (failure(ErrorKind.SERVER_ERROR, status=500), Outcome.REJECTED),
        (failure(ErrorKind.REDIRECT, status=307), Outcome.REJECTED),
        (failure(ErrorKind.TOO_LARGE), Outcome.AMBIGUOUS),
    ],
)
def test_a_result_settles_the_lease_as_what_it_cost(result, outcome):
    assert outcome_of(result) is outcome


RETRIED = {
    ErrorKind.CONNECTION,
    ErrorKind.SERVER_ERROR,
    ErrorKind.PROVIDER_OVERLOADED,
    ErrorKind.BAD_RESPONSE,
    ErrorKind.RATE_LIMITED,
    ErrorKind.TIMEOUT,
}


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_the_kind_decides_what_is_tried_again(kind):
    assert may_retry(failure(kind), 0, 3, 0) is (kind in RETRIED)


@pytest.mark.parametrize(("kind", "word"), [(ErrorKind.BAD_REQUEST, True), (ErrorKind.SERVER_ERROR, False)])
def test_the_provider_s_own_word_comes_before_the_kind(kind, word):
    assert may_retry(failure(kind, should_retry=word), 0, 3, 0) is word


@pytest.mark.parametrize(("retries", "most", "again"), [(0, 0, False), (0, 1, True), (2, 3, True), (3, 3, False)])
def test_there_are_so_many_retries_and_no_more(retries, most, again):
    assert may_retry(failure(ErrorKind.SERVER_ERROR, should_retry=True), retries, most, 0) is again


@pytest.mark.parametrize(("hint", "again"), [(None, True), (0.0, True), (120.0, True), (120.1, False), (3600.0, False)])
def test_a_provider_that_wants_us_away_for_long_is_not_waited_for(hint, again):
    assert may_retry(failure(ErrorKind.RATE_LIMITED, retry_after=hint), 0, 3, 0) is again


def test_a_bad_response_is_asked_for_again_once():
    bad = failure(ErrorKind.BAD_RESPONSE, should_retry=True)
    assert (may_retry(bad, 0, 3, 0), may_retry(bad, 1, 3, 1)) == (True, False)


@pytest.mark.parametrize(
    ("text", "finish", "structured", "kind"),
    [
        ('{"a": 1}', "stop", True, None),
        ('{"a": ', "length", True, ErrorKind.TRUNCATED),
        ("half a te", "length", False, None),
        (" \n", "length", False, ErrorKind.TRUNCATED),
        ("", "length", True, ErrorKind.TRUNCATED),
        ("", "stop", False, None),
        ("some", "content_filter", False, ErrorKind.CONTENT_FILTER),
    ],
)
def test_a_reply_cut_or_filtered_is_no_success(text, finish, structured, kind):
    found = verdict(ChatReply(text=text, finish_reason=finish), structured=structured)
    assert (found and found.kind) == kind
