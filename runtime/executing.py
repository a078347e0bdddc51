"""Whether drafts are run, and by whom: what the ``[executor]`` table becomes.

There is no unsafe mode: without a sandbox nothing is run, and either that is shown or the system does not start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors.agent import agent_spec, equip
from actors.executor import Executor
from protocol.errors import ConfigError
from protocol.roles import AgentRole
from runtime.bubblewrap import NoSandboxError, find_tools
from runtime.sandbox import Sandbox

if TYPE_CHECKING:
    from actors.directory import ActorSpec
    from runtime.config import Config

NO_SANDBOX = "no sandbox"


class Executing:
    """The sandbox of one system: opened at the start, closed at the end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sandbox = Sandbox()
        self.on = False
        self.not_run = ""

    def open(self) -> None:
        """Find out whether drafts can be run. Raises ``ConfigError`` where they must be, and cannot.

        ``auto`` looks whether the tools are there; ``true`` makes a run, since it must not turn out later.
        """
        enabled = self._config.executor.enabled
        if enabled is False:
            return
        if self._of_users_own():
            self.on = True
            return
        reason = self._sandbox.obstacle() if enabled is True else _missing()
        if enabled is True and reason is not None:
            raise ConfigError(f"executor.enabled is true, and there is no sandbox: {reason}")
        self.on = reason is None
        self.not_run = "" if reason is None else f"{NO_SANDBOX} ({reason})"

    def agents(self) -> dict[str, tuple[ActorSpec, ...]]:
        """Return the executor, unless there is none or the configuration names one of the user's own."""
        if not self.on or self._of_users_own():
            return {}
        spec = agent_spec(Executor, AgentRole.EXECUTOR, 0)
        return {
            AgentRole.EXECUTOR: (
                replace(spec, factory=lambda: equip(Executor(self._sandbox), AgentRole.EXECUTOR, None)),
            )
        }

    def in_words(self) -> str:
        """Say what becomes of drafts."""
        if self.on:
            return "drafts are run" if self._of_users_own() else "drafts are run in a sandbox"
        return f"drafts are not run: {self.not_run or 'executor.enabled is false'}"

    def close(self) -> None:
        """End every run, now and later."""
        self._sandbox.close()

    def _of_users_own(self) -> bool:
        role = self._config.roles.get(AgentRole.EXECUTOR)
        return role is not None and role.agent is not None


def _missing() -> str | None:
    try:
        find_tools()
    except NoSandboxError as error:
        return str(error)
    return None
