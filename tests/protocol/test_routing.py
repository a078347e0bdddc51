"""Which model a job goes to: filters, a prior by complexity, arithmetic over rejections, what was learnt, trials."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.routing import (
    UNSURE,
    Effect,
    Job,
    Room,
    Router,
    Rules,
    Rung,
    band_of,
    logistic,
    prior,
    soft,
)

CHEAP = Rung(key="cheap", tier=1, price_in=0.0, price_out=0.05, context=1000, schema=False)
MIDDLE = Rung(key="middle", tier=2, price_in=0.0, price_out=0.25, context=5000)
STRONG = Rung(key="strong", tier=3, price_in=0.0, price_out=1.0)
LADDER = (CHEAP, MIDDLE, STRONG)


def job(complexity: float = 0.5, **fields) -> Job:
    return Job(role="coder", complexity=complexity, output_tokens=1, **fields)


def router(rules: Rules | None = None, **fields) -> Router:
    return Router(LADDER, rules or Rules(**fields))


def taught(key: str, verdicts, *, fact: bool = False, complexity: float = 0.5, **rules) -> Router:
    """Return a router that saw *verdicts* on first drafts of *key*."""
    made = router(**rules)
    alone = Router([rung for rung in LADDER if rung.key == key])
    choice = alone.choose(job(complexity))
    for good in verdicts:
        made.learn(choice, good=good, fact=fact)
    return made


def chance(made: Router, key: str, complexity: float = 0.5, role: str = "coder") -> float:
    rung = next(rung for rung in LADDER if rung.key == key)
    return made.chance(Job(role=role, complexity=complexity), rung, ())[0]


# --- the prior, and the arithmetic


def test_what_is_easy_starts_cheap_and_what_is_hard_starts_strong():
    assert [router(worth=15.0).choose(job(complexity)).key for complexity in (0.0, 1.0)] == ["cheap", "strong"]


def test_the_more_a_good_result_is_worth_the_stronger_the_model():
    keys = [router(worth=worth).choose(job(0.5)).key for worth in (1.0, 10.0, 200.0)]
    assert keys == ["cheap", "middle", "strong"]


def test_a_result_that_nobody_reviews_needs_a_better_model():
    made = router(worth=5.0)
    assert made.choose(job(0.4)).key == "cheap"
    assert made.choose(job(0.4, reviewed=False)).key == "middle"
    assert router(worth=5.0, cascade=False).choose(job(0.4)).key == "middle"


def test_tests_that_will_be_run_make_a_cheap_start_safe():
    assert [router(worth=50.0).choose(job(0.0, checked=checked)).key for checked in (False, True)] == [
        "middle",
        "cheap",
    ]


def plans(made: Router, asked: Job, rules: Rules) -> float:
    """The dumb twin: try every row of models that never goes down the ladder, and return the best one's worth."""
    wrong = 0.0 if asked.checked else rules.wrong
    worths = []
    for row in product(LADDER, repeat=asked.rounds):
        if any(later.tier < before.tier for before, later in pairwise(row)):
            continue
        quality = cost = 0.0
        reached, tried = 1.0, ()
        for number, rung in enumerate(row, 1):
            good = made.chance(asked, rung, tried)[0]
            cost += reached * (rung.price_out + rules.review)
            last = number == asked.rounds
            quality += reached * (good if last else good * (1 - wrong))
            reached *= good * wrong + (1 - good) * (1 - wrong)
            tried = (*tried, rung.key)
        worths.append((rules.worth * quality - cost, row[0].key))
    return max(worths)


@given(
    st.floats(0, 1),
    st.floats(1, 100),
    st.booleans(),
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["cheap", "middle", "strong"]), st.booleans()), max_size=12),
)
def test_the_choice_is_the_best_of_all_rows_of_models(complexity, worth, checked, rounds, seen):
    rules = Rules(worth=worth)
    made = router(rules)
    for key, good in seen:
        made.learn(Router([r for r in LADDER if r.key == key]).choose(job(complexity)), good=good, fact=True)
    asked = job(complexity, checked=checked, rounds=rounds)
    best, first = plans(made, asked, rules)
    chosen = made.choose(asked).key
    values = made._values(asked, list(LADDER))
    assert max(values.values()) == pytest.approx(best)
    assert values[chosen] == pytest.approx(values[first])


def test_the_arithmetic_of_a_cascade_holds():
    """Starting cheap pays when a > (c1 + v) / (c2 + v): here 0.1 + 0.2 of 1.0 + 0.2, so from a quarter on."""
    rules = Rules(worth=0.0, review=0.2, wrong=0.0)
    cheap, strong = Rung(key="c", tier=1, price_in=0, price_out=0.1), Rung(key="s", tier=3, price_in=0, price_out=1.0)
    for accepted, pays in ((0.24, False), (0.26, True)):
        made = Router([cheap, strong], rules)
        made.chance = lambda _, rung, __, accepted=accepted: (accepted if rung is cheap else 1.0, 0.0)
        start_cheap, start_strong = (made._end(plan(made, rules), rung, (), 2).cost for rung in (cheap, strong))
        assert (start_cheap < start_strong) is pays


