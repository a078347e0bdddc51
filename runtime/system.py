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

import os
import secrets
import time
from functools import partial
from itertools import count
from threading import current_thread
from typing import TYPE_CHECKING, Any, Self

import pykka

from actors.base import in_words
from actors.directory import ActorSpec, Directory
from actors.limiter import Limiter
from actors.recorder import Recorder
from actors.supervisor import Register, Supervisor
from actors.worker import CREW, Crew
from actors.workflow import DirectWorkflow, Workflow
from protocol import ids
from protocol.errors import ConfigError, ErrorKind, TroupeError
from protocol.signals import Control, StartRun, Stop
from runtime import assembly
from runtime.config import Config
from runtime.desk import Close, Desk, Open, Run, Runs, Subscribe, Unsubscribe
from runtime.executing import Executing
from runtime.handle import FORKED, Handle
from runtime.logs import get_logger, where_raised
from runtime.loop import PinnedDispatcher, SharedDispatcher
from runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.agent import Agent
    from protocol.pace import LearnedLimit
    from protocol.signals import ChildFailed, DeadLetter

EDGE_TIMEOUT = 10.0
"""Seconds that an ask from outside may take; the answer normally comes in a tenth of a millisecond."""

HANG_UP_EVERY = 0.1
"""Seconds between two attempts to end the calls under way when the system stops."""

_log = get_logger()


