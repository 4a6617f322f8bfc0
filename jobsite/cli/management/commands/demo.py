"""jobsite demo: run real jobs to their end, show them live, and check that each ended as it should."""

import shutil
import signal
import time
from argparse import ArgumentParser
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from rich.live import Live
from rich.text import Text

from jobsite.cli import demo_picture, fleet, printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.base import principal_of
from jobsite.cli.demo_receiver import Receiver, receiving
from jobsite.cli.supervisor import Service, Supervisor
from jobsite.programs import definitions, schedules, submission
from jobsite.programs.definitions import registration
from jobsite.programs.inspection import presentation
from jobsite.programs.models import Firing, Job, Schedule
from jobsite.programs.rules.lifecycle import OPEN, TERMINAL
from jobsite.programs.schedules import Wanted
from jobsite.programs.submission import Options
from jobsite.tenants import setup
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import Principal

TENANT = "acme"
SCHEDULE = "demo.every-minute"
PATIENCE_SECONDS = 120.0
SOON_SECONDS = 3.0
REFRESH_SECONDS = 0.15
REQUESTS_QUEUE = "default"
LOOPBACK = "127.0.0.0/8"


@dataclass(frozen=True)
class Story:
    """One job of the demo, and how it should end."""

    program: str
    parameters: dict[str, Any]
    what: str
    status: str = "COMPLETED"
    outcome: str = "NORMAL"
    attempts: int = 1
    delay: float = 0.0


class Command(BaseCommand):
    """Entry point."""

    help = "Run real jobs to their end: imports, scores with progress, a command, requests, retries, failures."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--keep."""
        parser.add_argument("--keep", action="store_true", help="keep the workers running until Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        """Set up the tenant, run the jobs and print the table. Exit status 0: all ended as they should."""
        began = time.monotonic()
        out = printing.console()
        missing = set(settings.JOBSITE_QUEUES) - fleet.served_queues()
        supervisor = Supervisor(_workers(missing), is_quiet=True)
        # SIGTERM ends the workers too, as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with receiving() as receiver:
            principal = _set_up(receiver)
            stories = _stories() + (_requests(receiver) if REQUESTS_QUEUE in missing else []) + [BY_SCHEDULE]
            supervisor.start()
            try:
                numbers = _Numbers(_submit(principal, stories[:-1]), _schedule(principal))
                out.print(
                    f"[bold]{len(stories)} jobs[/] of tenant [bold]{TENANT}[/] on {len(settings.JOBSITE_QUEUES)} "
                    f"queues, on the IANA time-zone tables; "
                    f"{'starting a worker' if missing else 'your workers run them'}\n"
                )
                if REQUESTS_QUEUE not in missing:
                    out.print("[dim]without a heartbeat and a webhook: your workers may not reach this machine[/]\n")
                is_over = _watch(numbers, len(stories), supervisor)
                good = _judge(numbers(), stories) and is_over
                seconds = time.monotonic() - began
                out.print(f"\n[dim]{seconds:.1f} s; look closer with: jobsite jobs show N, jobs logs N[/]")
                if options["keep"]:
                    _keep(supervisor)
            finally:
                schedules.delete(principal, SCHEDULE, reason="the demo has ended")
                supervisor.stop()
        self.finish(0 if good else 1)


BY_SCHEDULE = Story("noop", {}, "submitted by a schedule")


class _Numbers:
    """The numbers of the jobs so far. The last is the job of the schedule, once it has fired."""

    def __init__(self, submitted: Sequence[int], schedule: Schedule) -> None:
        self._submitted = submitted
        self._fired = Firing.objects.filter(schedule=schedule, result=Firing.Result.FIRED).order_by("nominal_at")

    def __call__(self) -> list[int]:
        """The numbers as of now."""
        return [*self._submitted, *(one.job_number for one in self._fired[:1] if one.job_number)]


def _schedule(principal: Principal) -> Schedule:
    """Make a schedule that fires soon, and then every minute."""
    if schedules.of_tenant(principal).filter(code=SCHEDULE).exists():
        schedules.delete(principal, SCHEDULE, reason="left by a demo that was interrupted")
    soon = datetime.now(UTC) + timedelta(seconds=SOON_SECONDS)
    return schedules.create(principal, SCHEDULE, Wanted("noop", interval_minutes=1, starts_at=soon))


def _workers(queues: Collection[str]) -> list[Service]:
    """Workers for these queues, whose requests may reach this machine."""
    services = fleet.workers(queues=queues) if queues else []
    return [replace(one, environment={**one.environment, "JOBSITE_ALLOWED_NETWORKS": LOOPBACK}) for one in services]


def _set_up(receiver: Receiver) -> Principal:
    if not Tenant.objects.filter(code=TENANT).exists():
        setup.create(TENANT, name="Acme")
    principal = principal_of({"tenant": TENANT})
    text = (resources.files("jobsite.cli") / "demo.toml").read_text(encoding="utf-8")
    programs = definitions.parse(text, source="demo.toml", queues=settings.JOBSITE_QUEUES)
    announce = definitions.from_mapping(_announce(receiver.secret), where="demo", queues=settings.JOBSITE_QUEUES)
    registration.load(principal, [*programs, announce])
    return principal


def _announce(secret: str) -> dict[str, object]:
    """A program of two actions: a request, then a webhook. The webhook's secret is new for each demo."""
    base = "http://127.0.0.1:{{ parameters.port }}"
    return {
        "code": "zones.announce",
        "name": {"en": "Announce the tables", "de": "Tabellen ankündigen"},
        "queue": REQUESTS_QUEUE,
        "parameters": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}},
        "action": [
            {"kind": "http", "name": "ask", "url": f"{base}/version"},
            {"kind": "webhook", "name": "tell", "url": f"{base}/hook", "secret": secret},
        ],
    }


