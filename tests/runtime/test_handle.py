"""Runs as they are seen from outside: results, events for whoever comes when, and ends that race with each other."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest

from protocol.errors import ErrorKind, TroupeError
from protocol.messages import WorkflowResult
from protocol.signals import CancelRun, Progress, RunEnded, StartRun
from runtime import desk
from runtime.desk import Run, Runs, Subscribe, Unsubscribe
from runtime.handle import Handle


def start(run="one", task="x"):
    return StartRun(run=run, task=task, workflow="team", reply_to="desk")


def result(run="one", output="done"):
    return WorkflowResult(correlation_id=run, success=True, output=output)


def event(n, run="one"):
    return Progress(run=run, event=f"event.{n}")


class Outside:
    """A handle, and a desk in the same thread that does at once what the handle says."""

    def __init__(self):
        self.run = Run(start())
        self.said = []
        self.handle = Handle(self.run, self.tell)

    def tell(self, message):
        self.said.append(message)
        if isinstance(message, Subscribe):
            message.run.replay(message.sink)
        if isinstance(message, Unsubscribe):
            message.run.forget(message.sink)


@pytest.fixture
def outside():
    return Outside()


# --- results


def test_a_result_may_be_asked_for_again_and_by_many(outside):
    outside.run.end(result())
    with ThreadPoolExecutor(8) as pool:
        results = set(map(id, pool.map(lambda _: outside.handle.result(timeout=1), range(32))))
    assert len(results) == 1


def test_everybody_who_waits_gets_the_end(outside):
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(outside.handle.result, 5) for _ in range(8)]
        outside.run.end(result())
        assert {future.result().output for future in waiting} == {"done"}


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_run_that_has_not_ended_in_time_is_a_timeout_error(outside, timeout):
    with pytest.raises(TimeoutError, match=r"one has not ended within .* s; it goes on"):
        outside.handle.result(timeout=timeout)
    outside.run.end(result())
    assert outside.handle.result(timeout=0).output == "done"


def test_the_first_end_counts(outside):
    assert outside.run.end(result(output="first"))
    assert not outside.run.end(result(output="second"))
    assert not outside.run.stop("too late", ErrorKind.STOPPED)
    assert outside.handle.result().output == "first"


def test_of_many_ends_at_once_exactly_one_counts_and_is_told_once():
    for _ in range(50):
        run, told = Run(start()), []
        run.replay(told.append)
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n, run=run: run.end(result(output=str(n))), range(8)))
        assert won.count(True) == 1
        assert [end.result.output for end in told] == [run.result.output]


def test_a_run_ended_from_outside_says_why(outside):
    outside.run.stop("the system was stopped", ErrorKind.STOPPED)
    ended = outside.handle.result()
    assert (ended.success, ended.error, ended.error_kind) == (False, "the system was stopped", ErrorKind.STOPPED)


def test_cancel_is_passed_on_until_the_end_and_then_does_nothing(outside):
    outside.handle.cancel()
    outside.run.end(result())
    outside.handle.cancel()
    assert outside.said == [CancelRun(run="one")]


def test_a_handle_says_what_it_is(outside):
    assert repr(outside.handle) == "<Handle one running>"
    outside.run.end(result())
    assert repr(outside.handle) == "<Handle one ended>"


# --- events


def test_events_begin_with_the_first_whenever_they_are_asked_for(outside):
    early = outside.handle.events()
    outside.run.add(event(0))
    seen = []
    outside.handle.subscribe(seen.append)
    outside.run.add(event(1))
    outside.run.end(result())
    names = ["event.0", "event.1"]
    assert [e.event for e in early] == names
    assert [e.event for e in outside.handle.events()] == names
    assert [e.event for e in seen[:-1]] == names
    assert isinstance(seen[-1], RunEnded)


def test_events_may_be_iterated_by_several_threads_each_its_own(outside):
    with ThreadPoolExecutor(4) as pool:
        lists = [pool.submit(lambda: [e.event for e in outside.handle.events()]) for _ in range(4)]
        for n in range(100):
            outside.run.add(event(n))
        outside.run.end(result())
        assert [future.result(5) for future in lists] == [[f"event.{n}" for n in range(100)]] * 4


def test_a_sink_that_raises_is_dropped_and_the_others_go_on(outside):
    seen = []

    def bad(_event):
        raise RuntimeError("its event loop is closed")

    outside.handle.subscribe(bad)
    outside.handle.subscribe(seen.append)
    outside.run.add(event(0))
    outside.run.add(event(1))
    outside.run.end(result())
    assert len(seen) == 3
    assert bad not in outside.run.sinks


def test_a_sink_that_raises_while_it_catches_up_is_not_kept(outside):
    outside.run.add(event(0))
    outside.handle.subscribe(lambda _event: 1 / 0)
    assert outside.run.sinks == []


def test_whoever_subscribes_while_the_run_ends_in_another_thread_is_told_the_end_exactly_once():
    for _ in range(200):
        run, ends = Run(start()), []
        run.add(event(0))
        go = threading.Barrier(2)

        def late(run=run, ends=ends, go=go):
            go.wait()
            run.replay(lambda e: ends.append(e) if isinstance(e, RunEnded) else None)

        thread = threading.Thread(target=late)
        thread.start()
        go.wait()
        run.end(result())
        thread.join(5)
        assert len(ends) == 1


def test_only_so_many_events_are_kept_for_latecomers(outside, monkeypatch):
    monkeypatch.setattr(desk, "EVENTS_KEPT", 3)
    live = []
    outside.handle.subscribe(live.append)
    for n in range(5):
        outside.run.add(event(n))
    outside.run.end(result())
    assert len(live) == 6
    assert [e.event for e in outside.handle.events()] == ["event.0", "event.1", "event.2"]


def test_whoever_stops_reading_is_told_nothing_more_and_the_run_goes_on(outside):
    outside.run.add(event(0))
    reading = outside.handle.events()
    next(reading)
    assert len(outside.run.sinks) == 1
    reading.close()
    assert outside.run.sinks == []
    assert not outside.handle.done()


def test_who_unsubscribes_twice_or_after_the_end_or_in_a_fork_is_not_told_off(outside, monkeypatch):
    outside.handle.subscribe(print)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    outside.handle.unsubscribe(print)
    assert outside.run.sinks == [print]
    monkeypatch.undo()
    outside.handle.unsubscribe(print)
    outside.handle.unsubscribe(print)
    outside.run.end(result())
    outside.handle.unsubscribe(print)
    assert outside.run.sinks == []


# --- asyncio


def test_a_handle_is_awaited_in_any_event_loop(outside):
    async def main():
        waiting = [asyncio.ensure_future(_awaited(outside.handle)) for _ in range(3)]
        await asyncio.sleep(0)
        threading.Thread(target=outside.run.end, args=(result(),)).start()
        return await asyncio.gather(*waiting)

    assert {r.output for r in asyncio.run(main())} == {"done"}
    assert asyncio.run(_awaited(outside.handle)).output == "done"


async def _awaited(handle):
    return await handle


def test_events_are_an_async_iterator(outside):
    async def main():
        outside.run.add(event(0))
        seen = []
        async for e in outside.handle.aevents():
            seen.append(e.event)
            outside.run.add(event(1)) if len(seen) == 1 else outside.run.end(result())
        return seen

    assert asyncio.run(main()) == ["event.0", "event.1"]


def test_a_reader_that_never_reads_holds_up_neither_the_run_nor_another_reader(outside):
    async def main():
        slow = outside.handle.aevents()
        outside.run.add(event(0))
        await anext(slow)
        for n in range(1, 1000):
            outside.run.add(event(n))
        outside.run.end(result())
        quick = [e.event async for e in outside.handle.aevents()]
        return quick, [e.event async for e in slow]

    names = [f"event.{n}" for n in range(1000)]
    assert asyncio.run(main()) == (names, names[1:])


def test_an_async_reader_that_is_cancelled_is_told_nothing_more(outside):
    async def main():
        async def read():
            async with aclosing(outside.handle.aevents()) as events:
                async for _ in events:
                    pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        watched = len(outside.run.sinks)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return watched, outside.run.sinks

    assert asyncio.run(main()) == (1, [])


def test_awaiting_with_a_timeout_leaves_the_run_alone(outside):
    async def main():
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(outside.handle, 0.01)
        assert outside.run.sinks == []
        assert not outside.handle.done()
        outside.run.end(result())
        return await outside.handle

    assert asyncio.run(main()).output == "done"


def test_a_loop_that_closed_before_the_end_disturbs_nobody(outside):
    async def main():
        task = asyncio.ensure_future(_awaited(outside.handle))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(main())
    outside.run.add(event(0))
    assert outside.run.end(result())


# --- fork


def test_a_handle_of_another_process_says_so_unless_the_run_has_ended(outside, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for use in (outside.handle.result, outside.handle.cancel, lambda: next(outside.handle.events())):
        with pytest.raises(TroupeError, match=r"before os\.fork\(\)"):
            use()
    outside.run.end(result())
    assert outside.handle.result().output == "done"


# --- which handles are known


def kept(runs, *names):
    handles = [Handle(Run(start(name)), print) for name in names]
    for handle in handles:
        runs.open(handle)
    return handles


def test_the_first_handle_of_an_id_is_the_one():
    runs = Runs()
    (first,) = kept(runs, "one")
    assert runs.open(Handle(Run(start("one")), print)) is first
    assert runs.get("one") is first
    assert runs.get("two") is None


def test_of_32_threads_that_open_one_id_all_get_the_same_handle():
    for _ in range(20):
        runs = Runs()
        with ThreadPoolExecutor(32) as pool:
            opened = list(pool.map(lambda _, runs=runs: runs.open(Handle(Run(start("one")), print)), range(32)))
        assert len(set(map(id, opened))) == 1


def test_old_runs_are_forgotten_but_never_one_whose_handle_is_in_use(monkeypatch):
    monkeypatch.setattr(desk, "ENDED_KEPT", 2)
    runs = Runs()
    handles = kept(runs, "a", "b", "c", "d")
    used, forgotten = handles[0], weakref.ref(handles[1])
    for handle in handles:
        handle.run.end(result(handle.correlation_id))
        runs.ended(handle.correlation_id)
    del handle, handles
    gc.collect()
    assert runs.get("a") is used
    assert forgotten() is None
    assert runs.get("b") is None
    assert runs.get("c") is not None


def test_open_runs_are_those_without_an_end():
    runs = Runs()
    one, two = kept(runs, "one", "two")
    one.run.end(result("one"))
    runs.ended("one")
    assert runs.unended() == [two.run]
