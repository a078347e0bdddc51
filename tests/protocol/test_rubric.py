"""A verdict is made of separate items in code: weights, quotations that must be real, failed items alone."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.plan import Check, Review, Rubric, Stated, Verdict
from protocol.policies.rubric import NEEDED, WEIGHTS, aggregate, is_quoted
from protocol.wire.schema import strict_schema

DRAFT = 'def fetch(url):\n    return requests.get(url,  verify=False)  # "fine"\n'


def check(aspect="correctness", *, passes=True, evidence="", fix="") -> Check:
    return Check(aspect=aspect, passes=passes, evidence=evidence, fix=fix)


def verdict(*checks: Check) -> Verdict:
    return aggregate(Rubric(checks=checks), DRAFT)


ALL = tuple(check(aspect) for aspect in WEIGHTS)


def test_what_passes_everywhere_has_ten_of_ten():
    assert verdict(*ALL) == Verdict(score=10, approved=True, checks=ALL)


@pytest.mark.parametrize(("aspect", "score"), [("correctness", 6), ("security", 7), ("performance", 8)])
def test_a_failed_aspect_costs_its_weight_and_is_approved_only_where_it_may_be(aspect, score):
    made = verdict(*(check(name, passes=name != aspect) for name in WEIGHTS))
    assert (made.score, made.approved) == (score, aspect not in NEEDED)


def test_only_failed_items_go_back_each_once_with_its_quotation():
    bad = check("security", passes=False, evidence="verify=False", fix="leave\nit out")
    assert verdict(*ALL, bad, bad).issues == ('security: leave it out (at "verify=False")',)
    assert verdict(check(passes=False)).issues == ("correctness: does not hold",)


def test_an_item_whose_quotation_is_made_up_does_not_count():
    made_up = check("security", passes=False, evidence="eval(user_input)", fix="never")
    assert verdict(*ALL, made_up) == verdict(*ALL)


def test_without_a_look_at_correctness_nothing_is_approved():
    assert not verdict(check("security")).approved
    assert verdict(check(passes=False, evidence="not in there")) == Verdict(score=0, approved=False)


@pytest.mark.parametrize(
    "evidence", ["", "requests.get(url, verify=False)", "'def fetch(url):'", "def fetch ... verify=False"]
)
def test_a_quotation_may_differ_in_spaces_quotes_and_dots_of_omission(evidence):
    assert is_quoted(evidence, DRAFT)


def test_a_review_stated_as_a_whole_is_taken_as_it_is():
    review = Review(issues=("too short",), score=4, approved=False)
    assert aggregate(Stated(review=review), DRAFT) == Verdict(issues=("too short",), score=4, approved=False)


def test_a_verdict_reads_as_a_review_and_a_review_as_a_verdict():
    made = verdict(*ALL)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Review) == Review(score=10, approved=True)
    assert msgspec.json.decode(msgspec.json.encode(Review(score=3, approved=False)), type=Verdict).checks == ()


def test_the_schema_of_a_rubric_asks_for_evidence_before_judgement():
    schema = msgspec.json.decode(strict_schema(Rubric).schema)
    item = schema["$defs"]["Check"]
    assert list(item["properties"]) == ["aspect", "evidence", "passes", "fix"]
    assert item["properties"]["aspect"]["type"] == "string"


checks = st.builds(
    Check,
    aspect=st.sampled_from(sorted(WEIGHTS)),
    evidence=st.sampled_from(["", "verify=False", "made up"]),
    passes=st.booleans(),
    fix=st.sampled_from(["", "mend it"]),
)


@given(st.lists(checks, min_size=1, max_size=16), checks)
def test_one_more_failed_item_never_raises_the_score_of_what_was_looked_at(items, failed):
    made = verdict(*items)
    assert 0 <= made.score <= 10
    assert bool(made.issues) == any(not item.passes for item in made.checks)
    looked_at = {item.aspect for item in made.checks}
    worse = verdict(*items, msgspec.structs.replace(failed, passes=False))
    assert worse.score <= made.score or failed.aspect not in looked_at
