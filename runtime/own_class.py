"""Classes of the user's own that a configuration names, as ``package.module:Name``.

They are found as ``python -m`` finds modules: in the current directory and where packages are installed. For a program
that was started otherwise the current directory is put at the *end* of ``sys.path``, so that no file in it takes the
place of an installed module; with ``PYTHONSAFEPATH`` or ``-P`` it is left out, as Python does. Whatever goes wrong,
also inside the module, is one ``ConfigError`` of one line.
"""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from protocol.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

DOORS = {"Agent": "handle", "Workflow": "run"}
"""The coroutine that a subclass of each base must bring."""
MOST_WORDS = 300
"""Characters of a foreign exception's text that are shown."""


def load(path: str, base: type[Any], key: str) -> Any:
    """Import ``package.module:Name``, a subclass of *base* that stands at *key* of the configuration.

    Raises ``ConfigError``: there is no such module, importing it raises, it has no such name, or that is no such class.
    """
    name, _, attribute = path.partition(":")
    where = f"{key} = {path!r}"
    found = getattr(_module(name, where), attribute, None)
    if found is None:
        raise ConfigError(f"{where}: {_lacks(sys.modules[name], attribute)}", page="own_class")
    public = f"{base.__module__.partition('.')[0]}.{base.__name__}"
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{where}: is no subclass of {public}", page="own_class")
    door = DOORS.get(base.__name__, "")
    if door and getattr(found, door) is getattr(base, door):
        raise ConfigError(f"{where}: has no {door}(); write `async def {door}`", page="own_class")
    return found


def _module(name: str, where: str) -> ModuleType:
    """Import the module *name*."""
    here = see_current_directory()
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, where, error) from None
        looked = f"in {here} and among installed packages" if here else "among installed packages"
        text = f"{where}: there is no module {error.name!r} ({looked})"
        raise ConfigError(text, page="own_class") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (whatever a foreign module does, sys.exit() too, is its author's news)
        raise _broken(name, where, error) from None


def see_current_directory() -> str | None:
    """Let modules of the current directory be found; return it, None where they are not to be, or there is none."""
    if sys.flags.safe_path:
        return None
    try:
        here = os.getcwd()  # noqa: PTH109 (as text, as sys.path holds it)
    except OSError:
        return None
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
    return here


def _broken(name: str, where: str, error: BaseException) -> ConfigError:
    """Return the news that importing the module *name* has raised *error*, with the line it happened at."""
    frames = [frame for frame in extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    file, line = frames[-1].filename, frames[-1].lineno
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno
    at = f" ({os.path.basename(file)}, line {line})" if file != __file__ else ""  # noqa: PTH119 (as above)
    words = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())[:MOST_WORDS]
    text = f"{where}: importing {name} raised {type(error).__name__}{at}{f': {words}' if words else ''}"
    return ConfigError(text, page="own_class")


def _lacks(module: ModuleType, attribute: str) -> str:
    close = get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")], n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"{module.__name__} ({module.__file__ or 'a folder without code'}) has no {attribute!r}{meant}"
