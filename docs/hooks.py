"""What the site needs beside the pages in this folder: the papers at the top of the repository, as pages too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?(?:[\w.]*\.)?(\w+)</code>")
PAPERS = ("CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Offer no page that is not written yet."""
    config.nav = [_there(entry) for entry in config.nav or ()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the papers; their links lead into this folder."""
    for name in PAPERS:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name.lower(), content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Show what docstrings refer to as code, without the marks of another kind of markup."""
    return ROLE.sub(r"<code>\1</code>", html)


def _there(entry: Any) -> Any:
    """Return *entry* of the nav without the pages that do not exist."""
    ((title, target),) = entry.items()
    if isinstance(target, str):
        return entry
    papers = {paper.lower() for paper in PAPERS}
    pages = [page for page in target if next(iter(page.values())) in papers or _exists(page)]
    return {title: pages}


def _exists(page: dict[str, str]) -> bool:
    return (ROOT / "docs" / next(iter(page.values()))).is_file()
