"""jobsite queues: how much waits in each queue, since when, and which workers serve it; pause and resume."""

from typing import Any

from django.conf import settings

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.programs.inspection import presentation
from jobsite.programs.operations import pausing
from jobsite.tenants.principals import Principal

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
        """list, pause and resume."""
        self.sub("list", list_queues, "Depth, age of the oldest, running jobs, workers, broker.", json=True)
        for name, run, what in (
            ("pause", pause_queue, "Pause a queue: its jobs wait, running jobs go on to their end."),
            ("resume", resume_queue, "Resume a paused queue."),
        ):
            parser = self.sub(name, run, what)
            parser.add_argument("queue", metavar="Q")
            parser.add_argument(
                "--only-tenant", action="store_true", help="only for this tenant (default: for all tenants)"
            )
            parser.add_argument("--reason", default="")
            if name == "pause":
                parser.add_argument("--until", metavar="TIME", help="resume by itself at this time")


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


def pause_queue(options: dict[str, Any]) -> None:
    """Pause a queue."""
    principal, whole = principal_of(options), not options["only_tenant"]
    pausing.pause_queue(principal, options["queue"], whole=whole, reason=options["reason"], until=options["until"])
    printing.console().print(f"queue {options['queue']} is paused{_for_whom(principal, whole)}; its jobs wait")


def resume_queue(options: dict[str, Any]) -> None:
    """Resume a queue."""
    principal, whole = principal_of(options), not options["only_tenant"]
    pausing.resume_queue(principal, options["queue"], whole=whole, reason=options["reason"])
    printing.console().print(f"queue {options['queue']} goes on{_for_whom(principal, whole)}")


def _for_whom(principal: Principal, whole: bool) -> str:
    return " for every tenant" if whole else f" for tenant {principal.tenant.code}"
