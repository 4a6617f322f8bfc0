"""Measure how long the end of a job takes, by the notification rules of its program, in alternation.

Started as `python -m jobsite.bench.bodies.rules RULES FINISHES`; prints one JSON object of median milliseconds.
"""

import json
import sys
import time
from collections.abc import Sequence
from statistics import median
from uuid import uuid4

import django
from django.conf import settings
from django.core.management import call_command

MANY = "INSERT INTO jobsite_rule ({names}) SELECT {names} FROM jobsite_rule, generate_series(2, %s)"
ADDRESS = "ops@example.org"


def fill(rules: int) -> dict[str, int]:
    """Make one program for each case and return their keys.

    "none" has no notification group; "silent" has one with `rules` rules for another event; "telling" has one with
    a rule for the end of the job.
    """
    from django.db import connection

    from jobsite.notifications import operations
    from jobsite.notifications.rules import Wanted
    from jobsite.programs import definitions
    from jobsite.programs.definitions import registration
    from jobsite.programs.models import Program
    from jobsite.tenants import principals, setup

    tenant = setup.create("bench", name="Bench")
    principal = principals.local(tenant, login="bench")
    action = {"kind": "python", "target": "jobsite.samples:noop"}
    for group, event in (("silent", "CANCELED"), ("telling", "COMPLETED")):
        operations.create_group(principal, group)
        operations.create_rule(principal, group, Wanted(event, to_addresses=(ADDRESS,)))
        if group == "silent":
            with connection.cursor() as cursor:
                cursor.execute("SELECT string_agg(column_name, ', ') FROM information_schema.columns"
                               " WHERE table_name = 'jobsite_rule' AND column_name <> 'id'")  # fmt: skip
                cursor.execute(MANY.format(names=cursor.fetchone()[0]), [rules])
                cursor.execute("ANALYZE")
    found = {}
    for code, more in (("none", {}), ("silent", {"notification_group": "silent"}),
                       ("telling", {"notification_group": "telling"})):  # fmt: skip
        known = {"code": code, "parameters": {"type": "object"}, "action": [action], **more}
        registration.load(principal, [definitions.from_mapping(known, where="bench", queues=settings.JOBSITE_QUEUES)])
        found[code] = Program.objects.get(code=code, tenant=tenant).pk
    return found


def finishes(programs: dict[str, int], count: int) -> dict[str, float]:
    """The median milliseconds of the statement that ends a job, for each program: `count` jobs each, in alternation."""
    from jobsite.programs import workers
    from jobsite.programs.transitions import submit
    from jobsite.programs.transitions.finish import Ending, Held, finish_all
    from jobsite.tenants import principals
    from jobsite.tenants.models import Tenant

    tenant = Tenant.objects.get(code="bench")
    ending = Ending.completed()
    took: dict[str, list[float]] = {code: [] for code in programs}
    with workers.open_connection() as opened, opened.cursor() as cursor:
        context = principals.system(tenant).captured
        for _ in range(count):
            for code, key in programs.items():
                job = submit.NewJob(tenant_id=tenant.pk, program_id=key, parameters="{}", context=context)
                number, token = submit.insert(cursor, [job])[0].number, uuid4()
                cursor.execute(QUEUED, [number])
                cursor.execute(RUNNING, {"number": number, "token": token})
                held = Held(number, token, "bench", None, counts_failures=code != "none", notifies=code != "none")
                began = time.perf_counter()
                assert finish_all(cursor, [(held, ending)]).tokens == {token}
                took[code].append((time.perf_counter() - began) * 1_000)
    return {code: median(values) for code, values in took.items()}


QUEUED = "UPDATE jobsite_job SET status = 'QUEUED', queued_at = clock_timestamp() WHERE number = %s"
RUNNING = """
UPDATE jobsite_job SET status = 'RUNNING', lock_token = %(token)s, lock_owner = %(token)s, fence = 1,
    lock_expires_at = clock_timestamp() + interval '1 minute', claimed_at = clock_timestamp(),
    external_id = %(token)s, stuck_at = clock_timestamp() + interval '1 minute',
    started_at = clock_timestamp()
WHERE number = %(number)s
"""


def main(arguments: Sequence[str]) -> dict[str, float]:
    """Make the programs and measure. Returns what is printed."""
    django.setup()
    call_command("migrate", verbosity=0)
    rules, count = map(int, arguments)
    return finishes(fill(rules), count)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))  # noqa: T201 - what the benchmark reads
