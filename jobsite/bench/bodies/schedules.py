"""Fill a database with schedules of jobsite or of django-celery-beat, one firing a minute, or measure an idle one.

Started as `python -m jobsite.bench.bodies.schedules jobsite|beat|idle COUNT`; prints one JSON value.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from statistics import median

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

LOOKS = 200

# Copies of one schedule that the domain code made. With `apart` they are due that many seconds after each other.
COPIES = """
INSERT INTO jobsite_schedule (tenant_id, program_id, code, minute, hour, day_of_month, month, day_of_week, anchor_at,
                              time_zone, parameters, kind, owner, next_at, due_at)
SELECT tenant_id, program_id, 'tick-' || n, minute, hour, day_of_month, month, day_of_week, anchor_at, time_zone,
       parameters, kind, owner, next_at + later, due_at + later
FROM jobsite_schedule, generate_series(1, %(count)s - 1) n,
     LATERAL (SELECT n * %(apart)s * interval '1 second' AS later) x
"""


def fill_jobsite(count: int, *, begin: datetime | None = None, apart: float = 0.0) -> None:
    """Make `count` schedules of a program that does nothing: all due every minute, or `apart` seconds after each other.

    The first is due from `begin` on.
    """
    from jobsite.programs import definitions, schedules
    from jobsite.programs.definitions import registration
    from jobsite.programs.schedules import Wanted
    from jobsite.tenants import principals, setup

    tenant = setup.create("bench", name="Bench")
    action = {"kind": "python", "target": "jobsite.samples:noop"}
    known = {"code": "noop", "parameters": {"type": "object"}, "action": [action]}
    principal = principals.local(tenant, login="bench")
    registration.load(principal, [definitions.from_mapping(known, where="bench", queues=settings.JOBSITE_QUEUES)])
    schedules.create(principal, "tick-0", Wanted("noop", minute="*", starts_at=begin))
    with connection.cursor() as cursor:
        cursor.execute(COPIES, {"count": count, "apart": apart})
        cursor.execute("ANALYZE")


def fill_beat(count: int) -> None:
    """Make `count` PeriodicTasks with one crontab, as users of django-celery-beat do."""
    from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

    crontab = CrontabSchedule.objects.create(minute="*")
    PeriodicTask.objects.bulk_create(
        PeriodicTask(name=f"tick-{number}", task="bench.noop", crontab=crontab, queue="beat") for number in range(count)
    )
    PeriodicTasks.update_changed()


def idle_milliseconds() -> float:
    """The median milliseconds of a sweep that finds nothing due among many schedules."""
    from jobsite.programs import workers
    from jobsite.programs.schedules import firing

    with workers.open_connection() as opened, opened.cursor() as cursor:
        found = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            firing.notice_late(cursor)
            assert firing.sweep(cursor) == 0
            found.append((time.perf_counter() - began) * 1_000)
    return median(found)


def main(who: str, count: int) -> object:
    """Fill the database of `who`. Returns what is printed."""
    django.setup()
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM jobsite_schedule")  # the schedules of the system programs
    match who:
        case "jobsite":
            fill_jobsite(count)
        case "beat":
            fill_beat(count)
        case "idle":
            fill_jobsite(count, begin=datetime.now(UTC) + timedelta(hours=1), apart=86_400 / count)
            return idle_milliseconds()
    return None


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))  # noqa: T201 - what the benchmark reads