def plan(made: Router, rules: Rules):
    from protocol.policies.routing import Plan

    rungs = list(made._rungs.values())
    return Plan(job(), [rungs[-1]], {rung.key: rung.price_out for rung in rungs}, rules.worth, {})


# --- what follows a rejection


def test_after_a_rejection_no_weaker_model_follows_and_a_stronger_one_where_it_pays():
    made = router(worth=15.0)
    assert made.choose(job(0.1)).key == "cheap"
    assert made.choose(job(0.1, tried=("cheap",), rounds=2)).key == "middle"
    assert made.choose(job(0.0, tried=("strong",), rounds=2)).key == "strong"


def test_a_stronger_model_is_taken_when_it_is_asked_for_and_there_is_one():
    made = router(worth=0.1)
    assert made.choose(job(tried=("cheap",))).key == "cheap"
    assert made.choose(job(tried=("cheap",), stronger=True)).key == "middle"
    assert made.choose(job(tried=("strong",), stronger=True)).key == "strong"


def test_a_model_that_is_gone_from_the_ladder_counts_for_nothing():
    assert router(worth=0.1).choose(job(tried=("unknown",))).key == "cheap"


# --- filters and context, one test each


def test_a_prompt_that_does_not_fit_rules_a_model_out():
    choice = router(worth=0.1).choose(job(prompt_tokens=1000))
    assert choice.key == "middle"
    assert "cheap: the prompt does not fit" in choice.why


def test_a_model_that_cannot_be_paid_is_ruled_out():
    choice = router(worth=500.0).choose(job(money=0.5))
    assert choice.key == "middle"
    assert "strong: cannot be paid" in choice.why


def test_a_model_without_head_room_is_gone_around():
    choice = router(worth=0.1).choose(job(patience=5.0), {"cheap": Room(wait=6.0)})
    assert choice.key == "middle"
    assert "cheap: is throttled" in choice.why


def test_a_model_that_may_not_be_called_is_gone_around():
    assert router(worth=0.1).choose(job(), {"cheap": Room(open=False)}).key == "middle"


def test_where_a_schema_is_wanted_a_model_that_knows_none_is_ruled_out():
    assert router(worth=0.1).choose(job(schema=True)).key == "middle"


def test_a_filter_that_would_leave_nothing_is_passed_over():
    closed = {rung.key: Room(open=False, wait=99.0) for rung in LADDER}
    choice = router(worth=0.1).choose(job(prompt_tokens=10**9, money=0.0), closed)
    assert choice.key == "strong"
    assert "cheap, middle: the prompt does not fit" in choice.why


def test_a_conversation_stays_with_its_model_unless_that_was_rejected():
    made = router(worth=0.1)
    assert made.choose(job(last="strong")).key == "strong"
    assert made.choose(job(last="strong", prompt_tokens=1000), {"strong": Room(open=False)}).key == "middle"
    assert made.choose(job(last="middle", tried=("middle",), stronger=True)).key == "strong"


# --- learning


def test_what_turned_out_good_is_believed_more_and_what_did_not_less():
    before = chance(router(), "cheap")
    assert chance(taught("cheap", [True] * 5), "cheap") > before > chance(taught("cheap", [False] * 5), "cheap")


def test_a_fact_counts_for_more_than_a_verdict():
    by_fact, by_word = (chance(taught("cheap", [False] * 3, fact=fact), "cheap") for fact in (True, False))
    assert by_fact < by_word < chance(router(), "cheap")


def test_a_verdict_is_weighed_and_the_errors_of_reviewers_are_reckoned_with():
    before, fact = chance(router(), "cheap"), chance(taught("cheap", [False] * 3, fact=True), "cheap")
    light = chance(taught("cheap", [False] * 3, wrong=0.0, verdict=0.5), "cheap")
    doubted = chance(taught("cheap", [False] * 3, wrong=0.3, verdict=1.0), "cheap")
    assert fact < light < before
    assert fact < doubted < before
    assert chance(taught("cheap", [False] * 3, wrong=0.0, verdict=1.0), "cheap") == pytest.approx(fact)


def test_much_that_was_seen_overrules_the_prior():
    made = taught("cheap", ([True] * 19 + [False]) * 5, fact=True, complexity=0.9)
    assert chance(made, "cheap", 0.9) == pytest.approx(0.95, abs=0.05)
    made = taught("strong", [False] * 100, fact=True, complexity=0.1)
    assert chance(made, "strong", 0.1) < 0.1