class ActorSystem:
    """A running team. Use it as a context manager, sync or async, or with :meth:`start` and :meth:`stop`.

    Two systems in one process share nothing. The library never configures logging, never writes to standard output and
    installs no signal handlers; its threads are daemons, so a forgotten :meth:`stop` does not hang the interpreter.

    With *watch_calls* the events of a run hold each stage of each model call, too (``call.queued``, ``call.sent``):
    three messages more a call, which nobody should pay for who does not look.
    """

    def __init__(self, config: Config | None = None, *, watch_calls: bool = False) -> None:
        self.config = Config() if config is None else config
        if not isinstance(self.config, Config):
            raise ConfigError(f"a system takes a Config, not {config!r}: Config.load(path) reads a file")
        self._pid = os.getpid()
        self._started = self._stopped = False
        self._refusal = "the system is not running: use it in a with block, or call start() first"
        self._shared = SharedDispatcher()
        pinned = PinnedDispatcher()
        self._pinned = pinned
        in_threads = self.config.system.dispatcher == "threads"
        self.directory = Directory(pinned if in_threads else self._shared, pinned)
        self.directory.on_dead_letter = self._on_dead_letter
        self.directory.on_failure = self._on_failure
        self.directory.on_raised = self._on_raised
        self.directory.on_lesson = self._on_lesson
        self.directory.on_collapse = self._on_collapse
        self._watchdog = Watchdog(self.directory, (self._shared, pinned), self._on_slow)
        self._workflows: dict[str, Callable[[StartRun], Workflow]] = {"direct": DirectWorkflow}
        self._runs = Runs()
        self._models = assembly.Models(self.config)
        self._watcher = ids.DESK if watch_calls else None
        self._executing = Executing(self.config)

    # --- life

    def start(self) -> Self:
        """Start the actors; returns at once, or after the embedded model is there.

        Raises ``ConfigError`` for what cannot work, ``TroupeError`` when it was stopped before: make a new one then.
        """
        if self._started:
            self._check()
            return self
        self._executing.open()
        self._workflows |= assembly.workflows(self.config, self._executing.running)
        agents = assembly.agents(self.config) | self._executing.agents()
        self._pid, self._started = os.getpid(), True
        try:
            self._models.open()
            self._shared.start()
            for spec in self._tree():
                self.directory.spawn(spec)
            for role, specs in agents.items():
                self._cast(role, specs)
        except BaseException:
            self.stop()
            raise
        self._watchdog.start()
        self._refusal = ""
        return self

    def _tree(self) -> list[ActorSpec]:
        lives = count()
        limits, flows = assembly.limits(self.config), assembly.flows(self.config)
        budget = assembly.budget(self.config)
        gateway = partial(self._models.gateway, self._watcher)

        def child(address: str, factory: Callable[[], Any], *watchers: str) -> ActorSpec:
            return ActorSpec(address=address, factory=factory, parent=ids.SUPERVISOR, watchers=watchers, vital=True)

        return [
            ActorSpec(address=ids.SUPERVISOR, factory=lambda: Supervisor(self._workflows)),
            child(ids.RECORDER, Recorder),
            child(
                ids.LIMITER,
                lambda: Limiter(limits, flows=flows, budget=budget, fresh=next(lives) == 0, observer=ids.DESK),
                ids.GATEWAY,
            ),
            child(ids.GATEWAY, gateway, ids.LIMITER),
            child(CREW, Crew),
            child(ids.DESK, lambda: Desk(self._runs)),
        ]

    def stop(self, timeout: float = 10.0) -> None:
        """Stop within *timeout* seconds: cancel what runs, let it end, then end every thread. May be called again."""
        if not self._started or self._stopped or os.getpid() != self._pid:
            return
        self._stopped = True
        self._refusal = "the system is not running: it has been stopped, and stays so; make a new one"
        now = time.monotonic()
        self._drain(now + timeout / 2)
        self._executing.close()
        self._watchdog.stop()
        self._end_actors(now + timeout)
        stuck = self._end_actors(now + timeout)  # for whoever was hired while the others ended
        if stuck:
            _log.warning("system.threads_stuck", threads=stuck)
        self._models.close(max(0.1, now + timeout - time.monotonic()))
        self._abandon("the system was stopped", ErrorKind.STOPPED)

    def _drain(self, until: float) -> None:
        """Take no new runs, cancel those that are open, and wait for their ends."""
        self.directory.send(ids.DESK, Close(reason="stopping"))
        for run in self._runs.unended():
            try:
                run.future.get(timeout=max(0.0, until - time.monotonic()))
            except pykka.Timeout:
                _log.warning("system.stopped_hard", open=len(self._runs.unended()))
                return

    def _abandon(self, reason: str, kind: ErrorKind) -> None:
        """End what is still open when no actor will, so that nobody waits for ever."""
        for run in self._runs.unended():
            run.stop(reason, kind)

    def _end_actors(self, deadline: float) -> list[str]:
        """Stop every actor and join every thread; return the names of those that do not end.

        Hangs up again and again, since a call may be just about to begin. Whom the watchdog has given up already is
        not waited for: nothing can end that thread.
        """
        given_up = list(self._watchdog.stuck)
        threads = [*self._pinned.threads(), *self._shared.threads(), self._watchdog.thread]
        last = (ids.DESK, ids.SUPERVISOR)
        for address in (*(a for a in list(self.directory.mailboxes) if a not in last), *last):
            self.directory.send(address, Stop(reason="the system was stopped"))
        self._shared.stop()
        self._pinned.stop()
        for thread in threads:
            while (left := deadline - time.monotonic()) > 0.0 and thread.is_alive() and thread is not current_thread():
                self._models.abort()
                thread.join(min(left, HANG_UP_EVERY))
        return [thread.name for thread in (*threads, *given_up) if thread.is_alive()]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 (a program without an event loop never loads it)

        starting = asyncio.create_task(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:  # the thread starts it all the same, and nobody would stop it
            await asyncio.gather(starting, return_exceptions=True)
            await asyncio.to_thread(self.stop)
            raise

    async def __aexit__(self, *_: object) -> None:
        from asyncio import to_thread  # noqa: PLC0415 (as above)

        await to_thread(self.stop)

    # --- what an application says

    def register(self, agent: type[Agent], *, role: str | None = None, instances: int = 1) -> None:
        """Let *instances* of *agent* play *role* (the class's own when None), with the settings of ``[roles.<role>]``.

        Raises ``ConfigError`` for a name that is none, a class that cannot be made, or a role that is played already.
        """
        name, specs = assembly.pool(self.config, agent, role, instances)
        self._check()
        self._cast(name, specs)

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
        max_cost: float | None = None,
    ) -> Handle:
        """Start a run of *task* and return its handle at once.

        *to* sends it straight to a role; *workflow* is a class, or the name of a registered one (default: the
        configured team). *priority* is ``high``, ``normal`` or ``low``; *flow* names the tenant whose share of a
        contended provider it takes (default: a share of its own). *timeout* is in seconds for the whole run, *max_cost*
        a hard budget for it in US dollars. The same id with the same task gives the same handle; with another task
        ``TroupeError``.
        """
        self._check()
        start = StartRun(
            run=assembly.correlation_id(f"run-{secrets.token_hex(6)}" if correlation_id is None else correlation_id),
            task=assembly.task(task),
            workflow=self._workflow_name(workflow, to),
            to=to if to is None else assembly.words("to", to),
            priority=assembly.priority(priority),
            flow=assembly.flow(flow),
            timeout=assembly.timeout(timeout),
            max_cost=assembly.money(max_cost),
            reply_to=ids.DESK,
        )
        new = Handle(Run(start), self._tell_desk)
        handle = self._runs.open(new)
        if handle is new:
            self._tell_desk(Open(start=start))
        elif not assembly.same(handle.run.start, start):
            raise TroupeError(f"run {start.run!r} exists already with another task")
        return handle

    def handle(self, correlation_id: str) -> Handle | None:
        """Return the handle of that run, None when it is not known.

        Known are the runs that go on, the last 50 that ended, and all whose handles are in use; also after the stop.
        """
        return self._runs.get(correlation_id)

    def dead_letters(self) -> list[DeadLetter]:
        """Return the last messages that nobody handled, oldest first."""
        return list(self.directory.dead)

    # --- inside

    def _workflow_name(self, workflow: type[Workflow] | str | None, to: str | None) -> str:
        """Return the name that *workflow* is registered by; two classes of one name get two."""
        if to is not None:
            return "direct"
        if not isinstance(workflow, type):
            return assembly.known(workflow or self.config.team.workflow, self._workflows)
        if not issubclass(workflow, Workflow):
            raise TroupeError(f"workflow is a subclass of actors.Workflow or the name of one, not {workflow!r}")
        base = name = f"{workflow.__module__}:{workflow.__qualname__}"
        numbers = count(2)
        while self._workflows.setdefault(name, workflow) is not workflow:
            name = f"{base}#{next(numbers)}"
        return name

    def _check(self) -> None:
        if self._started and os.getpid() != self._pid:
            raise TroupeError(FORKED, page="system")
        if self._refusal:
            raise TroupeError(self._refusal, page="system")

    def _cast(self, role: str, specs: tuple[ActorSpec, ...]) -> None:
        refusal = self._ask(ids.SUPERVISOR, Register(role=role, specs=specs))
        if refusal is not None:
            raise ConfigError(refusal)

    def _ask(self, address: str, message: Any) -> Any:
        """Ask an actor from outside. Raises ``TroupeError`` when it does not answer."""
        try:
            return self.directory.mailboxes[address].actor.actor_ref.ask(message, timeout=EDGE_TIMEOUT)  # type: ignore[union-attr]
        except (KeyError, AttributeError, pykka.ActorDeadError, pykka.Timeout) as error:
            raise TroupeError(f"the system does not answer: {in_words(error)}", page="system") from None

    def _tell_desk(self, message: Any) -> None:
        """Pass on what is said outside; what the desk cannot take any more comes back as a dead letter."""
        self.directory.send(ids.DESK, message)

    # --- what is logged

    def _on_dead_letter(self, letter: DeadLetter) -> None:
        """Keep and log it. What was said to a desk that is gone is done here, so that nobody waits for ever."""
        if isinstance(letter.message, Subscribe):
            letter.message.run.replay(letter.message.sink)
            return
        if isinstance(letter.message, Unsubscribe):
            letter.message.run.forget(letter.message.sink)
            return
        if isinstance(letter.message, (Open, StartRun)) and letter.to in {ids.DESK, ids.SUPERVISOR}:
            start = letter.message.start if isinstance(letter.message, Open) else letter.message
            handle = self._runs.get(start.run)
            if handle is not None:
                handle.run.stop("the system was stopped", ErrorKind.STOPPED)
        self.directory.dead.append(letter)
        if self._stopped and isinstance(letter.message, (Control, Close)):
            return  # they all tell a supervisor that has gone of their own end
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

    def _on_raised(self, event: str, address: str, run: str, error: BaseException) -> None:
        """Show where a user's code raised, which its result does not; who called a function may have caught that."""
        say = _log.info if event == "function.raised" else _log.error
        say(event, correlation_id=run, actor=address, error=in_words(error), trace=where_raised(error))

    def _on_lesson(self, domain: str, limit: LearnedLimit) -> None:
        _log.info(
            "limit.learned",
            domain=domain,
            resource=limit.resource,
            per_minute=round(limit.per_minute, 1),
            burst=limit.burst,
            source=limit.source,
        )

    def _on_collapse(self, news: ChildFailed) -> None:
        """Nothing can go on: end every run, and take no more."""
        self._refusal = f"the system has collapsed: {news.address} failed too often: {news.error}"
        _log.critical("system.collapsed", actor=news.address, error=news.error)
        self._abandon(self._refusal, ErrorKind.INTERNAL)

    def _on_slow(self, address: str, message: str, seconds: float) -> None:
        _log.warning("loop.held", actor=address, message=message, seconds=round(seconds, 2))
