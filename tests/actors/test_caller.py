"""The caller: one call at a time over its line, each reported once; what its line raises is its own failure."""

from __future__ import annotations

import pytest

from actors.caller import AreYouFree, Caller, Free
from protocol.chat import CallFailure, ChatRequest
from protocol.errors import ErrorKind
from protocol.signals import ChildFailed, Perform, Performed, Stop
from runtime.channel import Channel
from tests.actors.players import Stage
from tests.actors.provider import FakeLine, Provider, fault, reply
from tests.runtime.house import TIMEOUT, House

REQUEST = ChatRequest(model="m", messages=(), max_tokens=1)


def perform(call="run/0#1", timeout=5.0):
    return Perform(call=call, request=REQUEST, timeout=timeout, reply_to="gateway")


class Office(Stage):
    """A stage with one caller and a gateway that writes what it gets into the log."""

    def __init__(self, *answers):
        super().__init__()
        self.provider = Provider(*answers)
        self.spawn("gateway")
        self.spawn("caller", factory=lambda: Caller(FakeLine(self.provider, "caller", str)))


def test_a_call_is_made_and_reported():
    office = Office(reply("hello"))
    office.tell("caller", perform())
    assert office.log == [Performed(call="run/0#1", caller="caller", outcome=reply("hello"), elapsed_ms=7.0)]


def test_a_failure_of_the_provider_is_data():
    office = Office(fault(ErrorKind.SERVER_ERROR))
    office.tell("caller", perform())
    (performed,) = office.log
    assert performed.outcome.kind is ErrorKind.SERVER_ERROR
    assert office.failures == []


def test_calls_are_made_one_after_the_other_in_order():
    office = Office()
    office.tell("caller", *(perform(f"run/{n}#1") for n in range(5)))
    assert [said.call for said in office.log] == [f"run/{n}#1" for n in range(5)]


def test_asked_whether_it_is_free_it_answers_after_what_it_was_told_before():
    office = Office()
    office.directory.send("caller", perform())
    office.directory.send("caller", AreYouFree(reply_to="gateway"))
    office.dispatcher.settle()
    assert [type(said) for said in office.log] == [Performed, Free]
    assert office.log[1].caller == "caller"


@pytest.mark.parametrize("bug", [ValueError("a bug of ours"), SystemExit(1)])
def test_what_its_line_raises_is_its_own_failure_and_reports_nothing(bug):
    office = Office(bug)
    office.tell("caller", perform())
    assert office.log == []
    (news,) = office.heard(ChildFailed)
    assert news.address == "caller"
    office.tell("caller", perform("run/0#2"))
    assert [said.call for said in office.log] == ["run/0#2"]


def test_its_connection_is_closed_at_its_end():
    office = Office()
    office.tell("caller", Stop())
    assert office.provider.closed == ["caller"]


class Deaf:
    """A line whose server says nothing until somebody hangs up."""

    def __init__(self):
        self.inside, self.over = Channel(), Channel()

    def call(self, request, *, timeout, call):
        self.inside.put(call)
        self.over.get(timeout=TIMEOUT)
        return CallFailure(kind=ErrorKind.TIMEOUT, message="hung up"), 1.0, {}

    def abort(self, call):
        self.over.put(call)

    hang_up = abort

    def close(self):
        self.inside.put("closed")


@pytest.mark.waits
def test_on_its_own_thread_a_hung_call_ends_when_it_is_aborted_from_another():
    house, line, reported = House(), Deaf(), Channel()
    try:
        house.spawn("gateway", lambda _actor, message: reported.put(message))
        house.spawn("caller", None, factory=lambda: Caller(line), pinned=True)
        house.directory.send("caller", perform())
        assert line.inside.get(timeout=TIMEOUT) == "run/0#1"
        line.abort("run/0#1")
        assert reported.get(timeout=TIMEOUT).outcome.kind is ErrorKind.TIMEOUT
        house.directory.send("caller", Stop())
        assert line.inside.get(timeout=TIMEOUT) == "closed"
    finally:
        house.close()
