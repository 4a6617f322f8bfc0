"""The actions of the system programs, which keep an installation small; each works in bounded batches."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection

from jobsite.database import Cursor
from jobsite.programs.context import Context
from jobsite.programs.transitions.prune import prune
from jobsite.tenants.models import Tenant

DELETED_DAYS = 7
MONTHS_AHEAD = 3
BATCH = 1_000
LOCK_TIMEOUT = "5s"


def retention(context: Context) -> dict[str, int]:
    """Delete finished jobs, firings and ended deliveries that are older than each tenant's retention (SPEC 3)."""
    tenants = list(Tenant.objects.order_by("pk"))
    jobs = firings = deliveries = 0
    for done, tenant in enumerate(tenants, start=1):
        jobs += _prune_jobs(context, tenant)
        with connection.cursor() as cursor:
            values = {"tenant": tenant.pk, "days": tenant.retention_days, "batch": BATCH}
            firings += _until_none(context, partial(_execute, cursor, OLD_FIRINGS, values))
            deliveries += _until_none(context, partial(_execute, cursor, OLD_DELIVERIES, values))
        context.progress(done, len(tenants), f"{jobs} jobs deleted")
    return {"jobs": jobs, "firings": firings, "deliveries": deliveries}


def _prune_jobs(context: Context, tenant: Tenant) -> int:
    """Go through the tenant's jobs until a pass deletes none; each pass deletes one generation of every family."""
    total = 0
    while True:
        deleted, after = 0, 0
        while True:
            with connection.cursor() as cursor:
                pruned = prune(cursor, tenant_id=tenant.pk, days=tenant.retention_days, after=after)
            deleted += pruned.jobs
            context.progress(total + deleted, None, f"tenant {tenant.code}")
            if pruned.go_on_after is None:
                break
            after = pruned.go_on_after
        total += deleted
        if not deleted:
            return total


OLD_FIRINGS = """
DELETE FROM jobsite_firing WHERE id IN (
    SELECT f.id FROM jobsite_schedule s JOIN jobsite_firing f ON f.schedule_id = s.id
    WHERE s.tenant_id = %(tenant)s AND f.nominal_at < statement_timestamp() - %(days)s * interval '1 day'
    LIMIT %(batch)s)
"""


# Deliveries of a job are deleted with the job.
OLD_DELIVERIES = """
DELETE FROM jobsite_delivery WHERE id IN (
    SELECT id FROM jobsite_delivery
    WHERE tenant_id = %(tenant)s AND status <> 'PENDING' AND job_number IS NULL
          AND finished_at < statement_timestamp() - %(days)s * interval '1 day'
    LIMIT %(batch)s)
"""


def database_pruning(context: Context) -> dict[str, Any]:
    """Drop the oldest log partitions, never this month's, while the database is above JOBSITE_MAX_DATABASE_BYTES."""
    most = settings.JOBSITE_MAX_DATABASE_BYTES
    if most is None:
        context.log.info("JOBSITE_MAX_DATABASE_BYTES is not set: the database may grow")
        return {"dropped": []}
    dropped: list[str] = []
    with connection.cursor() as cursor:
        for name in _partitions(cursor):
            if _size(cursor) <= most:
                break
            # The drop must not keep jobs that write log lines waiting for long; the next run tries again.
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(name)}")
            dropped.append(name)
            context.log.warning("dropped %s: the database was above %s bytes", name, most)
        size = _size(cursor)
    if size > most:
        context.warn(f"the database has {size:,} bytes, more than the {most:,} allowed, and no old log is left to drop")
    return {"dropped": dropped, "bytes": size}


def _partitions(cursor: Cursor) -> list[str]:
    """The partitions of past months, oldest first."""
    cursor.execute("""
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'jobsite_joblogentry'::regclass AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
              AND right(c.relname, 7) < to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')
        ORDER BY c.relname""")
    return [name for (name,) in cursor.fetchall()]


def _size(cursor: Cursor) -> int:
    cursor.execute("SELECT pg_database_size(current_database())")
    return int(cursor.fetchone()[0])


