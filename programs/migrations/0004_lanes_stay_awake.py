"""A lane is closed only when it is certainly empty: submissions and dispatch agree by a lock on the lane.

A submission that sees the lane awake need not write it. For that it takes the lock shared, then looks, and keeps it
until it has committed; dispatch, to close a lane, takes it alone, then looks once more for jobs. Both looks must be
later than the lock, and a function that is volatile takes a new snapshot for each of its statements (under READ
COMMITTED; with a stricter default of the database's a lane may be closed over a job, and the sweep opens it).
"""

from django.db import migrations

FUNCTIONS = """
CREATE FUNCTION jobsite_lane_stays_awake(queue bigint, tenant bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashint8extended(tenant, queue));
    RETURN EXISTS (SELECT FROM jobsite_lane l
                   WHERE l.queue_id = queue AND l.tenant_id = tenant AND l.is_waiting);
END $$;
CREATE FUNCTION jobsite_lane_is_empty(queue bigint, tenant bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- Never waits: who finds a submission under way leaves the lane to the next dispatch.
    IF NOT pg_try_advisory_xact_lock(hashint8extended(tenant, queue)) THEN
        RETURN false;
    END IF;
    RETURN NOT EXISTS (SELECT FROM jobsite_job j
                       WHERE j.queue_id = queue AND j.tenant_id = tenant
                             AND j.status = 'PENDING' AND j.blocked IS NULL);
END $$;
"""
DROP = """
DROP FUNCTION jobsite_lane_stays_awake(bigint, bigint);
DROP FUNCTION jobsite_lane_is_empty(bigint, bigint);
"""


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0003_one_guard")]

    operations = [migrations.RunSQL(FUNCTIONS, DROP)]
