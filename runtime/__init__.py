"""The runtime of Troupe: everything that touches the world, and the system that assembles actors into a team.

``from runtime import ActorSystem, Config`` is what an application needs; names are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.config import Config
    from runtime.handle import Handle
    from runtime.system import ActorSystem

__all__ = ["ActorSystem", "Config", "Handle"]

_HOME = {"ActorSystem": "runtime.system", "Config": "runtime.config", "Handle": "runtime.handle"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (only when a name is first used)

    from runtime.siblings import check_siblings  # noqa: PLC0415 (as above)

    check_siblings()

    return getattr(import_module(_HOME[name]), name)
