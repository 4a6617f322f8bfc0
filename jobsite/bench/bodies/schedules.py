"""Fill a database with minutely schedules of jobsite's or of django-celery-beat's, or look at an idle one.

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

# As many as are wanted, of one that the domain made; those of `idle` are due at different times of the next day.
COPIES = """
INSERT INTO jobsite_schedule (tenant_id, program_id, code, minute, hour, day_of_month, month, day_of_week, anchor_at,
                              time_zone, parameters, kind, owner, next_at, due_at)
SELECT tenant_id, program_id, 'tick-' || n, minute, hour, day_of_month, month, day_of_week, anchor_at, time_zone,
       parameters, kind, owner, next_at + later, due_at + later
FROM jobsite_schedule, generate_series(1, %(count)s - 1) n,
     LATERAL (SELECT n * %(apart)s * interval '1 second' AS later) x
"""


def fill_jobsite(count: int, *, begin: datetime | None = None, apart: float = 0.0) -> None:
    """So many schedules of a program that does nothing: all due each minute, or from `begin` so many seconds apart."""
    from jobsite.programs import definitions, schedules
    from jobsite.programs.definitions import registration
    from jobsite.programs.schedules import Wanted
    from jobsite.tenants import principals, setup

    tenant = setup.create("bench", name="Bench")
    action = {"kind": "python", "target": "jobsite.samples:noop"}
    known = {"code": "noop", "parameters": {"type": "object"}, "action": [action]}
    hand = principals.local(tenant, login="bench")
    registration.load(hand, [definitions.from_mapping(known, where="bench", queues=settings.JOBSITE_QUEUES)])
    schedules.create(hand, "tick-0", Wanted("noop", minute="*", starts_at=begin))
    with connection.cursor() as cursor:
        cursor.execute(COPIES, {"count": count, "apart": apart})
        cursor.execute("ANALYZE")


def fill_beat(count: int) -> None:
    """So many PeriodicTasks with one crontab, as django-celery-beat's users have them."""
    from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

    crontab = CrontabSchedule.objects.create(minute="*")
    PeriodicTask.objects.bulk_create(
        PeriodicTask(name=f"tick-{number}", task="bench.noop", crontab=crontab, queue="beat") for number in range(count)
    )
    PeriodicTasks.update_changed()


def idle_milliseconds() -> float:
    """What a look costs that finds nothing due, in the middle of many."""
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
    """Do it; what is printed."""
    django.setup()
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM jobsite_schedule")  # those of the system programs
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
