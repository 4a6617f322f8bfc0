"""jobsite schedules: show, make, change, pause and backfill the schedules of programs."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from rich.text import Text

from jobsite.cli import job_options, printing
from jobsite.cli import schedule_pages as pages
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.errors import Conflict, Invalid
from jobsite.programs import schedules
from jobsite.programs.inspection import presentation
from jobsite.programs.models import CRON_FIELDS, Schedule
from jobsite.programs.operations import pausing, periodic_tasks
from jobsite.programs.schedules import Wanted, backfills
from jobsite.programs.submission import preparation
from jobsite.tenants.principals import Principal
from jobsite.values import durations, times

OPTIONS = {
    "time_zone": "--timezone",
    "jitter_minutes": "--jitter",
    "starts_at": "--starts",
    "ends_at": "--ends",
    "missed_cap": "--cap",
    "interval_minutes": "--every",
}
"""The options whose names differ from the names of their fields."""


class Command(GroupCommand):
    """Entry point."""

    help = "When programs run by themselves."

    def add_commands(self) -> None:
        """list, show, create, change, delete, preview, pause, resume, run, backfill and import-periodic-tasks."""
        self.sub("list", pages.list_schedules, "The schedules of the tenant.", json=True)
        show = self.sub("show", pages.show_schedule, "One schedule, with its last times.", json=True)
        show.add_argument("code", metavar="CODE")
        create = self.sub("create", create_schedule, "Make a schedule; its jobs run as you.", json=True)
        create.add_argument("code", metavar="CODE")
        create.add_argument("--program", required=True, metavar="P", help="the program that it runs")
        _add_fields(create)
        change = self.sub(
            "change", change_schedule, "Change the fields that are given; its jobs run as you from then on.", json=True
        )
        change.add_argument("code", metavar="CODE")
        change.add_argument("--program", metavar="P")
        _add_fields(change)
        for name, act, what, said in (
            ("delete", schedules.delete, "Delete a schedule: it fires no more.", "is deleted"),
            (
                "pause",
                pausing.pause_schedule,
                "Pause a schedule: its times are skipped until it is resumed.",
                "is paused; its times are skipped",
            ),
            ("resume", pausing.resume_schedule, "Resume a schedule with its next time.", "goes on"),
        ):
            parser = self.sub(name, partial(steer, act, said), what)
            parser.add_argument("code", metavar="CODE")
            parser.add_argument("--reason", default="")
            if name == "pause":
                parser.add_argument("--until", metavar="TIME", help="resume by itself at this time")
        self._add_running()
        found = self.sub(
            "import-periodic-tasks", import_tasks, "Turn PeriodicTasks of django-celery-beat into schedules."
        )
        found.add_argument("--yes", action="store_true", help="do it; without it, only show what would be done")
        found.add_argument(
            "--queue", metavar="Q", default="default", help="the queue of their programs (default: default)"
        )

    def _add_running(self) -> None:
        preview = self.sub("preview", pages.preview_times, "The next times of a schedule or a cron line.", json=True)
        preview.add_argument("code", nargs="?", metavar="CODE")
        preview.add_argument("--cron", metavar="LINE", help='such as "0 9 * * 1-5"; needs no schedule')
        preview.add_argument("--timezone", metavar="ZONE", help="with --cron: such as Europe/Berlin (default: UTC)")
        preview.add_argument("--from", dest="begin", metavar="TIME", help="after this moment (default: now)")
        preview.add_argument("-n", type=int, default=10, metavar="N", help="how many (default: 10)")
        now = self.sub("run", run_now, "Submit a job of the schedule now, as you; its own times stay.")
        now.add_argument("code", metavar="CODE")
        now.add_argument("--reason", default="")
        job_options.add_asker_and_wait(now)
        again = self.sub("backfill", backfill, "Submit jobs for the times of a range that have none.", json=True)
        again.add_argument("code", metavar="CODE")
        again.add_argument("--from", dest="begin", required=True, metavar="TIME")
        again.add_argument("--to", dest="end", required=True, metavar="TIME")
        again.add_argument("--reason", default="")
        again.add_argument("--yes", action="store_true", help="do not ask")


def _add_fields(parser: ArgumentParser) -> None:
    when = parser.add_argument_group("when")
    when.add_argument("--cron", metavar="LINE", help='minute, hour, day of month, month, day of week: "0 9 * * 1-5"')
    when.add_argument("--every", metavar="15m", help="instead an interval of whole minutes, at most 7d: 15m, 2h")
    when.add_argument(
        "--timezone", dest="time_zone", metavar="ZONE", help="the time zone of the line (default: the tenant's)"
    )
    when.add_argument(
        "--jitter", dest="jitter_minutes", type=int, metavar="N", help="fire up to N minutes later, 0 to 59"
    )
    when.add_argument("--starts", dest="starts_at", metavar="TIME", help="not before this time")
    when.add_argument("--ends", dest="ends_at", metavar="TIME", help="not after this time")
    job_options.add_parameters(parser)
    parser.add_argument("--priority", type=int, metavar="N", help="-100 to 100 (default: the program's)")
    parser.add_argument(
        "--overlap", metavar="ALLOW|SKIP", help="SKIP: no job while the last one is open (default: ALLOW)"
    )
    parser.add_argument(
        "--missed", metavar="SKIP|ONE|ALL", help="which missed times run after an outage (default: ONE)"
    )
    parser.add_argument(
        "--cap", dest="missed_cap", type=int, metavar="N", help="with ALL: only the newest N (default: 10)"
    )
    parser.add_argument("--description", metavar="TEXT")
    parser.add_argument("--as", dest="user", metavar="USER", help="as this user, with this user's permissions")


# ---- Make and change ------------------------------------------------------------------------------------------


def create_schedule(options: dict[str, Any]) -> None:
    """Make a schedule, and print when it fires next."""
    if options["cron"] is None and options["every"] is None:
        raise Invalid("give --cron or --every")
    principal = principal_of(options, user=options["user"])
    given = _given(options) | {"program": options["program"]}
    whole, typed = job_options.typed_parameters(
        preparation.find_program(principal, options["program"]).parameters_schema, options
    )
    row = _named(
        lambda: schedules.create(principal, options["code"], Wanted(**given, parameters=(whole or {}) | typed))
    )
    _answer(row, "is created", options)


def change_schedule(options: dict[str, Any]) -> None:
    """Change the fields that are given."""
    principal = principal_of(options, user=options["user"])
    row = schedules.find(principal, options["code"])
    given = _given(options)
    if options["program"]:
        given["program"] = options["program"]
    program = preparation.find_program(principal, options["program"] or row.program.code)
    whole, typed = job_options.typed_parameters(program.parameters_schema, options)
    if whole is not None or typed:
        given["parameters"] = (row.parameters if whole is None else whole) | typed
    _answer(_named(lambda: schedules.change(principal, row.code, given)), "is changed", options)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    names = ("time_zone", "jitter_minutes", "starts_at", "ends_at", "priority", "overlap", "missed", "missed_cap")
    given = {name: options[name] for name in (*names, "description") if options[name] is not None}
    if options["cron"] is not None and options["every"] is not None:
        raise Invalid("give --cron or --every, not both")
    if options["cron"] is not None:
        parts = options["cron"].split()
        if len(parts) != len(CRON_FIELDS):
            raise Invalid(f"--cron: expected five fields, minute hour day-of-month month day-of-week, got {len(parts)}")
        given |= dict(zip(CRON_FIELDS, parts, strict=True)) | {"interval_minutes": None}
    if options["every"] is not None:
        given |= dict.fromkeys(CRON_FIELDS, "") | {"interval_minutes": _whole_minutes(options["every"])}
    return given


def _whole_minutes(text: str) -> int:
    try:
        seconds = durations.parse_duration(text)
    except durations.DurationError as error:
        raise Invalid(f"--every: {error}") from error
    if seconds % 60:
        raise Invalid(f"--every: expected whole minutes, got {text}")
    return int(seconds // 60)


def _named(act: Callable[[], Schedule]) -> Schedule:
    """The result of the act. A refusal names the options of the command instead of the fields."""
    try:
        return act()
    except Invalid as error:
        errors = error.details.get("errors")
        if error.code != "invalid_schedule" or not isinstance(errors, list):
            raise
        raise Invalid("; ".join(f"{_option(one['pointer'][1:])}: {one['message']}" for one in errors)) from error


def _option(name: str) -> str:
    if name in CRON_FIELDS:
        return f"--cron: {name.replace('_', ' ')}"
    if name.startswith("parameters"):
        return f"-p: {name.removeprefix('parameters')}"
    return OPTIONS.get(name, name if name == "code" else f"--{name}")


def _answer(row: Schedule, said: str, options: dict[str, Any]) -> None:
    item = presentation.schedule(row)
    if options["json"]:
        printing.print_json(item)
        return
    printing.console().print(
        f"{row.code} {said}: {item['words']} in {row.time_zone}, next {pages.when(item)}", markup=False
    )


def steer(act: Callable[..., None], said: str, options: dict[str, Any]) -> None:
    """Pause, resume or delete a schedule."""
    given = {name: options[name] for name in ("reason", "until") if options.get(name) is not None}
    act(principal_of(options), options["code"], **given)
    printing.console().print(f"{options['code']} {said}", markup=False)


def import_tasks(options: dict[str, Any]) -> None:
    """Print what each PeriodicTask becomes; with --yes do it."""
    principal = principal_of(options)
    found = periodic_tasks.import_all(principal, queue=options["queue"], is_trial=not options["yes"])
    rows = [
        {
            "name": one.name,
            "becomes": one.code,
            "when": one.words,
            "note": Text(one.note, style="yellow" if one.note else ""),
        }
        for one in found
    ]
    columns = {"name": "periodic task", "becomes": "schedule", "when": "when", "note": ""}
    printing.print_table(rows, columns, empty="There are no periodic tasks.")
    if not options["yes"] and any(one.code for one in found):
        printing.console().print(
            "Nothing was changed. With --yes they become schedules, and the periodic tasks are disabled."
        )
    if any(one.code is None for one in found):
        sys.exit(Conflict.exit_status)


# ---- Run ------------------------------------------------------------------------------------------------------


def run_now(options: dict[str, Any]) -> None:
    """Submit one job of the schedule."""
    principal = principal_of(options, user=options["user"])
    job = backfills.run(principal, options["code"], reason=options["reason"])
    if status := job_options.answer(principal, job.number, options):
        sys.exit(status)


def backfill(options: dict[str, Any]) -> None:
    """Count the times of a range, ask, and submit jobs for those that have none."""
    principal = principal_of(options)
    begin, end = pages.moment_of("--from", options["begin"]), pages.moment_of("--to", options["end"])
    found = backfills.backfill(principal, options["code"], begin=begin, end=end)
    if not options["json"]:
        already = f"; {found.done} more have a job already" if found.done else ""
        printing.console().print(f"{len(found.times)} times of {options['code']} to run{already}.", markup=False)
    if not found.times:
        return
    if not options["yes"] and not job_options.is_confirmed(f"Submit {len(found.times)} jobs?"):
        printing.console().print("Nothing was changed.")
        return
    _run_again(principal, options, begin, end)


def _run_again(principal: Principal, options: dict[str, Any], begin: datetime, end: datetime) -> None:
    made = backfills.begin_backfill(principal, options["code"], begin=begin, end=end, reason=options["reason"])
    items = [
        {"at": times.format_time(one.occurrence.decision.at), "job": one.number, "reason": one.reason or None}
        for one in made
    ]
    if options["json"]:
        printing.print_json(items)
    else:
        printing.print_table(items, {"at": "time (UTC)", "job": "job", "reason": ""}, empty="Nothing was left to run.")
    if any(one.number is None for one in made):
        sys.exit(Conflict.exit_status)
