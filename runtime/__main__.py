"""``python -m runtime``, and the command ``troupe``: the command line."""

from __future__ import annotations

import sys

from runtime.interrupts import end_at_once


def main() -> int:
    """Run the command line and return its exit code; 2 where it would run on somebody else's packages."""
    from runtime.siblings import clash  # noqa: PLC0415 (a signal ends us at once from the first import on)

    found = clash()
    if found is not None:
        from runtime.terminal import complain, open_all  # noqa: PLC0415 (as above)

        open_all()
        complain(found, "names_clash")
        return 2
    from runtime.cli import main as command  # noqa: PLC0415 (as above)

    return command()


def script() -> int:
    """Run the command line as the installed command does: a signal ends it at once."""
    end_at_once()
    return main()


if __name__ == "__main__":
    sys.exit(script())
