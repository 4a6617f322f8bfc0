"""The quotas of a tenant for submissions: pending jobs, and submissions a minute.

Both go by counters that submissions add to, outside the caller's transaction, which might lock the row for long. So
they may be a little too high, until the sweep or a submission that does not fit counts again. The running quota is
exact: the claim counts it.
"""

import math

import psycopg

from jobsite.database import Cursor
from jobsite.errors import Invalid, TooMany
from jobsite.programs import workers
from jobsite.programs.rules.lifecycle import UNSTARTED, listed
from jobsite.tenants.models import Tenant

RECOUNT_SECONDS = 1.0
RETRY_SECONDS = 10

# An allowance fills up evenly, to the quota of a minute at most. Without a quota it is infinite, so that it is full
# when a quota is set.
_ALLOWANCE = """least(%(rate)s::float,
                      u.allowance + extract(epoch FROM clock_timestamp() - u.allowed_at) * %(rate)s / 60)"""
TAKE = f"""
UPDATE jobsite_tenantusage u
SET pending = u.pending + %(count)s,
    allowance = CASE WHEN %(rate)s::float IS NULL THEN 'infinity' ELSE {_ALLOWANCE} - %(count)s END,
    allowed_at = clock_timestamp()
WHERE u.tenant_id = %(tenant)s
      AND (%(most)s::bigint IS NULL OR u.pending + %(count)s <= %(most)s)
      AND (%(rate)s::float IS NULL OR {_ALLOWANCE} >= %(count)s)
RETURNING u.tenant_id
"""
RECOUNT = f"""
INSERT INTO jobsite_tenantusage AS u (tenant_id, pending, allowance)
SELECT t.id, (SELECT count(*) FROM jobsite_job j WHERE j.tenant_id = t.id AND j.status IN {listed(UNSTARTED)}),
       'infinity'
FROM jobsite_tenant t
WHERE (t.pending_quota IS NOT NULL OR t.submissions_per_minute IS NOT NULL)
      AND (%(tenant)s::bigint IS NULL OR t.id = %(tenant)s)
      AND NOT EXISTS (SELECT FROM jobsite_tenantusage known WHERE known.tenant_id = t.id
                      AND known.counted_at > clock_timestamp() - %(age)s * interval '1 second')
ORDER BY t.id
ON CONFLICT (tenant_id) DO UPDATE SET pending = excluded.pending, counted_at = clock_timestamp()
WHERE u.counted_at <= clock_timestamp() - %(age)s * interval '1 second'
RETURNING u.tenant_id
"""
STATE = f"""
SELECT u.pending, CASE WHEN %(rate)s::float IS NOT NULL THEN {_ALLOWANCE} END
FROM jobsite_tenantusage u WHERE u.tenant_id = %(tenant)s
"""


def take(tenant: Tenant, count: int) -> None:
    """Count `count` new jobs against the tenant's quotas; costs nothing where it has none.

    Raises TooMany (pending_quota or submission_rate, with `retry_after` in seconds) where they do not fit now, Invalid
    (quota_too_small) where so many at once never can. Then nothing is counted.
    """
    most, rate = tenant.pending_quota, tenant.submissions_per_minute
    if most is None and rate is None:
        return
    for quota, what in ((most, "pending jobs"), (rate, "submissions a minute")):
        if quota is not None and count > quota:
            raise Invalid(
                f"{count:,} jobs at once never fit: tenant {tenant.code} has a quota of {quota:,} {what}",
                code="quota_too_small",
            )
    try:
        with workers.connection().cursor() as cursor:
            _take(cursor, tenant, count)
    except psycopg.OperationalError:
        workers.drop_connection()
        raise


def _take(cursor: Cursor, tenant: Tenant, count: int) -> None:
    most, rate = tenant.pending_quota, tenant.submissions_per_minute
    values = {"tenant": tenant.pk, "count": count, "most": most, "rate": rate}
    for _ in range(2):
        cursor.execute(TAKE, values)
        if cursor.fetchone() is not None:
            return
        # This may be the tenant's first submission, or its jobs may have run meanwhile.
        recount(cursor, tenant_id=tenant.pk)
    cursor.execute(STATE, values)
    pending, allowance = cursor.fetchone()
    if most is not None and pending + count > most:
        raise TooMany(
            f"tenant {tenant.code} has {pending:,} of {most:,} pending jobs; submit again when some have run",
            code="pending_quota",
            retry_after=RETRY_SECONDS,
        )
    if rate is None:  # room was made since
        return
    seconds = max(1, math.ceil((count - allowance) * 60 / rate))
    raise TooMany(
        f"tenant {tenant.code} may submit {rate:,} jobs a minute; submit again in {seconds} s",
        code="submission_rate",
        retry_after=seconds,
    )


def recount(cursor: Cursor, *, tenant_id: int | None = None, age: float = RECOUNT_SECONDS) -> int:
    """Count the pending jobs of the tenants with quotas, or of this one, whose count is older than `age` seconds."""
    cursor.execute(RECOUNT, {"tenant": tenant_id, "age": age})
    return len(cursor.fetchall())
