"""jobsite beat: the scheduler and the sweeps."""

from typing import Any

from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.celery_program import exec_celery


class Command(BaseCommand):
    """Entry point."""

    help = "Start celery beat: users' periodic tasks and jobsite's sweeps. Several may run at once."

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process with `celery beat`."""
        exec_celery("beat", "-l", "INFO", "--pidfile=")
