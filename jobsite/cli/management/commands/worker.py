"""jobsite worker: a Celery worker for some queues, on their broker."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.db import connection

from jobsite import brokers
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.celery_program import exec_celery
from jobsite.errors import Invalid
from jobsite.programs import workers
from jobsite.programs.models import DEFAULT_MANAGER


class Command(BaseCommand):
    """Entry point."""

    help = "Start a Celery worker for these queues (default: all queues of the default broker)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The queues and the options."""
        parser.add_argument("queues", nargs="*", metavar="QUEUE")
        parser.add_argument(
            "--manager", metavar="NAME", default=DEFAULT_MANAGER, help="the worker manager that it belongs to"
        )
        parser.add_argument(
            "--concurrency", type=int, metavar="N", help="children or threads (default: as many as cores)"
        )
        parser.add_argument("--pool", choices=("prefork", "threads"), default="prefork")
        parser.add_argument("--name", metavar="NAME", help="the worker's name before the @ (default: its queues)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process with `celery worker`."""
        queues = options["queues"] or brokers.queues_by_url()[settings.JOBSITE_BROKER_URLS[settings.JOBSITE_QUEUES[0]]]
        for queue in queues:
            if queue not in settings.JOBSITE_QUEUES:
                raise Invalid(f"no queue {queue}; the queues are {', '.join(settings.JOBSITE_QUEUES)}")
        if len({brokers.url_of(queue) for queue in queues}) > 1:
            shown = ", ".join(f"{queue} on {brokers.masked_url_of(queue)}" for queue in queues)
            raise Invalid(f"these queues are on different brokers; start a worker for each broker: {shown}")
        if options["concurrency"] is not None and options["concurrency"] < 1:
            raise Invalid(f"--concurrency must be at least 1, not {options['concurrency']}")
        with connection.cursor() as cursor:
            workers.manager_id(cursor, options["manager"])
        name = options["name"] or ("-".join(queues) if len(queues) < len(settings.JOBSITE_QUEUES) else "all")
        argv = ["-Q", ",".join(queues), "-n", f"{name}@%h", "-P", options["pool"], "-l", "INFO"]
        argv += ["--without-mingle", "--without-gossip"]  # they share revocations, which jobsite does not use
        if options["concurrency"]:
            argv += ["-c", str(options["concurrency"])]
        exec_celery("worker", *argv, environment={"JOBSITE_MANAGER": options["manager"]})