def soft_delete_cleanup(context: Context) -> dict[str, int]:
    """Delete for good what was deleted over a week ago, once nothing refers to it any more (SPEC 3)."""
    with connection.cursor() as cursor:
        values = {"days": DELETED_DAYS, "batch": BATCH}
        return {
            "firings": _until_none(context, partial(_execute, cursor, FIRINGS_OF_OLD_SCHEDULES, values)),
            "schedules": _until_none(context, partial(_execute, cursor, OLD_SCHEDULES, values)),
            "programs": _until_none(context, partial(_execute, cursor, OLD_PROGRAMS, values)),
            "rules": _until_none(context, partial(_execute, cursor, OLD_RULES, values)),
            "groups": _until_none(context, partial(_execute, cursor, OLD_GROUPS, values)),
            "templates": _until_none(context, partial(_execute, cursor, OLD_TEMPLATES, values)),
        }


FIRINGS_OF_OLD_SCHEDULES = """
DELETE FROM jobsite_firing WHERE id IN (
    SELECT f.id FROM jobsite_schedule s JOIN jobsite_firing f ON f.schedule_id = s.id
    WHERE s.deleted_at < statement_timestamp() - %(days)s * interval '1 day' LIMIT %(batch)s)
"""
OLD_SCHEDULES = """
DELETE FROM jobsite_schedule WHERE id IN (
    SELECT id FROM jobsite_schedule WHERE deleted_at < statement_timestamp() - %(days)s * interval '1 day'
    LIMIT %(batch)s)
"""
OLD_PROGRAMS = """
DELETE FROM jobsite_program WHERE id IN (
    SELECT p.id FROM jobsite_program p WHERE p.deleted_at < statement_timestamp() - %(days)s * interval '1 day'
           AND NOT EXISTS (SELECT FROM jobsite_job j WHERE j.program_id = p.id)
           AND NOT EXISTS (SELECT FROM jobsite_schedule s WHERE s.program_id = p.id)
    LIMIT %(batch)s)
"""


OLD_RULES = """
WITH old AS MATERIALIZED (
    SELECT r.id FROM jobsite_rule r WHERE r.deleted_at < statement_timestamp() - %(days)s * interval '1 day'
    LIMIT %(batch)s
), users AS (
    DELETE FROM jobsite_rule_to_users u USING old WHERE u.rule_id = old.id
)
DELETE FROM jobsite_rule r USING old WHERE r.id = old.id
"""
OLD_GROUPS = """
DELETE FROM jobsite_group WHERE id IN (
    SELECT g.id FROM jobsite_group g WHERE g.deleted_at < statement_timestamp() - %(days)s * interval '1 day'
           AND NOT EXISTS (SELECT FROM jobsite_program p WHERE p.notification_group_id = g.id)
           AND NOT EXISTS (SELECT FROM jobsite_rule r WHERE r.group_id = g.id)
    LIMIT %(batch)s)
"""
OLD_TEMPLATES = """
DELETE FROM jobsite_template WHERE id IN (
    SELECT t.id FROM jobsite_template t WHERE t.deleted_at < statement_timestamp() - %(days)s * interval '1 day'
           AND NOT EXISTS (SELECT FROM jobsite_rule r WHERE r.template_id = t.id)
    LIMIT %(batch)s)
"""


NEW_PARTITIONS = """
SELECT jobsite_create_log_partition(now() + months * interval '1 month') FROM generate_series(0, %s) AS months
"""


def partition_creation(context: Context) -> dict[str, int]:
    """Create the log partitions of this month and three ahead."""
    with connection.cursor() as cursor:
        cursor.execute(NEW_PARTITIONS, [MONTHS_AHEAD])
    return {"months_ahead": MONTHS_AHEAD}


def _execute(cursor: Cursor, statement: str, values: dict[str, Any]) -> int:
    cursor.execute(statement, values)
    return cursor.rowcount


def _until_none(context: Context, delete: Callable[[], int]) -> int:
    """Delete batch after batch until nothing is left; between batches, `progress` stops the job if it was canceled."""
    total = 0
    while count := delete():
        total += count
        context.progress(total, None, "deleted")
    return total
