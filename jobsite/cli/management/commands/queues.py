"""jobsite queues: what waits, since when, and who serves it."""

from typing import Any

from django.conf import settings

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, principal_of
from programs import presentation

COLUMNS = {
    "queue": "queue",
    "depth": "waiting",
    "oldest": "oldest",
    "running": "running",
    "workers": "workers",
    "broker": "broker",
    "paused": "paused",
}


class Command(GroupCommand):
    """Entry point."""

    help = "The queues of this installation."

    def add_commands(self) -> None:
        """list."""
        self.sub("list", list_queues, "Depth, age of the oldest, running jobs, workers, broker.", json=True)


def list_queues(options: dict[str, Any]) -> None:
    """Print the queues."""
    items = presentation.queues(principal_of(options), settings.JOBSITE_QUEUES)
    if options["json"]:
        printing.print_json(items)
        return
    rows = [item | {"oldest": printing.span(item["oldest_seconds"])} for item in items]
    printing.print_table(rows, COLUMNS, empty="No queues.", right=["depth", "oldest", "running", "workers"])
    if not any(item["workers"] for item in items):
        printing.console().print("\n[yellow]No worker serves any queue.[/] Start one with: jobsite up")
