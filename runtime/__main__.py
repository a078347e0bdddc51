"""``python -m runtime``: the command line."""

from __future__ import annotations

import sys

from runtime.interrupts import end_at_once

if __name__ == "__main__":
    end_at_once()
    from runtime.cli import main

    sys.exit(main())
