"""The actors of Troupe: thin shells around the decisions in ``protocol/``, each a Pykka actor with its own mailbox."""

import actors.siblings  # noqa: F401 (first: it refuses a `protocol` that is not ours)
from actors.agent import Agent
from actors.coder import Coder
from actors.executor import Executor
from actors.orchestrator import Orchestrator
from actors.reviewer import Reviewer
from actors.team import TeamWorkflow
from actors.workflow import Outcome, Workflow

__all__ = ["Agent", "Coder", "Executor", "Orchestrator", "Outcome", "Reviewer", "TeamWorkflow", "Workflow"]
