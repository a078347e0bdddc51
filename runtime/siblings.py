"""Whether the packages that Python finds beside this one are Troupe's.

``actors`` and ``protocol`` are common names: a folder of the user's own, or another distribution, may come first on
``sys.path``. Nothing is imported to find that out. It is asked where an application or the command line comes in, and
not when the package is imported: pytest loads ``runtime.pytest_plugin`` in every project of an environment, and those
that have nothing to do with Troupe may call their packages what they like. Partner: ``actors/siblings.py``.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

SIBLINGS = ("actors", "protocol")


def clash() -> str | None:
    """Return in one line which package is not ours, with both paths; None: all of them are."""
    home = Path(__file__).parent.parent
    for name in SIBLINGS:
        found = _place(name)
        if found is None or found.parent != home:
            shown = "nothing" if found is None else found
            return f"Python finds {shown} as {name!r} and not Troupe's {home / name}: rename it, or start elsewhere"
    return None


def check_siblings() -> None:
    """Raise ``ImportError``, one line, where a package is not ours."""
    found = clash()
    if found is not None:
        raise ImportError(found)


def _place(name: str) -> Path | None:
    """Return the folder or file that ``import name`` gives or would give."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None) or (None if module else find_spec(name))
    if spec is None:
        file = getattr(module, "__file__", None)
        return Path(file) if file else None
    folders = list(spec.submodule_search_locations or ())
    place = folders[0] if folders else spec.origin
    return Path(place) if place else None
