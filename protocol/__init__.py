"""The protocol of Troupe: what is said, and what is decided. Deterministic: no clock, thread, log, dice or socket."""

from protocol.errors import Cancelled, ConfigError, ErrorKind, TaskFailed, TroupeError
from protocol.messages import AgentMessage, Summary, TaskResult, WorkflowResult
from protocol.roles import AgentRole, RoleSettings

__all__ = [
    "AgentMessage",
    "AgentRole",
    "Cancelled",
    "ConfigError",
    "ErrorKind",
    "RoleSettings",
    "Summary",
    "TaskFailed",
    "TaskResult",
    "TroupeError",
    "WorkflowResult",
]
