"""Laws 1, 2 and 6 on the simulation: many seeds, actors that crash, are restarted and stopped at random instants.

Law 1: sent = handled + dead-lettered + queued. Law 2: order per sender, receiver and lane is kept, also across a
restart. Law 6: a workflow's answer is the same whatever the interleaving; here also whoever is restarted meanwhile, and
without a single call made twice. Senders, handlers and dead letters are counted, never the mailbox's own books. Each
law is red for each of its mutations.
"""

from __future__ import annotations

from collections import Counter, deque
from random import Random

import pytest

from actors import Agent, Workflow
from actors.mailbox import Mailbox
from actors.recorder import Recorder
from actors.testing import ActorTestKit, ScriptedModel
from actors.worker import CREW
from protocol import AgentMessage, TaskFailed, ids
from protocol.chat import CallFailure
from protocol.errors import ErrorKind
from protocol.policies.recent import Recent
from protocol.signals import Control, DeadLetter, Restart, Stop
from tests.actors.players import Stage

# --- laws 1 and 2


class Data(tuple):
    """(sender, receiver, number): a message in the data lane."""

    __slots__ = ()


class Urgent(Control, frozen=True, kw_only=True):
    """The same in the control lane."""

    what: Data


def what(message) -> Data | None:
    if isinstance(message, DeadLetter):
        message = message.message
    return message if isinstance(message, Data) else getattr(message, "what", None)


class Crowd:
    """Five actors that send each other mail and fail, under a boss that restarts them or leaves them suspended."""

    SIZE = 5

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.stage = Stage(seed, restarts=self.dice.random() < 0.8)
        self.letters: list[DeadLetter] = []
        self.stage.directory.on_dead_letter = self.letters.append
        self.sent, self.handled, self.urgent = [], [], set()
        self.numbers: Counter[tuple[str, str]] = Counter()
        self.boxes = {}
        for n in range(self.SIZE):
            self.stage.spawn(f"a{n}", self.act)
            self.boxes[f"a{n}"] = self.stage.mailbox(f"a{n}")

    def mail(self, sender: str):
        to = f"a{self.dice.randrange(self.SIZE)}"
        self.numbers[sender, to] += 1
        content = Data((sender, to, self.numbers[sender, to]))
        if self.dice.random() < 0.2:
            self.urgent.add(content)
            return to, Urgent(what=content)
        return to, content

    def act(self, actor, message):
        """Handle, answer with up to two more while there is breath; now and then fail, and so send nothing."""
        self.handled.append(what(message))
        mail = [self.mail(actor.address) for _ in range(self.dice.randrange(3))] if len(self.sent) < 400 else []
        for to, each in mail:
            actor.tell(to, each)
        if self.dice.random() < 0.1:
            raise OSError("now and then")
        self.sent += [what(each) for _, each in mail]

    def play(self) -> Crowd:
        for _ in range(60):
            to, each = self.mail("outside")
            self.sent.append(what(each))
            self.stage.directory.send(to, each)
            if self.dice.random() < 0.1:
                news = Stop() if self.dice.random() < 0.2 else Restart()
                self.stage.directory.send(f"a{self.dice.randrange(self.SIZE)}", news)
            for _ in range(self.dice.randrange(6)):
                self.stage.dispatcher.step()
        self.stage.dispatcher.settle()
        return self

    # --- the books

    def queued(self) -> list[Data]:
        lanes = [lane for box in self.boxes.values() for lane in (box.control, box.data)]
        return [found for lane in lanes for each in lane if (found := what(each)) is not None]

    def unaccounted(self) -> Counter[Data]:
        """Return what was lost, and what was handled or buried more than once."""
        dead = [found for letter in self.letters if (found := what(letter)) is not None]
        found = Counter(self.handled) + Counter(dead) + Counter(self.queued())
        sent = Counter(self.sent)
        return (sent - found) + (found - sent)

    def disorder(self) -> int:
        """Count the messages handled after a later one of the same sender, receiver and lane."""
        last: dict[tuple[str, str, bool], int] = {}
        wrong = 0
        for message in self.handled:
            sender, to, number = message
            lane = (sender, to, message in self.urgent)
            wrong += number < last.get(lane, 0)
            last[lane] = max(number, last.get(lane, 0))
        return wrong

    def asleep(self) -> int:
        """Count the messages that wait in front of an actor nothing keeps from handling them."""
        return sum(box.queued() for box in self.boxes.values() if box.actor is not None and not box.suspended)


SEEDS = range(40)


def crowds(seeds=SEEDS) -> list[Crowd]:
    return [Crowd(seed).play() for seed in seeds]


def test_laws_1_and_2_hold_while_actors_crash_are_restarted_and_stopped():
    played = crowds()
    assert [crowd.unaccounted() for crowd in played if crowd.unaccounted()] == []
    assert [crowd.disorder() for crowd in played if crowd.disorder()] == []
    assert [crowd.asleep() for crowd in played if crowd.asleep()] == []
    assert sum(len(crowd.sent) for crowd in played) > 3000
    assert sum(len(crowd.stage.news) for crowd in played) > 300
    assert any(crowd.queued() for crowd in played)
    assert any(crowd.letters for crowd in played)


def loses(monkeypatch):
    monkeypatch.setattr(Mailbox, "drain", lambda self, _reason: self.__dict__.update(control=deque(), data=deque()))


def forgets_at_a_restart(monkeypatch):
    renew = Mailbox.renew

    def renewed(self, actor, begin):
        renew(self, actor, begin)
        self.data = deque()

    monkeypatch.setattr(Mailbox, "renew", renewed)


