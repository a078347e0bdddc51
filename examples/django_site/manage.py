"""The least of a Django project around ``texts/management/commands/translate.py``, so that it runs as it stands."""

from __future__ import annotations

import sys

from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(INSTALLED_APPS=["texts"])

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
