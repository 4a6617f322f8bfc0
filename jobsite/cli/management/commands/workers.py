"""jobsite workers: the registered worker processes."""

from typing import Any

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand
from jobsite.programs.inspection import presentation

COLUMNS = {
    "worker": "worker",
    "manager": "manager",
    "queues": "queues",
    "status": "status",
    "seen": "seen",
    "running": "running",
}


class Command(GroupCommand):
    """Entry point."""

    help = "The workers of this installation."

    def add_commands(self) -> None:
        """list."""
        self.sub("list", list_workers, "The workers, live ones first.", tenant=False, json=True)


def list_workers(options: dict[str, Any]) -> None:
    """Print the workers."""
    items = presentation.workers()
    if options["json"]:
        printing.print_json(items)
        return
    rows = [item | {"seen": printing.ago(item["last_seen_at"])} for item in items]
    empty = "No worker has ever registered. Start one with: jobsite up"
    printing.print_table(rows, COLUMNS, empty=empty, right=["running"])
