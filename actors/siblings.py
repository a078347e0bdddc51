"""Refuses, when it is imported, a package called ``protocol`` that is not Troupe's: one line, with both paths.

Partner: ``runtime/siblings.py``, which asks without importing anything.
"""

from __future__ import annotations

from pathlib import Path

import protocol

_found = Path(protocol.__file__ or next(iter(protocol.__path__), ""))
_ours = Path(__file__).parent.parent / "protocol"
if _found not in {_ours, _ours / "__init__.py", _ours / "__init__.pyc"}:
    _found = _found.parent if _found.name == "__init__.py" else _found
    text = f"Python finds {_found} as 'protocol' and not Troupe's {_ours}: rename it, or start elsewhere"
    raise ImportError(text)
