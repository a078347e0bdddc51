"""The file of what routing has learnt: read at the start, written at the end, when the configuration names one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from protocol.errors import ConfigError
from protocol.ladder import rungs
from protocol.policies.routing import Effect, Router, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.models import ModelInfo
    from runtime.config import Routing

LARGEST_FILE = 10_000_000


def router(table: Routing, models: Iterable[ModelInfo]) -> Router:
    """Return the router of *models* with what its file has kept. Raises ``ConfigError`` for a file that is no such."""
    rules = Rules(
        worth=table.worth,
        explore=table.explore,
        learn=table.learn,
        cascade=table.cascade,
        adaptive=table.choose == "auto",
    )
    return Router(rungs(models), rules, read(table.memory))


def read(path: str | None) -> tuple[Effect, ...]:
    """Return what the file at *path* has kept; nothing where there is none yet."""
    if path is None:
        return ()
    try:
        with Path(path).open("rb") as file:
            return msgspec.json.decode(file.read(LARGEST_FILE), type=tuple[Effect, ...])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise ConfigError(f"routing.memory: {path} cannot be read as what was learnt: {error}") from None


def write(path: str | None, learnt: tuple[Effect, ...]) -> None:
    """Keep *learnt* in the file at *path*, whole or not at all. Raises ``OSError``."""
    if path is None:
        return
    fresh = Path(f"{path}.new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(learnt)) + b"\n")
    fresh.replace(path)
