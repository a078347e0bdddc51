"""The draft of a subtask: the best so far by facts before verdicts, and what is shown of it."""

from __future__ import annotations

from protocol.draft import Draft, by_aspect, in_short, mark, round_of, total
from protocol.errors import ErrorKind
from protocol.facts import GIVEN, Checked, Facts, TestFact, TestOutcome
from protocol.messages import Accepted
from protocol.plan import Check, Review, Verdict
from protocol.policies.feedback import Judgement, Next, Round, Stop

RUNS, FAILS = Checked(parsed=True, ran=True), Checked(parsed=True, ran=True, tests_failed=1, failures=("t failed",))
FAILED = Facts(parsed=True, imported=True, tests=(TestFact(name="d.py::t", outcome=TestOutcome.FAILED, message="no"),))
PROVEN = Facts(parsed=True, imported=True, tests=(TestFact(name=f"{GIVEN}::t", outcome=TestOutcome.PASSED),))


def drafted(*rounds, noise=0.0) -> Draft:
    draft = Draft(subtask="a", noise=noise)
    for round_, found in rounds:
        draft.begin(round_.text)
        draft.add(round_, found)
    return draft


def test_the_first_draft_stands_until_something_better_is_known():
    draft = Draft(subtask="a")
    draft.begin("one")
    draft.begin("two")
    assert draft.text == "one"


def test_a_draft_that_runs_is_better_than_one_that_fails_whatever_was_said_of_it():
    draft = drafted((Round(text="bad", passed=False), FAILS), (Round(text="good", score=2), RUNS))
    assert (draft.text, draft.score, draft.facts, draft.rounds) == ("good", 2, RUNS, 1)
    draft = drafted((Round(text="good", score=2), RUNS), (Round(text="bad", passed=False), FAILS))
    assert (draft.text, draft.facts) == ("good", RUNS)


def test_among_equal_facts_a_score_counts_only_beyond_the_noise():
    rounds = ((Round(text="one", score=5), None), (Round(text="two", score=7), None))
    assert (drafted(*rounds).text, drafted(*rounds, noise=2.5).text) == ("two", "one")


def test_an_accepted_draft_is_the_last_and_a_kept_one_the_best():
    rounds = ((Round(text="one", score=6), RUNS), (Round(text="two", score=5, passed=True), FAILS))
    draft = drafted(*rounds)
    draft.judged(Judgement(Next.ACCEPT, Stop.CHECKED, 0))
    assert (draft.text, draft.accepted, draft.kept, draft.note) == ("two", True, False, "")
    draft = drafted(*rounds)
    draft.judged(Judgement(Next.KEEP, Stop.ROUNDS, 0))
    assert (draft.text, draft.accepted, draft.kept, draft.note) == ("one", False, True, "kept as the best: rounds")


def test_a_note_says_what_went_wrong_in_the_last_round_alone():
    draft = drafted((Round(text="one"), None))
    draft.note = "nobody could read the review"
    draft.judged(Judgement(Next.KEEP, Stop.NO_CRITIQUE, 0))
    assert draft.note == "nobody could read the review"
    draft.begin("two")
    assert draft.note == ""


def test_what_failed_is_kept_only_where_there_is_something_to_keep():
    draft = Draft(subtask="a")
    draft.failed("cut", ErrorKind.TRUNCATED, kept=True)
    assert (draft.kept, draft.note, draft.kind) == (False, "cut", ErrorKind.TRUNCATED)
    draft = drafted((Round(text="one"), None))
    draft.failed("cut", ErrorKind.TRUNCATED, kept=True)
    assert draft.kept
    draft.failed("down", ErrorKind.SERVER_ERROR, kept=False)
    assert not draft.kept


def test_a_twin_is_an_earlier_draft_that_is_the_same_but_for_little():
    long = " ".join(f"word{n}" for n in range(200))
    draft = drafted((Round(text="short"), None), (Round(text=long), RUNS))
    assert (draft.twin(long, RUNS), draft.twin(f"{long} end", RUNS), draft.twin("else", None)) == (1, 1, None)
    assert (draft.known(long), draft.known(f"{long} end")) == (1, None)


def test_a_draft_that_could_not_be_run_is_run_again_when_it_comes_again():
    failed = Checked(note="not run: the executor is stuck")
    draft = drafted((Round(text="x"), failed), (Round(text="y"), None))
    assert (draft.known("x"), draft.known("y"), draft.twin("x", failed), draft.twin("x", RUNS)) == (None, 1, 0, None)


def test_a_twin_that_shows_other_facts_is_another_draft():
    draft = drafted((Round(text="x == 1"), FAILS), (Round(text="x == 1"), RUNS))
    assert [draft.twin("X == 1", found) for found in (FAILS, RUNS, None)] == [0, 1, None]
    assert drafted((Round(text="x"), None)).twin("X", None) == 0


def test_what_goes_back_is_the_last_draft_or_the_best_where_that_is_better_or_nobody_judged_the_last():
    bad, good, unread = Round(text="bad", score=1), Round(text="good", score=6), Round(text="unread")
    assert drafted((bad, None), (good, None)).shown() is good
    assert drafted((good, None), (bad, None)).shown() is good
    assert drafted((good, None), (unread, None)).shown() is good
    assert drafted((good, None), (Round(text="same", score=6), None)).shown().text == "same"


def test_the_result_names_origin_and_note():
    draft = drafted((Round(text="one", score=4), RUNS))
    draft.origin, draft.note = "merged", "kept"
    assert draft.accepted_as() == Accepted(
        subtask="a", accepted=False, score=4, rounds=0, note="merged; kept", facts=RUNS
    )


def test_rounds_add_up_to_what_they_cost_as_far_as_that_is_known():
    assert drafted((Round(text="a", cost_usd=0.5), None), (Round(text="b"), None)).spent() == 0.5
    assert (total([0.5, 0.25]), total([0.5, None]), total([])) == (0.75, None, 0)


def test_a_round_holds_what_failed_or_else_what_the_reviewer_says():
    review = Review(issues=("short",), score=3, approved=True)
    assert round_of("x", FAILED, None).issues == ("d.py::t failed: no",)
    assert round_of("x", FAILED, review).passed is False
    said = round_of("x", None, review)
    assert (said.issues, said.score, said.approved, said.passed) == (("short",), 3, True, None)
    assert (round_of("x", PROVEN, None).passed, round_of("x", None, None).approved) == (True, False)


def test_drafts_of_one_text_are_told_apart_by_what_running_them_showed():
    failed, ran = (Round(text="x", passed=False, reached=2), FAILS), (Round(text="x", reached=2), RUNS)
    assert mark(*failed) != mark(*ran)
    assert mark(ran[0], None) == ""
    assert (in_short(None), in_short(FAILED).tests_failed) == (None, 1)


def test_an_aspect_passes_when_all_its_items_do():
    checks = tuple(
        Check(aspect=aspect, passes=passes)
        for aspect, passes in (("security", True), ("security", False), ("performance", True))
    )
    assert by_aspect(Verdict(score=5, approved=False, checks=checks)) == {"security": False, "performance": True}
    assert by_aspect(None) == {}
