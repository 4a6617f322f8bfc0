"""jobsite down: stop the embedded servers."""

from typing import Any

from django.conf import settings

from jobsite import embedded
from jobsite.cli import printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.errors import Conflict


class Command(BaseCommand):
    """Entry point."""

    help = "Stop the embedded PostgreSQL and Redis of JOBSITE_HOME; their data stays."

    def handle(self, *args: Any, **options: Any) -> None:
        """Stop the servers and print which ran. Refused while `jobsite up` runs, which would start them again."""
        if embedded.is_in_use(settings.JOBSITE_HOME):
            raise Conflict(
                f"jobsite up is running in {settings.JOBSITE_HOME} and would start them again; stop it with Ctrl-C",
                code="in_use",
            )
        stopped = embedded.down(settings.JOBSITE_HOME)
        printing.console().print(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")
