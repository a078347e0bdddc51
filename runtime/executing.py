"""Whether drafts are run, and by whom: what the ``[executor]`` table becomes.

There is no unsafe mode: without a sandbox nothing is run, and either that is shown or the system does not start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from actors.agent import agent_spec, equip
from actors.executor import Executor, NoBox
from actors.team import Running
from protocol.errors import ConfigError
from protocol.roles import AgentRole

if TYPE_CHECKING:
    from actors.directory import ActorSpec
    from runtime.config import Config
    from runtime.sandbox import Sandbox

NO_SANDBOX = "no sandbox"


class Executing:
    """The sandbox of one system: opened at the start, closed at the end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sandbox: Sandbox | None = None
        self._reason = "executor.enabled is false"
        self.running = Running()

    def open(self) -> None:
        """Find out whether drafts can be run. Raises ``ConfigError`` where they must be, and cannot.

        ``auto`` looks whether the tools are there; ``true`` makes a run, since it must not turn out later.
        """
        enabled = self._config.executor.enabled
        if enabled is False:
            return
        if self._of_users_own():
            self.running = Running(on=True)
            return
        from runtime.sandbox import Sandbox  # noqa: PLC0415 (what starts processes is not read where nothing is run)

        self._sandbox = Sandbox()
        reason = self._sandbox.obstacle() if enabled is True else _missing()
        self._reason = reason or ""
        if enabled is True and reason is not None:
            raise ConfigError(f"executor.enabled is true, and there is no sandbox: {reason}", page="sandbox")
        self.running = Running(on=True) if reason is None else Running(reason=f"{NO_SANDBOX} ({reason})")

    def agents(self) -> dict[str, tuple[ActorSpec, ...]]:
        """Return the executor, unless the configuration names one of the user's own.

        Where nothing is run it answers so.
        """
        if self._of_users_own():
            return {}
        box = self._sandbox if self._sandbox is not None and self.running.on else NoBox(self._reason)
        spec = agent_spec(Executor, AgentRole.EXECUTOR, 0)
        return {AgentRole.EXECUTOR: (replace(spec, factory=lambda: equip(Executor(box), AgentRole.EXECUTOR, None)),)}

    def close(self) -> None:
        """End every run, now and later."""
        if self._sandbox is not None:
            self._sandbox.close()

    def _of_users_own(self) -> bool:
        role = self._config.roles.get(AgentRole.EXECUTOR)
        return role is not None and role.agent is not None


def _missing() -> str | None:
    from runtime.bubblewrap import NoSandboxError, find_tools  # noqa: PLC0415 (as above)

    try:
        find_tools()
    except NoSandboxError as error:
        return str(error)
    return None
