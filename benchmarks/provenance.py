"""Where a figure comes from: the commit that it was measured on."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """Return the commit of this tree, with ``-dirty`` behind it where code differs; "unknown" outside a clone.

    Figures and pages that one benchmark has written do not make those of the next dirty.
    """
    here = Path(__file__).parent
    command = ["git", "status", "--porcelain", "--", "..", ":!results", ":!../docs", ":!../README.md"]
    try:
        name = _said(["git", "rev-parse", "--short", "HEAD"], here)
        return f"{name}-dirty" if _said(command, here) else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _said(command: list[str], where: Path) -> str:
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=True).stdout.strip()
