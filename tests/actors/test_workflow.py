"""Workflows: awaiting roles, timeouts, cancels, deadlines, crashes, and a bound on what is under way."""

from __future__ import annotations

import pytest

from actors import Agent, Outcome, Workflow
from actors.testing import ActorTestKit, Crash, ScriptedModel
from protocol import AgentMessage, ErrorKind, TaskFailed
from protocol.errors import Cancelled
from protocol.ids import SUPERVISOR, workflow_address
from protocol.signals import Restart, Stop


class Echo(Agent):
    role = "echo"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


def said(call) -> str:
    return f"re: {call.messages[-1].content}"


def kit_with(latency: float = 0.0, **options) -> ActorTestKit:
    kit = ActorTestKit(ScriptedModel({"echo": said}, latency=latency), **options)
    kit.register(Echo)
    return kit


def test_a_workflow_gathers_answers_in_argument_order():
    class Many(Workflow):
        async def run(self, task: str) -> str:
            return " ".join(await self.gather(*(self.ask("echo", word) for word in task.split())))

    assert kit_with(latency=1.0, seed=3).run(Many, "a b c").output == "re: a re: b re: c"


def test_an_unknown_role_is_answered_at_once():
    class Lost(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("nobody", task)

    kit = kit_with()
    result = kit.run(Lost, "x")
    assert (result.success, result.error_kind) == (False, ErrorKind.NO_SUCH_ROLE)
    assert result.error == "nobody: no agent plays the role 'nobody'; there are: echo"
    assert kit.now == 0.0


def test_an_ask_that_takes_too_long_fails_and_its_work_is_cancelled():
    class Impatient(Workflow):
        async def run(self, task: str) -> str:
            try:
                await self.ask("echo", task, timeout=2.0)
            except TaskFailed as failure:
                return f"{failure.result.error_kind}: {failure.result.error}"

    kit = kit_with(latency=10.0)
    assert kit.run(Impatient, "x").output == "timeout: no answer within 2 s"
    assert kit.now == 2.0
    assert len(kit.model.cancelled) == 1
    kit.expect_idle()


def test_a_pause_takes_virtual_time_and_now_tells_it():
    class Sleeper(Workflow):
        async def run(self, task: str) -> str:
            begin = self.now()
            await self.pause(90.0)
            return str(self.now() - begin)

    kit = kit_with()
    assert kit.run(Sleeper, "x").output == "90.0"


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_pause_that_is_none_is_refused(seconds):
    class Wrong(Workflow):
        async def run(self, task: str) -> str:
            await self.pause(seconds)

    assert "a pause lasts" in kit_with().run(Wrong, "x").error


def double(n: int) -> int:
    return 2 * n


def leave() -> None:
    raise SystemExit("gone")


def test_a_blocking_function_runs_on_a_worker():
    class Caller(Workflow):
        async def run(self, task: str) -> str:
            values = await self.gather(*(self.call(double, n) for n in range(20)))
            try:
                await self.call(leave)
            except TaskFailed as failure:
                return f"{sum(values)} {failure.result.error}"

    assert kit_with().run(Caller, "x").output == "380 SystemExit: gone"


def test_a_run_past_its_deadline_ends_with_what_it_has():
    class Slow(Workflow):
        done = ""

        async def run(self, task: str) -> str:
            self.done = await self.ask("echo", "first")
            return await self.ask("echo", "second")

        def salvage(self) -> Outcome:
            return Outcome(output=self.done)

    kit = kit_with(latency=3.0)
    result = kit.run(Slow, "x", timeout=4.0)
    assert (result.success, result.error_kind, result.output) == (False, ErrorKind.DEADLINE, "re: first")
    assert result.error == "the run's 4 s are over"
    assert kit.now == 4.0
    kit.expect_idle()


def test_a_cancelled_run_says_so_and_nothing_new_is_sent():
    class Slow(Workflow):
        async def run(self, task: str) -> str:
            await self.ask("echo", "first")
            return await self.ask("echo", "second")

    kit = kit_with(latency=3.0)
    run = kit.submit(Slow, "x")
    kit.advance(1.0)
    kit.cancel(run)
    result = kit.result(run)
    assert (result.success, result.error_kind) == (False, ErrorKind.CANCELLED)
    kit.advance(60.0)
    assert len(kit.model.calls) == 1
    kit.expect_idle()


def test_at_most_max_parallel_tasks_are_under_way_and_none_is_lost():
    class Wide(Workflow):
        max_parallel = 3

        async def run(self, task: str) -> str:
            return str(len(await self.gather(*(self.ask("echo", str(n)) for n in range(10)))))

    kit = kit_with(latency=1.0)
    run = kit.submit(Wide, "x")
    kit.settle()
    most = 0
    while run not in kit.rig.ended:
        most = max(most, len(kit.model.calls) - round(kit.now) * 3)
        kit.advance(1.0)
    assert (most, kit.result(run).output, kit.now) == (3, "10", 4.0)
    started = [event.facts for event in kit.progress if event.event == "task.started"]
    kept_back = [facts["step"] for facts in started if facts["kept_back"]]
    assert len(kept_back) == 7
    assert [event.facts["step"] for event in kit.progress if event.event == "task.sent"] == kept_back


@pytest.mark.parametrize("after", range(6))
def test_a_workflow_that_crashes_goes_on_from_the_record(after):
    class Chain(Workflow):
        async def run(self, task: str) -> str:
            texts = [await self.ask("echo", str(n)) for n in range(3)]
            await self.pause(1.0)
            return " ".join(texts)

    kit = kit_with(latency=1.0)
    run = kit.submit(Chain, "x", run="chain")
    kit.advance(after * 0.7)
    kit.tell(workflow_address(run), Restart())
    assert kit.result(run).output == "re: 0 re: 1 re: 2"
    assert len(kit.model.calls) == 3


def test_a_supervisor_that_crashes_learns_from_its_children():
    class Chain(Workflow):
        async def run(self, task: str) -> str:
            return " ".join([await self.ask("echo", str(n)) for n in range(3)])

    kit = kit_with(latency=1.0)
    run = kit.submit(Chain, "x")
    kit.advance(1.5)
    kit.tell(SUPERVISOR, Restart())
    assert kit.result(run).output == "re: 0 re: 1 re: 2"


def test_a_workflow_that_is_stopped_ends_its_run():
    class Slow(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("echo", task)

    kit = kit_with(latency=9.0)
    run = kit.submit(Slow, "x")
    kit.advance(1.0)
    kit.tell(workflow_address(run), Stop(reason="enough"))
    result = kit.result(run)
    assert (result.success, result.error_kind) == (False, ErrorKind.STOPPED)


def test_an_agent_that_is_stopped_fails_what_it_held():
    class Ask(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("echo", task)

    kit = kit_with(latency=9.0)
    run = kit.submit(Ask, "x")
    kit.advance(1.0)
    kit.tell("echo/0", Stop(reason="enough"))
    assert kit.result(run).error_kind is ErrorKind.STOPPED


def test_an_unknown_workflow_is_a_failed_run():
    kit = kit_with()
    from protocol.ids import DESK
    from protocol.signals import StartRun

    kit.tell(SUPERVISOR, StartRun(run="r", task="x", workflow="nothing", reply_to=DESK))
    result = kit.result("r")
    assert result.error == "no workflow is called 'nothing'; there are: direct"


def test_dice_and_run_errors_are_the_runs_own():
    class Dice(Workflow):
        async def run(self, task: str) -> str:
            if task == "raise":
                raise ValueError("no")
            return str(self.random.random())

    one, two = (kit_with().run(Dice, "x", run="same").output for _ in range(2))
    assert one == two
    assert kit_with().run(Dice, "raise").error == "ValueError: no"


def test_the_summary_adds_up():
    class Two(Workflow):
        async def run(self, task: str) -> str:
            await self.ask("echo", "a")
            try:
                await self.ask("nobody", "b")
            except TaskFailed:
                return "ok"

    result = kit_with(latency=2.0).run(Two, "x")
    summary = result.summary
    assert (summary.total_tasks, summary.successful, summary.failed, summary.llm_calls) == (2, 1, 1, 1)
    assert (summary.wall_ms, summary.llm_ms) == (2000.0, 2000.0)
    assert [r.success for r in result.results] == [True, False]


class Recursive(Agent):
    """Asks its own role: its conversations lie inside each other, at one address."""

    role = "recursive"

    async def handle(self, message: AgentMessage) -> str:
        text = (await self.chat(message.content)).text
        depth = int(message.content)
        if depth:
            text += " " + await self.ask("recursive", str(depth - 1))
        return text + " " + (await self.chat(f"end of {depth}")).text


@pytest.mark.parametrize("after", range(8))
def test_conversations_inside_each_other_are_told_apart_on_a_resume(after):
    class Ask(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("recursive", "2")

    kit = ActorTestKit(ScriptedModel({"recursive": said}, latency=1.0))
    kit.register(Recursive)
    run = kit.submit(Ask, "x")
    kit.advance(after * 0.9)
    kit.tell("recursive/0", Restart())
    assert kit.result(run).output == "re: 2 re: 1 re: 0 re: end of 0 re: end of 1 re: end of 2"
    assert len(kit.model.calls) == 6


class Remarks(Workflow):
    async def run(self, task: str) -> Outcome:
        return Outcome(output=task, success=task == "good", error="a remark", error_kind=ErrorKind.INVALID_OUTPUT)


@pytest.mark.parametrize(
    ("task", "error", "kind"), [("good", None, None), ("bad", "a remark", ErrorKind.INVALID_OUTPUT)]
)
def test_a_success_has_no_error_whatever_the_outcome_says(task, error, kind):
    result = ActorTestKit().run(Remarks, task)
    assert (result.success, result.error, result.error_kind) == (task == "good", error, kind)


# --- the end of a run


def test_a_run_that_swallows_its_cancel_is_no_success_and_keeps_its_output():
    class Stubborn(Workflow):
        async def run(self, task: str) -> str:
            try:
                await self.ask("echo", task)
            except Cancelled:
                return "half of it"

    kit = kit_with(latency=9.0)
    run = kit.submit(Stubborn, "x")
    kit.advance(1.0)
    kit.cancel(run)
    result = kit.result(run)
    assert (result.success, result.error_kind, result.output) == (False, ErrorKind.CANCELLED, "half of it")


@pytest.mark.parametrize("end", ["cancel", "raise", "stop"])
def test_a_salvage_that_raises_does_not_keep_the_run_from_ending(end):
    class Broken(Workflow):
        async def run(self, task: str) -> str:
            await self.ask("echo", task)
            raise ValueError("no")

        def salvage(self) -> Outcome:
            raise SystemExit("worse")

    kit = kit_with(latency=3.0)
    run = kit.submit(Broken, "x")
    kit.advance(1.0)
    if end == "cancel":
        kit.cancel(run)
    elif end == "stop":
        kit.tell(workflow_address(run), Stop())
    result = kit.result(run)
    assert not result.success
    assert result.error.endswith("; and salvage() raised SystemExit: worse")
    assert kit.failures == []


def test_a_run_that_returns_what_is_no_text_fails_and_its_actor_does_not():
    class Wrong(Workflow):
        async def run(self, task: str) -> object:
            return object()

    kit = kit_with()
    assert "Encoding objects of type object is unsupported" in kit.run(Wrong, "x").error
    assert kit.failures == []


def test_a_run_that_is_stopped_abandons_its_tasks_and_counts_what_was_done():
    class Two(Workflow):
        async def run(self, task: str) -> str:
            await self.ask("echo", "first")
            return await self.ask("echo", "second")

    kit = kit_with(latency=3.0)
    run = kit.submit(Two, "x")
    kit.advance(4.0)
    kit.tell(workflow_address(run), Stop())
    result = kit.result(run)
    assert (result.error_kind, result.summary.llm_calls) == (ErrorKind.STOPPED, 1)
    kit.settle()
    assert len(kit.model.cancelled) == 1
    kit.expect_idle()


@pytest.mark.parametrize("when", [0.0, 2.0, 4.5])
def test_a_deadline_stays_one_when_its_workflow_is_restarted_before_it_could_end(when, monkeypatch):
    class Slow(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("echo", task)

    ended, left = Slow.ended, [OSError("at the very end")]

    def troubled(self, talk, value, error):
        if left:
            raise left.pop()
        ended(self, talk, value, error)

    monkeypatch.setattr(Slow, "ended", troubled)
    kit = kit_with(latency=9.0)
    run = kit.submit(Slow, "x", timeout=5.0)
    kit.advance(when)
    result = kit.result(run)
    assert (result.error_kind, result.error) == (ErrorKind.DEADLINE, "the run's 5 s are over")
    assert len(kit.failures) == 1
    kit.settle()
    assert len(kit.model.cancelled) >= 1
    kit.expect_idle()


@pytest.mark.parametrize("after", range(12))
def test_a_cancel_that_crosses_with_a_restart_is_obeyed(after):
    class Chain(Workflow):
        async def run(self, task: str) -> str:
            return " ".join([await self.ask("echo", str(n)) for n in range(3)])

    for restart_first in (True, False):
        kit = kit_with(latency=1.0, seed=after)
        run = kit.submit(Chain, "x")
        for _ in range(after):
            kit.dispatcher.step()
        if restart_first and workflow_address(run) in kit.directory.mailboxes:
            kit.tell(workflow_address(run), Restart())
        kit.cancel(run)
        if not restart_first and workflow_address(run) in kit.directory.mailboxes:
            kit.tell(workflow_address(run), Restart())
        kit.settle()
        result = kit.result(run)
        if workflow_address(run) in {letter.to for letter in kit.dead_letters}:
            continue  # the cancel came before its run
        assert (result.success, result.error_kind) == (False, ErrorKind.CANCELLED)
        kit.expect_idle()


def test_a_cancel_that_its_workflow_fails_on_is_obeyed():
    class Waits(Workflow):
        async def run(self, task: str) -> None:
            await self.pause(1000.0)

    kit = ActorTestKit(faults=[Crash("workflow/run-1", 2)])  # after the record
    run = kit.submit(Waits, "x")
    kit.settle()
    kit.cancel(run)
    assert kit.result(run, seconds=1.0).error_kind is ErrorKind.CANCELLED
    assert len(kit.failures) == 1


def test_a_run_that_has_ended_is_not_run_again_by_a_new_instance():
    ran = []

    class Once(Workflow):
        async def run(self, task: str) -> str:
            ran.append(task)
            return task

    kit = ActorTestKit()
    run = kit.submit(Once, "x")
    supervisor = kit.directory.mailboxes[SUPERVISOR]
    while not ran:
        kit.dispatcher.step()
    supervisor.suspend()  # it does not hear of the end for a while
    kit.tell(workflow_address(run), Restart())
    kit.settle()
    supervisor.resume()
    result = kit.result(run)
    kit.settle()
    assert (ran, result.success, result) == (["x"], True, kit.rig.ended[run])
    kit.expect_idle()


def test_a_cancel_after_the_end_is_nobodys():
    class Quick(Workflow):
        async def run(self, task: str) -> str:
            return task

    kit = kit_with()
    run = kit.submit(Quick, "x")
    assert kit.result(run).output == "x"
    kit.cancel(run)
    kit.settle()
    assert [letter.reason for letter in kit.dead_letters] == ["no such address"]


# --- resuming


def test_now_at_the_beginning_is_the_same_on_a_resume():
    seen = []

    class Chain(Workflow):
        async def run(self, task: str) -> str:
            seen.append((self.now(), self.random.random()))
            await self.ask("echo", task)
            seen.append(self.now())
            await self.pause(5.0)
            return ""

    kit = kit_with(latency=2.0)
    run = kit.submit(Chain, "x")
    for _ in range(4):
        kit.advance(1.0)
        kit.restart(workflow_address(run))
    kit.result(run)
    assert len(set(seen)) == 2


def test_a_resumed_run_is_silent_while_it_catches_up_and_tells_each_result_once():
    class Chain(Workflow):
        async def run(self, task: str) -> str:
            for n in range(2):
                await self.ask("echo", str(n))
                self.report("half", n=n)
            await self.pause(9.0)
            return ""

    kit = kit_with(latency=1.0)
    run = kit.submit(Chain, "x")
    kit.advance(5.0)
    kit.restart(workflow_address(run))
    result = kit.result(run)
    assert [p.facts["n"] for p in kit.progress if p.event == "half"] == [0, 1]
    assert [p.event for p in kit.progress].count("task.finished") == 2
    assert len(result.results) == 2


def test_code_that_no_longer_asks_what_was_recorded_ends_the_run_and_names_both():
    questions = ["the first question"]

    class Fickle(Workflow):
        async def run(self, task: str) -> str:
            await self.ask("echo", questions[-1])
            await self.pause(9.0)
            return ""

    kit = kit_with(latency=1.0)
    run = kit.submit(Fickle, "x")
    kit.advance(2.0)
    questions.append("another one")
    kit.restart(workflow_address(run))
    result = kit.result(run)
    assert result.error_kind is ErrorKind.NON_DETERMINISM
    assert "the record has ask:echo:" in result.error
    assert "the code asks for ask:echo:" in result.error


def test_answers_that_come_before_the_record_are_no_dead_letters():
    class Wide(Workflow):
        async def run(self, task: str) -> str:
            return str(len(await self.gather(*(self.ask("echo", str(n)) for n in range(6)))))

    for seed in range(40):
        kit = kit_with(seed=seed)
        run = kit.submit(Wide, "x")
        for _ in range(seed):
            kit.dispatcher.step()
        if workflow_address(run) in kit.directory.mailboxes:
            kit.restart(workflow_address(run))
        assert kit.result(run).output == "6"
        assert [letter.reason for letter in kit.dead_letters if "nobody waits" in letter.reason] == []
        assert len(kit.model.calls) == 6


def test_a_run_whose_code_never_returned_is_over():
    class Slow(Workflow):
        async def run(self, task: str) -> str:
            return await self.ask("echo", task)

    kit = kit_with(latency=9.0)
    run = kit.submit(Slow, "x")
    kit.settle()
    kit.directory.mailboxes[workflow_address(run)].stuck = "what it hung in"
    kit.restart(workflow_address(run))
    assert kit.result(run).error_kind is ErrorKind.STUCK


def test_max_parallel_holds_after_a_restart_and_with_tasks_that_time_out():
    class Wide(Workflow):
        max_parallel = 2

        async def one(self, n: int) -> str:
            try:
                return await self.ask("echo", str(n), timeout=0.5 if n % 2 else None)
            except TaskFailed:
                return "late"

        async def run(self, task: str) -> str:
            return " ".join(await self.gather(*(self.one(n) for n in range(7))))

    kit = kit_with(latency=2.0)
    run = kit.submit(Wide, "x")
    kit.advance(2.5)
    kit.restart(workflow_address(run))
    most = 0
    while workflow_address(run) in kit.directory.mailboxes:
        most = max(most, len(kit.model.under_way))
        kit.advance(0.25)
    assert kit.result(run).output == "re: 0 late re: 2 late re: 4 late re: 6"
    assert most == 2
    kit.expect_idle()


@pytest.mark.parametrize("name", ["begin", "ask"])
def test_a_name_of_the_machinery_is_refused(name):
    with pytest.raises(TypeError, match="would replace a part of Workflow"):
        type("Mine", (Workflow,), {name: None})
