"""Wait for a job on the command line: show progress on a terminal, nothing in a pipe; exit with its outcome."""

import time
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from jobsite.cli import printing
from jobsite.programs import operations
from jobsite.programs.inspection import presentation
from jobsite.programs.rules.lifecycle import Status
from jobsite.tenants.principals import Principal

POLL_SECONDS = 0.1
EXIT_STATUS = {Status.COMPLETED: 0, Status.FAILED: 1, Status.CANCELED: 4}
STILL_GOING = 5


def wait(principal: Principal, number: int, *, timeout: float | None, as_json: bool) -> int:
    """Wait until the job ends or `timeout` seconds have passed, and print it.

    Returns the exit status: 0 completed, 1 failed, 4 canceled, 5 still going.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    out = printing.console()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[message]}"),
    )
    with Progress(*columns, console=out, transient=True, disable=as_json or not out.is_terminal) as bar:
        task = bar.add_task(f"#{number}", total=None, done="", message="")
        while True:
            job = presentation.jobs([operations.jobs.find_job(principal, number)])[0]
            _advance(bar, task, job)
            if job["phase"] == "COMPLETED" or (deadline is not None and time.monotonic() > deadline):
                break
            time.sleep(POLL_SECONDS)
    if as_json:
        printing.print_json(job)
    else:
        out.print(ending(job))
    return EXIT_STATUS.get(Status(job["status"]), STILL_GOING)


def _advance(bar: Progress, task: Any, job: dict[str, Any]) -> None:
    progress = job["progress"] or {"processed": 0, "total": None, "message": ""}
    total = progress["total"]
    bar.update(
        task,
        description=f"#{job['number']} {job['program']} {job['status']}",
        completed=progress["processed"],
        total=total,
        done=f"{progress['processed']}/{total}" if total else "",
        message=progress["message"] or _why(job),
    )


def _why(job: dict[str, Any]) -> str:
    if job["status"] == "PENDING" and job["hold"]:
        return f"held by {job['hold']['by']}"
    if job["status"] == "PENDING" and job["attempts"]:
        return f"attempt {job['attempts']} failed, next {printing.ago(job['due_at'])}"
    return ""


def ending(job: dict[str, Any]) -> Text:
    """One line: how a job ended, or its status where it has not."""
    text = Text(f"#{job['number']} ")
    text.append(job["status"], style=printing.STATUS_STYLES[job["status"]])
    if job["outcome"] == "WARNING":
        text.append(" with warnings", style="yellow")
    seconds = printing.duration(job)
    if seconds is not None and job["phase"] == "COMPLETED":
        text.append(f" in {printing.span(seconds)}")
    if job["attempts"] > 1:
        text.append(f", {job['attempts']} attempts")
    if job["error"]:
        text.append(f": {job['error']['message']}")
    return text
