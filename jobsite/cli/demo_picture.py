"""Show the jobs of `jobsite demo` while they run: as a table on a terminal, line by line elsewhere."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobsite.cli import printing


def picture(jobs: Sequence[dict[str, Any]], families: Mapping[int, tuple[int, int]]) -> RenderableType:
    """The jobs as they are, each with its progress. `families`: for each parent, children that have ended, and all."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("#", "program", "queue", "status", "progress", ""):
        table.add_column(heading, justify="right" if heading == "#" else "left", no_wrap=True)
    for job in jobs:
        progress = job["progress"] or {"processed": 0, "total": None, "message": ""}
        bar: RenderableType = Text("")
        if job["status"] == "WAITING":
            ended, total = families.get(job["number"], (0, 0))
            progress = {"processed": ended, "total": total, "message": ""}
        if progress["total"]:
            bar = ProgressBar(total=progress["total"], completed=progress["processed"], width=24)
        note = progress["message"] if job["status"] == "RUNNING" else _note(job)
        table.add_row(
            str(job["number"]),
            job["program"],
            job["queue"],
            printing.cell(job["status"]),
            bar,
            Text(note, style="dim"),
        )
    return Group(table)


def _note(job: dict[str, Any]) -> str:
    if job["status"] == "WAITING":
        return "waits for its children"
    if job["status"] == "PENDING" and job["attempts"] and job["error"]:
        return f"attempt {job['attempts']} failed, the next {printing.ago(job['due_at'])}"
    if job["status"] == "PENDING" and datetime.fromisoformat(job["due_at"]) > datetime.now(UTC):
        return f"starts {printing.ago(job['due_at'])}"
    return str(job["error"]["message"]) if job["error"] else ""


def report_changes(jobs: Sequence[dict[str, Any]], seen: dict[int, str]) -> None:
    """Print a line for each job whose status or attempt has changed since it was `seen`: for a file or a pipe."""
    for job in jobs:
        state = f"{job['status']} {job['attempts']}"
        if seen.get(job["number"]) != state:
            seen[job["number"]] = state
            printing.console().print(f"#{job['number']} {job['program']} {job['status']}  {_note(job)}".rstrip())
