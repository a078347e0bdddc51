"""Pages that show files: what stands under ``<!-- file: path -->`` is that file, word for word.

``python -m tests.pages`` writes the files into the pages. Whatever else is code on a page: ``tests/blocks.py``.
"""

from __future__ import annotations

import re

from tests.runtime.command import ROOT

PAGES = ("own-agent.md", "embedding.md")
SHOWN = re.compile(r"(?<=<!-- file: )(\S+)( -->\n```\w*\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
FENCES = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def shown(text: str) -> dict[str, str]:
    """Return the files that a page shows, by their paths, as it shows them."""
    return {found[1]: found[3] for found in SHOWN.finditer(text)}


def commands(text: str) -> list[str]:
    """Return the commands of a page."""
    return [line for kind, block in FENCES.findall(text) if kind == "sh" for line in block.splitlines() if line]


def written(text: str) -> str:
    """Return the page with each file as it stands in the tree."""
    return SHOWN.sub(lambda found: found[1] + found[2] + (ROOT / found[1]).read_text(encoding="utf-8"), text)


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / "docs" / name).write_text(written(page(name)), encoding="utf-8")
