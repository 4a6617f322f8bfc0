"""jobsite secrets: the keys that secret parameters are encrypted with."""

from collections.abc import Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, login
from jobsite.errors import Conflict
from jobsite.programs.operations import rotation

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
    """Rotate all secrets, with a progress bar. Raises Conflict at the end where some cannot be decrypted."""
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
    webhooks, lost_programs = rotation.rotate_actions(login=login())
    schedules, lost_schedules = rotation.rotate_schedules(login=login())
    rules, lost_rules = rotation.rotate_rules(login=login())
    if options["json"]:
        found: dict[str, Any] = {"jobs": seen, "changed": changed, "lost": len(lost), "lost_jobs": lost[:NAMED]}
        found |= {"webhooks_changed": webhooks, "lost_programs": lost_programs[:NAMED]}
        found |= {"schedules_changed": schedules, "lost_schedules": lost_schedules[:NAMED]}
        found |= {"rules_changed": rules, "lost_rules": lost_rules[:NAMED]}
        printing.print_json(found)
    else:
        out.print(f"{changed:,} of {seen:,} jobs with secrets are encrypted again, with the newest key.")
        if webhooks:
            out.print(f"So are the secrets of {webhooks:,} webhooks.")
        if schedules:
            out.print(f"So are the secrets of {schedules:,} schedules.")
        if rules:
            out.print(f"So are the secrets of {rules:,} notification rules.")
    lost_ones = (
        ("jobs", lost),
        ("webhooks of programs", lost_programs),
        ("schedules", lost_schedules),
        ("notification rules", lost_rules),
    )
    if any(names for _, names in lost_ones):
        raise Conflict(_refusal(lost_ones), code="secrets_lost")


def _refusal(lost: Sequence[tuple[str, Sequence[int | str]]]) -> str:
    parts = [
        f"{len(names):,} {what} ({', '.join(map(str, names[:NAMED]))}{', …' if len(names) > NAMED else ''})"
        for what, names in lost
        if names
    ]
    return (
        f"the secrets of {' and '.join(parts)} cannot be decrypted with any of JOBSITE_SECRET_KEYS; "
        "add the key that they were encrypted with, then rotate again"
    )