def _requests(receiver: Receiver) -> list[Story]:
    where = {"port": receiver.port}
    return [
        Story("zones.alive", where, "ask whether a server is alive"),
        Story("zones.announce", where, "ask, then send a signed webhook"),
    ]


def _stories() -> list[Story]:
    folder = Path(settings.JOBSITE_HOME) / "demo"
    table = str(resources.files("tzdata") / "zoneinfo" / "zone1970.tab")
    moment = "2026-07-01T12:00:00Z"
    cities = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]
    return [
        Story(
            "zones.import",
            {"path": str(folder / "zones.json")},
            "import a table, with a warning",
            outcome="WARNING",
        ),
        Story("scores.recalculate", {"cohort": "2026"}, "score 598 zones, with progress"),
        Story("scores.compare", {"cohorts": ["1986", "2006"]}, "two years as children, then compare", attempts=2),
        Story("zones.checksum", {"path": table}, "run a command"),
        Story("zones.version", {}, "fail twice, then succeed", attempts=3),
        Story("zones.local-times", {"moment": moment, "zones": cities}, "one moment in four cities"),
        Story(
            "zones.local-times",
            {"moment": moment, "zones": ["Europe/Atlantis"]},
            "fail for good",
            "FAILED",
            "ERROR",
        ),
        Story("noop", {}, "start two seconds later", delay=2.0),
    ]


def _submit(principal: Principal, stories: Sequence[Story]) -> list[int]:
    numbers = []
    # Files that an interrupted demo left must not make a job of this one fail.
    shutil.rmtree(Path(settings.JOBSITE_HOME) / "demo", ignore_errors=True)
    for story in stories:
        at = datetime.now(UTC) + timedelta(seconds=story.delay) if story.delay else None
        numbers.append(
            submission.submit_as(principal, story.program, story.parameters, Options(scheduled_at=at)).number
        )
    return numbers


def _jobs(numbers: Sequence[int]) -> list[dict[str, Any]]:
    rows = Job.objects.filter(number__in=numbers).select_related("program", "queue", "context")
    return presentation.jobs(rows.order_by("number"))


def _families(numbers: Sequence[int]) -> dict[int, tuple[int, int]]:
    """For each parent's number: how many of its children have ended, and how many there are."""
    rows = Job.objects.filter(parent__in=numbers).values_list("parent").order_by("parent")
    has_ended = Q(status__in=sorted(TERMINAL))
    counted = rows.annotate(ended=Count("number", filter=has_ended), total=Count("number"))
    return {parent: (ended, total) for parent, ended, total in counted}


def _watch(numbers: _Numbers, count: int, supervisor: Supervisor) -> bool:
    """Show the jobs until `count` have ended. Returns False when they do not end in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    out = printing.console()
    seen: dict[int, str] = {}
    with Live(console=out, auto_refresh=False, transient=True) as live:
        while True:
            supervisor.attend(REFRESH_SECONDS)
            known = numbers()
            jobs = _jobs(known)
            if out.is_terminal:
                live.update(demo_picture.picture(jobs, _families(known)), refresh=True)
            else:
                demo_picture.report_changes(jobs, seen)
            if len(jobs) == count and not any(job["status"] in OPEN for job in jobs):
                return True
            if time.monotonic() > deadline:
                for name, lines in supervisor.last_lines.items():
                    out.print(f"[red]The last lines of {name}:[/]\n" + "\n".join(lines[-10:]))
                out.print(f"[red]{count - len(jobs)} jobs were not submitted.[/]" if len(jobs) < count else "")
                return False


def _judge(numbers: Sequence[int], stories: Sequence[Story]) -> bool:
    """Print how each job ended. Returns whether all ended as they should."""
    rows = []
    good = True
    for job, story in zip(_jobs(numbers), stories, strict=False):
        wanted = (story.status, story.outcome, story.attempts)
        is_right = (job["status"], job["outcome"], job["attempts"]) == wanted
        good = good and is_right
        rows.append(
            {
                "": Text("✓", style="green") if is_right else Text("✗", style="red"),
                "number": job["number"],
                "program": job["program"],
                "queue": job["queue"],
                "what": story.what,
                "status": job["status"],
                "outcome": job["outcome"],
                "runs": job["attempts"],
                "took": printing.span(printing.duration(job)),
            }
        )
    columns = {
        "": "",
        "number": "#",
        "program": "program",
        "queue": "queue",
        "what": "story",
        "status": "status",
    }
    columns |= {"outcome": "outcome", "runs": "runs", "took": "took"}
    printing.print_table(rows, columns, empty="", right=["number", "runs", "took"])
    if not good:
        printing.console().print("\n[red]Not every job ended as it should.[/]")
    return good


def _keep(supervisor: Supervisor) -> None:
    printing.console().print("\nThe workers go on until Ctrl-C.")
    try:
        while True:
            supervisor.attend(1.0)
    except KeyboardInterrupt:
        return
