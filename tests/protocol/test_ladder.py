"""Which model of the configuration a call goes to, and how what became of it finds its way back."""

from __future__ import annotations

import pytest

from protocol.chat import ChatMessage, Occasion, OutputSchema
from protocol.ladder import MOST_OPEN, Ladder, Picked, job_of, rungs
from protocol.models import ModelInfo, Price
from protocol.policies.routing import Room, Router, Rules, Rung
from protocol.signals import ChatCall, Graded

MODELS = {
    key: ModelInfo(key=key, provider="p", name=key, tier=tier, prices=(Price(input=price, output=price),))
    for key, tier, price in (("cheap", 1, 50.0), ("strong", 3, 1000.0))
}
RULES = Rules(worth=15.0, explore=0.0)


def call(text: str = "Say hello", *, model: str = "auto", step: str = "run/0/0/0", schema=None, **occasion) -> ChatCall:
    return ChatCall(
        step=step,
        fingerprint="f",
        reply_to="coder/0",
        role="coder",
        model=model,
        messages=(ChatMessage(role="system", content="Build a shop"), ChatMessage(role="user", content=text)),
        schema=schema,
        occasion=Occasion(**{"rounds": 3, "task": "run/0"} | occasion),
    )


def ladder(models=MODELS) -> Ladder:
    return Ladder(models, Router(rungs(models.values()), RULES))


def test_a_named_model_is_taken_and_an_unknown_one_is_none():
    assert ladder().pick(call(model="strong")) == Picked(MODELS["strong"], "named in the configuration")
    assert ladder().pick(call(model="other")) == Picked(None)
    assert Ladder({}).pick(call()) == Picked(None)


def test_auto_is_the_only_model_there_is_or_the_one_that_is_called_so():
    alone = {"cheap": MODELS["cheap"]}
    assert ladder(alone).pick(call()) == Picked(MODELS["cheap"], "the only model")
    named = {"auto": MODELS["strong"], "cheap": MODELS["cheap"]}
    assert ladder(named).pick(call()) == Picked(MODELS["strong"])


def test_auto_is_chosen_by_what_is_asked_and_says_why():
    picked = ladder().pick(call())
    assert (picked.model, picked.why.startswith("tier 1: a first draft for a simple coder task")) == (
        MODELS["cheap"],
        True,
    )
    hard = "Build a shop with a database, an API, a mobile app, payments, tests and docs"
    assert ladder().pick(call(hard)).model is MODELS["strong"]
    assert ladder().pick(call(hard, complexity=0.0)).model is MODELS["cheap"]
    assert ladder().pick(call(rounds=0)).model is MODELS["strong"]


def test_a_rejected_model_is_not_gone_below_and_one_above_it_may_be_asked_for():
    assert ladder().pick(call(tried=("cheap",), stronger=True, rounds=2)).model is MODELS["strong"]
    assert ladder().pick(call(tried=("strong",), rounds=2)).model is MODELS["strong"]


def test_how_models_stand_and_what_money_is_left_are_plain_values():
    assert ladder().pick(call(), {"cheap": Room(open=False)}).model is MODELS["strong"]
    assert ladder().pick(call("Build a shop", complexity=1.0), money=1_000_000).model is MODELS["cheap"]


def test_what_tests_will_judge_may_start_cheaper():
    assert ladder().pick(call(complexity=0.55)).model is MODELS["strong"]
    assert ladder().pick(call(complexity=0.55, checked=True)).model is MODELS["cheap"]


def test_the_job_says_what_the_call_needs():
    job = job_of(call(schema=OutputSchema(name="x", schema=b"{}"), last="cheap"), money=5.0)
    assert (job.schema, job.last, job.money, job.output_tokens, job.reviewed) == (True, "cheap", 5.0, 1000, True)
    assert job.prompt_tokens > 0
    assert 0.0 <= job.roll < 1.0
    assert job == job_of(call(schema=OutputSchema(name="x", schema=b"{}"), last="cheap"), money=5.0)
    assert job_of(call(step="other/0")).roll != job.roll


def test_a_grade_teaches_about_the_model_that_was_chosen_for_the_task_once():
    router = Router(rungs(MODELS.values()), RULES)
    made = Ladder(MODELS, router)
    made.pick(call())
    made.on_graded(Graded(task="run/0", good=False, fact=True))
    learnt = router.learnt
    assert {effect.name for effect in learnt} >= {"model cheap", "class coder simple"}
    made.on_graded(Graded(task="run/0", good=False))
    made.on_graded(Graded(task="unknown", good=False))
    assert router.learnt == learnt


def test_what_a_named_model_did_teaches_nothing():
    router = Router(rungs(MODELS.values()), RULES)
    made = Ladder(MODELS, router)
    made.pick(call(model="strong"))
    made.pick(call(task=""))
    made.on_graded(Graded(task="run/0", good=False))
    assert router.learnt == ()


@pytest.mark.slow
def test_choices_that_nobody_grades_are_forgotten_the_oldest_first():
    made = ladder()
    for number in range(MOST_OPEN + 1):
        made.pick(call(task=f"run/{number}", complexity=0.0))
    assert len(made._open) == MOST_OPEN
    assert "run/0" not in made._open


def test_models_are_rungs_with_what_is_known_of_them():
    info = ModelInfo(
        key="k", provider="p", name="n", tier=2, prices=(Price(input=1.0, output=2.0),), output="text", context=8192
    )
    assert rungs([info]) == [Rung(key="k", tier=2, price_in=1.0, price_out=2.0, context=8192, schema=False)]