def doubles(monkeypatch):
    put = Mailbox.put

    def twice(self, item):
        put(self, item)
        if isinstance(item, Data) and item[2] % 7 == 0:
            put(self, item)

    monkeypatch.setattr(Mailbox, "put", twice)


@pytest.mark.parametrize("mutation", [loses, forgets_at_a_restart, doubles])
def test_law_1_is_red_when_mail_is_lost_or_doubled(monkeypatch, mutation):
    mutation(monkeypatch)
    assert any(crowd.unaccounted() for crowd in crowds(range(10)))


def test_law_2_is_red_when_the_last_comes_first(monkeypatch):
    def take(self):
        return self.control.popleft() if self.control else self.data.pop()

    monkeypatch.setattr(Mailbox, "take", take)
    assert any(crowd.disorder() for crowd in crowds(range(10)))


def test_the_check_for_sleepers_is_red_when_a_restart_owes_no_token(monkeypatch):
    monkeypatch.setattr(Mailbox, "resume", lambda self: self.__dict__.update(suspended=False, owed=0))
    assert any(crowd.asleep() for crowd in crowds(range(10)))


# --- law 6


def length(text: str) -> int:
    return len(text)


class Worker(Agent):
    """Chats, asks another role, counts, waits."""

    role = "worker"

    async def handle(self, message: AgentMessage) -> str:
        first = (await self.chat(message.content)).text
        asked, size = await self.gather(self.ask("helper", first), self.call(length, first))
        await self.pause(0.5)
        return f"{first}, {asked}, {size}, {(await self.chat('and then?')).text}"


class Helper(Agent):
    role = "helper"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Job(Workflow):
    """Branches of all kinds, one of which fails and one of which is a branch of branches."""

    max_parallel = 3

    async def one(self, n: int) -> str:
        try:
            return await self.ask("worker", f"part {n}")
        except TaskFailed as failure:
            return f"failed: {failure.result.error}"

    async def run(self, task: str) -> str:
        plan = await self.ask("helper", task)
        inner = self.gather(*(self.one(n) for n in (4, 5)))
        parts = await self.gather(*(self.one(n) for n in range(4)), inner)
        dice = self.random.random()
        return f"{plan} {parts} {dice} {await self.call(length, task)}"


class Sharing(Job):
    """Breaks the law: its branches share a list."""

    async def run(self, task: str) -> str:
        order: list[str] = []

        async def note(n: int) -> None:
            order.append(await self.one(n))

        await self.gather(*(note(n) for n in range(4)))
        return str(order)


def reply(call):
    if call.messages[-1].content == "part 2":
        return CallFailure(kind=ErrorKind.SERVER_ERROR, message="down")
    return f"<{call.messages[-1].content}>"


ACTORS = (ids.SUPERVISOR, ids.RECORDER, CREW, "worker/0", "worker/1", "helper/0", ids.workflow_address("job"))


def play(seed: int, restarts: float = 0.0, workflow=Job) -> ActorTestKit:
    """Run a job in the order that *seed* gives; before each message somebody is restarted with chance *restarts*."""
    kit = ActorTestKit(ScriptedModel({"worker": reply, "helper": reply}, latency=0.25 if seed % 2 else 0.0), seed=seed)
    kit.register(Worker, instances=2)
    kit.register(Helper)
    dice = Random(seed)
    kit.submit(workflow, "task", run="job")
    left = 3
    while "job" not in kit.rig.ended:
        if left and dice.random() < restarts:
            left -= 1
            kit.tell(dice.choice([address for address in ACTORS if address in kit.directory.mailboxes]), Restart())
        if not kit.dispatcher.step():
            assert kit.dispatcher.next_timer() is not None, f"seed {seed}: nothing is left to do, and the job goes on"
            kit.dispatcher._fire()
    return kit


def outcome(kit: ActorTestKit):
    result = kit.result("job")
    tasks = Counter((r.task_id, r.success, r.result, r.error, r.calls) for r in result.results)
    return result.output, result.success, tasks, result.summary.llm_calls, result.summary.input_tokens


@pytest.mark.slow
@pytest.mark.uncounted
def test_law_6_the_answer_is_the_same_in_300_interleavings():
    outcomes = [outcome(play(seed)) for seed in range(300)]
    assert [other for other in outcomes if other != outcomes[0]] == []
    assert "failed: down" in outcomes[0][0]


def test_law_6_is_red_when_branches_share_something_mutable():
    assert len({play(seed, workflow=Sharing).result("job").output for seed in range(30)}) > 1


def disturbed(seeds: range) -> None:
    """Play with restarts and compare with the undisturbed run, its calls and what is left of it."""
    expected = outcome(play(0))
    for seed in seeds:
        kit = play(seed, restarts=0.03)
        assert (seed, outcome(kit)) == (seed, expected)
        calls = Counter((call.step, call.attempt) for call in kit.model.calls)
        assert [call for call, times in calls.items() if times > 1] == []
        kit.expect_idle()
        assert not any(kit.directory.mailboxes[ids.SUPERVISOR].actor._decide._load.values())


@pytest.mark.slow
@pytest.mark.uncounted
def test_whoever_is_restarted_the_answer_is_the_same_and_no_call_is_made_twice():
    disturbed(range(400))


def recalls_nothing(monkeypatch):
    recall = Recorder._recall

    def forgetful(self, message):
        self._runs.clear()
        recall(self, message)

    monkeypatch.setattr(Recorder, "_recall", forgetful)


def remembers_no_answer(monkeypatch):
    monkeypatch.setattr(Recent, "__contains__", lambda _self, _name: False)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", [recalls_nothing, remembers_no_answer])
def test_that_is_red_when_something_is_forgotten(monkeypatch, mutation):
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        disturbed(range(200))
