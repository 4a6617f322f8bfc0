"""jobsite jobs logs: the log of a job, once or while it is written."""

import json
import sys
import time
from typing import Any

from rich.text import Text

from jobsite.cli import printing
from jobsite.cli.base import principal_of
from jobsite.programs import operations
from jobsite.programs.inspection import presentation, queries
from jobsite.programs.models import Job

POLL_SECONDS = 0.3
SEVERITY_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def show_logs(options: dict[str, Any]) -> None:
    """Print a job's log, with --follow until the job has ended."""
    principal, number = principal_of(options), options["number"]
    job = operations.jobs.find_job(principal, number)
    if not options["follow"]:
        entries = _entries(job, 0)
        if options["json"]:
            printing.print_json(entries)
        elif not entries:
            printing.console().print("[dim]This job has logged nothing.[/]")
        for entry in [] if options["json"] else entries:
            _print_entry(entry)
        return
    after = 0
    while True:
        is_over = operations.jobs.find_job(principal, number).is_terminal
        for entry in _entries(job, after):
            after = entry["sequence"]
            if options["json"]:
                sys.stdout.write(json.dumps(entry, ensure_ascii=False) + "\n")
            else:
                _print_entry(entry)
        sys.stdout.flush()
        if is_over:
            return
        time.sleep(POLL_SECONDS)


def _entries(job: Job, after: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        batch = [presentation.log_entry(row) for row in queries.log_entries(job, after=after)]
        if not batch:
            return found
        found += batch
        after = batch[-1]["sequence"]


def _print_entry(entry: dict[str, Any]) -> None:
    text = Text(entry["at"][11:23] + " ", style="dim")
    if entry["stream"] == "log":
        text.append(f"{entry['severity']:<8}", style=SEVERITY_STYLES.get(entry["severity"], ""))
    else:
        text.append(f"{entry['stream']:<8}", style="dim")
    text.append(entry["message"], style=SEVERITY_STYLES.get(entry["severity"], "") if entry["stream"] == "log" else "")
    printing.console().print(text, soft_wrap=True)
