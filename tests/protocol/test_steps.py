"""The rules of steps, as DESIGN numbers them; law 6 as a property over random programs and interleavings."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pykka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.awaited import Gather, Scope, Step, fingerprint
from protocol.errors import Cancelled, ForeignAwaitError, NonDeterminismError
from protocol.signals import Answer, CancelRequested, Returned
from protocol.steps import Abandon, Ask, Conversation, Done, Failed, Unexpected


def ask(content: str) -> Step[str]:
    def read(_step, payload):
        if payload.error is not None:
            raise ValueError(payload.error)
        return payload.value

    return Step("ask", "coder", content, read)


def conversation(coroutine) -> Conversation:
    return Conversation("run", coroutine, dice=Random)


def answer(effect: Ask, at: float = 1.0, error: str | None = None) -> Answer:
    payload = Returned(value=f"<{effect.request.content}>", error=error)
    return Answer(
        to="w",
        step=effect.step,
        kind=effect.request.kind,
        fingerprint=effect.request.fingerprint,
        payload=payload,
        at=at,
    )


def asks(effects) -> list[str]:
    return [effect.step for effect in effects if isinstance(effect, Ask)]


def play(talk: Conversation, pick: Random, fails=frozenset()) -> tuple[Any, list[Answer]]:
    """Run *talk* to its end, answering the open steps in the order that *pick* chooses."""
    effects, record, now = talk.start(0.0), [], 0.0
    waiting = [e for e in effects if isinstance(e, Ask)]
    ends = [e for e in effects if isinstance(e, Done | Failed)]
    while waiting:
        chosen = waiting.pop(pick.randrange(len(waiting)))
        now += 1.0
        record.append(answer(chosen, now, "boom" if chosen.request.content in fails else None))
        effects = talk.on_answer(record[-1])
        waiting += [e for e in effects if isinstance(e, Ask)]
        ends += [e for e in effects if isinstance(e, Done | Failed)]
        gone = {e.step for e in effects if isinstance(e, Abandon)}
        waiting = [e for e in waiting if e.step not in gone]
    assert len(ends) == 1
    end = ends[0]
    return (end.value if isinstance(end, Done) else repr(end.error)), record


# --- rule 1: ids


def test_a_step_gets_its_id_when_it_is_awaited():
    async def run():
        second = ask("made first")
        await ask("awaited first")
        return await second

    talk = conversation(run())
    (first,) = talk.start(0.0)
    (second,) = talk.on_answer(answer(first))
    assert (first.step, second.step) == ("run/0", "run/1")
    assert second.request.content == "made first"


def test_a_gather_takes_one_ordinal_and_its_branches_add_a_number():
    async def branch(name):
        await ask(name)
        return await ask(name + "'")

    async def run():
        await ask("plan")
        await Gather((branch("a"), ask("b")))
        return await ask("end")

    talk = conversation(run())
    (plan,) = talk.start(0.0)
    a, b = talk.on_answer(answer(plan))
    assert (a.step, b.step) == ("run/1.0/0", "run/1.1/0")
    (a2,) = talk.on_answer(answer(a))
    assert a2.step == "run/1.0/1"
    assert talk.on_answer(answer(b)) == []
    assert asks(talk.on_answer(answer(a2))) == ["run/2"]


def test_a_scope_is_the_parent_of_what_is_awaited_inside_it():
    async def chat():
        await ask("turn")
        return await ask("repair")

    async def run():
        return await Scope(chat()), await ask("after")

    talk = conversation(run())
    (turn,) = talk.start(0.0)
    (repair,) = talk.on_answer(answer(turn))
    (after,) = talk.on_answer(answer(repair))
    assert (turn.step, repair.step, after.step) == ("run/0/0", "run/0/1", "run/1")


# --- rule 2: resume


def test_a_resumed_run_asks_only_for_what_is_not_recorded():
    async def run():
        return await ask("a"), await ask("b"), await ask("c")

    _, record = play(conversation(run()), Random(1))
    talk = conversation(run())
    assert asks(talk.resume(record[:2], 0.0)) == ["run/2"]


def test_what_others_recorded_for_a_step_of_this_conversation_is_passed_over():
    async def run():
        return await ask("a"), await Scope(execute(("ask", "b")))

    _, record = play(conversation(run()), Random(1))
    theirs = [
        Answer(to="c", step=step, kind="chat", fingerprint="?", payload=Returned(), at=1.0)
        for step in ("run/0/0/0", "run/0/1.2/0")
    ]
    talk = conversation(run())
    assert talk.resume([*theirs, *record], 0.0)[-1] == Done(("<a>", "<b>"))


def test_the_first_answer_for_a_step_wins():
    async def run():
        return await ask("a"), await ask("b")

    talk = conversation(run())
    (first,) = talk.start(0.0)
    talk.on_answer(answer(first))
    late = answer(first)
    assert talk.on_answer(late) == [Unexpected(late)]


@st.composite
def programs(draw, depth=3):
    kinds = ["ask", "seq", "gather", "scope", "catch"] if depth else ["ask"]
    kind = draw(st.sampled_from(kinds))
    if kind == "ask":
        return ("ask", draw(st.sampled_from("abcdefgh")))
    children = draw(st.lists(programs(depth=depth - 1), min_size=0 if kind == "gather" else 1, max_size=3))
    return (kind, children)


async def deeper(awaitable) -> Any:
    return await awaitable


async def execute(program) -> Any:
    kind, rest = program
    if kind == "ask":
        return await ask(rest)
    if kind == "gather":
        return await Gather(tuple(execute(child) for child in rest))
    if kind == "scope":
        return await Scope(execute(("seq", rest)))
    if kind == "catch":
        try:
            return await execute(("seq", rest))
        except ValueError as error:
            return f"caught {error}"
    return [await execute(child) for child in rest]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(programs(), st.sets(st.sampled_from("abcdefgh"), max_size=2), st.integers(0, 2**32))
def test_law_6_the_outcome_is_the_same_in_every_interleaving_and_from_every_prefix(program, fails, seed):
    outcome, record = play(conversation(execute(program)), Random(seed), fails)
    other, _ = play(conversation(execute(program)), Random(seed + 1), fails)
    assert other == outcome
    for cut in range(len(record) + 1):
        talk = conversation(execute(program))
        effects = talk.resume(record[:cut], 0.0)
        ends = [e for e in effects if isinstance(e, Done | Failed)]
        waiting = [e for e in effects if isinstance(e, Ask)]
        assert {e.step for e in waiting} == set(talk.waiting)
        rest = {a.step: a for a in record[cut:]}
        while waiting:
            chosen = waiting.pop()
            effects = talk.on_answer(rest[chosen.step])
            waiting += [e for e in effects if isinstance(e, Ask)]
            ends += [e for e in effects if isinstance(e, Done | Failed)]
        end = ends[0]
        assert (end.value if isinstance(end, Done) else repr(end.error)) == outcome


def test_law_6_turns_red_when_branches_share_something_mutable():
    async def run():
        order: list[str] = []

        async def branch(name):
            order.append(await ask(name))

        await Gather((branch("a"), branch("b")))
        return tuple(order)

    outcomes = {play(conversation(run()), Random(seed))[0] for seed in range(20)}
    assert len(outcomes) == 2


# --- rule 3: gather


def test_a_gather_gives_values_in_argument_order():
    async def run():
        return await Gather((ask("a"), ask("b")))

    talk = conversation(run())
    a, b = talk.start(0.0)
    talk.on_answer(answer(b))
    assert talk.on_answer(answer(a)) == [Done(("<a>", "<b>"))]


def test_an_empty_gather_gives_nothing_and_takes_an_ordinal():
    async def run():
        return await Gather(()), await ask("a")

    assert asks(conversation(run()).start(0.0)) == ["run/1"]


def test_a_gather_waits_for_all_and_then_raises_the_error_of_the_lowest_index():
    async def run():
        await Gather((ask("a"), ask("b"), ask("c")))

    talk = conversation(run())
    a, b, c = talk.start(0.0)
    assert talk.on_answer(answer(c, error="third")) == []
    assert talk.on_answer(answer(a, error="first")) == []
    (end,) = talk.on_answer(answer(b))
    assert repr(end.error) == "ValueError('first')"


def test_fail_fast_cancels_the_siblings_and_raises_what_failed():
    async def run():
        try:
            await Gather((ask("a"), ask("b")), fail_fast=True)
        except ValueError as error:
            return str(error)

    talk = conversation(run())
    a, b = talk.start(0.0)
    effects = talk.on_answer(answer(b, error="boom"))
    assert effects == [Abandon(a.step, a.request), Done("boom")]


def test_fail_fast_cancels_siblings_that_wait_in_a_gather_of_their_own():
    async def stubborn():
        try:
            await Gather((ask("a"), ask("b")))
        except Cancelled:
            return await ask("and on")

    async def run():
        await Gather((stubborn(), ask("c")), fail_fast=True)

    talk = conversation(run())
    (c,) = (effect for effect in talk.start(0.0) if effect.request.content == "c")
    effects = talk.on_answer(answer(c, error="boom"))
    assert asks(effects) == []
    assert repr(effects[-1].error) == "ValueError('boom')"


def test_fail_fast_raises_what_failed_first_although_a_cancel_has_a_lower_index():
    async def run():
        await Gather((ask("a"), ask("b"), ask("c")), fail_fast=True)

    talk = conversation(run())
    _, _, c = talk.start(0.0)
    assert repr(talk.on_answer(answer(c, error="third"))[-1].error) == "ValueError('third')"


def test_a_late_answer_of_a_step_that_fail_fast_gave_up_does_no_harm_on_a_resume():
    async def run():
        try:
            await Gather((ask("a"), ask("b")), fail_fast=True)
        except ValueError:
            return await ask("after")

    talk = conversation(run())
    a, b = talk.start(0.0)
    talk.on_answer(answer(b, error="boom"))
    record = [answer(b, error="boom"), answer(a, 2.0)]
    effects = conversation(run()).resume(record, 0.0)
    assert effects[-1] == Unexpected(record[1]) or asks(effects) == ["run/1"]
    assert asks(effects) == ["run/1"]


# --- rule 4: cancel


def test_after_a_cancel_nothing_new_is_sent():
    seen = []

    async def run():
        try:
            await ask("a")
        except Cancelled:
            seen.append("told")
        try:
            await ask("b")
        except Cancelled:
            seen.append("again")
            raise

    talk = conversation(run())
    (a,) = talk.start(0.0)
    effects = talk.cancel()
    assert effects[0] == Abandon(a.step, a.request)
    assert isinstance(effects[1].error, Cancelled)
    assert seen == ["told", "again"]
    assert talk.cancel() == []


def test_a_cancel_hides_what_failed_in_a_branch_before():
    async def run():
        try:
            await Gather((ask("a"), ask("b")))
        except ValueError:
            return "went on as if nothing had happened"

    talk = conversation(run())
    a, _ = talk.start(0.0)
    talk.on_answer(answer(a, error="boom"))
    assert isinstance(talk.cancel()[-1].error, Cancelled)


@settings(max_examples=40, deadline=None)
@given(programs(), st.integers(0, 2**32), st.integers(0, 20))
def test_a_cancel_at_any_point_ends_the_run_at_once_and_on_a_resume_too(program, seed, after):
    async def run():
        return await ask("first"), await execute(program), await ask("last")

    _, record = play(conversation(run()), Random(seed))
    record = record[: min(after, len(record) - 1)]
    talk = conversation(run())
    talk.start(0.0)
    for each in record:
        talk.on_answer(each)
    effects = talk.cancel()
    assert isinstance(effects[-1].error, Cancelled)
    assert asks(effects) == []
    assert (talk.waiting, talk.finished) == ({}, True)
    cancel = Answer(to="w", step="run/cancel", kind="cancel", fingerprint="", payload=CancelRequested(), at=1.0)
    resumed = conversation(run()).resume([*record, cancel], 0.0)
    assert [repr(e) for e in resumed if isinstance(e, Failed)] == [repr(effects[-1])]
    assert asks(resumed) == []


def test_a_recorded_cancel_is_obeyed_on_a_resume():
    async def run():
        return await ask("a"), await ask("b")

    _, record = play(conversation(run()), Random(0))
    cancel = Answer(to="w", step="run/cancel", kind="cancel", fingerprint="", payload=CancelRequested(), at=1.0)
    gone, end = conversation(run()).resume([record[0], cancel], 0.0)
    assert isinstance(end.error, Cancelled)
    assert (type(gone), gone.step) == (Abandon, "run/1")  # the news of it may have been lost


def test_a_coroutine_that_will_not_end_is_closed_by_force():
    async def run():
        while True:
            try:
                await ask("more")
            except Cancelled:
                continue

    talk = conversation(run())
    talk.start(0.0)
    assert isinstance(talk.cancel()[-1].error, Cancelled)


# --- rule 5: comparing


def test_a_mismatch_names_what_was_recorded_and_what_is_asked():
    async def old():
        return await ask("old question")

    async def new():
        return await ask("new question")

    _, record = play(conversation(old()), Random(0))
    talk = conversation(new())
    with pytest.raises(NonDeterminismError) as caught:
        talk.resume(record, 0.0)
    assert fingerprint("ask", "coder", "old question") in str(caught.value)
    assert fingerprint("ask", "coder", "new question") in str(caught.value)
    talk.close()


def test_a_typed_payload_is_compared_too():
    def typed(data: bytes):
        async def run():
            return await Step("ask", "coder", "a", lambda _, payload: payload.value, None, data)

        return conversation(run())

    (first,) = typed(b"1").start(0.0)
    other = typed(b"2")
    with pytest.raises(NonDeterminismError):
        other.resume([answer(first)], 0.0)
    other.close()


def test_what_is_asked_must_be_text():
    with pytest.raises(TypeError, match="data="):
        ask(5)


def test_a_record_of_a_step_that_is_not_asked_is_a_mismatch():
    async def run():
        return await ask("a")

    talk = conversation(run())
    stray = Answer(to="w", step="run/7", kind="ask", fingerprint="x", payload=Returned(), at=1.0)
    with pytest.raises(NonDeterminismError, match="run/0"):
        talk.resume([stray], 0.0)
    talk.close()


# --- rule 6: now and random


def test_now_is_the_time_of_the_last_answer_that_the_branch_received():
    async def branch(talk, name):
        await ask(name)
        return talk[0].now()

    async def run(talk):
        begin = talk[0].now()
        return begin, await Gather((branch(talk, "a"), branch(talk, "b"))), talk[0].now()

    box: list[Conversation] = []
    box.append(conversation(run(box)))
    a, b = box[0].start(10.0)
    box[0].on_answer(answer(b, 20.0))
    assert box[0].on_answer(answer(a, 30.0)) == [Done((10.0, (30.0, 20.0), 30.0))]


def test_dice_fall_the_same_on_a_resume_and_differ_between_branches():
    async def branch(talk, name):
        await ask(name)
        return talk[0].random().random()

    def outcome(seed):
        box: list[Conversation] = []

        async def run():
            return await Gather((branch(box, "a"), branch(box, "b")))

        box.append(conversation(run()))
        return play(box[0], Random(seed))[0]

    assert outcome(1) == outcome(2)
    assert len(set(outcome(1))) == 2


def test_memory_is_inherited_by_forks_and_comes_back_from_a_scope_only():
    async def remember(talk, what):
        talk[0].memory = what
        return await ask(what)

    async def run(talk):
        talk[0].memory = "mine"

        async def look():
            return talk[0].memory

        inherited = await Gather((look(), remember(talk, "branch")))
        after_gather = talk[0].memory
        await Scope(remember(talk, "scope"))
        return inherited[0], after_gather, talk[0].memory

    box: list[Conversation] = []
    box.append(conversation(run(box)))
    assert play(box[0], Random(0))[0] == ("mine", "mine", "scope")


# --- foreign awaits, closing


class Foreign:
    def __await__(self):
        yield self


def generator():
    yield


@pytest.mark.parametrize(
    "what", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(1), pykka.ThreadingFuture, Foreign, generator, int]
)
def test_a_foreign_await_is_an_error_that_names_the_three_right_ways(what):
    async def run():
        await what()

    (end,) = conversation(run()).start(0.0)
    assert isinstance(end.error, ForeignAwaitError)
    for way in ("self.call(fn, *args)", "blocking = True", "submit"):
        assert way in str(end.error)


def test_a_foreign_await_can_be_caught_and_the_run_goes_on():
    async def run():
        try:
            await asyncio.sleep(0)
        except ForeignAwaitError:
            return await ask("a")

    assert asks(conversation(run()).start(0.0)) == ["run/0"]


def test_what_is_awaited_after_a_cancel_leaves_no_coroutine_behind():
    async def run():
        try:
            await ask("a")
        finally:
            try:
                await Gather((ask("b"), execute(("ask", "c"))))
            except Cancelled:
                await Scope(execute(("ask", "d")))

    talk = conversation(run())
    talk.start(0.0)
    assert isinstance(talk.cancel()[-1].error, Cancelled)


def test_what_a_finally_block_awaits_at_a_close_leaves_no_coroutine_behind():
    closed = []

    async def run():
        try:
            await ask("a")
        finally:
            try:
                await Gather((Scope(execute(("ask", "b"))), execute(("ask", "c")), Gather((execute(("ask", "d")),))))
            finally:
                closed.append("all")

    talk = conversation(deeper(run()))
    talk.start(0.0)
    talk.close()
    assert closed == ["all"]


def test_a_conversation_that_never_started_can_be_closed():
    talk = conversation(execute(("ask", "a")))
    talk.close()
    assert talk.finished


def test_a_coroutine_that_will_not_close_is_given_up():
    asked = []

    async def run():
        while len(asked) < 1500:
            try:
                await ask("more")
            except Cancelled:
                asked.append(1)

    talk = conversation(run())
    talk.start(0.0)
    talk.close()
    assert len(asked) == 1000
    asked += [1] * 1000


def test_close_runs_finally_blocks_in_every_branch_and_sends_nothing():
    closed = []

    async def branch(name):
        try:
            await ask(name)
        finally:
            closed.append(name)
            await ask("in a finally block")

    async def run():
        try:
            await Gather((branch("a"), branch("b")))
        finally:
            closed.append("run")

    talk = conversation(run())
    talk.start(0.0)
    talk.close()
    assert (sorted(closed[:2]), closed[2]) == (["a", "b"], "run")  # inner ones first
    assert talk.waiting == {}
    assert talk.cancel() == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_a_coroutine_raises_is_its_own_failure(error):
    async def run():
        raise error

    assert conversation(run()).start(0.0) == [Failed(error)]


def test_a_branch_throws_the_same_dice_all_along():
    box: list[Conversation] = []

    async def run():
        first = box[0].random()
        await ask("a")
        return first is box[0].random()

    box.append(conversation(run()))
    assert play(box[0], Random(0))[0] is True
