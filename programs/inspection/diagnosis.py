"""What is wrong with this installation, and how to fix it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import Error

from jobsite import brokers
from jobsite.programs.rules.recurrence import GRACE
from jobsite.tenants.models import SYSTEM, Tenant

OLDEST_POSTGRESQL = 140_000
SILENT_SWEEP_SECONDS = 60.0
UNCLAIMED_SECONDS = 30.0
MIN_KEY_LENGTH = 32
# Five times the dead rows at which the table's autovacuum settings start a vacuum.
DEAD_ROWS = 50_000
DEAD_SHARE = 0.05


@dataclass(frozen=True)
class Finding:
    """The result of one check: what it found (`said`) and, if that is bad, how to fix it (`mend`)."""

    what: str
    is_good: bool
    said: str
    mend: str = ""


def examine() -> list[Finding]:
    """Run every check; a check that fails in the database is a finding too."""
    findings: list[Finding] = []
    for check in (
        _database,
        _migrations,
        _brokers,
        _workers,
        _sweeps,
        _schedules,
        _messages,
        _vacuum,
        _partitions,
        _tenants,
        _keys,
    ):
        findings += _guarded(check)
    return findings


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Error as error:
        said = " ".join(str(error).split())
        yield Finding(check.__name__.strip("_"), False, said, "fix what is named above, then run the doctor again")


def _one(statement: str, *values: float) -> tuple[object, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row: tuple[object, ...] = cursor.fetchone()
        return row


def _database() -> Iterator[Finding]:
    (number,) = _one("SELECT current_setting('server_version_num')::integer")
    version = int(str(number))
    yield Finding(
        "database",
        version >= OLDEST_POSTGRESQL,
        f"PostgreSQL {version // 10_000}.{version % 10_000}",
        "upgrade to PostgreSQL 14 or newer",
    )


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    said = f"{len(missing)} not applied" if missing else "all applied"
    yield Finding("migrations", not missing, said, "run: jobsite migrate")


def _brokers() -> Iterator[Finding]:
    for url, queues in brokers.queues_by_url().items():
        try:
            brokers.state(url, queues)
            policy = brokers.eviction_policy(url)
        except brokers.BrokerUnavailable as error:
            yield Finding("broker", False, str(error), f"start it, or correct the URL of {', '.join(queues)}")
            continue
        yield Finding(
            "broker",
            policy in (None, "noeviction"),
            f"{brokers.masked(url)} answers, maxmemory-policy {policy or 'unknown'}",
            "set maxmemory-policy to noeviction: a Redis that evicts loses messages",
        )


SERVING = """
SELECT coalesce(array_agg(DISTINCT served.name), '{}')
FROM jobsite_worker w CROSS JOIN LATERAL unnest(w.queues) AS served (name)
WHERE w.status = 'ACTIVE' AND w.last_seen_at > clock_timestamp() - %s * interval '1 second'
"""


def _workers() -> Iterator[Finding]:
    (served,) = _one(SERVING, settings.JOBSITE_LOCK_SECONDS)
    idle = [queue for queue in settings.JOBSITE_QUEUES if queue not in served]  # type: ignore[operator]
    said = f"no worker serves {', '.join(idle)}" if idle else "every queue is served"
    yield Finding("workers", not idle, said, "start a worker: jobsite worker, or jobsite up for everything")


def _sweeps() -> Iterator[Finding]:
    (silent, error) = _one(
        """
        SELECT array_agg(name) FILTER (
                   WHERE finished_at IS NULL OR finished_at < clock_timestamp() - %s * interval '1 second'),
               string_agg(name || ': ' || error, '; ') FILTER (WHERE error <> '')
        FROM jobsite_sweep
        """,
        SILENT_SWEEP_SECONDS,
    )
    names = ", ".join(silent) if isinstance(silent, list) else ""
    said = f"not run for a minute: {names}" if names else "all ran within the last minute"
    yield Finding("sweeps", not names, said, "start jobsite beat, a worker, or: jobsite sweep --loop")
    if error:
        yield Finding("sweeps", False, str(error), "fix what the error names")


def _schedules() -> Iterator[Finding]:
    late, skipped = _one(
        """
        SELECT count(*) FILTER (WHERE due_at < statement_timestamp() - %s * interval '1 second' AND paused_at IS NULL),
               count(*) FILTER (WHERE problem <> '')
        FROM jobsite_schedule WHERE due_at IS NOT NULL
        """,
        GRACE.total_seconds(),
    )
    said = f"{late} late" if late else "none is late"
    mend = "start jobsite beat, a worker, or: jobsite sweep --loop"
    if skipped:
        said += f", {skipped} cannot fire"
        mend = "see the state of each: jobsite schedules list --tenant CODE"
    yield Finding("schedules", not late and not skipped, said, mend)


def _messages() -> Iterator[Finding]:
    (count,) = _one(
        """
        SELECT count(*) FROM (SELECT 1 FROM jobsite_job
        WHERE status = 'QUEUED' AND queued_at < clock_timestamp() - %s * interval '1 second' LIMIT 1000) old
        """,
        UNCLAIMED_SECONDS,
    )
    said = f"{count} jobs have a message that no worker claims" if count else "no message waits unclaimed"
    yield Finding("messages", not count, said, "restart the workers of their queue: a consumer may be dead")


def _vacuum() -> Iterator[Finding]:
    (dead, is_late, oldest) = _one(
        """
        SELECT n_dead_tup, n_dead_tup > %s + %s * n_live_tup,
               (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::integer
                FROM pg_stat_activity WHERE backend_xmin IS NOT NULL)
        FROM pg_stat_user_tables WHERE relid = 'jobsite_job'::regclass
        """,
        DEAD_ROWS,
        DEAD_SHARE,
    )
    yield Finding(
        "vacuum",
        not is_late,
        f"{dead:,} dead rows among the jobs",
        "they slow down every search for ready jobs: check that autovacuum is on and that no transaction stays open "
        f"for long (the oldest has been open for {oldest} s)",
    )


def _partitions() -> Iterator[Finding]:
    (ahead,) = _one("SELECT to_regclass('jobsite_joblogentry_' || to_char(now() + interval '1 month', 'YYYY_MM'))")
    said = "next month's exists" if ahead else "next month's is missing"
    yield Finding(
        "log partitions",
        bool(ahead),
        said,
        "run in SQL: SELECT jobsite_create_log_partition(now() + interval '1 month')",
    )


def _tenants() -> Iterator[Finding]:
    count = Tenant.objects.exclude(code=SYSTEM)[:1].count()
    said = "at least one" if count else "none"
    yield Finding("tenants", bool(count), said, "make one: jobsite tenants create CODE, or look at jobsite demo")


def _keys() -> Iterator[Finding]:
    keys = settings.JOBSITE_SECRET_KEYS
    # A key is named by its position and never shown.
    short = [str(place) for place, key in enumerate(keys, start=1) if len(key) < MIN_KEY_LENGTH]
    if not keys:
        said = "JOBSITE_SECRET_KEYS is empty"
    elif short:
        said = f"too short in JOBSITE_SECRET_KEYS (at least {MIN_KEY_LENGTH} characters): key {', '.join(short)}"
    elif len(set(keys)) < len(keys):
        said = "JOBSITE_SECRET_KEYS names a key twice"
    else:
        yield Finding("secret keys", True, f"{len(keys)}, long enough")
        return
    yield Finding(
        "secret keys",
        False,
        said,
        "put a random key of 43 characters first, run jobsite secrets rotate, then remove the bad keys",
    )
