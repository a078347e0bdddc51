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
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")
PAPERS = ("CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the papers; their links lead into this folder."""
    for name in PAPERS:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name.lower(), content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let a link to a file of the repository that is no page be its words alone; a file must be there all the same."""
    return OUTSIDE.sub(lambda link: link[1] if (ROOT / link[2]).exists() else link[0], markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show what docstrings refer to as code, without the marks of another kind of markup."""
    return ROLE.sub(r"<code>\1</code>", html)
