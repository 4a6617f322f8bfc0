-- Whether dispatch may close a lane, because no job is ready in it and none can come before the close has committed.
--
-- jobsite_lane_stays_awake.sql says how submission and dispatch agree. This function never waits: while a submission
-- is under way, it says no, and the next dispatch asks again.

CREATE OR REPLACE FUNCTION jobsite_lane_is_empty(queue bigint, tenant bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashint8extended(tenant, queue)) THEN
        RETURN false;
    END IF;
    RETURN NOT EXISTS (
        SELECT FROM jobsite_job j
        WHERE j.queue_id = queue AND j.tenant_id = tenant AND j.status = 'PENDING' AND j.blocked IS NULL
    );
END $$;
