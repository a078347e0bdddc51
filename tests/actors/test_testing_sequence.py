"""The sequence of a test: every message with its virtual time, its way, its id and its content cut short."""

from __future__ import annotations

import pytest
from msgspec import Raw

from actors import Agent
from actors.base import Actor
from actors.sequence import KEPT, Sequence, brief, in_full
from actors.testing import ActorTestKit, Crash, DirectWorkflow, rate_limited
from protocol import AgentMessage, ErrorKind, TaskResult, WorkflowResult
from protocol.chat import CallFailure, ChatMessage, ChatReply, ChatRequest
from protocol.messages import failed
from protocol.plan import Plan
from protocol.signals import (
    Acquire,
    Amount,
    Answer,
    Cancel,
    ChatCall,
    ChatResult,
    Elapsed,
    Perform,
    Performed,
    Progress,
    Refused,
    RunEnded,
    StartRun,
    Stop,
)

CHAT = (ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="hi"))


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


def answer(payload):
    return Answer(to="a", step="r/0", kind="ask", fingerprint="", payload=payload)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("text", "'text'"),
        (3, "int 3"),
        ({"a": 1}, "dict {'a': 1}"),
        (AgentMessage(sender="x", recipient="y", content="do it", message_id="r/0"), "AgentMessage r/0 'do it'"),
        (AgentMessage(sender="x", recipient="y", content="a\n  b"), "AgentMessage 'a\\n b'"),
        (answer(TaskResult(task_id="r/0", success=True, result="done")), "Answer r/0 'done'"),
        (answer(failed("r/0", ErrorKind.QUOTA, "no money")), "Answer r/0 quota_exhausted: no money"),
        (answer(ChatResult(reply=ChatReply(text="yes"))), "Answer r/0 'yes'"),
        (
            answer(ChatResult(failure=CallFailure(kind=ErrorKind.TIMEOUT, message="late"))),
            "Answer r/0 timeout: late",
        ),
        (answer(Elapsed()), "Answer r/0"),
        (ChatCall(step="r/0", fingerprint="", reply_to="a", role="r", messages=CHAT), "ChatCall r/0 'hi'"),
        (
            Perform(call="r/0#1", request=ChatRequest(model="m", messages=CHAT), timeout=1.0, reply_to="a"),
            "Perform r/0#1 'hi'",
        ),
        (
            Performed(call="r/0#1", caller="c", outcome=ChatReply(text="yes"), elapsed_ms=1.0),
            "Performed r/0#1 'yes'",
        ),
        (Acquire(lease="r/0#1", domain="d", amount=Amount(), holder="g", reply_to="g"), "Acquire r/0#1"),
        (Refused(lease="r/0#1", kind=ErrorKind.DEADLINE, reason="too late"), "Refused r/0#1 too late"),
        (Cancel(lease="r/0#1"), "Cancel r/0#1"),
        (StartRun(run="r", task="go", workflow="w", reply_to="d"), "StartRun r go"),
        (Progress(run="r", event="task.started"), "Progress r task.started"),
        (RunEnded(run="r", result=WorkflowResult(correlation_id="r", success=True, output="o")), "RunEnded r 'o'"),
        (
            RunEnded(run="r", result=WorkflowResult(correlation_id="r", success=False, error="no")),
            "RunEnded r failed: no",
        ),
        (Stop(), "Stop stopped"),
        (Plan(subtasks=("a",)), "Plan"),
        ("x" * 100, f"'{'x' * 59}..."),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_a_message_is_named_in_a_few_words(message, expected):
    assert brief(message) == expected


def test_a_payload_is_shown_as_the_json_that_it_is():
    message = AgentMessage(sender="x", recipient=None, content="", data=Raw(b'{"a":1}'))
    assert in_full(message) == "AgentMessage(sender='x', data='{\"a\":1}')"


def test_what_is_no_struct_is_shown_as_it_is():
    assert in_full({"a": 1}) == "{'a': 1}"


def test_a_sequence_of_nothing_says_so():
    assert Sequence(lambda: 0.0).last(20) == "(no message was sent)"


def test_only_the_last_are_shown_and_the_oldest_are_forgotten():
    sequence = Sequence(lambda: 1.5)
    for n in range(KEPT + 1):
        sequence.said("a", n)
    assert sequence.last(2) == f"    1.500000  test -> a  int {KEPT - 1}\n    1.500000  test -> a  int {KEPT}"
    assert len(sequence.entries) == KEPT


def test_a_retry_is_told_with_its_virtual_times():
    kit = ActorTestKit([rate_limited(retry_after=60), "yes"])
    kit.register(Echo)
    kit.ask("echo", "hi")
    lines = kit.sequence(last=1000).splitlines()
    told = [" ".join(line.split()) for line in lines if "caller/main/0 ->" in line or "limiter -> limiter" in line]
    assert told[0] == "0.000000 caller/main/0 -> gateway Performed run-1/0/0/0#1 rate_limited: too many requests"
    assert told[1].startswith("0.000000 limiter -> limiter (in 6")
    assert told[1].endswith("s) Due")
    assert told[2].startswith("60.")
    assert told[2].endswith("caller/main/0 -> gateway Performed run-1/0/0/0#2 'yes'")


def test_senders_and_receivers_stand_in_columns():
    kit = ActorTestKit("yes")
    kit.register(Echo)
    kit.ask("echo", "hi")
    lines = kit.sequence().splitlines()[1:]
    assert len(lines) == 20
    assert len({line.index("  ", line.index(" -> ")) for line in lines}) > 1
    way = max(len(line[14:].partition("  ")[0]) for line in lines)
    assert {line[14 + way : 16 + way] for line in lines} == {"  "}


def test_the_seed_and_the_faults_that_it_came_from_are_named():
    kit = ActorTestKit(seed=7, faults=[Crash("echo/0", 1)])
    faults = '{"faults":[{"type":"crash","address":"echo/0","at":1}]}'
    assert kit.sequence(last=1).splitlines()[0] == f"the last 1 messages, seed 7, {faults}:"


def test_a_failure_and_a_dead_letter_are_part_of_it():
    class Broken(Actor):
        def on_receive(self, message):
            self.tell("nobody", message)
            raise ValueError(message)

    kit = ActorTestKit()
    kit.spawn(Broken, "broken")
    kit.tell("broken", "bad")
    kit.tell("nobody", "lost")
    kit.settle()
    told = [" ".join(line.split()) for line in kit.sequence().splitlines()]
    assert "0.000000 broken -> supervisor failed: ValueError: bad (restarted after 0 s)" in told
    assert "0.000000 nobody -> nobody dead letter (no such address): 'lost'" in told
    assert not [line for line in told if "nobody 'bad'" in line]  # a turn that failed has sent nothing


def test_a_run_that_does_not_end_shows_the_last_twenty_messages():
    kit = ActorTestKit()
    kit.probe(role="probe")
    kit.submit(DirectWorkflow, "hi", to="probe")
    with pytest.raises(AssertionError) as failure:
        kit.result("run-1", seconds=5.0)
    text = str(failure.value)
    assert text.startswith("run-1 did not end within 5 virtual seconds; failures: []\n\nthe last 20 messages:\n")
    assert text.splitlines()[-1].split() == [
        "0.000000",
        "supervisor",
        "->",
        "probe/0",
        "AgentMessage",
        "run-1/0",
        "'hi'",
    ]
