"""jobsite locks: list the locks of running jobs, and clear stale ones."""

from typing import Any

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.errors import NotFound
from jobsite.programs import operations
from jobsite.programs.inspection import presentation

COLUMNS = {
    "job": "job",
    "worker": "worker",
    "age": "age",
    "expires": "expires",
    "stale": "stale",
}


class Command(GroupCommand):
    """Entry point."""

    help = "The locks of running jobs."

    def add_commands(self) -> None:
        """list and clear."""
        self.sub("list", list_locks, "The locks of running jobs, oldest first.", json=True)
        clear = self.sub("clear", clear_locks, "Clear stale locks; healthy jobs are not touched.")
        clear.add_argument(
            "numbers", nargs="*", type=int, metavar="N", help="only these jobs (default: all with a stale lock)"
        )
        clear.add_argument(
            "--force", type=int, metavar="N", help="clear the lock of this one job even if it is not stale"
        )
        clear.add_argument("--reason", default="", help="why; required with --force")


def list_locks(options: dict[str, Any]) -> None:
    """Print the locks."""
    items: list[dict[str, Any]] = [
        {
            "job": lock.job,
            "worker": lock.worker,
            "acquired_at": presentation.moment(lock.acquired_at),
            "expires_at": presentation.moment(lock.expires_at),
            "age_seconds": round(lock.age_seconds, 3),
            "stale": lock.is_stale,
        }
        for lock in operations.jobs.locks(principal_of(options))
    ]
    if options["json"]:
        printing.print_json(items)
        return
    rows = [
        item | {"age": printing.span(item["age_seconds"]), "expires": printing.ago(item["expires_at"])}
        for item in items
    ]
    printing.print_table(rows, COLUMNS, empty="No job is running.", right=["job", "age"])


def clear_locks(options: dict[str, Any]) -> None:
    """Clear the stale locks, or with --force the lock of one job."""
    principal, force = principal_of(options), options["force"]
    numbers = [force] if force is not None else options["numbers"] or None
    shown = operations.jobs.locks(principal, numbers)
    if force is not None and not shown:
        raise NotFound(f"job {force} holds no lock")
    cleared = operations.jobs.clear_locks(principal, shown, force=force is not None, reason=options["reason"])
    out = printing.console()
    for one in cleared:
        out.print(f"lock of #{one.number} is cleared; the job is {one.status} now")
    if not cleared:
        out.print("No lock is stale.")
