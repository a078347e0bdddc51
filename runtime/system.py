"""The composition root: reads like the supervision tree, starts top down, stops in reverse.

::

    supervisor                 routes, restarts
    |- recorder                every awaited answer passes it
    |- limiter                 hands out tokens
    |- gateway                 owns a model call from request to answer
    |  `- caller/main/0 ...    pinned: one blocking HTTP call at a time, hired when needed
    |- workers                 hands functions to pinned workers
    |- desk                    the edge: handles, results, events
    |- orchestrator/0, coder/0, reviewer/0, ... agents of a role
    `- workflow/<correlation id> one for each run, gone when it ends
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import pykka

from actors.directory import ActorSpec, Directory
from actors.limiter import Limiter
from actors.recorder import Recorder
from actors.supervisor import Register, RegisterWorkflow, Supervisor
from actors.worker import CREW, Crew
from actors.workflow import DirectWorkflow
from protocol import ids
from protocol.errors import TroupeError
from protocol.signals import RunEnded, StartRun, Stop
from runtime import assembly
from runtime.config import Config
from runtime.desk import Close, Desk, Open, Run, Subscribe
from runtime.handle import Handle
from runtime.logs import get_logger
from runtime.loop import PinnedDispatcher, SharedDispatcher
from runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.agent import Agent
    from actors.workflow import Workflow
    from protocol.signals import ChildFailed, DeadLetter

EDGE_TIMEOUT = 10.0
"""Seconds that an ask from outside may take; the answer normally comes in a tenth of a millisecond."""

_log = get_logger()


class ActorSystem:
    """A running team. Use it as a context manager, sync or async, or with :meth:`start` and :meth:`stop`.

    Two systems in one process share nothing. The library never configures logging, never writes to standard output and
    installs no signal handlers; its threads are daemons, so a forgotten :meth:`stop` does not hang the interpreter.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._pid = 0
        self._running = False
        self._shared = SharedDispatcher()
        pinned = PinnedDispatcher()
        self._pinned = pinned
        in_threads = self.config.system.dispatcher == "threads"
        self.directory = Directory(pinned if in_threads else self._shared, pinned)
        self.directory.on_dead_letter = self._on_dead_letter
        self.directory.on_failure = self._on_failure
        self.directory.on_collapse = self._on_collapse
        self._watchdog = Watchdog(self.directory, (self._shared, pinned), self._on_slow)
        self._workflows: dict[str, Callable[[StartRun], Workflow]] = {"direct": DirectWorkflow}
        self._runs: dict[str, Run] = {}
        self._models = assembly.Models(self.config)

    # --- life

    def start(self) -> Self:
        """Start the actors; returns at once, or after the embedded model is there.

        Raises ``ConfigError`` for what cannot work.
        """
        if self._running:
            return self
        self._models.open()
        self._workflows |= assembly.workflows(self.config)
        self._pid = os.getpid()
        self._running = True
        self._shared.start()
        for spec in self._tree():
            self.directory.spawn(spec)
        for role, specs in assembly.agents(self.config).items():
            self._ask(ids.SUPERVISOR, Register(role=role, specs=specs))
        self._watchdog.start()
        return self

    def _tree(self) -> list[ActorSpec]:
        lives = count()
        limits = assembly.limits(self.config)
        gateway = self._models.gateway

        def child(address: str, factory: Callable[[], Any], *watchers: str) -> ActorSpec:
            return ActorSpec(
                address=address, factory=factory, parent=ids.SUPERVISOR, watchers=watchers, vital=True
            )

        return [
            ActorSpec(address=ids.SUPERVISOR, factory=lambda: Supervisor(self._workflows)),
            child(ids.RECORDER, Recorder),
            child(ids.LIMITER, lambda: Limiter(limits, fresh=next(lives) == 0), ids.GATEWAY),
            child(ids.GATEWAY, gateway, ids.LIMITER),
            child(CREW, Crew),
            child(ids.DESK, lambda: Desk(self._runs)),
        ]

    def stop(self, timeout: float = 10.0) -> None:
        """Stop within *timeout* seconds: cancel what runs, let it end, then end every thread. May be called again."""
        if not self._running or os.getpid() != self._pid:
            return
        deadline = time.monotonic() + timeout
        self._drain(time.monotonic() + timeout / 2)
        self._running = False
        self._watchdog.stop()
        self._models.abort()
        last = (ids.DESK, ids.SUPERVISOR)
        for address in (*(a for a in list(self.directory.mailboxes) if a not in last), *last):
            self.directory.send(address, Stop(reason="the system was stopped"))
        for dispatcher in (self._pinned, self._shared):
            dispatcher.stop()
        self._join(deadline)
        self._models.close()
        self._abandon("the system was stopped")

    def _drain(self, until: float) -> None:
        """Take no new runs, cancel those that are open, and wait for their ends."""
        try:
            self._ask(ids.DESK, Close(reason="stopping"))
            for run in list(self._runs.values()):
                run.handle.result(timeout=max(0.0, until - time.monotonic()))
        except (pykka.Timeout, TimeoutError, pykka.ActorDeadError, TroupeError) as error:
            _log.warning("system.stopped_hard", reason=str(error))

    def _abandon(self, reason: str) -> None:
        """End what is still open when no actor runs any more, so that nobody waits for ever."""
        for run in list(self._runs.values()):
            if run.result is None:
                run.result = assembly.stopped(run.start, reason)
                run.handle.finish(run.result)
                run.hand_out(RunEnded(run=run.start.run, result=run.result))

    def _join(self, deadline: float) -> None:
        threads = [*self._pinned.threads(), *self._shared.threads(), self._watchdog.thread, *self._watchdog.stuck]
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in threads if thread.is_alive()]
        if stuck:
            _log.warning("system.threads_stuck", threads=stuck)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    # --- what an application says

    def register(self, agent: type[Agent], *, role: str | None = None, instances: int = 1) -> None:
        """Let *instances* of *agent* play *role* (the class's own when None), with the settings of ``[roles.<role>]``.

        Raises ``ConfigError`` for a name that is none, or a role that is played already.
        """
        name, specs = assembly.pool(self.config, agent, role, instances)
        self._check()
        if any(spec.address in self.directory.mailboxes for spec in specs):
            raise TroupeError(f"the role {name!r} is played already")
        self._ask(ids.SUPERVISOR, Register(role=name, specs=specs))

    def submit(
        self,
        task: str,
        *,
        correlation_id: str | None = None,
        to: str | None = None,
        workflow: type[Workflow] | str | None = None,
        priority: str = "normal",
        flow: str = "",
        timeout: float | None = None,
    ) -> Handle:
        """Start a run of *task* and return its handle at once.

        *to* sends it straight to a role; *workflow* is a class, or the name of a registered one (default: the
        configured team). *timeout* is in seconds for the whole run. The same id with the same task gives the same
        handle; with another task ``TroupeError``.
        """
        self._check()
        run = assembly.correlation_id(correlation_id or f"run-{secrets.token_hex(6)}")
        if not task.strip():
            raise TroupeError("the task is empty")
        start = StartRun(
            run=run,
            task=task,
            workflow=self._workflow_name(workflow, to),
            to=to,
            priority=assembly.priority(priority),
            flow=flow,
            timeout=assembly.timeout(timeout),
            reply_to=ids.DESK,
        )
        answer = self._ask(ids.DESK, Open(start=start, handle=Handle(run, self._tell_desk)))
        if isinstance(answer, str):
            raise TroupeError(answer)
        handle: Handle = answer
        return handle

    def dead_letters(self) -> list[DeadLetter]:
        """Return the last messages that nobody handled, oldest first."""
        return list(self.directory.dead)

    # --- inside

    def _workflow_name(self, workflow: type[Workflow] | str | None, to: str | None) -> str:
        if to is not None:
            return "direct"
        if workflow is None:
            return self.config.team.workflow
        if isinstance(workflow, str):
            return workflow
        name = f"{workflow.__module__}:{workflow.__qualname__}"
        self.directory.send(ids.SUPERVISOR, RegisterWorkflow(name=name, factory=workflow))
        return name

    def _check(self) -> None:
        if not self._running:
            raise TroupeError("the system is not running: use it in a with block, or call start() first")
        if os.getpid() != self._pid:
            raise TroupeError(
                "the system was started before os.fork(): threads do not survive a fork; start a system in the child"
            )

    def _ask(self, address: str, message: Any) -> Any:
        mailbox = self.directory.mailboxes.get(address)
        if mailbox is None or mailbox.actor is None:
            raise TroupeError("the system has stopped")
        return mailbox.actor.actor_ref.ask(message, timeout=EDGE_TIMEOUT)

    def _tell_desk(self, message: Any) -> None:
        """Pass on what a handle says; after the end of the system a late subscriber still gets what there was."""
        if self._running:
            self.directory.send(ids.DESK, message)
        elif isinstance(message, Subscribe):
            self._runs[message.run].replay(message.sink)

    # --- what is logged

    def _on_dead_letter(self, letter: DeadLetter) -> None:
        self.directory.dead.append(letter)
        _log.info("letter.died", to=letter.to, reason=letter.reason, message=type(letter.message).__name__)

    def _on_failure(self, news: ChildFailed, action: str) -> None:
        _log.error(
            "child.failed",
            actor=news.address,
            error=news.error,
            message=news.message,
            action=action,
            trace=news.traceback,
        )

    def _on_collapse(self, news: ChildFailed) -> None:
        _log.critical("system.collapsed", actor=news.address, error=news.error)
        self._abandon(f"the system collapsed: {news.error}")

    def _on_slow(self, address: str, message: str, seconds: float) -> None:
        _log.warning("loop.held", actor=address, message=message, seconds=round(seconds, 2))
