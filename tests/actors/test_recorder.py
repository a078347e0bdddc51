"""The recorder: the first answer wins, all come back in order, and what has ended leaves nothing behind."""

from __future__ import annotations

import pytest

from actors import Agent
from actors.simulation import EPOCH
from actors.testing import ActorTestKit, Crash
from protocol import AgentMessage, ids
from protocol.signals import Answer, Elapsed, Forget, Recall, Recalled, Restart, Returned


@pytest.fixture
def kit():
    return ActorTestKit()


@pytest.fixture
def probe(kit):
    return kit.probe()


def answer(step: str, to: str = "probe", payload=None) -> Answer:
    return Answer(to=to, step=step, kind="ask", fingerprint="f", payload=payload or Elapsed())


def say(kit, *messages) -> None:
    for message in messages:
        kit.tell(ids.RECORDER, message)
    kit.settle()


def recall(kit, probe, conversation: str) -> Recalled:
    say(kit, Recall(conversation=conversation, reply_to=probe.address))
    return probe.received.pop()


def kept(kit) -> list[str]:
    return list(kit.directory.mailboxes[ids.RECORDER].held)


def test_an_answer_is_stamped_and_delivered(kit, probe):
    kit.advance(2.5)
    say(kit, answer("run/0"))
    assert probe.expect(Answer).at == EPOCH + 2.5


def test_the_first_answer_for_a_step_wins_and_the_second_is_a_dead_letter(kit, probe):
    first, second = (answer("run/0", payload=Returned(error=text)) for text in ("first", "second"))
    say(kit, first, second)
    assert probe.expect(Answer).payload == first.payload
    probe.expect_nothing()
    assert [(letter.reason, letter.message) for letter in kit.dead_letters] == [
        ("a second answer for the same step", second)
    ]
    assert [each.payload for each in recall(kit, probe, "run").answers] == [first.payload]


def test_answers_come_back_in_the_order_in_which_they_were_recorded(kit, probe):
    say(kit, answer("run/2"), answer("run/0"), answer("other/0"), answer("run/1.0/0"))
    assert [each.step for each in recall(kit, probe, "run").answers] == ["run/2", "run/0", "run/1.0/0"]


def test_a_conversation_inside_a_run_gets_what_lies_inside_it(kit, probe):
    say(kit, answer("run/1/0"), answer("run/10/0"), answer("run/1"), answer("run/1/1/0"))
    recalled = recall(kit, probe, "run/1")
    assert [each.step for each in recalled.answers] == ["run/1/0", "run/1/1/0"]
    assert recalled.answered
    assert not recall(kit, probe, "run/10").answered


def test_a_run_is_told_when_its_record_was_first_asked_for(kit, probe):
    first = recall(kit, probe, "run")
    kit.advance(5.0)
    assert (first.began, recall(kit, probe, "run").began) == (EPOCH, EPOCH)


def test_an_answer_for_somebody_who_has_gone_is_a_dead_letter_and_not_kept(kit):
    say(kit, answer("run/0", to="nobody"))
    assert [letter.reason for letter in kit.dead_letters] == ["whoever asked has gone"]
    assert kept(kit) == []


def test_a_restarted_recorder_has_lost_nothing(kit, probe):
    say(kit, answer("run/0"), Restart(), answer("run/1"))
    assert [each.step for each in recall(kit, probe, "run").answers] == ["run/0", "run/1"]


def test_the_answer_that_a_recorder_failed_on_is_recorded_by_the_next(kit, probe, monkeypatch):
    from actors.recorder import Recorder

    record, failures = Recorder._record, [OSError("once")]

    def troubled(self, each):
        if failures:
            raise failures.pop()
        record(self, each)

    monkeypatch.setattr(Recorder, "_record", troubled)
    say(kit, answer("run/0"))
    assert probe.expect(Answer).step == "run/0"
    assert len(kit.failures) == 1


def test_what_a_recorder_failed_on_is_taken_up_in_front_of_what_came_since():
    kit = ActorTestKit(faults=[Crash(ids.RECORDER, 1)])
    probe = kit.probe()
    say(kit, Recall(conversation="run", reply_to=probe.address), Forget(run="run"))
    assert isinstance(probe.expect(Recalled), Recalled)
    assert kept(kit) == []


def test_what_it_has_no_use_for_is_a_dead_letter_and_no_failure(kit):
    say(kit, "hello")
    assert [letter.message for letter in kit.dead_letters] == ["hello"]
    assert kit.failures == []


def test_a_run_that_has_ended_is_forgotten_and_a_late_answer_is_passed_on_and_not_kept(kit, probe):
    say(kit, answer("run/0"), Forget(run="run"), answer("run/1"))
    assert [probe.expect(Answer).step for _ in range(2)] == ["run/0", "run/1"]
    assert kept(kit) == []


def test_a_run_that_is_started_again_under_its_old_id_is_recorded_again(kit, probe):
    say(kit, answer("run/0"), Forget(run="run"))
    assert recall(kit, probe, "run").answers == ()
    say(kit, answer("run/0"))
    assert [each.step for each in recall(kit, probe, "run").answers] == ["run/0"]


def test_what_lay_inside_a_run_that_has_ended_has_nothing_left_to_do_also_for_a_restarted_recorder(kit, probe):
    say(kit, Recall(conversation="run", reply_to="probe"), Forget(run="run"), Restart())
    assert recall(kit, probe, "run/1").answered
    assert not recall(kit, probe, "told/echo/0#1").answered


@pytest.mark.parametrize("correlation_id", ["", "somewhere"])
def test_what_was_told_and_not_asked_leaves_no_record_behind(correlation_id):
    class Chatty(Agent):
        role = "chatty"

        async def handle(self, message: AgentMessage) -> str:
            return (await self.chat(message.content)).text

    kit = ActorTestKit({"chatty": "hello"})
    (address,) = kit.register(Chatty)
    for to in (address, ids.SUPERVISOR):
        kit.tell(to, AgentMessage(sender="x", recipient="chatty", content="hi", correlation_id=correlation_id))
    kit.settle()
    assert len(kit.model.calls) == 2
    assert kept(kit) == []


def test_what_is_late_for_what_was_told_is_not_kept_nor_done_again_also_after_a_restart(kit, probe):
    say(kit, Forget(run="told/echo/0#1"), Restart(), answer("told/echo/0#1/0/0"))
    assert probe.expect(Answer).step == "told/echo/0#1/0/0"
    assert recall(kit, probe, "told/echo/0#1/1").answered
    assert kept(kit) == []


def test_to_forget_a_conversation_leaves_the_rest_of_its_run(kit, probe):
    say(kit, answer("run/1/0"), answer("run/2/0"), Forget(run="run/1"))
    assert [each.step for each in recall(kit, probe, "run").answers] == ["run/2/0"]
    say(kit, Forget(run="never/heard/of"))
    assert kit.failures == []