def test_a_hard_class_of_tasks_is_not_held_against_the_model_alone():
    made = taught("cheap", [False] * 30, fact=True, complexity=0.9)
    assert chance(made, "strong", 0.9) < chance(router(), "strong", 0.9)
    assert chance(made, "cheap", 0.1) > chance(made, "cheap", 0.9) + 0.2


def test_the_learnt_changes_the_choice():
    before, after = router(worth=30.0), taught("cheap", [False] * 60, fact=True, complexity=0.0, worth=30.0)
    assert [made.choose(job(0.0)).key for made in (before, after)] == ["cheap", "strong"]


def test_nothing_is_learnt_when_that_is_switched_off_or_of_a_model_that_is_gone():
    made = taught("cheap", [False] * 60, learn=False)
    assert (made.learnt, chance(made, "cheap")) == ((), chance(router(), "cheap"))
    made.learn(Router([Rung(key="other")]).choose(job()), good=True)
    assert made.learnt == ()


def test_what_was_learnt_can_be_kept_and_what_nobody_knows_is_dropped():
    made = taught("cheap", [False] * 9)
    again = Router(LADDER, learnt=(*made.learnt, Effect(name="moon phase", variance=1.0)))
    assert again.learnt == made.learnt
    assert chance(again, "cheap") == chance(made, "cheap")
    assert {effect.name.partition(" ")[0] for effect in made.learnt} == set(UNSURE)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.4), st.booleans())
def test_a_verdict_says_something_and_less_the_more_a_reviewer_errs(mean, wrong, good):
    said, clearer = soft(mean, good=good, wrong=wrong), soft(mean, good=good, wrong=wrong / 2)
    assert (mean <= said <= clearer) if good else (clearer <= said <= mean)


# --- trials


def test_now_and_then_another_model_is_tried_and_says_so():
    made = router(worth=500.0)
    choices = [made.choose(job(0.5, roll=n / 1000)) for n in range(1000)]
    tried = [choice for choice in choices if choice.trial]
    assert 0 < len(tried) <= 30
    assert {choice.key for choice in tried} <= {"cheap", "middle"}
    assert "tried in place of strong" in tried[0].why


def test_a_dearer_model_is_tried_only_where_it_might_be_the_better_choice():
    sure = taught("cheap", [True] * 200, fact=True, complexity=0.0, worth=3.0)
    assert not sure.choose(job(0.0, roll=0.0)).trial
    assert router(worth=15.0).choose(job(0.5, roll=0.029)).key == "strong"


def test_nothing_is_tried_after_a_rejection_nor_when_nothing_is_learnt():
    assert not router().choose(job(tried=("cheap",), roll=0.0)).trial
    assert not router(learn=False).choose(job(roll=0.0)).trial


# --- the rest


def test_why_it_was_this_model_is_said_in_words():
    assert router(worth=15.0).choose(job(0.0)).why == "tier 1: a first draft for a simple coder task, 85% likely good"
    made = taught("cheap", [True, True], complexity=0.0, worth=15.0)
    assert made.choose(job(0.0)).why.endswith("likely good, 2 of its kind seen")


def test_always_the_strongest_that_fits_when_choosing_is_switched_off():
    made = router(adaptive=False)
    assert made.choose(job(0.0)).key == "strong"
    assert made.choose(job(0.0, money=0.5)).key == "middle"


def test_without_prices_a_tier_counts_as_five_times_the_one_below():
    made = Router([Rung(key="a", tier=1), Rung(key="b", tier=2, price_in=1.0, price_out=1.0)])
    assert [made.cost(rung, job()) for rung in (Rung(key="a", tier=1), Rung(key="b", tier=2))] == [5.0, 25.0]


def test_one_model_is_taken_without_ado_and_none_is_an_error():
    assert Router([CHEAP]).choose(job()).why.endswith("the only one left")
    with pytest.raises(ValueError, match="no model"):
        Router([]).choose(job())


def test_models_that_cost_nothing_are_chosen_by_quality():
    free = [Rung(key=str(tier), tier=tier, price_in=0.0, price_out=0.0) for tier in (1, 2, 3)]
    assert Router(free).choose(job()).key == "3"


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_prior_falls_with_complexity_and_rises_with_the_tier(one, other):
    easy, hard = sorted([one, other])
    for tier in (1, 2, 3):
        assert prior(tier, easy) >= prior(tier, hard)
        assert prior(tier, easy, "again") < prior(tier, easy, "up") < prior(tier, easy)
    assert prior(1, one) < prior(2, one) < prior(3, one) == prior(9, one)


def test_bands_and_chances_have_ends():
    assert [band_of(complexity) for complexity in (0.0, 0.5, 0.8)] == ["simple", "medium", "complex"]
    assert (logistic(-1e9), logistic(0.0)) == (pytest.approx(0.0), 0.5)
