"""`--all`: an act on all jobs that match a filter. They are counted, confirmed, then processed with a progress bar."""

import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.utils import timezone
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobsite.cli import job_options, printing
from jobsite.errors import Conflict, Invalid
from jobsite.programs.inspection import queries
from jobsite.programs.inspection.queries import JobFilter
from jobsite.programs.models import BulkAct
from jobsite.programs.operations import bulk
from jobsite.tenants.principals import Principal
from jobsite.values import times

PART = 20
BUSY_SECONDS = 0.05
FILTERS = {name: f"--{name}" for name in ("status", "trigger", "program", "parent", "since")}


def add_filter(parser: ArgumentParser, *, until: str = "--until") -> None:
    """The options that say which jobs are meant."""
    parser.add_argument("--status", metavar="S", help="PENDING, QUEUED, RUNNING, WAITING, COMPLETED, FAILED, CANCELED")
    parser.add_argument("--trigger", metavar="T", help="MANUAL, AUTOMATIC or CHILD")
    parser.add_argument("--program", metavar="P")
    parser.add_argument("--parent", type=int, metavar="N", help="the children of this job")
    parser.add_argument("--since", metavar="1h", help="submitted since: an age (30m, 1h, 2d) or a time")
    parser.add_argument(until, dest="submitted_until", metavar="TIME", help="submitted before: an age or a time")


def add_all(parser: ArgumentParser, *, until: str = "--until") -> None:
    """The option --all with its filter, and --yes."""
    parser.add_argument("--all", action="store_true", help="all jobs that match the filter, at most 10,000")
    add_filter(parser, until=until)
    parser.set_defaults(until_option=until)
    parser.add_argument("--yes", action="store_true", help="with --all: do not ask")


def filter_of(options: dict[str, Any]) -> JobFilter:
    """The filter that the options describe. Raises Invalid for a text that is no time."""
    return JobFilter(
        status=options["status"],
        trigger=options["trigger"],
        program=options["program"],
        parent=options["parent"],
        since=_moment(options["since"], "--since"),
        until=_moment(options["submitted_until"], "--until"),
    )


def _moment(text: str | None, option: str) -> Any:
    if text is None:
        return None
    try:
        return times.parse_since(text, now=timezone.now())
    except times.TimeError as error:
        raise Invalid(f"{option}: {error}") from error


def is_meant(options: dict[str, Any], numbers: list[int]) -> bool:
    """Whether --all is given and not jobs by their numbers. Raises Invalid for both or neither."""
    if options["all"] and numbers:
        raise Invalid("give a job's number or --all, not both")
    if not options["all"]:
        if not numbers:
            raise Invalid("give a job's number, or --all with a filter such as --status and --program")
        filters = FILTERS | {"submitted_until": options["until_option"], "yes": "--yes"}
        given = next((option for name, option in filters.items() if options[name]), None)
        if given is not None:
            raise Invalid(f"{given} goes with --all")
    return bool(options["all"])


def act(name: str, principal: Principal, options: dict[str, Any], *, until: str | None = None) -> int:
    """Count the jobs that match, ask, do the act, print what became of them.

    Returns the exit status: 3 where the act was refused for a job or did not reach it.
    """
    wanted = filter_of(options)
    rows = queries.matching(principal, wanted)
    found = bulk.match(principal, name, rows, names_status=wanted.status is not None)
    out = printing.console()
    if not found.numbers:
        out.print(f"No job to {name} matches.")
        return 0
    out.print(f"{_jobs(len(found.numbers))} to {name}:")
    shown = [
        {"program": one.program, "jobs": one.count, "numbers": _numbers(one.numbers, one.count)}
        for one in found.samples
    ]
    columns = {"program": "program", "jobs": "jobs", "numbers": "numbers"}
    printing.print_table(shown, columns, empty="", right=["jobs"])
    if not options["yes"] and not job_options.is_confirmed(f"{name.capitalize()} {_jobs(len(found.numbers))}?"):
        out.print("Nothing was changed.")
        return 0
    row = bulk.begin(principal, found, reason=options["reason"], until=until, filter=_in_words(options))
    row, was_interrupted = _work(principal, row)
    _print_outcome(row)
    if was_interrupted:
        raise KeyboardInterrupt
    return Conflict.exit_status if row.refused or row.place < row.total else 0


def _numbers(numbers: Any, count: int) -> str:
    return ", ".join(f"#{number}" for number in numbers) + (", …" if count > len(numbers) else "")


def _in_words(options: dict[str, Any]) -> str:
    names = FILTERS | {"submitted_until": "--until"}
    return " ".join(f"{option} {options[name]}" for name, option in names.items() if options[name])


def _work(principal: Principal, row: BulkAct) -> tuple[BulkAct, bool]:
    """Process the act, part by part; a sweep may do some of the parts. Ctrl-C stops it between two jobs.

    Returns the act, and whether Ctrl-C came.
    """
    out = printing.console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)
    with bar, _interrupts() as interrupts:
        task = bar.add_task(row.act, total=row.total)
        while row.state == BulkAct.State.RUNNING:
            if interrupts:
                row = _stopped(principal, row)
                break
            if not bulk.work_off(row.pk, limit=PART, seconds=1.0):
                time.sleep(BUSY_SECONDS)
            row = bulk.find(principal, row.pk)
            bar.update(task, completed=row.place)
    return row, bool(interrupts)


def _stopped(principal: Principal, row: BulkAct) -> BulkAct:
    try:
        return bulk.stop(principal, row.pk)
    except Conflict:  # a sweep has just finished the act
        return bulk.find(principal, row.pk)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the first Ctrl-C in a list. A second one has its usual effect."""
    seen: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _print_outcome(row: BulkAct) -> None:
    out = printing.console()
    if row.state == BulkAct.State.STOPPED:
        out.print(f"Stopped after {row.place} of {_jobs(row.total)} ({row.why_stopped}).", markup=False)
    out.print(f"{row.act}: {row.done} done, {row.refused} refused")
    for one in row.refusals:
        out.print(f"  #{one['job']}: {one['why']}", markup=False)
    if row.refused > len(row.refusals):
        out.print(f"  … and {row.refused - len(row.refusals)} more")


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
