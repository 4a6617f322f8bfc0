"""jobsite secrets: the keys that secret parameters are encrypted with."""

from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, login
from jobsite.errors import Conflict
from programs import rotation

NAMED = 20


class Command(GroupCommand):
    """Entry point."""

    help = "The keys that secret parameters are encrypted with."

    def add_commands(self) -> None:
        """rotate."""
        self.sub(
            "rotate",
            rotate,
            "Encrypt every stored secret with the newest of JOBSITE_SECRET_KEYS; safe to stop and to run again.",
            tenant=False,
            json=True,
        )


def rotate(options: dict[str, Any]) -> None:
    """Rotate, showing how far it is; refused in the end where a secret cannot be decrypted."""
    seen, changed = 0, 0
    lost: list[int] = []
    out = printing.console()
    columns = (TextColumn("jobs with secrets"), BarColumn(bar_width=30), TextColumn("{task.fields[done]}"))
    is_quiet = options["json"] or not out.is_terminal
    with Progress(*columns, TimeElapsedColumn(), console=out, transient=True, disable=is_quiet) as bar:
        task = bar.add_task("", total=None, done="")
        for batch in rotation.rotate(login=login()):
            seen, changed = seen + batch.seen, changed + batch.changed
            lost += batch.lost
            bar.update(task, completed=batch.done_to, total=batch.last, done=f"{seen:,} seen, {changed:,} changed")
    if options["json"]:
        printing.print_json({"jobs": seen, "changed": changed, "lost": len(lost), "lost_jobs": lost[:NAMED]})
    else:
        out.print(f"{changed:,} of {seen:,} jobs with secrets are encrypted anew, with the newest key.")
    if lost:
        raise Conflict(_said(lost), code="secrets_lost")


def _said(lost: list[int]) -> str:
    more = ", …" if len(lost) > NAMED else ""
    return (
        f"the secrets of {len(lost):,} jobs cannot be decrypted with any of JOBSITE_SECRET_KEYS "
        f"({', '.join(map(str, lost[:NAMED]))}{more}); put back the key that they have, then rotate again"
    )
