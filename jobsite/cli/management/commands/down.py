"""jobsite down: stop the embedded servers."""

from typing import Any

from django.conf import settings

from jobsite import embedded
from jobsite.cli import printing
from jobsite.cli.base import Command as BaseCommand


class Command(BaseCommand):
    """Entry point."""

    help = "Stop the embedded PostgreSQL and Redis of JOBSITE_HOME; what they hold stays."

    def handle(self, *args: Any, **options: Any) -> None:
        """Stop what runs, and say what that was."""
        stopped = embedded.down(settings.JOBSITE_HOME)
        printing.console().print(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")
