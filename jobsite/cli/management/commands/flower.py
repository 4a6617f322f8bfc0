"""jobsite flower: Celery's monitor for the broker of a queue."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from jobsite import brokers
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.celery_program import exec_celery
from jobsite.errors import Invalid


class Command(BaseCommand):
    """Entry point."""

    help = "Start Flower for the broker of a queue (default: the first queue); reachable from this machine only."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The queue and the port."""
        parser.add_argument("queue", nargs="?", default=settings.JOBSITE_QUEUES[0], metavar="QUEUE")
        parser.add_argument("--port", type=int, default=5555, metavar="N")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process with `celery flower`."""
        if options["queue"] not in settings.JOBSITE_QUEUES:
            raise Invalid(f"no queue {options['queue']}; the queues are {', '.join(settings.JOBSITE_QUEUES)}")
        # The broker is given in the environment: on the command line, `ps` would show its password.
        url = brokers.url_of(options["queue"])
        exec_celery(
            "flower",
            f"--port={options['port']}",
            "--address=127.0.0.1",
            environment={"JOBSITE_BROKER_URL": url},
        )
